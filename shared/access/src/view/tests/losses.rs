//! Tests of what the view keeps if the feed continues with a history that lacks earlier changes.

use std::time::Duration;

use base::{
    ids::{SessionId, UserId},
    telemetry,
};
use proto::auth::v1::WatchResponse;

use super::{
    Bench, NOW,
    feed::{Feed, LIFE, assert_applied, event, keys, loaded, session, user},
    sid,
};
use crate::{
    token::TokenError,
    view::{AccessIntake, LostRevocations},
};

/// Begins a stream whose snapshot has nothing but the keys.
fn begin_without_revocations(bench: &Bench, feed: &Feed) -> AccessIntake {
    let mut intake = bench.view.intake();
    assert_applied(&mut intake, feed.snapshot(1, vec![event(1, keys(&bench.mint))]));
    intake
}

fn assert_revocations(bench: &Bench, count: usize) {
    let view = format!("{:?}", bench.view);
    assert!(view.contains(&format!("revocations: {count},")), "{count}: {view}");
}

#[test]
fn each_kind_of_loss_is_a_loss() {
    let none = LostRevocations::default();
    assert!(none.is_empty());
    for lost in [
        LostRevocations {
            sessions: vec![SessionId::generate()],
            ..none.clone()
        },
        LostRevocations {
            users: vec![(UserId::generate(), 1)],
            ..none.clone()
        },
        LostRevocations {
            keys: vec!["a key".to_owned()],
            ..none.clone()
        },
    ] {
        assert!(!lost.is_empty(), "{lost:?}");
    }
}

#[test]
fn the_feed_goes_back_to_an_earlier_position_or_to_another_history_only() {
    let (bench, feed, _intake) = loaded();
    let other = Feed::new();
    let went_back = bench.view.went_back();
    for (history, sequence, times) in [
        (&feed, 2, 0),
        (&feed, 5, 0),
        (&feed, 4, 1),
        (&other, 4, 2),
        (&other, 9, 2),
        (&feed, 10, 3),
    ] {
        let mut intake = bench.view.intake();
        assert_applied(
            &mut intake,
            history.snapshot(sequence, vec![event(1, keys(&bench.mint))]),
        );
        assert_eq!(*went_back.borrow(), times, "at {sequence}");
    }
}

#[test]
fn a_metric_counts_how_often_the_feed_went_back() {
    let count = || {
        let metrics = telemetry::metrics::render();
        let mut lines = metrics.lines();
        assert!(lines.any(|line| line.starts_with("# HELP access_feed_went_back_total ")));
        let value = lines.find_map(|line| line.strip_prefix("access_feed_went_back_total "));
        value.expect("a value").parse::<u64>().expect("an integer")
    };
    let (bench, _feed, _intake) = loaded();
    let before = count();
    begin_without_revocations(&bench, &Feed::new());
    // Other tests of this process count, too.
    assert!(count() > before);
}

#[test]
fn every_revocation_is_counted_once_and_expires_by_itself() {
    let (sessions, users) = (|| session(SessionId::generate()), || user(UserId::generate(), 1));
    for revoked in [sessions(), users()] {
        let (bench, feed, mut intake) = loaded();
        assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, revoked.clone())]));
        assert_revocations(&bench, 1);
        bench.hand.advance(LIFE);
        assert_applied(&mut intake, feed.at(3, NOW, Vec::new()));
        assert_revocations(&bench, 0);

        // A message or a snapshot of a history that lacks the revocation forgets it in time, too.
        for is_snapshot in [false, true] {
            let (bench, feed, mut intake) = loaded();
            assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, revoked.clone())]));
            let mut intake = begin_without_revocations(&bench, &feed);
            assert_revocations(&bench, 1);
            bench.hand.advance(LIFE);
            if is_snapshot {
                begin_without_revocations(&bench, &feed);
            } else {
                assert_applied(&mut intake, feed.at(1, NOW, Vec::new()));
            }
            assert_revocations(&bench, 0);
        }
    }

    let (bench, feed, mut intake) = loaded();
    let lost = [sessions(), sessions(), sessions(), users(), users(), users(), users()];
    let lost = (3..).zip(lost).map(|(sequence, lost)| event(sequence, lost));
    assert_applied(&mut intake, feed.at(9, NOW, lost.collect()));
    let known = vec![
        event(1, keys(&bench.mint)),
        event(2, sessions()),
        event(3, users()),
        event(4, users()),
    ];
    assert_applied(&mut bench.view.intake(), feed.snapshot(4, known));
    assert_revocations(&bench, 3 + 4 + 1 + 2);
}

