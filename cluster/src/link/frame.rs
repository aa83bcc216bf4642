//! Frames, in which everything between nodes travels: each has a length, a checksum and a number.
//!
//! ```text
//! u32 length of the rest │ u32 crc of the rest │ u8 version │ u8 kind │ u8 role │ u64 group │ u64 id │ payload
//! ```
//!
//! Integers are little-endian. The length is compared with [`MAX_FRAME`] before memory is taken for it,
//! and nothing of a frame is looked at before its checksum is right (T-68). TLS already keeps attackers
//! out; the checksum finds our own mistakes and failing memory.
//!
//! The version is that in which the payload is written, the newest that both ends read. Its highest bit is set, to tell
//! it from a frame of version 1, which had no such byte.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::bound;
use crate::format::Version;

/// The most bytes of a frame.
pub const MAX_FRAME: usize = bound::FRAME;
/// The most bytes of a payload.
pub const MAX_PAYLOAD: usize = MAX_FRAME - HEAD;
/// How many bytes the length counts besides the payload.
const HEAD: usize = 23;
/// The same in version 1.
const HEAD_V1: usize = 22;
/// This bit is set in the version, and in no kind that version 1 had.
const VERSIONED: u8 = 0x80;
/// How many bytes the length itself has.
const PREFIX: usize = 4;

/// What a frame is about. Numbers are never reused, and a node refuses kinds that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The greeting, which is the first frame in each direction.
    Hello = 1,
    /// A sign of life, sent while there is nothing else to send.
    Ping = 2,
    /// Raft: entries, or a leader's heartbeat.
    Append = 3,
    /// Raft: a candidate asks for a vote.
    Vote = 4,
    /// Raft: a node asks whether it would get votes.
    PreVote = 5,
    /// Raft: a leader hands its title over.
    Transfer = 6,
    /// Raft: a piece of a snapshot.
    Snapshot = 7,
    /// Asks how long each group's log is.
    Tails = 8,
    /// Asks whether a node belongs to a cluster already.
    Standing = 9,
    /// Founds a cluster.
    Found = 10,
    /// Says that the sender wants no leadership, because it is about to stop.
    Draining = 11,
    /// Carries commands for a shard that the receiver leads.
    Propose = 12,
    /// Asks up to which entry a shard must be applied for a read to be current.
    ReadIndex = 13,
    /// Carries a question of one node's host to another's.
    Ask = 14,
    /// Says who leads groups, who their members are, and who is none any more.
    Tell = 16,
    /// Asks for the next outputs of a shard for connections of the sender.
    Subscribe = 17,
    /// Asks a question about a shard.
    Query = 18,
}

impl Kind {
    const ALL: [Self; 17] = [
        Self::Hello,
        Self::Ping,
        Self::Append,
        Self::Vote,
        Self::PreVote,
        Self::Transfer,
        Self::Snapshot,
        Self::Tails,
        Self::Standing,
        Self::Found,
        Self::Draining,
        Self::Propose,
        Self::ReadIndex,
        Self::Ask,
        Self::Tell,
        Self::Subscribe,
        Self::Query,
    ];

