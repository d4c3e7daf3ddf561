//! The RPCs of `game.v1.HistoryService`.

use ::proto::game::v1::{
    self as proto, GetHeadToHeadRequest, GetHeadToHeadResponse, ListFinishedGamesRequest, ListFinishedGamesResponse,
    history_service_server::HistoryService,
};
use access::{authz, policy::Permission, token::Principal, view::AccessView};
use base::{ids::UserId, page::PageRequest, validate::Fields};
use tonic::{Request, Response, Status};

use super::convert;
use crate::domain::{End, Error, GameResult, History, HistoryQuery, Opponent};

/// Serves `game.v1.HistoryService`.
#[derive(Clone, Debug)]
pub(crate) struct HistoryRpc {
    pub(crate) history: History,
    pub(crate) access: AccessView,
}

#[tonic::async_trait]
impl HistoryService for HistoryRpc {
    async fn list_finished_games(
        &self,
        request: Request<ListFinishedGamesRequest>,
    ) -> Result<Response<ListFinishedGamesResponse>, Status> {
        let principal = authz::principal(&request)?;
        let request = request.get_ref();
        let mut fields = Fields::new();
        let user = self.requested_user(&mut fields, &principal, &request.user_id).await?;
        let query = filters(&mut fields, user.unwrap_or(principal.user_id()), request);
        let page = PageRequest::parse(&mut fields, request.page_size, &request.page_token, &query.name());
        let page = fields.finish(|| page)?;
        let (games, next_page_token) = self.history.list(&query, &page).await?;
        let games = games.into_iter().map(convert::game).collect();
        Ok(Response::new(ListFinishedGamesResponse { games, next_page_token }))
    }

    async fn get_head_to_head(
        &self,
        request: Request<GetHeadToHeadRequest>,
    ) -> Result<Response<GetHeadToHeadResponse>, Status> {
        let principal = authz::principal(&request)?;
        let request = request.get_ref();
        let mut fields = Fields::new();
        let user = self.requested_user(&mut fields, &principal, &request.user_id).await?;
        let opponent = fields.id("opponent_user_id", &request.opponent_user_id);
        if opponent.is_some() && user == opponent {
            fields.reject(
                "opponent_user_id",
                "must differ from user_id, which defaults to the caller",
            );
        }
        let (user, opponent) = fields.finish(|| Some((user?, opponent?)))?;
        let sum = self.history.head_to_head(user, opponent).await?;
        Ok(Response::new(GetHeadToHeadResponse {
            wins: sum.wins,
            losses: sum.losses,
            draws: sum.draws,
            last_finish_time: sum.last_finish_time.map(Into::into),
        }))
    }
}

impl HistoryRpc {
    /// Returns the user that this field names, or the caller if it is empty. An invalid id is
    /// recorded in `fields` and gives `None`. Without the permission `history:read_all`, other
    /// users are reported as unknown.
    async fn requested_user(
        &self,
        fields: &mut Fields,
        caller: &Principal,
        user_id: &str,
    ) -> Result<Option<UserId>, Error> {
        if user_id.is_empty() {
            return Ok(Some(caller.user_id()));
        }
        let Some(user) = fields.id("user_id", user_id) else {
            return Ok(None);
        };
        if user != caller.user_id() {
            let read_all = Permission {
                resource: "history".to_owned(),
                action: "read_all".to_owned(),
            };
            if !self.access.allow(caller, &read_all) {
                return Err(Error::UserNotFound(user));
            }
            self.history.ensure_known(user).await?;
        }
        Ok(Some(user))
    }
}

/// Builds the query from the request. Invalid filters are recorded in `fields` and left out.
fn filters(fields: &mut Fields, user: UserId, request: &ListFinishedGamesRequest) -> HistoryQuery {
    let result = match proto::GameResult::try_from(request.result) {
        Ok(proto::GameResult::Unspecified) => Ok(None),
        Ok(proto::GameResult::Won) => Ok(Some(GameResult::Won)),
        Ok(proto::GameResult::Lost) => Ok(Some(GameResult::Lost)),
        Ok(proto::GameResult::Drawn) => Ok(Some(GameResult::Drawn)),
        Err(_) => Err("must be GAME_RESULT_WON, GAME_RESULT_LOST or GAME_RESULT_DRAWN"),
    };
    let opponent = match proto::Opponent::try_from(request.opponent) {
        Ok(proto::Opponent::Unspecified) => Ok(None),
        Ok(proto::Opponent::Computer) => Ok(Some(Opponent::Computer)),
        Ok(proto::Opponent::Player) => Ok(Some(Opponent::Player)),
        Err(_) => Err("must be OPPONENT_COMPUTER or OPPONENT_PLAYER"),
    };
    let end = match proto::EndReason::try_from(request.end_reason) {
        Ok(proto::EndReason::Unspecified) => Ok(None),
        Ok(proto::EndReason::Line) => Ok(Some(End::Line)),
        Ok(proto::EndReason::FullBoard) => Ok(Some(End::FullBoard)),
        Ok(proto::EndReason::Resignation) => Ok(Some(End::Resignation)),
        Ok(proto::EndReason::Timeout) => Ok(Some(End::Timeout)),
        Ok(proto::EndReason::Cancellation | proto::EndReason::Expiry) | Err(_) => {
            Err("must be END_REASON_LINE, END_REASON_FULL_BOARD, END_REASON_RESIGNATION or END_REASON_TIMEOUT")
        }
    };
    let opponent_id = match request.opponent_user_id.as_str() {
        "" => None,
        id => fields.id("opponent_user_id", id),
    };
    let query = HistoryQuery {
        user,
        result: fields.check("result", result).flatten(),
        opponent: fields.check("opponent", opponent).flatten(),
        opponent_id,
        end: fields.check("end_reason", end).flatten(),
        from: fields.time("start_time", request.start_time),
        before: fields.time("end_time", request.end_time),
    };
    if let (Some(from), Some(before)) = (query.from, query.before)
        && before < from
    {
        fields.reject("end_time", "must not be before start_time");
    }
    query
}
