//! Tests of the view, with the messages of one stream and of two.

use std::time::Duration;

use base::{
    clock::Clock,
    ids::{SessionId, UserId},
};
use futures_util::FutureExt as _;
use proto::auth::v1::{
    AccessEvent, GetJwksResponse, KeysChanged, RoleChanged, SessionRevoked, UserDeleted, WatchResponse,
    access_event::Event,
};

use super::{
    Bench, NOW,
    feed::{Feed, LIFE, assert_applied, event, keys, loaded, role, session, user},
    named, sid,
};
use crate::{
    policy::Grants,
    testing::tokens::TokenMint,
    token::{Jwks, KeySet, TokenError},
    view::{AccessView, FeedError, FeedPosition, OnSilence, Refused, SilenceRule},
};

#[test]
fn nothing_is_allowed_before_the_snapshot_is_complete() {
    let (bench, feed) = (Bench::new(), Feed::new());
    let claims = bench.claims();
    let mut intake = bench.view.intake();
    let parts = [
        feed.part(3, vec![event(1, keys(&bench.mint))]),
        feed.part(3, vec![event(2, role("player", &["games:read"]))]),
        feed.part(3, Vec::new()),
    ];
    for part in parts {
        assert_eq!(intake.apply(part), Ok(false));
        assert!(!bench.view.is_loaded() && bench.keys.is_empty());
        assert!(bench.view.wait_until_loaded().now_or_never().is_none());
        assert!(!bench.may(&claims, "games:read"));
        assert_eq!(bench.view.position(), None);
    }
    assert_applied(
        &mut intake,
        feed.snapshot(3, vec![event(3, session(SessionId::generate()))]),
    );
    assert!(bench.view.wait_until_loaded().now_or_never().is_some());
    assert_eq!(bench.verify(&claims), Ok(()));
    assert!(bench.may(&claims, "games:read") && !bench.may(&claims, "games:create"));
    let position = FeedPosition {
        epoch: feed.epoch,
        sequence: 3,
    };
    assert_eq!(bench.view.position(), Some(position));
}

#[test]
fn even_a_superuser_waits_for_the_snapshot() {
    let bench = Bench::new();
    let mut claims = bench.claims();
    claims.roles = vec!["superuser".to_owned()];
    assert!(!bench.may(&claims, "games:read"));
}

#[test]
fn an_ended_session_is_refused_and_others_are_not() {
    let (bench, feed, mut intake) = loaded();
    let (one, other) = (bench.claims(), bench.claims());
    assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, session(sid(&one)))]));
    assert_eq!(bench.verify(&one), Err(TokenError::Revoked));
    assert_eq!(bench.verify(&other), Ok(()));
}

#[test]
fn tokens_from_before_a_change_of_their_user_are_stale() {
    let (bench, feed, mut intake) = loaded();
    let mut claims = bench.claims();
    assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, user(claims.sub, 2))]));
    for (version, answer) in [
        (0, Err(TokenError::Stale)),
        (1, Err(TokenError::Stale)),
        (2, Ok(())),
        (3, Ok(())),
    ] {
        claims.ver = version;
        assert_eq!(bench.verify(&claims), answer, "{version}");
    }
    assert_eq!(bench.verify(&bench.claims()), Ok(()));
    // A lower version that arrives later changes nothing, because versions only rise.
    assert_applied(&mut intake, feed.at(4, NOW, vec![event(4, user(claims.sub, 1))]));
    claims.ver = 1;
    assert_eq!(bench.verify(&claims), Err(TokenError::Stale));
    assert_applied(&mut intake, feed.at(5, NOW, vec![event(5, user(claims.sub, 3))]));
    claims.ver = 2;
    assert_eq!(bench.verify(&claims), Err(TokenError::Stale));
}

#[test]
fn the_latest_event_decides_what_a_role_holds() {
    let (bench, feed, mut intake) = loaded();
    let claims = bench.claims();
    assert!(bench.may(&claims, "games:read"));
    assert_applied(
        &mut intake,
        feed.at(3, NOW, vec![event(3, role("player", &["history:all", "nonsense"]))]),
    );
    assert!(!bench.may(&claims, "games:read"));
    assert!(bench.may(&claims, "history:read") && bench.may(&claims, "history:read_all"));
    let deleted = Event::RoleChanged(RoleChanged {
        code_name: "player".to_owned(),
        permissions: vec!["games:read".to_owned()],
        is_deleted: true,
    });
    assert_applied(&mut intake, feed.at(4, NOW, vec![event(4, deleted)]));
    assert!(!bench.may(&claims, "games:read") && !bench.may(&claims, "history:read"));
}

