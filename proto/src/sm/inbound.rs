//! Stanzas received and handled: the `h` that is told to the peer.

/// The count of handled stanzas, modulo 2^32 (SM-14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inbound {
    handled: u32,
}

impl Inbound {
    /// A count that goes on from where a resumed session stood (SM-53).
    pub fn resumed(handled: u32) -> Self {
        Self { handled }
    }

    /// Counts one stanza, whether it was answered with an error or not (SM-19).
    pub fn count(&mut self) {
        self.handled = self.handled.wrapping_add(1);
    }

    /// The `h` to send.
    pub fn h(self) -> u32 {
        self.handled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sm_21_the_count_wraps() {
        let mut inbound = Inbound::resumed(u32::MAX);
        inbound.count();
        assert_eq!(inbound.h(), 0);
        inbound.count();
        assert_eq!(inbound.h(), 1);
    }
}
