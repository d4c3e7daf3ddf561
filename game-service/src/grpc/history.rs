//! `game.v1.HistoryService`.

use shared::{
    authz,
    page::PageRequest,
    proto::game::v1::{ListFinishedGamesRequest, ListFinishedGamesResponse, history_service_server::HistoryService},
    validate::Fields,
};
use tonic::{Request, Response, Status};

use super::convert;
use crate::domain::{Error, History};

/// Serves `game.v1.HistoryService`.
#[derive(Clone, Debug)]
pub(crate) struct HistoryRpc {
    pub(crate) history: History,
}

#[tonic::async_trait]
impl HistoryService for HistoryRpc {
    async fn list_finished_games(
        &self,
        request: Request<ListFinishedGamesRequest>,
    ) -> Result<Response<ListFinishedGamesResponse>, Status> {
        let user = authz::principal(&request)?.user_id();
        let request = request.get_ref();
        let mut fields = Fields::new();
        let page = PageRequest::parse(
            &mut fields,
            request.page_size,
            &request.page_token,
            &History::query(user),
        );
        let page = fields.finish(|| page).map_err(Error::from)?;
        let (games, next_page_token) = self.history.list(user, &page).await?;
        let games = games.into_iter().map(convert::game).collect();
        Ok(Response::new(ListFinishedGamesResponse { games, next_page_token }))
    }
}