    /// Whether such frames overtake others. Those do by which a failure is detected and overcome.
    pub fn is_urgent(self) -> bool {
        match self {
            Self::Hello
            | Self::Ping
            | Self::Vote
            | Self::PreVote
            | Self::Transfer
            | Self::Tails => true,
            Self::Append | Self::Snapshot | Self::Standing | Self::Found => false,
            Self::Draining | Self::Propose | Self::ReadIndex | Self::Ask => false,
            Self::Tell | Self::Subscribe | Self::Query => false,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The part that a frame plays in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A request.
    Request = 0,
    /// The reply to the request with the same number.
    Reply = 1,
    /// Refuses the request with the same number.
    Refusal = 2,
    /// A piece of a request, after which more follow.
    RequestPart = 3,
    /// A piece of a reply, after which more follow.
    ReplyPart = 4,
}

impl Role {
    const ALL: [Self; 5] = [
        Self::Request,
        Self::Reply,
        Self::Refusal,
        Self::RequestPart,
        Self::ReplyPart,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u8 == byte)
    }

    /// The role of a piece that is not the last one.
    pub(super) fn in_part(self) -> Self {
        match self {
            Self::Request | Self::RequestPart => Self::RequestPart,
            Self::Reply | Self::ReplyPart | Self::Refusal => Self::ReplyPart,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The version in which the payload is written.
    pub version: Version,
    /// What it is about.
    pub kind: Kind,
    /// Its part in the conversation.
    pub role: Role,
    /// The Raft group; 0 if it concerns none.
    pub group: u64,
    /// The number of the request, unique among those of one sender on one connection.
    pub id: u64,
    /// The content.
    pub payload: Bytes,
}

/// Bytes that are no frame. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`], or too short for a frame.
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// The checksum does not match.
    #[error("a damaged frame")]
    Damaged,
    /// A kind that this build does not know.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// More large frames at a time than a peer may send.
    #[error("pieces of too many frames")]
    Pieces,
    /// An unknown role.
    #[error("a frame of unknown role {0}")]
    Role(u8),
}

/// Removes the next frame from the front of `bytes`; `None` if it is not complete yet.
///
/// After an error the connection is useless, since nobody knows where the next frame begins.
pub fn decode(bytes: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*prefix) as usize;
    if !(HEAD_V1..=MAX_FRAME).contains(&length) {
        return Err(FrameError::Length(length));
    }
    if bytes.len() < PREFIX + length {
        bytes.reserve(PREFIX + length - bytes.len());
        return Ok(None);
    }
    bytes.advance(PREFIX);
    let mut rest = bytes.split_to(length).freeze();
    let crc = rest.get_u32_le();
    if crc32fast::hash(&rest) != crc {
        return Err(FrameError::Damaged);
    }
    let (version, head) = match rest[0] {
        marked if marked & VERSIONED != 0 => (Version(rest.get_u8() & !VERSIONED), HEAD),
        _ => (Version::V1, HEAD_V1),
    };
    if length < head {
        return Err(FrameError::Length(length));
    }
    let kind = rest.get_u8();
    let role = rest.get_u8();
    let group = rest.get_u64_le();
    let id = rest.get_u64_le();
    let kind = Kind::from_byte(kind).ok_or(FrameError::Kind(kind))?;
    let role = Role::from_byte(role).ok_or(FrameError::Role(role))?;
    Ok(Some(Frame {
        version,
        kind,
        role,
        group,
        id,
        payload: rest,
    }))
}

/// Appends the bytes of a frame. Its payload has at most [`MAX_PAYLOAD`] bytes.
pub fn encode(frame: &Frame, out: &mut Vec<u8>) {
    debug_assert!(frame.payload.len() <= MAX_PAYLOAD);
    let start = out.len();
    out.reserve(PREFIX + HEAD + frame.payload.len());
    out.put_u32_le((HEAD + frame.payload.len()) as u32);
    out.put_u32_le(0);
    out.put_u8(VERSIONED | frame.version.0);
    out.put_u8(frame.kind as u8);
    out.put_u8(frame.role as u8);
    out.put_u64_le(frame.group);
    out.put_u64_le(frame.id);
    out.put_slice(&frame.payload);
    let checked = start + PREFIX + 4;
    let crc = crc32fast::hash(&out[checked..]);
    out[checked - 4..checked].copy_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let kind = (0..Kind::ALL.len()).prop_map(|n| Kind::ALL[n]);
        let role = (0..Role::ALL.len()).prop_map(|n| Role::ALL[n]);
        let payload = proptest::collection::vec(any::<u8>(), 0..200);
        let version = (1u8..128).prop_map(Version);
        (version, kind, role, any::<u64>(), any::<u64>(), payload).prop_map(
            |(version, kind, role, group, id, payload)| Frame {
                version,
                kind,
                role,
                group,
                id,
                payload: payload.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn frames_survive_however_the_bytes_are_cut(frames in proptest::collection::vec(frames(), 1..5), cut in 1usize..64) {
            let mut wire = Vec::new();
            frames.iter().for_each(|frame| encode(frame, &mut wire));
            let (mut bytes, mut found) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                bytes.extend_from_slice(piece);
                while let Some(frame) = decode(&mut bytes).expect("is well formed") {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found, frames);
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn t_68_a_flipped_bit_is_never_taken_for_a_frame(frame in frames(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut wire = Vec::new();
            encode(&frame, &mut wire);
            let at = at.index(wire.len());
            wire[at] ^= 1 << bit;
            prop_assert!(!matches!(decode(&mut BytesMut::from(&wire[..])), Ok(Some(_))));
        }

        #[test]
        fn t_68_arbitrary_bytes_do_no_harm(wire in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = BytesMut::from(&wire[..]);
            while let Ok(Some(_)) = decode(&mut bytes) {}
        }
    }

    #[test]
    fn t_68_a_huge_claim_takes_no_memory() {
        for length in [u32::MAX, MAX_FRAME as u32 + 1, HEAD_V1 as u32 - 1, 0] {
            let mut bytes = BytesMut::from(&length.to_le_bytes()[..]);
            assert_eq!(decode(&mut bytes), Err(FrameError::Length(length as usize)));
            assert!(bytes.capacity() < 64);
        }
    }
}
