//! Fake auth-service, as far as a service that follows its access feed uses it. The test decides
//! what is published and what goes wrong.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
    listen::Listener,
    local::LocalConnector,
};
use futures_util::future::BoxFuture;
use http::{Request as HttpRequest, Response as HttpResponse};
use parking_lot::{Mutex, MutexGuard};
use proto::auth::v1::{
    AccessEvent, GetJwksResponse, IssueServiceTokenRequest, IssueServiceTokenResponse, KeysChanged,
    RegisterPoliciesRequest, RegisterPoliciesResponse, RoleChanged, SessionRevoked, UserTokensRevoked, WatchRequest,
    WatchResponse, access_event::Event,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep_until},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    metadata::MetadataMap,
    server::Grpc,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use crate::{
    feed::{ClientSecret, Follower, ServiceCredentials},
    token::Jwks,
    view::Epoch,
};

/// Client id that the fake knows.
pub const CLIENT_ID: &str = "tested-service";
/// Secret of that client.
pub const CLIENT_SECRET: &str = "secret of the tested service";
/// Interval between two messages without news.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Fake auth-service that publishes what the test tells it to. Clones share its state.
#[derive(Clone)]
pub struct FakeAuth(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

struct State {
    epoch: Epoch,
    log: Vec<AccessEvent>,
    now: Timestamp,
    revocation_life: Duration,
    is_silent: bool,
    is_down: bool,
    /// Number of cuts. A stream that was opened before the last one ends.
    cuts: u64,
    token_life: Duration,
    /// Expiry of each token, by its number.
    tokens: Vec<Instant>,
    watches: Vec<Watch>,
    open: usize,
    declared: Vec<RegisterPoliciesRequest>,
    declaration_refused: Option<Code>,
    refused_credentials: usize,
}

/// Request for a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Request, with the position that the consumer has reached.
    pub request: WatchRequest,
    /// Number of the token that the request carried, counted from 0 in the order of issue.
    pub token: usize,
    /// Number of other streams that were open.
    pub others: usize,
}

