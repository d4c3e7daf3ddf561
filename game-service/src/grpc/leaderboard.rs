//! `game.v1.LeaderboardService`.

use shared::{
    proto::game::v1::{GetLeaderboardRequest, GetLeaderboardResponse, leaderboard_service_server::LeaderboardService},
    validate::InvalidFields,
};
use tonic::{Request, Response, Status};

use super::convert;
use crate::domain::{Error, Leaderboard};

const DEFAULT_LIMIT: i64 = 10;

/// Serves `game.v1.LeaderboardService`.
#[derive(Clone, Debug)]
pub(crate) struct LeaderboardRpc {
    pub(crate) leaderboard: Leaderboard,
}

#[tonic::async_trait]
impl LeaderboardService for LeaderboardRpc {
    async fn get_leaderboard(
        &self,
        request: Request<GetLeaderboardRequest>,
    ) -> Result<Response<GetLeaderboardResponse>, Status> {
        let limit = match request.get_ref().limit {
            0 => DEFAULT_LIMIT,
            limit @ 1..=1000 => limit.into(),
            _ => return Err(Error::from(InvalidFields::one("limit", "must be 1 to 1000")).into()),
        };
        let entries = self
            .leaderboard
            .top(limit)
            .await?
            .into_iter()
            .map(convert::entry)
            .collect();
        Ok(Response::new(GetLeaderboardResponse { entries }))
    }
}