#[test]
fn direct_grants_and_superusers_need_no_role_in_the_view() {
    let (bench, _feed, _intake) = loaded();
    let mut claims = bench.claims();
    claims.roles.clear();
    claims.permissions = vec!["games:create".to_owned(), "history:all".to_owned()];
    assert!(bench.may(&claims, "games:create") && bench.may(&claims, "history:read"));
    assert!(!bench.may(&claims, "games:read"));
    claims.roles = vec!["superuser".to_owned()];
    assert!(bench.may(&claims, "games:read"));
}

#[test]
fn cached_tokens_of_a_withdrawn_key_are_refused() {
    let (bench, feed, mut intake) = loaded();
    let claims = bench.claims();
    assert_eq!(bench.verify(&claims), Ok(()));
    let other = TokenMint::fixed(2);
    assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, keys(&other))]));
    assert_eq!(bench.verify(&claims), Err(TokenError::Invalid));
    assert!(bench.verifier.verify(&other.sign(&claims)).is_ok());
}

#[test]
fn revocations_expire_by_the_monotonic_clock_only() {
    let (bench, feed, mut intake) = loaded();
    let claims = bench.claims();
    let both = vec![event(3, session(sid(&claims))), event(4, user(claims.sub, 1))];
    assert_applied(&mut intake, feed.at(4, NOW, both));
    // The clock of auth-service, and then that of the follower, is a year ahead for a while.
    let year = Duration::from_hours(365 * 24);
    assert_applied(&mut intake, feed.at(4, NOW.plus(year), Vec::new()));
    bench.hand.set(NOW.plus(year));
    assert_applied(&mut intake, feed.at(4, NOW, Vec::new()));
    bench.hand.set(NOW);
    assert_eq!(bench.verify(&claims), Err(TokenError::Revoked));

    bench.hand.advance(Duration::from_micros(30 * 60 * 1_000_000 - 1));
    assert_applied(&mut intake, feed.at(4, NOW, Vec::new()));
    assert_eq!(bench.verify(&claims), Err(TokenError::Revoked));
    bench.hand.advance(Duration::from_micros(1));
    assert_applied(&mut intake, feed.at(4, NOW, Vec::new()));
    assert_eq!(bench.verify(&claims), Ok(()));
    assert!(format!("{:?}", bench.view).contains("revocations: 0"));
}

#[test]
fn a_later_revocation_of_the_same_user_is_kept_for_its_own_time() {
    let (bench, feed, mut intake) = loaded();
    let mut claims = bench.claims();
    claims.exp += 2 * LIFE.as_secs();
    assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, user(claims.sub, 1))]));
    bench.hand.advance(LIFE / 2);
    assert_applied(&mut intake, feed.at(4, NOW, vec![event(4, user(claims.sub, 2))]));
    bench.hand.advance(LIFE / 2);
    assert_applied(&mut intake, feed.at(4, NOW, Vec::new()));
    assert_eq!(bench.verify(&claims), Err(TokenError::Stale));
    bench.hand.advance(LIFE / 2);
    assert_applied(&mut intake, feed.at(4, NOW, Vec::new()));
    assert_eq!(bench.verify(&claims), Ok(()));
}

