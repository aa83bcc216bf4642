//! What travels between nodes: frames, each with a length, a checksum and a number.
//!
//! ```text
//! u32 length of the rest │ u32 crc of the rest │ u8 version │ u8 kind │ u8 role │ u64 group │ u64 id │ payload
//! ```
//!
//! Integers are little-endian. The length is compared with [`MAX_FRAME`] before memory is taken for it,
//! and nothing of a frame is looked at before its checksum is right (T-68). TLS already keeps attackers
//! out; the checksum finds our own mistakes and failing memory.
//!
//! The version says what the payload is written in: the newest that both ends read. It has its highest bit
//! set, by which a frame of version 1, which had no such byte, is known.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::bound;
use crate::format::Version;

/// The length of the largest frame.
pub const MAX_FRAME: usize = bound::FRAME;
/// The largest payload.
pub const MAX_PAYLOAD: usize = MAX_FRAME - HEAD;
/// Bytes that the length counts besides the payload.
const HEAD: usize = 23;
/// The same in version 1.
const HEAD_V1: usize = 22;
/// Set in the byte of the version, and in no kind of version 1.
const VERSIONED: u8 = 0x80;
/// The length itself.
const PREFIX: usize = 4;

/// What a frame is about. Numbers are never reused; a node that does not know one refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Who is speaking; the first frame in each direction.
    Hello = 1,
    /// A sign of life.
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
    /// How long each group's log is.
    Tails = 8,
    /// Whether a node belongs to a cluster already.
    Standing = 9,
    /// The cluster is born.
    Found = 10,
    /// The sender is about to stop and wants no leadership.
    Draining = 11,
    /// Commands for a shard that the receiver leads.
    Propose = 12,
    /// How far a shard must be applied for a read to be current.
    ReadIndex = 13,
    /// What one host asks the others'.
    Ask = 14,
}

impl Kind {
    const ALL: [Self; 14] = [
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
    ];

    /// Whether such frames overtake others: those by which a failure is found and ended.
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
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Which part of a conversation a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Asks, or tells.
    Request = 0,
    /// Answers the request with the same number.
    Reply = 1,
    /// The request with the same number is not answered.
    Refusal = 2,
    /// A piece of a request, of which more follows.
    RequestPart = 3,
    /// A piece of an answer, of which more follows.
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

    /// That of a piece which is not the last one.
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
    /// What the payload is written in.
    pub version: Version,
    /// What it is about.
    pub kind: Kind,
    /// Request or answer.
    pub role: Role,
    /// The Raft group; 0 if it concerns none.
    pub group: u64,
    /// The number of the request, unique among those of one sender on one connection.
    pub id: u64,
    /// The content.
    pub payload: Bytes,
}

/// The peer does not speak our language. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`], or too short for a frame.
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// The checksum does not match.
    #[error("a damaged frame")]
    Damaged,
    /// A kind of another version.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// More large ones at a time than a peer sends.
    #[error("pieces of too many frames")]
    Pieces,
    /// Neither request nor answer.
    #[error("a frame of unknown role {0}")]
    Role(u8),
}

/// Takes the next frame off the front of `bytes`; `None` if it is not complete yet.
///
/// After an error the connection is of no use, as it is unknown where the next frame begins.
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

/// Appends a frame to what is about to be written. The payload has at most [`MAX_PAYLOAD`] bytes.
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
