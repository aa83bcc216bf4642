//! The format of a snapshot file.
//!
//! ```text
//! "HFSNAP\0" │ u8 version │ piece, piece, …
//! piece: u8 kind │ u32 length │ u32 crc │ data
//! ```
//!
//! Integers are little-endian. The first piece says what it is a snapshot of; then the state's records follow
//! one after the other, cut into pieces wherever one is full, so that neither the state nor a single account
//! can be too large; the last piece counts them. Each checksum begins with the one before it: a piece that
//! is damaged, missing, doubled or from another file is found before anything in it is looked at (T-70).

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::ShardId;
use crate::codec;
use crate::format::Version;
use crate::identity::ClusterId;
use crate::raft::types::SnapshotMeta;
use crate::session::{Disorder, Record};

const MAGIC: &[u8; 7] = b"HFSNAP\0";
/// The version that is written.
pub const VERSION: u8 = Version::V2.0;
/// The most data in a piece.
const PIECE: usize = 256 << 10;
/// The size of a piece's kind, length and checksum.
const HEAD: usize = 9;

/// What a file is a snapshot of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The cluster, if it was born when the snapshot was taken.
    pub cluster: Option<ClusterId>,
    /// The shard.
    pub shard: ShardId,
    /// How many shards there are.
    pub shards: u16,
    /// The last entry and the membership.
    pub meta: SnapshotMeta,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    records: u64,
    /// How many bytes of records precede this piece.
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Header = 1,
    Records = 2,
    End = 3,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not what was written, from the piece at this byte on.
    #[error("damaged at byte {0}")]
    Damaged(u64),
    /// Written by another version.
    #[error("format {0}")]
    Version(u8),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Records that make no state were written like that, since every checksum is right.
impl From<Disorder> for ReadError {
    fn from(_: Disorder) -> Self {
        Self::Damaged(0)
    }
}

fn checksum(before: u32, head: &[u8], data: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&before.to_le_bytes());
    crc.update(head);
    crc.update(data);
    crc.finalize()
}

/// Writes a file from its beginning to its end.
pub struct Writer<W> {
    out: W,
    crc: u32,
    buffer: Vec<u8>,
    written: End,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        let mut magic = MAGIC.to_vec();
        magic.push(VERSION);
        out.write_all(&magic)?;
        let mut writer = Self {
            out,
            crc: crc32fast::hash(&magic),
            buffer: Vec::with_capacity(PIECE),
            written: End {
                records: 0,
                bytes: magic.len() as u64,
            },
        };
        writer.put(Kind::Header, &codec::encode(header))?;
        Ok(writer)
    }

    /// Appends a record.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        codec::encode_to(record, self)?;
        self.written.records += 1;
        Ok(())
    }

    /// Writes the end, and returns the length of the file.
    pub fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.put(Kind::End, &codec::encode(&self.written))?;
        Ok(self.written.bytes)
    }

    fn put(&mut self, kind: Kind, data: &[u8]) -> io::Result<()> {
        let mut head = [kind as u8; HEAD];
        head[1..5].copy_from_slice(&(data.len() as u32).to_le_bytes());
        self.crc = checksum(self.crc, &head[..5], data);
        head[5..].copy_from_slice(&self.crc.to_le_bytes());
        self.out.write_all(&head)?;
        self.out.write_all(data)?;
        self.written.bytes += (HEAD + data.len()) as u64;
        Ok(())
    }
}

/// The bytes of records.
impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        let taken = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        self.put(Kind::Records, &buffer)?;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }
}

/// Reads a file, one piece in memory at a time.
pub struct Reader<R> {
    input: R,
    crc: u32,
    /// Where the next piece begins.
    offset: u64,
    /// The piece that is being read, and how far it was read.
    piece: Vec<u8>,
    at: usize,
    /// How many records were read, and how many bytes precede the piece.
    read: End,
    ended: bool,
    /// Why reading failed. The codec can pass on only that it has failed.
    failure: Option<ReadError>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn open(mut input: R) -> Result<(Header, Self), ReadError> {
        let mut magic = [0; MAGIC.len() + 1];
        exact(&mut input, &mut magic, 0)?;
        let (name, version) = magic.split_at(MAGIC.len());
        if name != MAGIC {
            return Err(ReadError::Damaged(0));
        }
        if version != [VERSION] {
            return Err(ReadError::Version(version[0]));
        }
        let mut reader = Self {
            input,
            crc: crc32fast::hash(&magic),
            offset: magic.len() as u64,
            piece: Vec::new(),
            at: 0,
            read: End::default(),
            ended: false,
            failure: None,
        };
        if reader.next_piece()? != Kind::Header as u8 {
            return Err(reader.damaged());
        }
        let header = codec::decode(&reader.piece).map_err(|_| reader.damaged())?;
        reader.at = reader.piece.len();
        Ok((header, reader))
    }

    fn damaged(&self) -> ReadError {
        ReadError::Damaged(self.read.bytes)
    }

    /// Returns the kind of the next piece, which is whole.
    fn next_piece(&mut self) -> Result<u8, ReadError> {
        self.read.bytes = self.offset;
        let mut head = [0; HEAD];
        exact(&mut self.input, &mut head, self.offset)?;
        let (head, crc) = head.split_at(5);
        let length = head[1..].try_into().map_or(0, u32::from_le_bytes) as usize;
        if length > PIECE {
            return Err(self.damaged());
        }
        self.piece.resize(length, 0);
        exact(&mut self.input, &mut self.piece, self.offset)?;
        self.crc = checksum(self.crc, head, &self.piece);
        if self.crc.to_le_bytes() != crc {
            return Err(self.damaged());
        }
        self.offset += (HEAD + length) as u64;
        self.at = 0;
        Ok(head[0])
    }

    /// Goes on to the next piece of records; false after the last one.
    fn fill(&mut self) -> Result<bool, ReadError> {
        if self.ended {
            return Ok(false);
        }
        let kind = self.next_piece()?;
        if kind == Kind::Records as u8 && !self.piece.is_empty() {
            return Ok(true);
        }
        let end: Option<End> = codec::decode(&self.piece).ok();
        let followed = self.input.read(&mut [0])? > 0;
        if kind != Kind::End as u8 || end != Some(self.read) || followed {
            return Err(self.damaged());
        }
        self.at = self.piece.len();
        self.ended = true;
        Ok(false)
    }

    fn record(&mut self) -> Result<Option<Record>, ReadError> {
        if self.at == self.piece.len() && !self.fill()? {
            return Ok(None);
        }
        let record = codec::decode_from(self);
        let record = record.map_err(|_| self.failure.take().unwrap_or_else(|| self.damaged()))?;
        self.read.records += 1;
        Ok(Some(record))
    }
}

/// The bytes of records.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(failure) => {
                    self.failure = Some(failure);
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        let rest = &self.piece[self.at..];
        let taken = rest.len().min(out.len());
        out[..taken].copy_from_slice(&rest[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.record().transpose()
    }
}

/// A file that ends too early is damaged at `offset`.
fn exact(input: &mut impl Read, out: &mut [u8], offset: u64) -> Result<(), ReadError> {
    input.read_exact(out).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Damaged(offset),
        _ => ReadError::Io(error),
    })
}
