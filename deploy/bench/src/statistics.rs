//! Statistics of samples.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;

/// Number of significant digits of a time.
const DIGITS: u8 = 3;

/// Distribution of durations, to three significant digits.
#[derive(Clone, Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("a number of digits that it takes"))
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut all = Self::default();
        times.into_iter().for_each(|time| all.note(time));
        all
    }
}

impl Times {
    pub(crate) fn note(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.record(nanos).expect("it grows");
    }

    pub(crate) fn add(&mut self, others: &Self) {
        self.0.add(&others.0).expect("it grows");
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Returns the smallest time that this share of the samples does not exceed. `share` is 0 to 1.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(share))
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms (n = {})",
            millis(self.percentile(0.5)),
            millis(self.percentile(0.99)),
            millis(self.max()),
            self.len()
        )
    }
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns the probability that a random sample of `b` is longer than one of `a`. Ties count half.
/// This is the area under the ROC curve of a guess by the time: 0.5 means that the two cannot be
/// told apart.
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

#[expect(clippy::cast_precision_loss, reason = "counts and times far below 2^52")]
pub(crate) const fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_taken_from_the_samples() {
        let times: Times = ms(&[5, 1, 4, 2, 3]).into_iter().collect();
        for (share, median) in [(0.5, 3.0), (0.99, 5.0), (0.0, 1.0)] {
            assert!((millis(times.percentile(share)) / median - 1.0).abs() < 1e-3);
        }
        assert!((millis(times.max()) / 5.0 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn equal_samples_have_an_area_under_the_curve_of_one_half() {
        assert!((area_under_curve(&ms(&[1, 2, 3]), &ms(&[1, 2, 3])) - 0.5).abs() < 1e-9);
        assert!((area_under_curve(&ms(&[1, 2]), &ms(&[3, 4])) - 1.0).abs() < 1e-9);
        assert!(area_under_curve(&ms(&[3, 4]), &ms(&[1, 2])).abs() < 1e-9);
    }
}
