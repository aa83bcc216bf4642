//! Every choice of a run, drawn from its seed.

/// A source of choices (splitmix64).
pub(super) struct Dice {
    state: u64,
    trace: u64,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d,
            trace: 0,
        }
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        self.trace = self.trace.rotate_left(5) ^ z;
        z
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.draw() % n as u64) as usize
    }

    /// Whether something happens that happens in so many of a hundred cases.
    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of several, if there are any.
    pub(super) fn pick<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        let at = self.below(among.len().max(1));
        among.get(at).copied()
    }

    /// Sums up every choice made: equal for equal runs.
    pub(super) fn trace(&self) -> u64 {
        self.trace
    }
}
