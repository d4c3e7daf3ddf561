//! Both services in one process, on SQLite. This is what `cargo run` starts.

mod banner;
mod data;
mod demo;
mod endpoints;
#[cfg(test)]
mod settings_page;

use std::{
    convert::Infallible,
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use access::{
    feed::{ClientSecret, Follower, Restore, ServiceCredentials},
    token::AcceptedAudiences,
    view::SilenceSettings,
};
use auth_service::{
    AuthService, ServiceAccountSpec,
    config::{AuthSettings, CookieOrigin},
    ensure_first_admin, ensure_service_account, first_admin_password_changed, generate_client_secret,
};
use base::{StartError, clock::Clock, listen::Listener, program};
use clap::Parser;
use db::Db;
use game_service::{GameService, VerificationKeys, config::GameSettings};
use server::ServiceArgs;
use url::Url;

use crate::{
    banner::{Banner, FirstAdmin},
    data::DataFolder,
    endpoints::Endpoints,
};

/// Client id with which game-service follows the access feed.
const GAME_CLIENT_ID: &str = "game-service";

/// auth-service and game-service in one process, on SQLite. The first start creates everything that
/// they need.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    /// Folder for the databases, the server secret and the first administrator's password. Created
    /// if it does not exist.
    #[arg(long, env = "DATA_DIR", default_value = "data", value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Add some players and games and an account with a known password, for trying things out.
    /// Never use it on a server that others can reach.
    #[arg(long, env = "DEMO", conflicts_with = "tls_cert_file")]
    demo: bool,
    #[command(flatten)]
    auth: AuthSettings,
    #[command(flatten)]
    game: GameSettings,
    #[command(flatten)]
    silence: SilenceSettings,
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    program::run(env::args_os(), async |cli: Cli| Box::pin(cli.run()).await)
}

impl Cli {
    #[expect(clippy::too_many_lines, reason = "the steps of a start, in order")]
    async fn run(mut self) -> Result<(), StartError> {
        self.service.begin("standalone", self.auth.secret_files())?;
        let gateway = &self.auth.gateway_url;
        self.auth
            .cookies
            .cookie_origins
            .get_or_insert_with(|| origins_of(gateway));
        // Bind the ports before opening the data, so that a failed start leaves nothing behind.
        let auth_grpc = Listener::bind(self.auth.auth_listen, "--auth-listen").await?;
        let auth_http = Listener::bind(self.auth.auth_http_listen, "--auth-http-listen").await?;
        let game_grpc = Listener::bind(self.game.game_listen, "--game-listen").await?;
        let game_http = Listener::bind(self.game.game_http_listen, "--game-http-listen").await?;
        let mut places = Endpoints {
            auth_grpc: auth_grpc.address(),
            auth_http: auth_http.address(),
            game_grpc: game_grpc.address(),
            game_http: game_http.address(),
            gateway: self.auth.gateway_url.clone(),
            tls: self.service.server.tls_cert_file.is_some(),
            data: PathBuf::new(),
            mail: None,
        };

        let data = DataFolder::open(&self.data_dir)?;
        places.data = data.path().to_owned();
        let mail = &mut self.auth.mail;
        if mail.smtp_url.is_none() {
            places.mail = Some(mail.mail_folder.get_or_insert_with(|| data.mail_folder()).clone());
        }
        let secrets = data.server_secret()?;
        let running = self.service.running()?;
        let clock = Clock::system();
        let auth_db = Db::connect(&data.database("auth")?).await?;
        let game_db = Db::connect(&data.database("game")?).await?;
        // Migrate before anybody can register, because the login `admin` is for the administrator.
        db::migrate(&auth_db, &auth_service::MIGRATIONS)
            .await
            .map_err(StartError::failed)?;
        // Migrate this database before auth-service writes anything, so that a start that fails
        // because of game-service changes nothing.
        db::migrate(&game_db, &game_service::MIGRATIONS)
            .await
            .map_err(StartError::failed)?;
        let (auth_grpc, auth_local) = auth_grpc.with_local();
        let (game_account, credentials) = game_account(&auth_db, &clock)?;
        let first_admin = ensure_first_admin(&auth_db, &self.auth, &clock, || data.admin_password()).await?;
        let mut service_accounts = self.auth.service_accounts()?;
        service_accounts.push(game_account);
        let auth = AuthService {
            settings: &self.auth,
            server: &self.service.server,
            db: auth_db.clone(),
            secrets,
            service_accounts,
            clock: clock.clone(),
            grpc: auth_grpc,
            http: auth_http,
        };
        Box::pin(auth.spawn(true, &running)).await?;
        let follower = Follower::new(auth_local.channel(), credentials);
        let game = GameService {
            settings: &self.game,
            server: &self.service.server,
            token_issuer: &self.auth.token_issuer,
            token_audiences: AcceptedAudiences::deployment(&self.auth.token_audience).or_service(GAME_CLIENT_ID),
            keys: VerificationKeys::Follow(Box::new(follower), self.silence.rule()),
            db: game_db,
            clock: clock.clone(),
            grpc: game_grpc,
            http: game_http,
        };
        game.spawn(true, &running).await?;

        let demo = if self.demo {
            Some(demo::play(&places).await)
        } else {
            None
        };
        let banner = Banner {
            places: &places,
            first_admin: first_admin.map(|password| FirstAdmin {
                // Output that does not go to a terminal may be stored, so it must not contain the
                // password.
                password: io::stdout().is_terminal().then_some(password),
                file: data.admin_password_file(),
                must_change: self.auth.first_admin_must_change_password,
            }),
            demo: demo.as_ref(),
        };
        banner.print();
        let (file, settings) = (data.admin_password_file(), self.auth.clone());
        let stop = running.stop_token().clone();
        running.spawn("admin password", async move {
            let changed = async |password| first_admin_password_changed(&auth_db, &settings, &password).await;
            stop.run_until_cancelled(DataFolder::forget_admin_password(file, changed))
                .await;
            Ok::<_, Infallible>(())
        });
        running.wait().await
    }
}

/// Returns the origin of the pages that the gateway serves. If the gateway is on this machine, its
/// origin by the other name of the machine is included.
fn origins_of(gateway: &Url) -> Vec<CookieOrigin> {
    let twin = match gateway.host_str() {
        Some("localhost") => Some("127.0.0.1"),
        Some("127.0.0.1") => Some("localhost"),
        _ => None,
    };
    let twin = twin.and_then(|host| {
        let mut twin = gateway.clone();
        twin.set_host(Some(host)).ok()?;
        Some(twin)
    });
    let origins = std::iter::once(gateway).chain(&twin);
    origins
        .filter_map(|url| url.origin().ascii_serialization().parse().ok())
        .collect()
}

/// Returns the service account of game-service and its credentials. The secret is generated at each
/// start and kept in memory only. If an administrator rotates the secret, it is restored.
fn game_account(auth_db: &Db, clock: &Clock) -> Result<(ServiceAccountSpec, ServiceCredentials), StartError> {
    let secret = generate_client_secret();
    let account = ServiceAccountSpec::new(GAME_CLIENT_ID, &secret, &["service"]).map_err(StartError::failed)?;
    let (db, clock, kept) = (auth_db.clone(), clock.clone(), account.clone());
    let restore: Restore = Arc::new(move || {
        let (db, clock, account) = (db.clone(), clock.clone(), kept.clone());
        Box::pin(async move { ensure_service_account(&db, &clock, &account).await })
    });
    let credentials = ServiceCredentials {
        client_id: GAME_CLIENT_ID.to_owned(),
        client_secret: ClientSecret::Restorable(secret, restore),
    };
    Ok((account, credentials))
}
