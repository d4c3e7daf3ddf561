//! Rate limits per key and per client address. They are kept in memory and need no query, so they
//! are checked before anything more expensive.
//!
//! The algorithm is the generic cell rate algorithm (ITU-T I.371), implemented by the crate
//! `governor`.

use std::{
    array,
    fmt::Debug,
    hash::Hash,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use ipnet::{IpNet, Ipv6Net};

/// Number of calls after which keys with a full quota are dropped. Memory is thus bounded by the
/// number of calls within the time that a quota takes to refill.
const FORGET_EVERY: usize = 1024;

/// IPv6 prefix lengths that each count as one client, with their rate as a multiple of that of a
/// /64. A provider gives a household a /64 or a /56, and a site up to a /48 (RFC 6177). An attacker
/// therefore controls at least one such prefix.
const IPV6_PREFIXES: [(u8, u32); 3] = [(64, 1), (56, 4), (48, 16)];

/// Number of calls that a key may make.
#[derive(Clone, Copy, Debug)]
pub struct RateRule {
    /// Calls per minute; 0 means unlimited.
    pub per_minute: u32,
    /// Calls at once; at least 1.
    pub burst: u32,
}

/// Counts the calls of each key.
#[derive(Clone, Debug)]
pub struct KeyedLimit<K: Clone + Debug + Eq + Hash>(Option<Arc<Counted<K>>>);

#[derive(Debug)]
struct Counted<K: Clone + Debug + Eq + Hash> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
    calls: AtomicUsize,
}

impl<K: Clone + Debug + Eq + Hash> KeyedLimit<K> {
    /// Creates a limit that applies this rule to each key.
    pub fn new(rule: RateRule) -> Self {
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

    /// Counts a call.
    ///
    /// # Errors
    ///
    /// If the key has no call left, returns the time until its next one.
    pub fn admit(&self, key: &K) -> Result<(), Duration> {
        let Some(counted) = &self.0 else {
            return Ok(());
        };
        if counted.calls.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            counted.limiter.retain_recent();
            counted.limiter.shrink_to_fit();
        }
        counted
            .limiter
            .check_key(key)
            .map_err(|until| until.wait_time_from(counted.clock.now()))
    }
}

/// Counts the calls of each client address. That is an IPv4 address, or the /64, /56 and /48 of an
/// IPv6 address. The /56 has 4 times the rate of the /64, and the /48 has 16 times.
#[derive(Clone, Debug)]
pub struct AddressLimit {
    /// One limit for each of [`IPV6_PREFIXES`]. The first one also applies to IPv4 addresses.
    levels: [KeyedLimit<IpNet>; IPV6_PREFIXES.len()],
}

impl AddressLimit {
    /// Creates a limit that applies this rule to each IPv4 address and each IPv6 /64.
    pub fn new(rule: RateRule) -> Self {
        Self {
            levels: IPV6_PREFIXES.map(|(_, factor)| {
                KeyedLimit::new(RateRule {
                    per_minute: rule.per_minute.saturating_mul(factor),
                    burst: rule.burst.saturating_mul(factor),
                })
            }),
        }
    }

    /// Counts a call from this bucket, a client's network. Calls from within the process have no
    /// bucket and no limit.
    ///
    /// # Errors
    ///
    /// If the address or one of its prefixes has no call left, returns the time until the next one.
    pub fn admit(&self, bucket: Option<IpNet>) -> Result<(), Duration> {
        let Some(bucket) = bucket else {
            return Ok(());
        };
        // The narrowest prefix comes first, so that a call refused there is not charged to its
        // neighbours.
        for (level, prefix) in self.levels.iter().zip(prefixes(bucket)) {
            level.admit(&prefix)?;
        }
        Ok(())
    }
}

/// Returns the networks that a client's bucket belongs to and that count as one client, the
/// narrowest first. There are three for an IPv6 address and one for an IPv4 address.
pub fn prefixes(bucket: IpNet) -> impl Iterator<Item = IpNet> {
    let prefixes: [Option<IpNet>; IPV6_PREFIXES.len()] = match bucket {
        IpNet::V4(_) => array::from_fn(|level| (level == 0).then_some(bucket)),
        IpNet::V6(network) => IPV6_PREFIXES.map(|(bits, _)| {
            let prefix = Ipv6Net::new(network.addr(), bits).ok()?;
            Some(prefix.trunc().into())
        }),
    };
    prefixes.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(limit: &AddressLimit, network: &str) -> Result<(), Duration> {
        limit.admit(Some(network.parse().expect("a network")))
    }

    #[test]
    fn each_address_has_a_burst_of_its_own() {
        let limit = AddressLimit::new(RateRule {
            per_minute: 1,
            burst: 2,
        });
        assert!(admit(&limit, "192.0.2.1/32").is_ok());
        assert!(admit(&limit, "192.0.2.1/32").is_ok());
        let wait = admit(&limit, "192.0.2.1/32").expect_err("a third call");
        assert!((30..=60).contains(&wait.as_secs()), "{wait:?}");
        assert!(admit(&limit, "192.0.2.2/32").is_ok());
        assert!(limit.admit(None).is_ok());
    }

    #[test]
    fn ipv6_networks_of_56_and_48_bits_have_4_and_16_times_the_calls_of_a_64() {
        let rule = RateRule {
            per_minute: 1,
            burst: 1,
        };
        for (networks, expected) in [
            // In turn: all in one /56, all in one /48, and each in a /48 of its own.
            (
                (0..=255)
                    .map(|last| format!("2001:db8:1:{last:x}::/64"))
                    .collect::<Vec<_>>(),
                4,
            ),
            (
                (0..=255).map(|last| format!("2001:db8:1:{last:x}00::/64")).collect(),
                16,
            ),
            ((0..=255).map(|last| format!("2001:db8:{last:x}:1::/64")).collect(), 256),
        ] {
            let limit = AddressLimit::new(rule);
            let admitted = networks.iter().filter(|text| admit(&limit, text).is_ok()).count();
            assert_eq!(admitted, expected, "{}", networks[0]);
        }
    }

    #[test]
    fn refused_calls_of_a_network_do_not_count_against_its_neighbours() {
        let limit = AddressLimit::new(RateRule {
            per_minute: 1,
            burst: 1,
        });
        let admitted = |text: &str| admit(&limit, text).is_ok();
        assert!(admitted("2001:db8:1:1::/64"));
        for _ in 0..100 {
            assert!(!admitted("2001:db8:1:1::/64"));
        }
        assert!(admitted("2001:db8:1:2::/64") && admitted("2001:db8:1:100::/64"));
    }

    #[test]
    fn a_rate_of_zero_means_no_limit() {
        let limit = AddressLimit::new(RateRule {
            per_minute: 0,
            burst: 1,
        });
        assert!((0..1000).all(|_| admit(&limit, "192.0.2.1/32").is_ok()));
    }

    #[test]
    fn idle_addresses_are_forgotten() {
        let limit = KeyedLimit::new(RateRule {
            per_minute: u32::MAX,
            burst: 1,
        });
        for key in 0..50_000 {
            assert!(limit.admit(&key).is_ok());
        }
        let kept = limit.0.expect("a limit").limiter.len();
        assert!(kept <= 2 * FORGET_EVERY, "{kept}");
    }
}
