//! Latencies: logarithmic buckets, each 1/32 of its power of two wide, so every percentile is exact to about 3 %.

const SUB_BITS: u32 = 5;
const SUBS: u64 = 1 << SUB_BITS;
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) << SUB_BITS;

#[derive(Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            max: 0,
        }
    }

    pub fn record(&mut self, nanos: u64) {
        if let Some(count) = self.counts.get_mut(Self::bucket(nanos)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Microseconds below which the share `quantile` of all latencies lies; `None` if there are none.
    pub fn micros(&self, quantile: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and total"
        )]
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Self::upper(bucket).min(self.max) as f64 / 1000.0);
            }
        }
        Some(self.max as f64 / 1000.0)
    }

    fn bucket(nanos: u64) -> usize {
        let major = (u64::BITS - nanos.leading_zeros()).saturating_sub(SUB_BITS + 1);
        let bucket = u64::from(major) * SUBS + (nanos >> major);
        usize::try_from(bucket).unwrap_or(usize::MAX)
    }

    /// The largest value of a bucket.
    fn upper(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        if bucket < 2 * SUBS {
            return bucket;
        }
        let major = bucket / SUBS - 1;
        let sub = bucket - major * SUBS;
        (((u128::from(sub) + 1) << major) - 1)
            .try_into()
            .unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_is_at_most_a_32nd_too_wide() {
        for shift in 0..64 {
            for value in [
                1_u64 << shift,
                (1_u64 << shift) - 1,
                (1_u64 << shift) | (1 << (shift / 2)),
            ] {
                let bucket = Histogram::bucket(value);
                let upper = Histogram::upper(bucket);
                assert!(
                    bucket < BUCKETS && upper >= value && upper - value <= value / 32,
                    "{value} {bucket} {upper}"
                );
                assert!(
                    bucket == 0 || Histogram::upper(bucket - 1) < value,
                    "{value} {bucket}"
                );
            }
        }
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut h = Histogram::new();
        for micros in 1..=1000_u64 {
            h.record(micros * 1000);
        }
        let near = |q: f64, want: f64| (h.micros(q).unwrap() - want).abs() <= want / 30.0;
        assert!(near(0.5, 500.0) && near(0.99, 990.0) && near(0.001, 1.0));
        assert_eq!(h.micros(1.0), Some(1000.0));
        assert_eq!(Histogram::new().micros(0.5), None);
    }
}
