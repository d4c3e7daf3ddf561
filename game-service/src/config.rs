//! The settings of game-service. `--help` is their reference.

use std::net::SocketAddr;

/// Where game-service serves, and how it plays.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Games")]
pub struct GameSettings {
    /// Where gRPC is served.
    #[arg(long, env = "GAME_LISTEN", default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    pub game_listen: SocketAddr,
    /// Where HTTP is served: /metrics, /livez, /readyz.
    #[arg(
        long,
        env = "GAME_HTTP_LISTEN",
        default_value = "127.0.0.1:8082",
        value_name = "ADDRESS"
    )]
    pub game_http_listen: SocketAddr,
    /// Seconds after which a game ends that nobody has joined [60 to 31536000]. It ends 30 seconds later, as clocks differ, and not
    /// within 15 minutes of a start or of a jump of the clock.
    #[arg(long, env = "OPEN_GAME_SECONDS", default_value_t = 86_400, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(60..=31_536_000))]
    pub open_game_seconds: u32,
    /// Seconds after which a player who has not moved loses [10 to 31536000]. From then on moves are refused; the game ends as above.
    #[arg(long, env = "TURN_SECONDS", default_value_t = 86_400, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(10..=31_536_000))]
    pub turn_seconds: u32,
    /// Games of one player that are not over, created or joined; another one is refused with RESOURCE_EXHAUSTED [1 to 100000].
    #[arg(long, env = "MAX_RUNNING_GAMES", default_value_t = 100, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_running_games: u32,
    /// Finished games that a player needs to be ranked [1 to 1000000].
    #[arg(long, env = "LEADERBOARD_MIN_GAMES", default_value_t = 1, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub leaderboard_min_games: u32,
}
