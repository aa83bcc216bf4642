//! How many bytes may travel together. Each bound holds for bytes as they are encoded, and is kept where they are made.
//!
//! A client's stanza becomes a command, commands become an entry, entries travel to the other replicas in frames:
//! each of these has a bound that the next one can carry, so that nothing which was accepted can ever be stuck.

use proto::limit::WRITTEN_BYTES;

/// A command of more bytes is large, and lets small ones pass.
pub const SMALL: usize = 16 << 10;
/// A command that a batch has room for beside others; a larger one makes an entry alone.
pub const BATCH: usize = 64 << 10;
/// A command. A stanza as it is written leaves room in it for addresses and wrappers.
pub const COMMAND: usize = 512 << 10;
/// An entry of a shard's log.
pub const ENTRY: usize = 1 << 20;
/// A frame between nodes; what is larger travels in pieces.
pub const FRAME: usize = 1 << 20;
/// What one node tells another at a time, in however many pieces.
pub const MESSAGE: usize = 16 << 20;
/// Commands of one shard that wait on a node. Whoever has more to propose waits until there is room.
pub const WAITING: usize = 32 << 20;

// Each fits into the next.
const _: () = assert!(SMALL < BATCH);
const _: () = assert!(BATCH < COMMAND && WRITTEN_BYTES + (32 << 10) <= COMMAND);
const _: () = assert!(COMMAND + (1 << 10) <= ENTRY && BATCH + (1 << 10) <= ENTRY);
const _: () = assert!(FRAME < MESSAGE && 2 * ENTRY < MESSAGE && COMMAND < WAITING);

/// More bytes than may travel together. To try it again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of {what} are more than the {most} that may travel together")]
pub struct TooLarge {
    /// Of what.
    pub what: &'static str,
    /// How many there are.
    pub bytes: usize,
    /// How many may be.
    pub most: usize,
}

/// Whether so many bytes are within their bound.
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
