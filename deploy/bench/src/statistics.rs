//! Figures out of samples.

use std::{fmt, time::Duration};

/// Sorted times.
#[derive(Clone, Debug)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest time that this share of the samples does not exceed (nearest rank). `share` is 0 to 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rank is between 0 and the number of samples"
    )]
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(crate) fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms (n = {})",
            ms(self.percentile(0.5)),
            ms(self.percentile(0.99)),
            ms(self.max()),
            self.len()
        )
    }
}

/// The chance that a random sample of `b` is longer than one of `a`; ties count half. 0.5 where the two cannot be told
/// apart: the area under the ROC curve of whoever guesses by the time.
#[expect(clippy::cast_precision_loss, reason = "there are not that many samples")]
pub(crate) fn area_under_curve(a: &[Duration], b: &[Duration]) -> f64 {
    let wins: f64 = b
        .iter()
        .map(|b| {
            let (less, equal) = a.iter().fold((0.0, 0.0), |(less, equal), a| match a.cmp(b) {
                std::cmp::Ordering::Less => (less + 1.0, equal),
                std::cmp::Ordering::Equal => (less, equal + 1.0),
                std::cmp::Ordering::Greater => (less, equal),
            });
            less + equal / 2.0
        })
        .sum();
    wins / (a.len() * b.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times = Times::new(ms(&[5, 1, 4, 2, 3]));
        assert_eq!(times.percentile(0.5), Duration::from_millis(3));
        assert_eq!(times.percentile(0.99), Duration::from_millis(5));
        assert_eq!(times.max(), Duration::from_millis(5));
    }

    #[test]
    fn what_cannot_be_told_apart_has_an_area_of_one_half() {
        assert!((area_under_curve(&ms(&[1, 2, 3]), &ms(&[1, 2, 3])) - 0.5).abs() < 1e-9);
        assert!((area_under_curve(&ms(&[1, 2]), &ms(&[3, 4])) - 1.0).abs() < 1e-9);
        assert!(area_under_curve(&ms(&[3, 4]), &ms(&[1, 2])).abs() < 1e-9);
    }
}
