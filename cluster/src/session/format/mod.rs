//! How entries and states are written, by version.
//!
//! The present types are the newest version. Older ones are frozen mirrors of what the types once were, with
//! conversions that the compiler asks to extend whenever a present type gets a new field.

use super::command::{Batch, Command};
use super::state::ShardState;
use crate::codec::{self, CodecError};
use crate::format::{self, FormatError, Version, Versions};

mod upgrade;
mod v1;

impl Command {
    /// The version of the formats that brought it. A member that reads no newer one cannot apply it.
    pub(crate) fn since(&self) -> Version {
        match self {
            Self::Bind(_)
            | Self::Enable(_)
            | Self::Resume(_)
            | Self::Inbound(_)
            | Self::Acknowledge(_)
            | Self::Lost { .. }
            | Self::Overdue { .. }
            | Self::End { .. }
            | Self::NodeLost { .. }
            | Self::Relay { .. }
            | Self::Trim { .. }
            | Self::SetLimits { .. }
            | Self::Done(_)
            | Self::Tick => Version::V1,
            Self::Settings(_)
            | Self::DoneInPart { .. }
            | Self::Compare { .. }
            | Self::ReadBlocklist { .. }
            | Self::ArchiveStated { .. }
            | Self::Open(_)
            | Self::Send { .. }
            | Self::Forget { .. }
            | Self::Broadcast { .. }
            | Self::Retire { .. } => Version::V2,
        }
    }
}

impl Batch {
    /// Its bytes as an entry of this version, or of the oldest that this build writes.
    pub(crate) fn write(&self, version: Version) -> Vec<u8> {
        self.write_sized(version, 0)
    }

    /// The same, with room for so many bytes from the beginning.
    pub(crate) fn write_sized(&self, version: Version, size: usize) -> Vec<u8> {
        let version = version.max(Versions::SPOKEN.oldest);
        let mut out = Vec::with_capacity(size);
        out.extend(format::head(version));
        codec::encode_into(self, &mut out);
        out
    }

    /// The batch of an entry, and the version that it was written in.
    pub(crate) fn read(entry: &[u8]) -> Result<(Version, Self), FormatError> {
        let (version, value) = format::split(entry);
        let batch = match version {
            Version::V1 => codec::decode::<v1::Batch>(value)?.into(),
            Version::V2 => codec::decode(value)?,
            unknown => return Err(FormatError::Version(unknown)),
        };
        Ok((version, batch))
    }
}

impl ShardState {
    /// The state that a snapshot of version 1 held as one value. Since then it holds records.
    pub(crate) fn read_v1(value: &[u8]) -> Result<Self, CodecError> {
        Ok(codec::decode::<v1::ShardState>(value)?.into())
    }
}
