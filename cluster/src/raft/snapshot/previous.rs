//! Reads snapshot files of version 1: metadata, the encoded state as a whole, and one checksum.

use crate::codec;
use crate::raft::types::SnapshotMeta;
use crate::session::ShardState;

const MAGIC: &[u8; 8] = b"HFSNAP\0\x01";
/// The size of the magic number and the length of the metadata.
const HEAD: usize = 12;
/// The size of the checksum.
const TAIL: usize = 4;

/// Reads a file. Nothing in it is used before the checksum was compared.
pub fn parse(file: &[u8]) -> Option<(SnapshotMeta, ShardState)> {
    let end = file.len().checked_sub(TAIL).filter(|end| *end >= HEAD)?;
    let (whole, crc) = file.split_at(end);
    if crc32fast::hash(whole).to_le_bytes() != crc || !whole.starts_with(MAGIC) {
        return None;
    }
    let (head, rest) = whole.split_at(HEAD);
    let length = u32::from_le_bytes(head[MAGIC.len()..].try_into().ok()?) as usize;
    let (meta, state) = rest.split_at_checked(length)?;
    Some((codec::decode(meta).ok()?, ShardState::read_v1(state).ok()?))
}
