//! The bytes of a segment: a header, then frames.
//!
//! ```text
//! header   magic 8 · version u32 · sequence u64 · first frame u64 · nonce u64 · crc u32 · zeros to 64
//! frame    length u32 · crc of the payload u32 · number u64 · crc of these u32 · zeros to 24
//!          payload: records · zeros to a multiple of 16
//! ```
//!
//! A frame is what one group commit has written. Frames are numbered across all segments, and a frame is begun only
//! after the one before it was synced. So an unreadable frame with no later frame behind it is an unsynced tail, which
//! was promised to nobody. One with a later frame behind it was synced and is damaged. There is one checksum for the
//! whole frame, because a torn write may lose any part of it.
//!
//! Files are recycled, and so contain frames of former segments. All checksums start from a seed that is derived from
//! the segment's nonce, so that neither these nor any bytes in a client's message can look like a frame of this
//! segment.

/// The size of the header, behind which frames begin.
pub(super) const HEADER: usize = 64;
/// The size of a frame without its payload.
pub(super) const FRAME: usize = 24;
const ALIGN: usize = 16;
const MAGIC: &[u8; 8] = b"HFWAL\0\0\0";
const VERSION: u32 = 1;
/// Bytes of the header that its checksum covers.
const COVERED: usize = 36;
/// Bytes of a frame's head that its checksum covers.
const FRAME_COVERED: usize = 16;

/// The start of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The number of the segment.
    pub(super) seq: u64,
    /// The number of its first frame.
    pub(super) first: u64,
    /// A random number, different in each segment.
    pub(super) nonce: u64,
}

/// Why the header of a segment cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    Version(u32),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.seq.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.first.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.nonce.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..COVERED]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let bytes = bytes.first_chunk::<HEADER>().ok_or(BadHeader::Damaged)?;
        let whole = u32_at(bytes, 36) == Some(crc32fast::hash(&bytes[..COVERED]));
        if !whole || !bytes.starts_with(MAGIC) || bytes[40..] != [0; HEADER - 40] {
            return Err(BadHeader::Damaged);
        }
        match u32_at(bytes, 8) {
            Some(VERSION) => {}
            found => return Err(BadHeader::Version(found.unwrap_or(0))),
        }
        let field = |at| u64_at(bytes, at).ok_or(BadHeader::Damaged);
        Ok(Self {
            seq: field(12)?,
            first: field(20)?,
            nonce: field(28)?,
        })
    }

    /// The seed of this segment's checksums. It does not cover the header's own checksum: a checksum of data that ends
    /// in its checksum is a constant.
    pub(super) fn seed(&self) -> u32 {
        crc32fast::hash(&self.encode()[..COVERED])
    }
}

/// How many bytes of a segment a frame takes.
pub(super) fn frame_len(payload: usize) -> usize {
    (FRAME + payload).next_multiple_of(ALIGN)
}

/// Makes a frame of a buffer that begins with [`FRAME`] bytes of any content, followed by the payload.
pub(super) fn finish_frame(buffer: &mut Vec<u8>, seed: u32, number: u64) {
    let length = buffer.len() - FRAME;
    let crc = checksum(seed, &buffer[FRAME..]);
    buffer[..FRAME].fill(0);
    buffer[..4].copy_from_slice(&(length as u32).to_le_bytes());
    buffer[4..8].copy_from_slice(&crc.to_le_bytes());
    buffer[8..16].copy_from_slice(&number.to_le_bytes());
    let crc = checksum(seed, &buffer[..FRAME_COVERED]);
    buffer[16..20].copy_from_slice(&crc.to_le_bytes());
    buffer.resize(frame_len(length), 0);
}

/// The payload of the frame at `at`, if it is a whole one with this number, and where the next begins.
pub(super) fn frame_at(
    segment: &[u8],
    at: usize,
    seed: u32,
    number: u64,
) -> Option<(&[u8], usize)> {
    let (length, found) = frame_head(segment, at, seed)?;
    if found != number {
        return None;
    }
    let payload = segment.get(at + FRAME..)?.get(..length)?;
    let whole = u32_at(segment, at + 4) == Some(checksum(seed, payload));
    whole.then(|| (payload, at + frame_len(length)))
}

/// Whether a frame with a number above `number` was begun anywhere after `at`.
pub(super) fn later_frame(segment: &[u8], at: usize, seed: u32, number: u64) -> bool {
    (at..segment.len())
        .step_by(ALIGN)
        .any(|at| frame_head(segment, at, seed).is_some_and(|(_, found)| found > number))
}

/// Length and number of the frame at `at`, if its head is right.
fn frame_head(segment: &[u8], at: usize, seed: u32) -> Option<(usize, u64)> {
    let head = segment.get(at..)?.get(..FRAME)?;
    let length = u32_at(head, 0).filter(|length| *length > 0)?;
    let whole = u32_at(head, 16)? == checksum(seed, &head[..FRAME_COVERED]);
    Some((length as usize, u64_at(head, 8)?)).filter(|_| whole)
}

fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Header = Header {
        seq: 5,
        first: 40,
        nonce: 99,
    };

    fn frame(life: &Header, number: u64, payload: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; FRAME];
        buffer.extend_from_slice(payload);
        finish_frame(&mut buffer, life.seed(), number);
        buffer
    }

    #[test]
    fn a_header_survives_and_no_flipped_byte_does() {
        let bytes = LIFE.encode();
        assert_eq!(Header::decode(&bytes), Ok(LIFE));
        for n in 0..HEADER {
            let mut bad = bytes;
            bad[n] ^= 1;
            assert_eq!(Header::decode(&bad), Err(BadHeader::Damaged), "byte {n}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = LIFE.encode();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..COVERED]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(BadHeader::Version(2)));
    }

    #[test]
    fn a_frame_is_read_only_whole_and_in_its_place() {
        let bytes = frame(&LIFE, 40, b"payload");
        assert_eq!(
            frame_at(&bytes, 0, LIFE.seed(), 40),
            Some((b"payload".as_slice(), bytes.len()))
        );
        assert_eq!(frame_at(&bytes, 0, LIFE.seed(), 41), None);
        assert_eq!(frame_at(&bytes[..FRAME + 6], 0, LIFE.seed(), 40), None);
    }

    #[test]
    fn a_frame_of_a_previous_life_is_none() {
        let previous = Header { nonce: 98, ..LIFE };
        let bytes = frame(&previous, 40, b"payload");
        assert_eq!(frame_at(&bytes, 0, LIFE.seed(), 40), None);
        assert!(!later_frame(&bytes, 0, LIFE.seed(), 0));
    }

    #[test]
    fn a_later_frame_is_found_behind_damage() {
        let mut bytes = frame(&LIFE, 40, b"payload");
        bytes.extend(frame(&LIFE, 41, b"more"));
        bytes[3] ^= 1;
        assert!(later_frame(&bytes, 0, LIFE.seed(), 40));
        assert!(!later_frame(&bytes, 0, LIFE.seed(), 41));
    }
}