impl Default for FakeAuth {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeAuth {
    /// Creates a fake that has published nothing and has no faults.
    pub fn new() -> Self {
        let state = State {
            epoch: Epoch::generate(),
            log: Vec::new(),
            now: Timestamp::from_micros(0),
            revocation_life: Duration::from_secs(1800 + 330),
            is_silent: false,
            is_down: false,
            cuts: 0,
            token_life: Duration::from_mins(30),
            tokens: Vec::new(),
            watches: Vec::new(),
            open: 0,
            declared: Vec::new(),
            declaration_refused: None,
            refused_credentials: 0,
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        }))
    }

    /// Returns a channel to the fake in memory, which works with a paused clock.
    pub fn channel(&self) -> Channel {
        let (connector, connections) = LocalConnector::new();
        let incoming = ReceiverStream::new(connections).map(Ok::<_, Infallible>);
        tokio::spawn(Server::builder().serve_with_incoming(self.clone(), incoming));
        connector.channel()
    }

    /// Serves the fake on a port.
    pub fn serve(&self, listener: Listener) {
        let incoming = TcpIncoming::from(listener.into_parts().0);
        tokio::spawn(Server::builder().serve_with_incoming(self.clone(), incoming));
    }

    /// Creates a follower with valid credentials.
    pub fn follower(&self) -> Follower {
        Self::follower_of(self.channel(), CLIENT_SECRET)
    }

    /// Creates a follower with a wrong secret.
    pub fn follower_with_a_wrong_secret(&self) -> Follower {
        Self::follower_of(self.channel(), "wrong")
    }

    fn follower_of(channel: Channel, secret: &str) -> Follower {
        let credentials = ServiceCredentials {
            client_id: CLIENT_ID.to_owned(),
            client_secret: ClientSecret::Given(secret.to_owned().into()),
        };
        Follower::new(channel, credentials)
    }

    /// Publishes an event and returns its sequence number.
    pub fn publish(&self, event: Event) -> i64 {
        self.publish_until(event, None)
    }

    /// Publishes an event with this `expire_time`, and returns its sequence number.
    pub fn publish_until(&self, event: Event, until: Option<Timestamp>) -> i64 {
        self.change(|state| {
            let sequence = state.head() + 1;
            state.log.push(AccessEvent {
                sequence,
                expire_time: until.map(Into::into),
                event: Some(event),
            });
            sequence
        })
    }

    /// Publishes that a session has ended.
    pub fn revoke_session(&self, id: SessionId) -> i64 {
        let session_id = id.to_string();
        self.publish(Event::SessionRevoked(SessionRevoked { session_id }))
    }

    /// Publishes that a user's tokens with a lower version are stale.
    pub fn revoke_user(&self, id: UserId, min_version: i64) -> i64 {
        let user_id = id.to_string();
        self.publish(Event::UserTokensRevoked(UserTokensRevoked { user_id, min_version }))
    }

    /// Publishes that a role holds exactly these permissions.
    pub fn set_role(&self, code_name: &str, permissions: &[&str]) -> i64 {
        self.publish(Event::RoleChanged(RoleChanged {
            code_name: code_name.to_owned(),
            permissions: permissions.iter().map(|&name| name.to_owned()).collect(),
            is_deleted: false,
        }))
    }

    /// Publishes these as the only verification keys.
    pub fn set_keys(&self, keys: &Jwks) -> i64 {
        let keys = GetJwksResponse::from(keys).keys;
        self.publish(Event::KeysChanged(KeysChanged { keys }))
    }

    /// Begins another epoch of the feed, in which nothing is published, and ends all open streams.
    pub fn begin_another_epoch(&self) {
        self.change(|state| {
            state.epoch = Epoch::generate();
            state.log.clear();
            state.cuts += 1;
        });
    }

    /// Sets the server time that messages state.
    pub fn set_time(&self, now: Timestamp) {
        self.change(|state| state.now = now);
    }

    /// Sets whether the fake sends nothing. Streams stay open.
    pub fn set_silent(&self, is_silent: bool) {
        self.change(|state| state.is_silent = is_silent);
    }

    /// Sets whether the fake answers every call with UNAVAILABLE, and ends all open streams.
    pub fn set_down(&self, is_down: bool) {
        self.change(|state| {
            state.is_down = is_down;
            state.cuts += 1;
        });
    }

    /// Ends all open streams.
    pub fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// Sets the life of the tokens that are issued from now on.
    pub fn set_token_life(&self, life: Duration) {
        self.change(|state| state.token_life = life);
    }

    /// Revokes every token that has been issued, as a rotation of the secret does, and ends all
    /// open streams.
    pub fn revoke_tokens(&self) {
        self.change(|state| {
            state.tokens.iter_mut().for_each(|end| *end = Instant::now());
            state.cuts += 1;
        });
    }

    /// Makes the fake answer declarations with this code.
    pub fn refuse_declarations(&self, code: Code) {
        self.change(|state| state.declaration_refused = Some(code));
    }

    /// Returns the requests for streams, in order.
    pub fn watches(&self) -> Vec<Watch> {
        self.state().watches.clone()
    }

    /// Returns the declarations that were accepted, in order.
    pub fn declared(&self) -> Vec<RegisterPoliciesRequest> {
        self.state().declared.clone()
    }

    /// Returns how often a token was requested with wrong credentials.
    pub fn refused_credentials(&self) -> usize {
        self.state().refused_credentials
    }

    /// Returns the current epoch of the feed.
    pub fn epoch(&self) -> Epoch {
        self.state().epoch
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.state());
        self.0.changed.send_replace(());
        value
    }
}

impl State {
    fn head(&self) -> i64 {
        self.log.last().map_or(0, |event| event.sequence)
    }

    fn message(&self, events: Vec<AccessEvent>, is_snapshot: bool, is_caught_up: bool) -> WatchResponse {
        WatchResponse {
            epoch: self.epoch.to_string(),
            sequence: self.head(),
            events,
            is_snapshot,
            is_caught_up,
            server_time: Some(self.now.into()),
            revocation_seconds: self.revocation_life.as_secs().try_into().expect("a short life"),
        }
    }

    /// Returns the number of the token that a call carries.
    fn token(&self, metadata: &MetadataMap) -> Result<usize, Status> {
        let value = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let number = value.and_then(|value| value.strip_prefix("Bearer token-")?.parse::<usize>().ok());
        number
            .filter(|&number| self.tokens.get(number).is_some_and(|&end| end > Instant::now()))
            .ok_or_else(|| Status::unauthenticated("no good token"))
    }

    fn up(&self) -> Result<(), Status> {
        if self.is_down {
            return Err(Status::unavailable("down"));
        }
        Ok(())
    }
}

