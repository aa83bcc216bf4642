//! Encodes values to bytes and decodes them, for log, wire and snapshots.
//!
//! No other module names the codec's crate, so that it can be replaced in one place. The format is compact and does not
//! describe itself: a reader has to know the type, and the version is written before the value ([`crate::format`]).

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use std::io::{self, Read, Write};

use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most bytes of a value. A length that claims more is refused before memory is allocated for it.
pub const LIMIT: usize = 1 << 30;

const CONFIG: Configuration<LittleEndian, Varint, Limit<LIMIT>> =
    bincode::config::standard().with_limit::<LIMIT>();

/// The bytes do not hold the value that was expected.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Cut off, of another type, or with a length beyond [`LIMIT`].
    #[error("malformed value: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// The value is complete, and bytes follow.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// The bytes of a value.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(value, &mut out);
    out
}

/// Appends the bytes of a value.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Writing to memory does not fail, and all our types derive their form: every length is known
    // beforehand, and nothing asks the format to describe itself.
    bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
        .expect("derived types are always encodable");
}

/// Writes the bytes of a value.
pub fn encode_to<T: Serialize + ?Sized>(value: &T, out: &mut impl Write) -> io::Result<()> {
    match bincode::serde::encode_into_std_write(value, out, bincode::config::standard()) {
        Ok(_) => Ok(()),
        Err(EncodeError::Io { inner, .. }) => Err(inner),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Reads a value, and not a byte more.
pub fn decode_from<T: DeserializeOwned>(input: &mut impl Read) -> Result<T, CodecError> {
    Ok(bincode::serde::decode_from_std_read(input, CONFIG)?)
}

/// How many bytes [`encode`] would make of a value.
pub fn size<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut count = Count(0);
    // As above: counting does not fail either.
    bincode::serde::encode_into_std_write(value, &mut count, bincode::config::standard())
        .expect("derived types are always encodable");
    count.0
}

/// A writer that only counts.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The value that makes up the whole of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, CONFIG)?;
    match bytes.len() - used {
        0 => Ok(value),
        more => Err(CodecError::Trailing(more)),
    }
}

/// The value at the front of `bytes`, and whatever follows it.
pub fn decode_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (value, taken) = bincode::serde::decode_from_slice(bytes, CONFIG)?;
    Ok((value, &bytes[taken..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives() {
        let value = (7u64, "text".to_owned(), vec![Some(1u8), None]);
        assert_eq!(
            decode::<(u64, String, Vec<Option<u8>>)>(&encode(&value)).expect("decodes"),
            value
        );
    }

    #[test]
    fn values_follow_one_another_in_a_stream() {
        let mut stream = Vec::new();
        for n in 0..3u64 {
            encode_to(&(n, n.to_string()), &mut stream).expect("writes");
        }
        let mut rest = &stream[..];
        for n in 0..3u64 {
            let read: (u64, String) = decode_from(&mut rest).expect("reads");
            assert_eq!(read, (n, n.to_string()));
        }
        assert!(decode_from::<u64>(&mut rest).is_err());
    }

    #[test]
    fn a_size_is_that_of_the_bytes() {
        for value in [0, 250, 251, 70_000, u64::MAX] {
            let value = (value, "x".repeat(300), vec![Some(1u8), None]);
            assert_eq!(size(&value), encode(&value).len());
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u64);
        bytes.push(0);
        assert!(matches!(
            decode::<u64>(&bytes),
            Err(CodecError::Trailing(1))
        ));
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = encode(&("text".to_owned(), 70_000u32));
        for n in 0..bytes.len() {
            assert!(decode::<(String, u32)>(&bytes[..n]).is_err(), "cut at {n}");
        }
    }

    #[test]
    fn t_68_a_huge_length_is_refused_before_memory_is_taken() {
        let claim = encode(&(1u64 << 60));
        assert!(decode::<String>(&claim).is_err());
        assert!(decode::<Vec<u8>>(&claim).is_err());
    }
}
