//! Follows the feed: gets a token, opens the stream, keeps the view, and opens the next stream when
//! one ends.
//!
//! The next token's stream is opened while the present one goes on, so that nothing is missed in
//! between.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use base::{backoff::Backoff, running::Running};
use proto::auth::v1::{WatchRequest, WatchResponse, access_feed_service_client::AccessFeedServiceClient};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Code, Streaming, transport::Channel};

use super::{
    NameFeed, ServiceCredentials,
    credentials::Tokens,
    declare::Declaration,
    error::{FollowError, backoff},
    names, silence_report,
};
use crate::{
    policy::Policies,
    view::{AccessIntake, AccessView},
};

/// auth-service says something every second.
const MESSAGE_WITHIN: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long the first stream waits for the declaration, which is of no use to a service that nobody
/// can reach.
const HEAD_START: Duration = Duration::from_secs(2);
/// A stream that went on for this long was a success.
const STEADY: Duration = Duration::from_secs(10);
/// A message of the feed may be larger than a request: a snapshot has no bound.
const MAX_MESSAGE_LEN: usize = 16 * 1024 * 1024;

/// Streams that were opened, whatever became of them.
const STREAMS: &str = "access_feed_streams_total";

/// Follows the access feed of auth-service.
#[derive(Debug)]
pub struct Follower {
    channel: Channel,
    credentials: ServiceCredentials,
    names: Option<NameFeed>,
}

/// A stream whose snapshot the view has.
struct Live {
    messages: Streaming<WatchResponse>,
    intake: AccessIntake,
    names: Option<Arc<NameFeed>>,
    collected: names::Collected,
    since: Instant,
    renew_at: Instant,
}

impl Follower {
    /// Follows the feed of auth-service at the other end of this channel.
    pub const fn new(channel: Channel, credentials: ServiceCredentials) -> Self {
        Self {
            channel,
            credentials,
            names: None,
        }
    }

    /// Also passes on the renames and deletions of users.
    #[must_use]
    pub fn with_names(mut self, names: NameFeed) -> Self {
        self.names = Some(names);
        self
    }

    /// Keeps the view until the stop token is cancelled, reports its silence, and declares the
    /// policies of the service, once.
    pub fn spawn(self, view: AccessView, policies: &Policies, running: &Running) {
        silence_report::spawn(view.clone(), running);
        let tokens = Arc::new(Tokens::new(self.channel.clone(), self.credentials));
        let declaration = Declaration::new(self.channel.clone(), Arc::clone(&tokens), policies);
        let following = Following {
            channel: self.channel,
            tokens,
            view,
            names: self.names.map(Arc::new),
            backoff: backoff(),
        };
        let stop = running.stop_token().clone();
        running.spawn("access feed", async move {
            stop.run_until_cancelled(Box::pin(following.run(declaration))).await;
            Ok::<_, Infallible>(())
        });
    }
}

struct Following {
    channel: Channel,
    tokens: Arc<Tokens>,
    view: AccessView,
    names: Option<Arc<NameFeed>>,
    backoff: Backoff,
}

impl Following {
    async fn run(mut self, declaration: Declaration) {
        // Where it goes well, the first snapshot already holds what the declaration grants.
        let mut declaring = pin!(declaration.declare());
        let is_declared = timeout(HEAD_START, &mut declaring).await.is_ok();
        let follow = async {
            let mut live = None;
            loop {
                live = self.next(live).await;
            }
        };
        if is_declared {
            follow.await;
        } else {
            let ((), ()) = tokio::join!(declaring, follow);
        }
    }

