//! Messages of the feed.

use std::time::Duration;

use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};
use proto::auth::v1::{
    AccessEvent, GetJwksResponse, KeysChanged, RoleChanged, SessionRevoked, UserTokensRevoked, WatchResponse,
    access_event::Event,
};

use super::{Bench, NOW};
use crate::{
    testing::tokens::TokenMint,
    view::{AccessIntake, Epoch},
};

pub(super) const LIFE: Duration = Duration::from_mins(30);

/// Builds the messages of one epoch of the feed.
pub(super) struct Feed {
    pub(super) epoch: Epoch,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self {
            epoch: Epoch::generate(),
        }
    }

    pub(super) fn at(&self, sequence: i64, now: Timestamp, events: Vec<AccessEvent>) -> WatchResponse {
        WatchResponse {
            epoch: self.epoch.to_string(),
            sequence,
            events,
            is_snapshot: false,
            is_caught_up: true,
            server_time: Some(now.into()),
            revocation_seconds: LIFE.as_secs().try_into().expect("a short life"),
        }
    }

    pub(super) fn snapshot(&self, sequence: i64, events: Vec<AccessEvent>) -> WatchResponse {
        WatchResponse {
            is_snapshot: true,
            ..self.at(sequence, NOW, events)
        }
    }

    /// Builds a part of a snapshot, but not the last one.
    pub(super) fn part(&self, sequence: i64, events: Vec<AccessEvent>) -> WatchResponse {
        WatchResponse {
            is_caught_up: false,
            ..self.snapshot(sequence, events)
        }
    }
}

pub(super) fn event(sequence: i64, event: Event) -> AccessEvent {
    let expires = matches!(event, Event::SessionRevoked(_) | Event::UserTokensRevoked(_));
    AccessEvent {
        sequence,
        expire_time: expires.then(|| NOW.plus(LIFE).into()),
        event: Some(event),
    }
}

pub(super) fn session(id: SessionId) -> Event {
    let session_id = id.to_string();
    Event::SessionRevoked(SessionRevoked { session_id })
}

pub(super) fn user(id: UserId, min_version: i64) -> Event {
    let user_id = id.to_string();
    Event::UserTokensRevoked(UserTokensRevoked { user_id, min_version })
}

pub(super) fn role(code_name: &str, permissions: &[&str]) -> Event {
    Event::RoleChanged(RoleChanged {
        code_name: code_name.to_owned(),
        permissions: permissions.iter().map(|&name| name.to_owned()).collect(),
        is_deleted: false,
    })
}

pub(super) fn keys(mint: &TokenMint) -> Event {
    let keys = GetJwksResponse::from(&mint.jwks()).keys;
    Event::KeysChanged(KeysChanged { keys })
}

pub(super) fn assert_applied(intake: &mut AccessIntake, message: WatchResponse) {
    assert_eq!(intake.apply(message), Ok(true));
}

/// Returns a view that knows the keys and a role.
pub(super) fn loaded() -> (Bench, Feed, AccessIntake) {
    let (bench, feed) = (Bench::new(), Feed::new());
    let mut intake = bench.view.intake();
    let known = vec![event(1, keys(&bench.mint)), event(2, role("player", &["games:read"]))];
    assert_applied(&mut intake, feed.snapshot(2, known));
    (bench, feed, intake)
}