#[test]
fn a_revocation_missing_from_a_new_history_still_refuses_older_tokens() {
    let (bench, feed, mut intake) = loaded();
    let (mut ended, mut stale) = (bench.claims(), bench.claims());
    stale.ver = 6;
    let both = vec![event(3, session(sid(&ended))), event(4, user(stale.sub, 7))];
    assert_applied(&mut intake, feed.at(4, NOW, both));
    let mut went_back = bench.view.went_back();
    went_back.mark_unchanged();
    // A promoted standby lacks both revocations.
    let known = || vec![event(1, keys(&bench.mint)), event(2, role("player", &["games:read"]))];
    let mut intake = bench.view.intake();
    assert_applied(&mut intake, feed.snapshot(2, known()));
    assert!(went_back.has_changed().expect("a view"));
    assert_eq!(bench.view.position().map(|at| at.sequence), Some(2));
    assert_eq!(bench.verify(&ended), Err(TokenError::Revoked));
    assert_eq!(bench.verify(&stale), Err(TokenError::Stale));
    let lost = bench.view.lost();
    assert_eq!((lost.sessions, lost.users), (vec![sid(&ended)], vec![(stale.sub, 7)]));

    // Tokens of the new history are valid although the user's version fell back. They must be 30 s
    // newer, because clocks differ.
    for claims in [&mut ended, &mut stale] {
        claims.iat += 30;
        claims.nbf = claims.iat;
        claims.jti = "of the new history".to_owned();
    }
    assert_eq!(bench.verify(&ended), Ok(()));
    assert_eq!(bench.verify(&stale), Ok(()));
    for claims in [&mut ended, &mut stale] {
        claims.iat -= 1;
        claims.jti = "of a second before".to_owned();
    }
    assert_eq!(bench.verify(&ended), Err(TokenError::Revoked));
    assert_eq!(bench.verify(&stale), Err(TokenError::Stale));

    // A snapshot of yet another history does not forget anything either.
    let (other, mut third) = (Feed::new(), bench.view.intake());
    assert_applied(&mut third, other.snapshot(2, known()));
    assert_eq!(bench.verify(&ended), Err(TokenError::Revoked));

    // Once the new history has both revocations too, nothing is lost, and they apply to every
    // token.
    let both = vec![event(3, session(sid(&ended))), event(4, user(stale.sub, 7))];
    assert_applied(&mut third, other.at(4, NOW, both));
    assert!(bench.view.lost().is_empty());
    for claims in [&mut ended, &mut stale] {
        claims.iat += 1;
        claims.jti = "of the new history, once more".to_owned();
    }
    assert_eq!(bench.verify(&ended), Err(TokenError::Revoked));
    assert_eq!(bench.verify(&stale), Err(TokenError::Stale));
}

#[test]
fn revocations_missing_from_a_new_history_still_expire() {
    let (bench, feed, mut intake) = loaded();
    let claims = bench.claims();
    let both = vec![event(3, session(sid(&claims))), event(4, user(claims.sub, 1))];
    assert_applied(&mut intake, feed.at(4, NOW, both));
    bench.hand.advance(LIFE / 2);
    let mut intake = bench.view.intake();
    assert_applied(&mut intake, feed.snapshot(1, vec![event(1, keys(&bench.mint))]));
    bench.hand.advance(LIFE / 2);
    assert_applied(&mut intake, feed.at(1, NOW, Vec::new()));
    assert!(bench.view.lost().is_empty());
    assert!(format!("{:?}", bench.view).contains("revocations: 0"));
}

#[test]
fn a_withdrawn_key_stays_withdrawn_whatever_a_snapshot_says() {
    let (bench, feed, mut intake) = loaded();
    let claims = bench.claims();
    let other = TokenMint::fixed(2);
    assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, keys(&other))]));
    assert_eq!(bench.verify(&claims), Err(TokenError::Invalid));
    // The new history offers the leaked key again, together with the new one or alone.
    let again = [bench.mint.jwk().clone(), other.jwk().clone()];
    let both = KeysChanged {
        keys: GetJwksResponse::from(&Jwks::new(again.to_vec()).expect("keys")).keys,
    };
    for offered in [Event::KeysChanged(both), keys(&bench.mint)] {
        let mut intake = bench.view.intake();
        assert_applied(&mut intake, Feed::new().snapshot(1, vec![event(1, offered)]));
        assert_eq!(bench.verify(&claims), Err(TokenError::Invalid));
        assert_eq!(bench.view.lost().keys, [bench.mint.jwk().kid()]);
    }
    let mut intake = bench.view.intake();
    assert_applied(
        &mut intake,
        Feed::new().snapshot(1, vec![event(1, keys(&TokenMint::fixed(3)))]),
    );
    assert!(bench.view.lost().is_empty());
    assert!(bench.view.is_loaded());
}

#[test]
fn a_repeated_event_changes_nothing() {
    let (bench, feed, mut intake) = loaded();
    let claims = bench.claims();
    assert_applied(
        &mut intake,
        feed.at(3, NOW, vec![event(3, role("player", &["games:create"]))]),
    );
    let again = vec![
        event(2, role("player", &["games:read"])),
        event(3, role("player", &["games:create"])),
    ];
    assert_applied(&mut intake, feed.at(3, NOW, again));
    assert!(bench.may(&claims, "games:create") && !bench.may(&claims, "games:read"));
}

