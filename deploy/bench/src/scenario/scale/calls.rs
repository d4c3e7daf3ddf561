//! The calls whose buffers are counted, each on behalf of another user.

use diesel::{QueryableByName, sql_types::Text};
use diesel_async::RunQueryDsl as _;
use proto::{
    auth::v1::{
        GetMeRequest, ListAuditEventsRequest, ListMySessionsRequest, ListUsersRequest, LoginRequest,
        RefreshAccessTokenRequest, RotateTokensRequest, TokenPair, account_service_client::AccountServiceClient,
        audit_service_client::AuditServiceClient,
    },
    game::v1::{
        CreateGameRequest, Game as PlayedGame, GetGameRequest, ListFinishedGamesRequest, ListMyGamesRequest,
        MakeMoveRequest, Mark, Opponent, ResignGameRequest, game_service_client::GameServiceClient,
        history_service_client::HistoryServiceClient,
    },
};
use testing::rpc::{request_id, with_token};

use super::{
    buffers::{Meter, Touched},
    seed::Seed,
};
use crate::deployment::{Deployment, Game, PASSWORD};

/// Calls of each kind before anything counts, in which statements are prepared and planned.
const WARM_UP: u64 = 20;

#[derive(QueryableByName)]
struct Login {
    #[diesel(sql_type = Text)]
    login: String,
}

