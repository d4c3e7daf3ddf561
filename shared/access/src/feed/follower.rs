//! Follower of the access feed: it gets a token, opens a stream, keeps the view up to date, and
//! opens the next stream when one ends.
//!
//! When the token must be renewed, the next stream is opened while the current one continues, so
//! that no change is missed in between.

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

/// Longest time without a message. auth-service sends one every second.
const MESSAGE_WITHIN: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest time that the first stream waits for the declaration. The service cannot admit calls
/// until that stream is open.
const HEAD_START: Duration = Duration::from_secs(2);
/// Age from which a stream counts as a success, so that its failure resets the back-off.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Largest message of the feed, in bytes. It is larger than a request may be, because a snapshot
/// has no bound.
const MAX_MESSAGE_LEN: usize = 16 * 1024 * 1024;

/// Counter of attempts to open a stream.
const STREAMS: &str = "access_feed_streams_total";

/// Follower of the access feed of auth-service.
#[derive(Debug)]
pub struct Follower {
    channel: Channel,
    credentials: ServiceCredentials,
    names: Option<NameFeed>,
}

/// Stream that the view has caught up with.
struct LiveStream {
    messages: Streaming<WatchResponse>,
    intake: AccessIntake,
    names: Option<Arc<NameFeed>>,
    collected: names::Collected,
    since: Instant,
    renew_at: Instant,
}

impl Follower {
    /// Creates a follower of the auth-service at the other end of this channel.
    pub const fn new(channel: Channel, credentials: ServiceCredentials) -> Self {
        Self {
            channel,
            credentials,
            names: None,
        }
    }

    /// Also passes on renames and deletions of users.
    #[must_use]
    pub fn with_names(mut self, names: NameFeed) -> Self {
        self.names = Some(names);
        self
    }

    /// Keeps the view up to date until the stop token is cancelled. Also reports the silence of the
    /// feed, and declares the permissions of the service once.
    pub fn spawn(self, view: AccessView, policies: &Policies, running: &Running) {
        silence_report::spawn(view.clone(), running);
        metrics::describe_counter!(
            STREAMS,
            "Number of attempts to open a stream of the access feed, successful or not."
        );
        let tokens = Arc::new(Tokens::new(self.channel.clone(), self.credentials));
        let declaration = Declaration::new(self.channel.clone(), Arc::clone(&tokens), policies);
        let task = FollowTask {
            channel: self.channel,
            tokens,
            view,
            names: self.names.map(Arc::new),
            backoff: backoff(),
        };
        let stop = running.stop_token().clone();
        running.spawn("access feed", async move {
            stop.run_until_cancelled(Box::pin(task.run(declaration))).await;
            Ok::<_, Infallible>(())
        });
    }
}

struct FollowTask {
    channel: Channel,
    tokens: Arc<Tokens>,
    view: AccessView,
    names: Option<Arc<NameFeed>>,
    backoff: Backoff,
}

impl FollowTask {
    async fn run(mut self, declaration: Declaration) {
        // If the declaration succeeds in time, the first snapshot already contains the permissions
        // that it grants.
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

    /// Opens a new stream and follows it until it ends, or until its token must be renewed. In the
    /// latter case, returns the stream, which is followed further while its successor is opened.
    async fn next(&mut self, present: Option<LiveStream>) -> Option<LiveStream> {
        let mut live = match present {
            None => self.open_with_retries().await,
            Some(mut present) => {
                let mut opening = pin!(self.open_with_retries());
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
                if live.since.elapsed() >= STABLE_AFTER {
                    self.backoff.reset();
                }
                self.failed(&error).await;
                None
            }
        }
    }

    async fn open_with_retries(&mut self) -> LiveStream {
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

    /// Opens a stream, and returns it once the view has caught up with it.
    async fn open(&mut self) -> Result<LiveStream, FollowError> {
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
        let mut live = LiveStream {
            messages: answer.map_err(FollowError::Stream)?.into_inner(),
            intake,
            names: self.names.clone(),
            collected: names::Collected::default(),
            since: Instant::now(),
            renew_at: token.renew_at,
        };
        while !live.apply_next().await? {}
        Ok(live)
    }

    /// Logs the failure and waits before the next attempt.
    async fn failed(&mut self, error: &FollowError) {
        let pause = error.pause(&mut self.backoff);
        let failures = self.backoff.failures();
        // Log the first failure in a row, and then fewer and fewer.
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
        // A token that was revoked is replaced at the next attempt.
        if let FollowError::Stream(status) = error
            && status.code() == Code::Unauthenticated
        {
            self.tokens.forget().await;
        }
        sleep(pause).await;
    }
}

impl LiveStream {
    /// Applies messages until one cannot be received or applied, and returns the error.
    async fn follow(&mut self) -> FollowError {
        loop {
            if let Err(error) = self.apply_next().await {
                return error;
            }
        }
    }

    /// Applies the next message. Returns whether the view has caught up with the stream.
    async fn apply_next(&mut self) -> Result<bool, FollowError> {
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
