//! How often an address may call, right or wrong. In memory, and so without a query: it is what stands before everything that
//! costs more.
//!
//! The generic cell rate algorithm (ITU-T I.371), by the crate `governor`.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use ipnet::IpNet;

use super::Error;

/// After this many calls, addresses that have all of their calls again are forgotten. So what is kept is bounded by the calls of
/// the time that it takes to have them again.
const FORGET_EVERY: usize = 1024;

/// How many calls an address has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateRule {
    /// 0 is any number.
    pub(crate) per_minute: u32,
    /// At once; at least 1.
    pub(crate) burst: u32,
}

/// Counts the calls of each address.
#[derive(Clone, Debug)]
pub(crate) struct AddressLimit(Option<Arc<Counted>>);

#[derive(Debug)]
struct Counted {
    limiter: DefaultKeyedRateLimiter<IpNet>,
    clock: DefaultClock,
    calls: AtomicUsize,
}

impl AddressLimit {
    pub(crate) fn new(rule: RateRule) -> Self {
        let quota = NonZeroU32::new(rule.per_minute)
            .map(|rate| Quota::per_minute(rate).allow_burst(NonZeroU32::new(rule.burst).unwrap_or(NonZeroU32::MIN)));
        Self(quota.map(|quota| {
            Arc::new(Counted {
                limiter: RateLimiter::keyed(quota),
                clock: DefaultClock::default(),
                calls: AtomicUsize::new(0),
            })
        }))
    }

    /// Counts a call. One from within the process has no address, and no limit.
    pub(crate) fn admit(&self, bucket: Option<IpNet>) -> Result<(), Error> {
        let (Some(counted), Some(bucket)) = (&self.0, bucket) else {
            return Ok(());
        };
        if counted.calls.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            counted.limiter.retain_recent();
            counted.limiter.shrink_to_fit();
        }
        counted
            .limiter
            .check_key(&bucket)
            .map_err(|until| Error::TooManyAttempts(until.wait_time_from(counted.clock.now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpNet {
        std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(last)).into()
    }

    #[test]
    fn an_address_has_its_burst_and_no_other_pays_for_it() {
        let limit = AddressLimit::new(RateRule {
            per_minute: 1,
            burst: 2,
        });
        assert!(limit.admit(Some(address(1))).is_ok());
        assert!(limit.admit(Some(address(1))).is_ok());
        let Err(Error::TooManyAttempts(wait)) = limit.admit(Some(address(1))) else {
            panic!("a third call was let in");
        };
        assert!((30..=60).contains(&wait.as_secs()), "{wait:?}");
        assert!(limit.admit(Some(address(2))).is_ok());
        assert!(limit.admit(None).is_ok());
    }

    #[test]
    fn zero_is_no_limit() {
        let limit = AddressLimit::new(RateRule {
            per_minute: 0,
            burst: 1,
        });
        assert!((0..1000).all(|_| limit.admit(Some(address(1))).is_ok()));
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let limit = AddressLimit::new(RateRule {
            per_minute: u32::MAX,
            burst: 1,
        });
        for last in 0..50_000 {
            assert!(limit.admit(Some(address(last))).is_ok());
        }
        let kept = limit.0.expect("a limit").limiter.len();
        assert!(kept <= 2 * FORGET_EVERY, "{kept}");
    }
}