#[test]
fn a_lost_minimum_version_refuses_lower_versions_only() {
    let (bench, feed, mut intake) = loaded();
    let mut claims = bench.claims();
    assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, user(claims.sub, 7))]));
    begin_without_revocations(&bench, &feed);
    for (version, answer) in [(6, Err(TokenError::Stale)), (7, Ok(())), (8, Ok(()))] {
        claims.ver = version;
        assert_eq!(bench.verify(&claims), answer, "{version}");
    }
}

#[test]
fn a_revocation_that_the_new_history_has_as_well_is_not_lost() {
    for version in [7, 8] {
        let (bench, feed, mut intake) = loaded();
        let mut claims = bench.claims();
        assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, user(claims.sub, 7))]));
        let other = Feed::new();
        let known = vec![event(1, keys(&bench.mint)), event(2, user(claims.sub, version))];
        let snapshot = WatchResponse {
            revocation_seconds: 60,
            ..other.snapshot(2, known)
        };
        let mut intake = bench.view.intake();
        assert_applied(&mut intake, snapshot);
        assert!(bench.view.lost().is_empty(), "{version}");
        // It applies to new tokens too, and for the longer of the two times.
        bench.hand.advance(Duration::from_mins(2));
        assert_applied(&mut intake, other.at(2, NOW, Vec::new()));
        claims.ver = 6;
        claims.iat += 120;
        claims.nbf = claims.iat;
        assert_eq!(bench.verify(&claims), Err(TokenError::Stale), "{version}");
    }
}

#[test]
fn the_strictest_of_several_lost_minimum_versions_stays() {
    let (bench, feed, mut intake) = loaded();
    let mut claims = bench.claims();
    assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, user(claims.sub, 7))]));
    // The first history is lost while the clock is an hour ahead.
    let hour = Duration::from_hours(1);
    bench.hand.set(NOW.plus(hour));
    let second = Feed::new();
    let mut intake = begin_without_revocations(&bench, &second);
    bench.hand.set(NOW);
    // The second history has a lower version, keeps it for a shorter time, and is lost as well.
    let lower = WatchResponse {
        revocation_seconds: 60,
        ..second.at(2, NOW, vec![event(2, user(claims.sub, 2))])
    };
    assert_applied(&mut intake, lower);
    let third = Feed::new();
    let mut intake = begin_without_revocations(&bench, &third);
    assert_eq!(bench.view.lost().users, [(claims.sub, 7)]);

    bench.hand.advance(LIFE.saturating_sub(Duration::from_secs(1)));
    assert_applied(&mut intake, third.at(1, NOW, Vec::new()));
    claims.ver = 6;
    assert_eq!(bench.verify(&claims), Err(TokenError::Stale));
    // The token was issued after the second history was lost, but before the first one was, by the
    // clock that was ahead.
    claims.iat += 60;
    claims.nbf = claims.iat;
    claims.jti = "a minute later".to_owned();
    assert_eq!(bench.verify(&claims), Err(TokenError::Stale));
    bench.hand.advance(Duration::from_mins(1));
    assert_applied(&mut intake, third.at(1, NOW, Vec::new()));
    assert_revocations(&bench, 0);
}

#[test]
fn a_lost_revocation_refuses_tokens_from_before_the_loss_by_the_later_clock() {
    let (bench, feed, mut intake) = loaded();
    let mut claims = bench.claims();
    assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, session(sid(&claims)))]));
    // The clock of auth-service is ahead.
    let ahead = NOW.plus(Duration::from_secs(100));
    let snapshot = WatchResponse {
        server_time: Some(ahead.into()),
        ..feed.snapshot(1, vec![event(1, keys(&bench.mint))])
    };
    assert_applied(&mut bench.view.intake(), snapshot);
    bench.hand.set(ahead.plus(Duration::from_secs(30)));
    claims.iat += 100 + 29;
    claims.nbf = claims.iat;
    assert_eq!(bench.verify(&claims), Err(TokenError::Revoked));
    claims.iat += 1;
    claims.jti = "a second later".to_owned();
    assert_eq!(bench.verify(&claims), Ok(()));
}