#[test]
fn a_snapshot_replaces_roles_and_adds_to_revocations() {
    let (bench, feed, mut intake) = loaded();
    let claims = bench.claims();
    assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, session(sid(&claims)))]));
    // Another epoch, without the revocation and with another role.
    let (other, mut intake) = (Feed::new(), bench.view.intake());
    assert_eq!(
        intake.apply(other.part(1, vec![event(1, keys(&bench.mint))])),
        Ok(false)
    );
    assert_eq!(bench.verify(&claims), Err(TokenError::Revoked));
    assert_applied(
        &mut intake,
        other.snapshot(1, vec![event(1, role("player", &["games:create"]))]),
    );
    assert_eq!(bench.verify(&claims), Err(TokenError::Revoked));
    assert!(bench.may(&claims, "games:create") && !bench.may(&claims, "games:read"));
    assert_eq!(bench.view.position().map(|at| at.epoch), Some(other.epoch));
}

#[test]
fn a_slower_second_stream_does_not_undo_newer_changes() {
    let (bench, feed, mut first) = loaded();
    let claims = bench.claims();
    let mut second = bench.view.intake();
    // auth-service took the snapshot for the second stream before the session ended.
    let old = feed.snapshot(
        2,
        vec![event(1, keys(&bench.mint)), event(2, role("player", &["games:read"]))],
    );
    assert_applied(&mut first, feed.at(3, NOW, vec![event(3, session(sid(&claims)))]));
    assert_eq!(second.apply(old), Ok(false));
    assert_eq!(bench.verify(&claims), Err(TokenError::Revoked));
    assert!(bench.view.is_loaded());
    assert_applied(&mut second, feed.at(3, NOW, vec![event(3, session(sid(&claims)))]));
    assert_eq!(bench.verify(&claims), Err(TokenError::Revoked));
    assert!(bench.may(&claims, "games:read"));
}

#[test]
fn a_restored_database_with_the_same_epoch_is_accepted() {
    let (bench, feed, mut intake) = loaded();
    assert_applied(&mut intake, feed.at(9, NOW, Vec::new()));
    let mut intake = bench.view.intake();
    assert_applied(&mut intake, feed.snapshot(1, vec![event(1, keys(&bench.mint))]));
    assert_eq!(bench.view.position().map(|at| at.sequence), Some(1));
}

#[test]
fn invalid_messages_end_the_stream_and_keep_the_view() {
    let claims = Bench::new().claims();
    let bad_id = Event::SessionRevoked(SessionRevoked {
        session_id: "7".to_owned(),
    });
    let bad_keys = Event::KeysChanged(KeysChanged { keys: Vec::new() });
    for (what, message) in [
        (
            "another epoch",
            Feed::new().at(3, NOW, vec![event(3, session(sid(&claims)))]),
        ),
        ("no epoch", WatchResponse::default()),
    ] {
        let (bench, _feed, mut intake) = loaded();
        let before = bench.view.position();
        assert!(intake.apply(message).is_err(), "{what}");
        assert_eq!(bench.view.position(), before, "{what}");
    }
    let (bench, feed, mut intake) = loaded();
    assert_eq!(intake.apply(feed.snapshot(3, Vec::new())), Err(FeedError::OutOfOrder));
    let mut intake = bench.view.intake();
    assert_eq!(intake.apply(feed.at(3, NOW, Vec::new())), Err(FeedError::OutOfOrder));

    let (bench, feed, mut intake) = loaded();
    let bad = vec![event(3, session(sid(&claims))), event(4, bad_id)];
    assert_eq!(intake.apply(feed.at(4, NOW, bad)), Err(FeedError::BadId("session_id")));
    assert_eq!(bench.verify(&claims), Err(TokenError::Revoked));
    assert_eq!(bench.view.position().map(|at| at.sequence), Some(3));

    let (bench, feed, mut intake) = loaded();
    let refused = intake.apply(feed.at(3, NOW, vec![event(3, bad_keys)]));
    assert!(matches!(refused, Err(FeedError::BadKeys(_))), "{refused:?}");
    assert_eq!(bench.verify(&claims), Ok(()));
}

#[test]
fn events_that_a_verifier_need_not_know_are_skipped() {
    let (bench, feed, mut intake) = loaded();
    let deleted = Event::UserDeleted(UserDeleted {
        user_id: UserId::generate().to_string(),
    });
    let unknown = AccessEvent {
        event: None,
        ..event(4, deleted.clone())
    };
    assert_applied(&mut intake, feed.at(4, NOW, vec![event(3, deleted), unknown]));
    assert_eq!(bench.view.position().map(|at| at.sequence), Some(4));
}

