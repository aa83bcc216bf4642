//! Takes the place of the histograms that openraft fills and nobody reads.
//!
//! The crate of this name makes tables for all of its sixteen precisions as soon as one histogram exists: 29 MB in each
//! process, which is more than an idle node needs for all else. openraft shows its histograms only with its feature
//! `runtime-stats`, which we do not use; ours are in the `metrics` of the cluster. So this crate has what openraft
//! calls, and counts nothing. If openraft begins to call more, it does not compile, and this is to be looked at again.

use std::fmt;
use std::marker::PhantomData;

/// Counts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()>(PhantomData<T>);

impl<T> Histogram<T> {
    /// An empty one, as it stays.
    #[expect(clippy::new_without_default, reason = "openraft calls no default")]
    pub fn new() -> Self {
        Self(PhantomData)
    }

    /// Ignores a value.
    pub fn record(&mut self, _value: u64) {}

    /// Ignores several values.
    pub fn record_n(&mut self, _value: u64, _count: u64) {}

    /// What is known of no values.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// What was counted: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values there were.
    pub samples: u64,
    /// A thousandth of the values is below this.
    pub p0_1: u64,
    /// A hundredth is.
    pub p1: u64,
    /// A twentieth is.
    pub p5: u64,
    /// A tenth is.
    pub p10: u64,
    /// Half of them are.
    pub p50: u64,
    /// A tenth is above this.
    pub p90: u64,
    /// A hundredth is.
    pub p99: u64,
    /// A thousandth is.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not counted")
    }
}

/// A chart of nothing.
#[derive(Clone, Debug)]
pub struct AsciiChart(());

impl AsciiChart {
    /// An empty one, as it stays.
    #[expect(clippy::new_without_default, reason = "openraft calls no default")]
    pub fn new() -> Self {
        Self(())
    }

    /// Ignores a histogram.
    pub fn add(self, _name: &str, _histogram: Histogram) -> Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not counted")
    }
}
