//! Bounds on the bytes of commands, entries and frames. Each counts encoded bytes, and is checked where those are made.
//!
//! A client's stanza becomes a command, commands become an entry, entries travel to the other replicas in frames:
//! each of these has a bound that the next one can carry, so that nothing which was accepted can ever be stuck.

use proto::limit::WRITTEN_BYTES;

/// The most bytes of a small command. Larger ones let small ones pass.
pub const SMALL: usize = 16 << 10;
/// The most bytes of commands that share an entry. A command with more makes an entry by itself.
pub const BATCH: usize = 64 << 10;
/// The most bytes of a command: more than the largest stanza has, so that there is room for addresses and wrappers.
pub const COMMAND: usize = 512 << 10;
/// The most bytes of an entry of a shard's log.
pub const ENTRY: usize = 1 << 20;
/// The most bytes of a frame between nodes. A larger request or reply travels in pieces.
pub const FRAME: usize = 1 << 20;
/// The most bytes of one request or reply between nodes, in all of its pieces together.
pub const MESSAGE: usize = 16 << 20;
/// The most bytes of commands that wait on one node for one shard. Whoever proposes more has to wait for room.
pub const WAITING: usize = 32 << 20;

// What fits into one of these fits into the next.
const _: () = assert!(SMALL < BATCH);
const _: () = assert!(BATCH < COMMAND && WRITTEN_BYTES + (32 << 10) <= COMMAND);
// An entry holds a command, or a batch of them, and beside it as many bytes of lazy ones.
const _: () = assert!(COMMAND + BATCH + (1 << 10) <= ENTRY && BATCH < COMMAND);
const _: () = assert!(FRAME < MESSAGE && 2 * ENTRY < MESSAGE && COMMAND < WAITING);

/// Something has more bytes than its bound allows. To repeat it would change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of {what} are more than the {most} that may travel together")]
pub struct TooLarge {
    /// What has too many bytes, for people.
    pub what: &'static str,
    /// How many bytes it has.
    pub bytes: usize,
    /// How many bytes it may have.
    pub most: usize,
}

/// Refuses `bytes` beyond `most`; `what` names them in the error.
pub fn check(what: &'static str, bytes: usize, most: usize) -> Result<(), TooLarge> {
    match bytes <= most {
        true => Ok(()),
        false => Err(TooLarge { what, bytes, most }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_the_last_number_that_is_allowed() {
        assert_eq!(check("it", COMMAND - 1, COMMAND), Ok(()));
        assert_eq!(check("it", COMMAND, COMMAND), Ok(()));
        let over = check("it", COMMAND + 1, COMMAND).map_err(|over| over.bytes);
        assert_eq!(over, Err(COMMAND + 1));
    }
}