#[tokio::test]
async fn an_open_stream_is_told_when_its_session_is_revoked() {
    let (bench, feed, mut intake) = loaded();
    let claims = bench.claims();
    let principal = bench.principal(&claims);
    let mut refused = std::pin::pin!(bench.view.refused(&principal, None));
    assert_eq!(refused.as_mut().now_or_never(), None);
    assert_applied(
        &mut intake,
        feed.at(3, NOW, vec![event(3, session(SessionId::generate()))]),
    );
    assert_eq!(refused.as_mut().now_or_never(), None);
    assert_applied(&mut intake, feed.at(4, NOW, vec![event(4, session(sid(&claims)))]));
    assert_eq!(refused.await, Refused::Token(TokenError::Revoked));
    assert_eq!(
        bench.view.refused(&principal, None).await,
        Refused::Token(TokenError::Revoked)
    );
}

#[tokio::test]
async fn an_open_stream_ends_when_its_permission_or_key_is_withdrawn() {
    let (bench, feed, mut intake) = loaded();
    let principal = bench.principal(&bench.claims());
    let role = |permissions: &[&str]| {
        Event::RoleChanged(RoleChanged {
            code_name: "player".to_owned(),
            permissions: permissions.iter().map(|name| (*name).to_owned()).collect(),
            is_deleted: false,
        })
    };
    assert_applied(&mut intake, feed.at(3, NOW, vec![event(3, role(&["games:read"]))]));
    let needed = named("games:read");
    let mut refused = std::pin::pin!(bench.view.refused(&principal, Some(&needed)));
    assert_eq!(refused.as_mut().now_or_never(), None);
    assert_applied(&mut intake, feed.at(4, NOW, vec![event(4, role(&[]))]));
    assert_eq!(refused.as_mut().now_or_never(), Some(Refused::Permission));

    let mut refused = std::pin::pin!(bench.view.refused(&principal, None));
    assert_eq!(refused.as_mut().now_or_never(), None);
    let other = TokenMint::fixed(2).jwks();
    let changed = KeysChanged {
        keys: GetJwksResponse::from(&other).keys,
    };
    assert_applied(
        &mut intake,
        feed.at(5, NOW, vec![event(5, Event::KeysChanged(changed))]),
    );
    assert_eq!(
        refused.as_mut().now_or_never(),
        Some(Refused::Token(TokenError::Invalid))
    );
}

#[tokio::test(start_paused = true)]
async fn silence_is_the_time_since_the_view_was_last_complete() {
    let (bench, feed, mut intake) = loaded();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(bench.view.silence(), Some(Duration::from_secs(4)));
    assert_applied(&mut intake, feed.at(2, NOW, Vec::new()));
    assert_eq!(bench.view.silence(), Some(Duration::ZERO));
    tokio::time::sleep(Duration::from_secs(4)).await;
    // An incomplete snapshot does not end the silence.
    let mut intake = bench.view.intake();
    assert_eq!(intake.apply(feed.part(2, vec![event(1, keys(&bench.mint))])), Ok(false));
    assert_eq!(bench.view.silence(), Some(Duration::from_secs(4)));
    assert_applied(&mut intake, feed.snapshot(2, Vec::new()));
    assert_eq!(bench.view.silence(), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn each_clone_of_a_view_has_its_own_rule_for_silence() {
    let (bench, _feed, _intake) = loaded();
    let rule = SilenceRule {
        after: Duration::from_secs(9),
        reads: OnSilence::Refuse,
        writes: OnSilence::Allow,
    };
    let other = bench.view.clone().with_silence(rule);
    assert_eq!(
        (bench.view.silence_rule(), other.silence_rule()),
        (SilenceRule::default(), rule)
    );
    for (seconds, refused_reads, refused_writes) in [
        (4, [false, false], [false, false]),
        (8, [false, false], [true, false]),
        (12, [false, true], [true, false]),
    ] {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let refused = |is_read| [&bench.view, &other].map(|view| view.refuses_in_silence(is_read));
        assert_eq!(
            (refused(true), refused(false)),
            (refused_reads, refused_writes),
            "after {seconds} s"
        );
    }
}

#[test]
fn an_offline_view_uses_its_grants_and_is_never_silent() {
    let bench = Bench::new();
    let mut grants = Grants::default();
    grants.set("player", ["games:read"]);
    let view = AccessView::offline(bench.mint.key_set(), grants, Clock::system());
    let principal = bench.principal(&bench.claims());
    let without_keys = AccessView::offline(KeySet::empty(), Grants::default(), Clock::system());
    assert!(!without_keys.is_loaded() && without_keys.wait_until_loaded().now_or_never().is_none());
    assert!(view.is_loaded() && view.silence().is_none() && !view.refuses_in_silence(false));
    assert_eq!(view.check(&principal), Ok(()));
    assert!(view.allow(&principal, &named("games:read")));
    assert!(!view.allow(&principal, &named("games:create")));
}