    /// Follows a new stream until it ends, or until its token is to be renewed: then it is given
    /// back.
    async fn next(&mut self, present: Option<Live>) -> Option<Live> {
        let mut live = match present {
            None => self.open_at_last().await,
            Some(mut present) => {
                let mut opening = pin!(self.open_at_last());
                tokio::select! {
                    opened = &mut opening => opened,
                    error = present.follow() => {
                        tracing::info!(%error, "the old stream of the access feed ended before the new one was ready");
                        opening.await
                    }
                }
            }
        };
        let renew_at = live.renew_at;
        match timeout_at(renew_at, live.follow()).await {
            Err(_elapsed) => {
                self.backoff.reset();
                Some(live)
            }
            Ok(error) => {
                if live.since.elapsed() >= STEADY {
                    self.backoff.reset();
                }
                self.failed(&error).await;
                None
            }
        }
    }

    async fn open_at_last(&mut self) -> Live {
        loop {
            match self.open().await {
                Ok(live) => {
                    let sequence = self.view.position().map_or(0, |position| position.sequence);
                    let failures = self.backoff.failures();
                    tracing::info!(sequence, failures, "following the access feed");
                    return live;
                }
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// A stream whose snapshot the view has taken over.
    async fn open(&mut self) -> Result<Live, FollowError> {
        let intake = self.view.intake();
        let token = self.tokens.get().await?;
        let kept = || self.names.as_ref().and_then(|names| names.after);
        let position = self.view.position().or_else(kept);
        let request = WatchRequest {
            epoch: position.map(|at| at.epoch.to_string()).unwrap_or_default(),
            after_sequence: position.map_or(0, |at| at.sequence),
        };
        let mut client = AccessFeedServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_LEN);
        metrics::counter!(STREAMS).increment(1);
        let answer = timeout(ANSWER_WITHIN, client.watch(token.request(request))).await;
        let answer = answer.map_err(|_| FollowError::Silent(ANSWER_WITHIN))?;
        let mut live = Live {
            messages: answer.map_err(FollowError::Stream)?.into_inner(),
            intake,
            names: self.names.clone(),
            collected: names::Collected::default(),
            since: Instant::now(),
            renew_at: token.renew_at,
        };
        while !live.take_in().await? {}
        Ok(live)
    }

    /// Says what happened, and waits before the next try.
    async fn failed(&mut self, error: &FollowError) {
        let pause = error.pause(&mut self.backoff);
        let failures = self.backoff.failures();
        // The first in a row, and then fewer and fewer.
        if failures.is_power_of_two() {
            match error {
                FollowError::Token(status) if status.code() == Code::Unauthenticated => tracing::error!(
                    %error,
                    "cannot follow the access feed: auth-service refuses the credentials; check --auth-client-id and \
                    --auth-client-secret-file"
                ),
                FollowError::Stream(status) if status.code() == Code::PermissionDenied => tracing::error!(
                    %error,
                    "cannot follow the access feed: give the service account the role `service`"
                ),
                _ => tracing::warn!(%error, failures, "cannot follow the access feed; trying again"),
            }
        }
        // A token that was revoked is replaced at the next try.
        if let FollowError::Stream(status) = error
            && status.code() == Code::Unauthenticated
        {
            self.tokens.forget().await;
        }
        sleep(pause).await;
    }
}

impl Live {
    /// Takes in what comes, until nothing does.
    async fn follow(&mut self) -> FollowError {
        loop {
            if let Err(error) = self.take_in().await {
                return error;
            }
        }
    }

    /// Takes in the next message. Says whether the view stands where the stream does.
    async fn take_in(&mut self) -> Result<bool, FollowError> {
        let message = next(&mut self.messages).await?;
        if let Some(names) = &self.names {
            names.pass_on(&message, &mut self.collected);
        }
        Ok(self.intake.apply(message)?)
    }
}

async fn next(messages: &mut Streaming<WatchResponse>) -> Result<WatchResponse, FollowError> {
    let message = timeout(MESSAGE_WITHIN, messages.message()).await;
    let message = message.map_err(|_| FollowError::Silent(MESSAGE_WITHIN))?;
    message.map_err(FollowError::Stream)?.ok_or(FollowError::Ended)
}
