//! Which seeds a simulation runs.

use std::ops::Range;

/// Those that `HOLDFAST_SEEDS` asks for, as `FIRST..END`, or else `all`.
pub fn asked_or(all: Range<u64>) -> Range<u64> {
    let Ok(asked) = std::env::var("HOLDFAST_SEEDS") else {
        return all;
    };
    let (first, end) = asked.split_once("..").expect("FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}