/// Measures calls to auth-service.
#[expect(clippy::too_many_lines, reason = "one call after the other")]
pub(super) async fn auth(deployment: &Deployment, seed: Seed, calls: u64, touched: &mut Vec<(&'static str, Touched)>) {
    let mut meter = Meter::open(&deployment.auth_database.url).await;
    let mut logins = Vec::new();
    for _ in 0..calls + WARM_UP {
        let user = Seed::user(seed.active_user());
        let select = diesel::sql_query(format!("SELECT login FROM users WHERE id = '{user}'"));
        let found: Login = select.get_result(meter.conn()).await.expect("the user");
        logins.push(found.login);
    }
    let channel = &deployment.auth_channel;
    let auth = deployment.auth();
    let mut tokens: Vec<TokenPair> = Vec::new();
    let login = async |login: &String| {
        let request = LoginRequest {
            identifier: login.clone(),
            password: PASSWORD.to_owned(),
            ..LoginRequest::default()
        };
        let answer = auth.clone().login(request).await.expect("logged in");
        answer.into_inner().tokens.unwrap_or_default()
    };
    let (warm_up, logins) = logins.split_at(index(WARM_UP));
    for identifier in warm_up {
        login(identifier).await;
    }
    let measured = meter
        .each(calls, async |number| tokens.push(login(&logins[index(number)]).await))
        .await;
    touched.push(("Login", measured));

    let account = AccountServiceClient::new(channel.clone());
    let get_me = async |number: u64| {
        let access = &tokens[index(number)].access_token;
        let answer = account.clone().get_me(with_token(GetMeRequest {}, access)).await;
        answer.expect("me");
    };
    each(&mut meter, calls, "GetMe", get_me, touched).await;
    let sessions = async |number: u64| {
        let list = with_token(ListMySessionsRequest::default(), &tokens[index(number)].access_token);
        account.clone().list_my_sessions(list).await.expect("sessions");
    };
    each(&mut meter, calls, "ListMySessions", sessions, touched).await;
    let refresh = async |number: u64| {
        let refresh = RefreshAccessTokenRequest {
            refresh_token: tokens[index(number)].refresh_token.clone(),
            ..RefreshAccessTokenRequest::default()
        };
        auth.clone().refresh_access_token(refresh).await.expect("refreshed");
    };
    each(&mut meter, calls, "RefreshAccessToken", refresh, touched).await;
    // A token can be rotated once, so that there is no warm-up.
    let rotate = async |number: u64| {
        let rotate = RotateTokensRequest {
            refresh_token: tokens[index(number)].refresh_token.clone(),
            request_id: request_id(),
            ..RotateTokensRequest::default()
        };
        auth.clone().rotate_tokens(rotate).await.expect("rotated");
    };
    touched.push(("RotateTokens", meter.each(calls, rotate).await));

    let admin = &deployment.admin;
    let page = async |query: String, page_size: i32| {
        let list = ListUsersRequest {
            query,
            page_size,
            ..ListUsersRequest::default()
        };
        let answer = deployment.users().list_users(with_token(list, admin)).await;
        answer.expect("users").into_inner().users
    };
    // Pages of different sizes, because one that happens to begin a buffer more or less would weigh
    // too much.
    let newest = async |number: u64| {
        let size = 50 + i32::try_from(number % 51).unwrap_or(0);
        assert_eq!(
            page(String::new(), size).await.len(),
            usize::try_from(size).unwrap_or(0)
        );
    };
    each(&mut meter, calls, "ListUsers", newest, touched).await;
    let search = async |number: u64| {
        // Part of a login, as a person would remember it.
        let login = &logins[index(number)];
        assert!(!page(login[2..10].to_owned(), 50).await.is_empty(), "{login} is found");
    };
    each(&mut meter, calls, "ListUsers by part of a login", search, touched).await;
    let common = async |_| assert_eq!(page("mail.ex".to_owned(), 50).await.len(), 50);
    each(&mut meter, calls, "ListUsers by a common text", common, touched).await;

    let audit = AuditServiceClient::new(channel.clone());
    let events = async |list: ListAuditEventsRequest| {
        let answer = audit.clone().list_audit_events(with_token(list, admin)).await;
        answer.expect("events").into_inner()
    };
    let newest = async |_| {
        events(ListAuditEventsRequest::default()).await;
    };
    each(&mut meter, calls, "ListAuditEvents", newest, touched).await;
    let of_user = async |_| {
        let list = ListAuditEventsRequest {
            subject_user_id: Seed::user(seed.active_user()).to_string(),
            ..ListAuditEventsRequest::default()
        };
        assert!(!events(list).await.events.is_empty(), "an active user has events");
    };
    each(&mut meter, calls, "ListAuditEvents of a user", of_user, touched).await;
}

/// Measures calls to game-service.
#[expect(clippy::too_many_lines, reason = "one call after the other")]
pub(super) async fn game(game: &Game, seed: Seed, calls: u64, touched: &mut Vec<(&'static str, Touched)>) {
    let mut meter = Meter::open(&game.database.url).await;
    let channel = game.channel();
    let games = GameServiceClient::new(channel.clone());
    let history = HistoryServiceClient::new(channel);
    let token = |number: u64| game.token(Seed::user(number), &format!("player-{number}"));
    let tokens: Vec<String> = (0..calls + WARM_UP)
        .map(|_| token(rand::random_range(1..=seed.players())))
        .collect();

    let list = async |number: u64| {
        let list = with_token(ListFinishedGamesRequest::default(), &tokens[index(number)]);
        let answer = history.clone().list_finished_games(list).await.expect("games");
        assert!(!answer.into_inner().games.is_empty(), "the player has a history");
    };
    each(&mut meter, calls, "ListFinishedGames", list, touched).await;
    let running = async |number: u64| {
        let list = with_token(ListMyGamesRequest::default(), &tokens[index(number)]);
        games.clone().list_my_games(list).await.expect("games");
    };
    each(&mut meter, calls, "ListMyGames", running, touched).await;

    let create = async |token: &String| {
        let create = CreateGameRequest {
            opponent: Opponent::Computer.into(),
            mark: Mark::X.into(),
            ..CreateGameRequest::default()
        };
        let answer = games.clone().create_game(with_token(create, token)).await;
        answer.expect("created").into_inner().game.unwrap_or_default()
    };
    let make_move = async |token: &String, game: &PlayedGame| {
        let make_move = MakeMoveRequest {
            game_id: game.game_id.clone(),
            cell: Some(4),
            expected_version: game.version,
        };
        games
            .clone()
            .make_move(with_token(make_move, token))
            .await
            .expect("moved");
    };
    let resign = async |token: &String, game: &PlayedGame| {
        let resign = ResignGameRequest {
            game_id: game.game_id.clone(),
        };
        games
            .clone()
            .resign_game(with_token(resign, token))
            .await
            .expect("resigned");
    };
    let (warm_up, tokens) = tokens.split_at(index(WARM_UP));
    for token in warm_up {
        let game = create(token).await;
        make_move(token, &game).await;
        resign(token, &game).await;
    }
    let mut made: Vec<PlayedGame> = Vec::new();
    let measured = meter
        .each(calls, async |number| made.push(create(&tokens[index(number)]).await))
        .await;
    touched.push(("CreateGame", measured));
    let measured = meter
        .each(calls, async |number| {
            make_move(&tokens[index(number)], &made[index(number)]).await;
        })
        .await;
    touched.push(("MakeMove", measured));
    let get = async |number: u64| {
        let get = GetGameRequest {
            game_id: made[index(number)].game_id.clone(),
        };
        games
            .clone()
            .get_game(with_token(get, &tokens[index(number)]))
            .await
            .expect("the game");
    };
    each(&mut meter, calls, "GetGame", get, touched).await;
    let measured = meter
        .each(calls, async |number| {
            resign(&tokens[index(number)], &made[index(number)]).await;
        })
        .await;
    touched.push(("ResignGame, with two results", measured));
}

/// Measures calls of one kind after a warm-up.
async fn each(
    meter: &mut Meter,
    calls: u64,
    name: &'static str,
    call: impl AsyncFn(u64),
    touched: &mut Vec<(&'static str, Touched)>,
) {
    for number in 0..WARM_UP.min(calls) {
        call(number).await;
    }
    touched.push((name, meter.each(calls, call).await));
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
