//! Tests of the order of messages, and of those who wait for one.

use std::pin::pin;

use base::ids::SessionId;
use futures_util::FutureExt as _;

use super::{
    Bench, NOW,
    feed::{Feed, assert_applied, event, keys, loaded, role, session},
    named, sid,
};
use crate::{
    token::TokenError,
    view::{FeedError, Refused},
};

#[test]
fn changes_come_after_a_whole_snapshot_and_snapshots_come_once() {
    let (bench, feed, mut first) = loaded();
    let begin = || {
        let mut intake = bench.view.intake();
        assert_eq!(intake.apply(feed.part(2, Vec::new())), Ok(false));
        intake
    };
    let mut intake = begin();
    assert_eq!(intake.apply(feed.at(3, NOW, Vec::new())), Err(FeedError::OutOfOrder));
    let mut intake = begin();
    let of_another_epoch = Feed::new().snapshot(2, Vec::new());
    assert_eq!(intake.apply(of_another_epoch), Err(FeedError::Discontinuous));

    // The stream is behind the first one once its snapshot is whole, and has to catch up.
    let mut intake = begin();
    assert_applied(&mut first, feed.at(3, NOW, Vec::new()));
    assert_eq!(intake.apply(feed.snapshot(2, Vec::new())), Ok(false));
    assert_eq!(intake.apply(feed.snapshot(3, Vec::new())), Err(FeedError::OutOfOrder));
}

#[test]
fn a_caller_waits_until_the_view_has_reached_a_position() {
    let (bench, feed) = (Bench::new(), Feed::new());
    let mut intake = bench.view.intake();
    let mut reached = pin!(bench.view.reached(2));
    assert!(reached.as_mut().now_or_never().is_none());
    assert_applied(&mut intake, feed.snapshot(2, vec![event(1, keys(&bench.mint))]));
    assert!(reached.as_mut().now_or_never().is_some());

    // Changes that are none of the view's business advance it without an event.
    let mut reached = pin!(bench.view.reached(9));
    for sequence in [2, 8] {
        assert_applied(&mut intake, feed.at(sequence, NOW, Vec::new()));
        assert!(reached.as_mut().now_or_never().is_none(), "{sequence}");
    }
    assert_applied(&mut intake, feed.at(9, NOW, Vec::new()));
    assert!(reached.as_mut().now_or_never().is_some());
    assert!(bench.view.reached(9).now_or_never().is_some());
    assert!(bench.view.reached(10).now_or_never().is_none());
}

#[test]
fn an_open_stream_is_told_of_several_changes_in_one_message() {
    let (bench, feed, mut intake) = loaded();
    let claims = bench.claims();
    let principal = bench.principal(&claims);
    let mut refused = pin!(bench.view.refused(&principal, None));
    assert_eq!(refused.as_mut().now_or_never(), None);
    let both = vec![
        event(3, session(SessionId::generate())),
        event(4, session(sid(&claims))),
    ];
    assert_applied(&mut intake, feed.at(4, NOW, both));
    assert_eq!(
        refused.as_mut().now_or_never(),
        Some(Refused::Token(TokenError::Revoked))
    );
}

#[test]
fn an_open_stream_is_told_if_a_snapshot_takes_its_permission() {
    let (bench, feed, _intake) = loaded();
    let principal = bench.principal(&bench.claims());
    let needed = named("games:read");
    let mut refused = pin!(bench.view.refused(&principal, Some(&needed)));
    assert_eq!(refused.as_mut().now_or_never(), None);
    let known = vec![event(1, keys(&bench.mint)), event(3, role("player", &[]))];
    assert_applied(&mut bench.view.intake(), feed.snapshot(3, known));
    assert_eq!(refused.as_mut().now_or_never(), Some(Refused::Permission));
}
