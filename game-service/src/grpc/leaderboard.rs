//! The RPCs of `game.v1.LeaderboardService`.

use access::{authz, token::Principal};
use base::validate::{Fields, InvalidFields};
use proto::game::v1::{
    GetLeaderboardRequest, GetLeaderboardResponse, GetPlayerRankRequest, GetPlayerRankResponse,
    ListAroundPlayerRequest, ListAroundPlayerResponse, leaderboard_service_server::LeaderboardService,
};
use tonic::{Request, Response, Status};

use super::convert;
use crate::domain::{Leaderboard, RequestedPlayer};

const DEFAULT_LIMIT: usize = 10;
const DEFAULT_AROUND: usize = 10;

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
        let limit = match usize::try_from(request.get_ref().limit) {
            Ok(0) => DEFAULT_LIMIT,
            Ok(limit @ 1..=1000) => limit,
            _ => return Err(InvalidFields::one("limit", "must be 1 to 1000").into()),
        };
        let entries = self.leaderboard.top(limit).await?;
        Ok(Response::new(GetLeaderboardResponse {
            entries: entries.into_iter().map(convert::entry).collect(),
        }))
    }

    async fn get_player_rank(
        &self,
        request: Request<GetPlayerRankRequest>,
    ) -> Result<Response<GetPlayerRankResponse>, Status> {
        let principal = authz::principal(&request)?;
        let mut fields = Fields::new();
        let player = requested_player(&mut fields, &principal, &request.get_ref().user_id);
        let player = fields.finish(|| player)?;
        let (entry, games_needed) = self.leaderboard.place(player).await?;
        Ok(Response::new(GetPlayerRankResponse {
            entry: Some(convert::entry(entry)),
            games_needed,
        }))
    }

    async fn list_around_player(
        &self,
        request: Request<ListAroundPlayerRequest>,
    ) -> Result<Response<ListAroundPlayerResponse>, Status> {
        let principal = authz::principal(&request)?;
        let request = request.get_ref();
        let mut fields = Fields::new();
        let player = requested_player(&mut fields, &principal, &request.user_id);
        let limit = match usize::try_from(request.limit) {
            Ok(0) => Ok(DEFAULT_AROUND),
            Ok(limit @ 1..=100) => Ok(limit),
            _ => Err("must be 1 to 100"),
        };
        let limit = fields.check("limit", limit);
        let (player, limit) = fields.finish(|| Some((player?, limit?)))?;
        let entries = self.leaderboard.around(player, limit).await?;
        Ok(Response::new(ListAroundPlayerResponse {
            entries: entries.into_iter().map(convert::entry).collect(),
        }))
    }
}

fn requested_player(fields: &mut Fields, caller: &Principal, user_id: &str) -> Option<RequestedPlayer> {
    if user_id.is_empty() {
        return Some(RequestedPlayer::Caller(convert::player(caller)));
    }
    let user = fields.id("user_id", user_id)?;
    Some(if user == caller.user_id() {
        RequestedPlayer::Caller(convert::player(caller))
    } else {
        RequestedPlayer::Other(user)
    })
}
