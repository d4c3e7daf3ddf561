//! What a person sees who has just started it.

use std::{fmt, io::Write as _, path::PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{demo::Demo, endpoints::Endpoints};

/// An administrator who was just created.
pub(crate) struct FirstAdmin {
    /// `None` if it must not be shown.
    pub(crate) password: Option<SecretString>,
    /// The file that holds the password.
    pub(crate) file: PathBuf,
    /// Whether the first login has to change it.
    pub(crate) must_change: bool,
}

/// The banner.
pub(crate) struct Banner<'a> {
    pub(crate) places: &'a Endpoints,
    pub(crate) first_admin: Option<FirstAdmin>,
    pub(crate) demo: Option<&'a Demo>,
}

impl Banner<'_> {
    /// Prints it on standard output.
    pub(crate) fn print(&self) {
        // Nobody is left to read it where standard output is gone.
        let _ = write!(std::io::stdout(), "{self}");
    }
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoints {
            auth_grpc,
            auth_http,
            game_grpc,
            game_http,
            tls,
            data,
        } = self.places;
        writeln!(f)?;
        writeln!(
            f,
            "  auth-service  gRPC {auth_grpc}   HTTP http://{auth_http}  (/docs, /.well-known/jwks.json, /metrics)"
        )?;
        writeln!(
            f,
            "  game-service  gRPC {game_grpc}   HTTP http://{game_http}  (/metrics)"
        )?;
        writeln!(
            f,
            "  gateway       started by deploy/envoy/run: REST, and a page to play on"
        )?;
        writeln!(f, "  data          {}", data.display())?;
        if let Some(admin) = &self.first_admin {
            let file = admin.file.display();
            writeln!(f)?;
            match &admin.password {
                Some(password) => {
                    writeln!(
                        f,
                        "  First administrator: login admin, password {}",
                        password.expose_secret()
                    )?;
                    writeln!(
                        f,
                        "  The password is shown this once, and kept in {file} until it is changed."
                    )?;
                }
                None => writeln!(
                    f,
                    "  First administrator: login admin, password in {file} until it is changed."
                )?,
            }
            if admin.must_change {
                writeln!(
                    f,
                    "  The first login has to change it: Login with new_password and new_password_confirmation."
                )?;
            }
        }
        match self.demo {
            None => {}
            Some(Demo::Failed(why)) => {
                writeln!(f)?;
                writeln!(f, "  Demo: nothing was added, or not all: {why}")?;
            }
            Some(Demo::Added { players, games }) => {
                writeln!(f)?;
                writeln!(
                    f,
                    "  Demo: added {players} players who have finished {games} games against each other."
                )?;
                writeln!(
                    f,
                    "  Log in as {} with the password {}. Do not keep this on a server that others reach.",
                    crate::demo::LOGIN,
                    crate::demo::PASSWORD
                )?;
            }
            Some(Demo::ThereAlready) => {
                writeln!(f)?;
                writeln!(
                    f,
                    "  Demo: the players and games are there already. Log in as {} with the password {}.",
                    crate::demo::LOGIN,
                    crate::demo::PASSWORD
                )?;
            }
        }
        let plain = if *tls { "" } else { "-plaintext " };
        writeln!(f)?;
        writeln!(f, "  Try:")?;
        writeln!(
            f,
            r#"    grpcurl {plain}-d '{{"login":"ann","email":"ann@example.com","password":"correct horse","password_confirmation":"correct horse"}}' {auth_grpc} auth.v1.AuthService/Register"#
        )?;
        writeln!(f, r"    TOKEN=<the accessToken of the answer>")?;
        writeln!(
            f,
            r#"    grpcurl {plain}-H "authorization: Bearer $TOKEN" -d '{{"opponent":"OPPONENT_COMPUTER","mark":"MARK_X"}}' {game_grpc} game.v1.GameService/CreateGame"#
        )?;
        writeln!(
            f,
            r#"    grpcurl {plain}-H "authorization: Bearer $TOKEN" {game_grpc} game.v1.LeaderboardService/GetLeaderboard"#
        )?;
        writeln!(f)?;
        writeln!(f, "  Ctrl-C ends it.")?;
        writeln!(f)
    }
}
