//! A tonic server without any layer of ours, in a process of its own. It gives the answers that it
//! was started with.

use std::{convert::Infallible, fs, future::ready, net::SocketAddr, path::Path};

use axum::Router;
use prost::Message;
use proto::{auth::v1 as auth, game::v1 as game};
use tempfile::TempDir;
use testing::{block_on, program::Program, rpc::channel};
use tonic::{
    Request, Response, Status,
    server::Grpc,
    service::Routes,
    transport::{Channel, Server},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::{
    deployment::{free_address, listening, start_apart},
    load::Processors,
    process::Processes,
};

pub(crate) const GET_CLIENT_ADDRESS: &str = "/auth.v1.AccountService/GetClientAddress";
pub(crate) const GET_ME: &str = "/auth.v1.AccountService/GetMe";
pub(crate) const GET_GAME: &str = "/game.v1.GameService/GetGame";
pub(crate) const GET_LEADERBOARD: &str = "/game.v1.LeaderboardService/GetLeaderboard";
pub(crate) const GET_PLAYER_RANK: &str = "/game.v1.LeaderboardService/GetPlayerRank";
pub(crate) const LIST_AROUND_PLAYER: &str = "/game.v1.LeaderboardService/ListAroundPlayer";

/// The server, which ends with it.
pub(crate) struct BareServer {
    program: Program,
    address: SocketAddr,
    _folder: TempDir,
}

impl BareServer {
    /// A server with this answer to this RPC.
    pub(crate) async fn start(path: &str, answer: &impl Message) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = file(folder.path(), path);
        fs::write(file, answer.encode_to_vec()).expect("write a file");
        let address = free_address();
        let program = start_apart(
            "bench",
            [
                "bare-server",
                &address.to_string(),
                folder.path().to_str().expect("UTF-8"),
            ],
        );
        listening(address).await;
        Self {
            program,
            address,
            _folder: folder,
        }
    }

    /// A connection of its own.
    pub(crate) fn channel(&self) -> Channel {
        channel(self.address)
    }

    pub(crate) fn processors(&self) -> Processors {
        Processors {
            service: Processes::One(self.program.id()),
            database: Processes::None,
        }
    }
}

/// Serves until it is killed.
pub(crate) fn serve(listen: SocketAddr, folder: &Path) {
    let mut router = Router::new();
    router = route::<auth::GetClientAddressRequest, auth::GetClientAddressResponse>(router, GET_CLIENT_ADDRESS, folder);
    router = route::<auth::GetMeRequest, auth::GetMeResponse>(router, GET_ME, folder);
    router = route::<game::GetGameRequest, game::GetGameResponse>(router, GET_GAME, folder);
    router = route::<game::GetLeaderboardRequest, game::GetLeaderboardResponse>(router, GET_LEADERBOARD, folder);
    router = route::<game::GetPlayerRankRequest, game::GetPlayerRankResponse>(router, GET_PLAYER_RANK, folder);
    router = route::<game::ListAroundPlayerRequest, game::ListAroundPlayerResponse>(router, LIST_AROUND_PLAYER, folder);
    block_on(async {
        let server = Server::builder().tcp_nodelay(true).add_routes(Routes::from(router));
        server.serve(listen).await.expect("the bare server serves");
    });
}

/// What tonic's generated code does for a unary RPC.
fn route<Req, Res>(router: Router, path: &str, folder: &Path) -> Router
where
    Req: Message + Default + 'static,
    Res: Message + Default + Clone + Sync + 'static,
{
    let Ok(answer) = fs::read(file(folder, path)) else {
        return router;
    };
    let answer = Res::decode(&answer[..]).expect("an answer of this RPC");
    let handler = service_fn(move |request: http::Request<axum::body::Body>| {
        let answer = answer.clone();
        async move {
            let method = service_fn(move |_: Request<Req>| ready(Ok::<_, Status>(Response::new(answer.clone()))));
            let mut grpc = Grpc::new(ProstCodec::<Res, Req>::default());
            Ok::<_, Infallible>(grpc.unary(method, request).await)
        }
    });
    router.route_service(path, handler)
}

fn file(folder: &Path, path: &str) -> std::path::PathBuf {
    folder.join(path.trim_start_matches('/').replace('/', "."))
}
