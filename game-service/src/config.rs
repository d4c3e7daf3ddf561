//! The settings of game-service. `--help` is their reference.

use std::net::SocketAddr;

/// Addresses and rules of game-service.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Games")]
pub struct GameSettings {
    /// Address on which gRPC is served.
    #[arg(
        long,
        env = "GAME_LISTEN",
        default_value = "127.0.0.1:50052",
        value_name = "ADDRESS",
        value_parser = base::listen::parse_address
    )]
    pub game_listen: SocketAddr,
    /// Address on which HTTP is served: /metrics, /livez, /readyz.
    #[arg(
        long,
        env = "GAME_HTTP_LISTEN",
        default_value = "127.0.0.1:8082",
        value_name = "ADDRESS", value_parser = base::listen::parse_address
    )]
    pub game_http_listen: SocketAddr,
    /// Seconds after which an open game that nobody has joined ends [60 to 31536000]. The server
    /// ends it 30 seconds later, to allow for clocks that differ, and never within 15 minutes after
    /// a start or a jump of the clock.
    #[arg(long, env = "OPEN_GAME_SECONDS", default_value_t = 86_400, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(60..=31_536_000))]
    pub open_game_seconds: u32,
    /// Seconds that a player has for a move [10 to 31536000]. After that, moves are refused and the
    /// player loses. The game ends with the same delay as an open game.
    #[arg(long, env = "TURN_SECONDS", default_value_t = 86_400, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(10..=31_536_000))]
    pub turn_seconds: u32,
    /// Maximum number of unfinished games for each player, created or joined [1 to 100000]. Further
    /// ones are refused with RESOURCE_EXHAUSTED.
    #[arg(long, env = "MAX_RUNNING_GAMES", default_value_t = 100, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_running_games: u32,
    /// Number of finished games that a player needs to be ranked [1 to 1000000].
    #[arg(long, env = "LEADERBOARD_MIN_GAMES", default_value_t = 1, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub leaderboard_min_games: u32,
}
