//! The banner that a person sees after starting the program.

use std::{
    fmt,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use secrecy::{ExposeSecret as _, SecretString};
use url::Host;

use crate::{demo::Demo, endpoints::Endpoints};

/// Login of the user that the banner suggests registering.
const NEWCOMER: &str = "dana";

/// An administrator who was just created.
pub(crate) struct FirstAdmin {
    /// The password. `None` if it must not be shown.
    pub(crate) password: Option<SecretString>,
    /// The file that holds the password.
    pub(crate) file: PathBuf,
    /// Whether the first login must change the password.
    pub(crate) must_change: bool,
}

/// Content of the banner.
pub(crate) struct Banner<'a> {
    pub(crate) places: &'a Endpoints,
    pub(crate) first_admin: Option<FirstAdmin>,
    pub(crate) demo: Option<&'a Demo>,
}

impl Banner<'_> {
    /// Prints the banner to standard output.
    pub(crate) fn print(&self) {
        // An error means that standard output is closed, so nobody could read the banner.
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
            gateway,
            tls,
            data,
            mail,
        } = self.places;
        writeln!(f)?;
        writeln!(
            f,
            "  auth-service  gRPC {auth_grpc}   HTTP http://{auth_http}  (/.well-known/jwks.json, /metrics)"
        )?;
        writeln!(
            f,
            "  game-service  gRPC {game_grpc}   HTTP http://{game_http}  (/metrics)"
        )?;
        writeln!(
            f,
            "  gateway       Run `{}` in a second terminal,",
            gateway_command(self.places)
        )?;
        let gateway = gateway.as_str().trim_end_matches('/');
        writeln!(
            f,
            "                then open {gateway} to play or {gateway}/docs for the REST API."
        )?;
        writeln!(f, "  data          {}", data.display())?;
        if let Some(mail) = mail {
            writeln!(
                f,
                "  mail          Without --smtp-url, mails to users are written to {}.",
                mail.display()
            )?;
        }
        if let Some(admin) = &self.first_admin {
            writeln!(f)?;
            admin.fmt(f)?;
        }
        if let Some(demo) = self.demo {
            writeln!(f)?;
            describe(demo, f)?;
        }
        let is_first_start = self.first_admin.is_some() || matches!(self.demo, Some(Demo::Added { .. }));
        if is_first_start {
            let plain = if *tls { "" } else { "-plaintext " };
            writeln!(f)?;
            writeln!(f, "  Try it with grpcurl:")?;
            writeln!(
                f,
                r#"    grpcurl {plain}-d '{{"login":"{NEWCOMER}","email":"{NEWCOMER}@example.com",
        "password":"correct horse","password_confirmation":"correct horse"}}' \
        {auth_grpc} auth.v1.AuthService/Register"#
            )?;
            writeln!(f, r"    TOKEN=<the accessToken in the response>")?;
            let call = format!(r#"grpcurl {plain}-H "authorization: Bearer $TOKEN""#);
            writeln!(
                f,
                r#"    {call} -d '{{"opponent":"OPPONENT_COMPUTER","mark":"MARK_X"}}' \
        {game_grpc} game.v1.GameService/CreateGame"#
            )?;
            writeln!(f, "    {call} {game_grpc} game.v1.LeaderboardService/GetLeaderboard")?;
        }
        writeln!(f)?;
        writeln!(f, "  Press Ctrl-C to stop.")?;
        writeln!(f)
    }
}

/// Returns the command that starts the gateway in front of these services. Addresses that are its
/// defaults are left out, and so is the gateway's own if it has a name in the DNS.
fn gateway_command(places: &Endpoints) -> String {
    let port = places.gateway.port_or_known_default().unwrap_or(80);
    let gateway = match places.gateway.host() {
        Some(Host::Ipv4(ip)) => Some(SocketAddr::from((ip, port))),
        Some(Host::Ipv6(ip)) => Some(SocketAddr::from((ip, port))),
        Some(Host::Domain("localhost")) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Some(Host::Domain(_)) | None => None,
    };
    let addresses = [
        ("--listen", gateway, "127.0.0.1:8080"),
        ("--auth", Some(places.auth_grpc), "127.0.0.1:50051"),
        ("--auth-http", Some(places.auth_http), "127.0.0.1:8081"),
        ("--game", Some(places.game_grpc), "127.0.0.1:50052"),
    ];
    let options = addresses.into_iter().filter_map(|(option, address, default)| {
        let address = reachable(address?).to_string();
        (address != default).then(|| format!(" {option} {address}"))
    });
    std::iter::once("deploy/envoy/run".to_owned()).chain(options).collect()
}

/// Returns the address at which a process of this machine reaches a socket that listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        (Ipv4Addr::LOCALHOST, address.port()).into()
    } else {
        address
    }
}

impl fmt::Display for FirstAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.password {
            Some(password) => {
                writeln!(
                    f,
                    "  First administrator: login admin, password {}",
                    password.expose_secret()
                )?;
                writeln!(
                    f,
                    "  The password is shown only now. Until it is changed, it is also in {file}."
                )?;
            }
            None => writeln!(
                f,
                "  First administrator: login admin, password in {file} until it is changed."
            )?,
        }
        if self.must_change {
            writeln!(
                f,
                "  The password must be changed at the first login: send new_password and new_password_confirmation."
            )?;
        }
        Ok(())
    }
}

fn describe(demo: &Demo, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match demo {
        Demo::Failed(why) => return writeln!(f, "  Demo: could not add all players and games: {why}"),
        Demo::Added { players, games } => writeln!(
            f,
            "  Demo: added {players} players and {games} finished games between them."
        )?,
        Demo::ThereAlready => writeln!(f, "  Demo: the players and games are there already.")?,
    }
    writeln!(
        f,
        "  Log in as {} with the password {}. Never run the demo on a server that others can reach.",
        crate::demo::LOGIN,
        crate::demo::PASSWORD
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_for_the_gateway_names_what_is_not_its_default() {
        let command = |gateway: &str, auth_grpc: &str| {
            gateway_command(&Endpoints {
                auth_grpc: auth_grpc.parse().expect("an address"),
                auth_http: "127.0.0.1:8081".parse().expect("an address"),
                game_grpc: "127.0.0.1:50052".parse().expect("an address"),
                game_http: "127.0.0.1:8082".parse().expect("an address"),
                gateway: gateway.parse().expect("a URL"),
                tls: false,
                data: PathBuf::new(),
                mail: None,
            })
        };
        let usual = "127.0.0.1:50051";
        for (gateway, auth_grpc, expected) in [
            ("http://127.0.0.1:8080", usual, ""),
            ("http://localhost:8080", "0.0.0.0:50051", ""),
            ("http://localhost:9000", usual, " --listen 127.0.0.1:9000"),
            ("http://192.168.1.5:8080", usual, " --listen 192.168.1.5:8080"),
            ("http://[::1]:8080", usual, " --listen [::1]:8080"),
            ("https://play.example.com", usual, ""),
            (
                "http://127.0.0.1:8080",
                "192.168.1.5:50051",
                " --auth 192.168.1.5:50051",
            ),
        ] {
            assert_eq!(command(gateway, auth_grpc), format!("deploy/envoy/run{expected}"));
        }
    }
}
