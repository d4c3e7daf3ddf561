//! `auth.v1.AccessFeedService`.

use std::{pin::Pin, sync::Arc};

use access::authz;
use base::{ids::UserId, shares::Shares, validate::Fields};
use futures_util::{Stream, stream};
use proto::auth::v1::{WatchRequest, WatchResponse, access_feed_service_server::AccessFeedService};
use tonic::{Request, Response, Status};

use crate::domain::{Error, FeedEnded, FeedStream, FeedTail, counts, feed_position};

/// Serves `auth.v1.AccessFeedService`.
#[derive(Clone, Debug)]
pub(crate) struct AccessFeedRpc {
    pub(crate) tail: FeedTail,
    /// Open streams of each account, so that no account takes the places of the others.
    pub(crate) streams: Arc<Shares<UserId>>,
}

#[tonic::async_trait]
impl AccessFeedService for AccessFeedRpc {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let account = authz::principal(&request)?.user_id();
        let request = request.into_inner();
        let mut fields = Fields::new();
        let known = fields.check("epoch", feed_position(&request.epoch, request.after_sequence));
        if request.after_sequence < 0 {
            fields.reject("after_sequence", "must not be negative");
        }
        let known = fields.finish(|| known)?;
        let share = self.streams.take(account).ok_or(Error::TooManyFeedStreams)?;
        let reading = (self.tail.stream(known), (share, counts::feed_follower()));
        let messages = stream::unfold(Some(reading), |reading: Option<(FeedStream, _)>| async {
            let (mut reading, held) = reading?;
            Some(match reading.next().await {
                Ok(message) => (Ok(message), Some((reading, held))),
                Err(ended) => (Err(status(ended)), None),
            })
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

fn status(ended: FeedEnded) -> Status {
    match ended {
        FeedEnded::Database(error) => Error::from(error).into(),
        FeedEnded::NewEpoch => Error::FeedBegunAnew.into(),
    }
}