impl FakeAuth {
    fn issue(&self, request: &IssueServiceTokenRequest) -> Result<Response<IssueServiceTokenResponse>, Status> {
        let mut state = self.state();
        state.up()?;
        if (request.client_id.as_str(), request.client_secret.as_str()) != (CLIENT_ID, CLIENT_SECRET) {
            state.refused_credentials += 1;
            return Err(Status::unauthenticated("the client id or the secret is wrong"));
        }
        let life = state.token_life;
        state.tokens.push(Instant::now() + life);
        Ok(Response::new(IssueServiceTokenResponse {
            token_type: "Bearer".to_owned(),
            access_token: format!("token-{}", state.tokens.len() - 1),
            access_expires_in: i32::try_from(life.as_secs()).expect("a short life"),
        }))
    }

    fn declare(&self, request: Request<RegisterPoliciesRequest>) -> Result<Response<RegisterPoliciesResponse>, Status> {
        let mut state = self.state();
        state.up()?;
        state.token(request.metadata())?;
        if let Some(code) = state.declaration_refused {
            return Err(Status::new(code, "refused"));
        }
        state.declared.push(request.into_inner());
        Ok(Response::new(RegisterPoliciesResponse::default()))
    }

    fn watch(&self, request: &Request<WatchRequest>) -> Result<Response<Messages>, Status> {
        let ends = {
            let mut state = self.state();
            state.up()?;
            let token = state.token(request.metadata())?;
            let watch = Watch {
                request: request.get_ref().clone(),
                token,
                others: state.open,
            };
            state.watches.push(watch);
            state.open += 1;
            state.tokens[token]
        };
        let (messages, stream) = mpsc::channel(16);
        let auth = self.clone();
        tokio::spawn(async move {
            let end = tokio::select! {
                end = auth.send_messages(&messages) => end,
                () = sleep_until(ends) => Some(Status::unauthenticated("the token is over")),
            };
            auth.state().open -= 1;
            if let Some(status) = end {
                // Sending fails if the caller is gone, and then no one needs the status.
                let _ = messages.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    /// Sends the snapshot in two parts, and then every new event, with messages without news in
    /// between.
    async fn send_messages(&self, messages: &mpsc::Sender<Result<WatchResponse, Status>>) -> Option<Status> {
        let mut changed = self.0.changed.subscribe();
        let mut beats = interval(HEARTBEAT);
        while self.state().is_silent {
            tokio::select! {
                _ = changed.changed() => {}
                () = messages.closed() => return None,
            }
        }
        let (cuts, mut sent, snapshot) = {
            let state = self.state();
            let (first, second) = state.log.split_at(state.log.len() / 2);
            let snapshot = [
                state.message(first.to_vec(), true, false),
                state.message(second.to_vec(), true, true),
            ];
            (state.cuts, state.head(), snapshot)
        };
        for message in snapshot {
            messages.send(Ok(message)).await.ok()?;
        }
        loop {
            let message = {
                let state = self.state();
                if state.cuts != cuts {
                    return Some(Status::unavailable("cut"));
                }
                let new = state.log.iter().filter(|event| event.sequence > sent);
                let message = state.message(new.cloned().collect(), false, true);
                (!state.is_silent).then_some(message)
            };
            if let Some(message) = message {
                sent = message.sequence;
                messages.send(Ok(message)).await.ok()?;
            }
            tokio::select! {
                _ = beats.tick() => {}
                _ = changed.changed() => {}
                () = messages.closed() => return None,
            }
        }
    }
}

type Messages = ReceiverStream<Result<WatchResponse, Status>>;

impl Service<HttpRequest<Body>> for FakeAuth {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<HttpResponse<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let auth = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/auth.v1.AuthService/IssueServiceToken" => {
                    let issue = service_fn(|request: Request<IssueServiceTokenRequest>| {
                        std::future::ready(auth.issue(request.get_ref()))
                    });
                    Grpc::new(ProstCodec::default()).unary(issue, request).await
                }
                "/auth.v1.RbacService/RegisterPolicies" => {
                    let declare = service_fn(|request| std::future::ready(auth.declare(request)));
                    Grpc::new(ProstCodec::default()).unary(declare, request).await
                }
                "/auth.v1.AccessFeedService/Watch" => {
                    let watch = service_fn(|request: Request<WatchRequest>| std::future::ready(auth.watch(&request)));
                    Grpc::new(ProstCodec::default()).server_streaming(watch, request).await
                }
                _ => Status::unimplemented("not asked for").into_http(),
            })
        })
    }
}

impl fmt::Debug for FakeAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeAuth")
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}
