//! The records in a frame, one for each change of a group's log.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::memory::Marks;
use crate::codec::{self, CodecError};
use crate::raft::types::{Entry, LogId, Vote};

/// Kind and group.
const HEAD: usize = 9;
const LENGTH: usize = 4;

/// A change of a group's log.
#[derive(Debug)]
pub(super) enum Record {
    /// What all segments before this one add up to, without entries.
    Marks(Marks),
    /// The vote.
    Vote(Vote),
    /// An entry after the last.
    Entry(Entry),
    /// Entries after this one are removed, because another leader has decided otherwise.
    Truncate(Option<LogId>),
    /// Entries up to this one are removed, because a snapshot covers them.
    Purge(LogId),
    /// Entries up to this one are known to be committed.
    Committed(Option<LogId>),
}

/// The first byte of a record. Kinds are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Marks = 1,
    Vote = 2,
    Entry = 3,
    Truncate = 4,
    Purge = 5,
    Committed = 6,
}

/// The content of a frame makes no sense although its checksum is right.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("a record is cut off")]
    Short,
    #[error("record kind {0} is unknown")]
    Kind(u8),
    #[error(transparent)]
    Value(#[from] CodecError),
}

/// Appends a record. `value` is what the [`Record`] of this kind holds.
pub(super) fn put<T: Serialize>(kind: Kind, group: u64, value: &T, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    out.push(kind as u8);
    out.extend_from_slice(&group.to_le_bytes());
    codec::encode_into(value, out);
    let length = (out.len() - at - LENGTH) as u32;
    out[at..at + LENGTH].copy_from_slice(&length.to_le_bytes());
}

/// Takes the first record, with its group, off a frame's payload, which is not empty.
pub(super) fn take(payload: &mut &[u8]) -> Result<(u64, Record), RecordError> {
    let (length, rest) = payload
        .split_first_chunk::<LENGTH>()
        .ok_or(RecordError::Short)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (record, rest) = rest.split_at_checked(length).ok_or(RecordError::Short)?;
    let (head, value) = record
        .split_first_chunk::<HEAD>()
        .ok_or(RecordError::Short)?;
    let [kind, group @ ..] = head;
    *payload = rest;
    Ok((u64::from_le_bytes(*group), value_of(*kind, value)?))
}

fn value_of(kind: u8, value: &[u8]) -> Result<Record, RecordError> {
    fn of<T: DeserializeOwned>(value: &[u8], make: fn(T) -> Record) -> Result<Record, RecordError> {
        Ok(make(codec::decode(value)?))
    }
    match kind {
        k if k == Kind::Marks as u8 => of(value, Record::Marks),
        k if k == Kind::Vote as u8 => of(value, Record::Vote),
        k if k == Kind::Entry as u8 => of(value, Record::Entry),
        k if k == Kind::Truncate as u8 => of(value, Record::Truncate),
        k if k == Kind::Purge as u8 => of(value, Record::Purge),
        k if k == Kind::Committed as u8 => of(value, Record::Committed),
        other => Err(RecordError::Kind(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_order_with_their_groups() {
        let mut payload = Vec::new();
        put(Kind::Vote, 3, &Vote::new(7, 1), &mut payload);
        put(Kind::Committed, 4, &None::<LogId>, &mut payload);
        let mut rest = &payload[..];
        assert!(matches!(take(&mut rest), Ok((3, Record::Vote(vote))) if vote == Vote::new(7, 1)));
        assert!(matches!(take(&mut rest), Ok((4, Record::Committed(None)))));
        assert!(rest.is_empty());
    }

    #[test]
    fn a_cut_or_unknown_record_is_refused() {
        let mut payload = Vec::new();
        put(Kind::Purge, 3, &None::<LogId>, &mut payload);
        for n in 0..payload.len() {
            assert!(take(&mut &payload[..n]).is_err(), "cut at {n}");
        }
        payload[LENGTH] = 99;
        assert!(matches!(
            take(&mut &payload[..]),
            Err(RecordError::Kind(99))
        ));
    }
}
