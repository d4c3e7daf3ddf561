//! Requirements on how recently and how strongly a user must have logged in (RFC 9470).

use std::time::Duration;

use ::proto::authz::v1 as proto;
use base::clock::{Clock, Timestamp};

use crate::token::{Acr, LEEWAY, Principal};

/// Shortest age that a policy can require. The clocks of two machines may differ by half of it.
const LEAST_MAX_AGE: Duration = Duration::from_mins(1);

/// Requirement on the login of the caller of an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepUp {
    /// Largest age of the login.
    pub max_age: Duration,
    /// Lowest authentication context class, if one is required.
    pub acr: Option<Acr>,
}

impl StepUp {
    /// Largest age of the login, if the policy gives none.
    pub const DEFAULT_MAX_AGE: Duration = Duration::from_mins(15);

    /// Reads the requirement that a policy declares.
    pub(super) fn declared(declared: &proto::StepUp) -> Result<Self, &'static str> {
        let max_age = match declared.max_auth_age_seconds {
            0 => Self::DEFAULT_MAX_AGE,
            seconds => Duration::from_secs(seconds.into()),
        };
        if max_age < LEAST_MAX_AGE {
            return Err("the `max_auth_age_seconds` of a step-up must be at least 60");
        }
        let acr = match declared.acr.as_str() {
            "" => None,
            acr => Some(acr.parse().map_err(|_| "the `acr` of a step-up must be 1 or 2")?),
        };
        Ok(Self { max_age, acr })
    }

    /// Returns whether the login of the principal is recent and strong enough. A service always
    /// meets the requirement: it proves its secret every few minutes, and has no user who could log
    /// in again.
    pub(crate) fn is_met_by(self, principal: &Principal, clock: &Clock) -> bool {
        principal.is_service() || self.is_met_at(principal, clock.now(), clock.monotonic())
    }

    fn is_met_at(self, principal: &Principal, now: Timestamp, monotonic: Duration) -> bool {
        // Another process has noted the time of the login, by its own clock. A clock that was far
        // ahead then must not make the login recent for longer.
        let is_recent = principal.auth_time().is_some_and(|time| time <= now.plus(LEEWAY))
            && principal
                .login_age(now, monotonic)
                .is_some_and(|age| age <= self.max_age + LEEWAY);
        let is_strong = self.acr.is_none_or(|required| principal.acr() >= Some(required));
        is_recent && is_strong
    }
}

#[cfg(test)]
mod tests {
    use base::{clock::ClockHand, ids::UserId};

    use super::*;
    use crate::{
        testing::tokens::TokenMint,
        token::{Claims, Verifier},
    };

    const NOW: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

    struct Bench {
        mint: TokenMint,
        verifier: Verifier,
        clock: Clock,
        hand: ClockHand,
    }

    impl Bench {
        fn new() -> Self {
            let (clock, hand) = Clock::manual(NOW);
            let mint = TokenMint::fixed(1);
            Self {
                verifier: mint.verifier(clock.clone()),
                mint,
                clock,
                hand,
            }
        }

        /// Returns whether the token of a person with these claims meets the requirement now.
        fn meets(&self, step_up: StepUp, claims: &Claims) -> bool {
            let principal = self.verifier.verify(&self.mint.sign(claims)).expect("a good token");
            step_up.is_met_by(&principal, &self.clock)
        }
    }

    fn step_up(max_auth_age_seconds: u32, acr: &str) -> Result<StepUp, &'static str> {
        let acr = acr.to_owned();
        StepUp::declared(&proto::StepUp {
            max_auth_age_seconds,
            acr,
        })
    }

    #[test]
    fn a_requirement_is_read_as_declared_or_refused() {
        let minutes = |minutes| Duration::from_mins(minutes);
        for (seconds, acr, expected) in [
            (0, "", Some((minutes(15), None))),
            (60, "", Some((minutes(1), None))),
            (600, "1", Some((minutes(10), Some(Acr::OneFactor)))),
            (0, "2", Some((minutes(15), Some(Acr::TwoFactors)))),
            (59, "", None),
            (0, "3", None),
            (0, "two", None),
        ] {
            let read = step_up(seconds, acr).ok();
            assert_eq!(read.map(|read| (read.max_age, read.acr)), expected, "{seconds} {acr:?}");
        }
    }

    #[test]
    fn a_login_is_recent_up_to_its_largest_age_and_the_allowance() {
        let bench = Bench::new();
        let required = step_up(900, "").expect("a requirement");
        let mut claims = bench.mint.claims_for(UserId::generate(), "ann", &[], NOW);
        let now = claims.iat;
        for (auth_time, expected) in [
            (Some(now), true),
            (Some(now - 900), true),
            (Some(now - 930), true),
            (Some(now - 931), false),
            (Some(now - 90 * 86_400), false),
            // The clock of the process that noted the login was ahead.
            (Some(now + 30), true),
            (Some(now + 31), false),
            // A replica of an earlier version issued the token.
            (None, false),
        ] {
            claims.auth_time = auth_time;
            assert_eq!(bench.meets(required, &claims), expected, "{auth_time:?}");
        }
    }

    #[test]
    fn a_login_is_strong_enough_from_its_class_on() {
        let bench = Bench::new();
        let mut claims = bench.mint.claims_for(UserId::generate(), "ann", &[], NOW);
        for (acr, required, expected) in [
            (Some("1"), "", true),
            (Some("1"), "1", true),
            (Some("1"), "2", false),
            (Some("2"), "1", true),
            (Some("2"), "2", true),
            // A class that this version does not know, and a token without one.
            (Some("3"), "1", false),
            (None, "", true),
            (None, "1", false),
        ] {
            claims.acr = acr.map(str::to_owned);
            let step_up = step_up(0, required).expect("a requirement");
            assert_eq!(bench.meets(step_up, &claims), expected, "{acr:?} for {required:?}");
        }
    }

    #[test]
    fn a_service_always_meets_a_requirement() {
        let bench = Bench::new();
        let mut claims = bench.mint.claims_for(UserId::generate(), "courses", &[], NOW);
        claims.client_id = "courses".to_owned();
        claims.sid = None;
        claims.auth_time = None;
        claims.acr = None;
        assert!(bench.meets(step_up(60, "2").expect("a requirement"), &claims));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_login_recent_again() {
        let bench = Bench::new();
        let required = step_up(900, "").expect("a requirement");
        let claims = bench.mint.claims_for(UserId::generate(), "ann", &[], NOW);
        assert!(bench.meets(required, &claims));
        bench.hand.advance(Duration::from_secs(931));
        assert!(!bench.meets(required, &claims));
        bench.hand.set(NOW);
        assert!(!bench.meets(required, &claims));
    }
}
