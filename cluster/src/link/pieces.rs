//! Cuts large frames into pieces, so that other frames need not wait until all of one is written.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::frame::{self, Frame, FrameError, Role};
use crate::bound;

/// The most bytes of a piece. A frame with a larger payload is large.
pub(super) const PIECE: usize = 64 << 10;
/// How many large frames may be on their way at a time. They take turns.
const OPEN: usize = 8;

/// A large frame that is being written, with its share of the bytes that may wait.
pub(super) type Large = (Frame, OwnedSemaphorePermit);

/// Large frames on their way out. They take turns, a piece each.
#[derive(Default)]
pub(super) struct Outgoing(VecDeque<Large>);

impl Outgoing {
    /// Whether one more large frame may begin.
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < OPEN
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, large: Large) {
        self.0.push_back(large);
    }

    /// Writes the next piece, if there is one.
    pub(super) fn write(&mut self, out: &mut Vec<u8>) {
        let Some((mut frame, room)) = self.0.pop_front() else {
            return;
        };
        if frame.payload.len() <= PIECE {
            return frame::encode(&frame, out);
        }
        let payload = frame.payload.split_to(PIECE);
        let role = frame.role.in_part();
        frame::encode(
            &Frame {
                payload,
                role,
                ..frame
            },
            out,
        );
        self.0.push_back((frame, room));
    }
}

/// Puts pieces together that have arrived. A sender finishes every large frame unless the connection is lost.
#[derive(Default)]
pub(super) struct Incoming(HashMap<(bool, u64), BytesMut>);

impl Incoming {
    /// Takes a frame that has arrived. Returns it, or the one whose last piece it was.
    pub(super) fn take(&mut self, frame: Frame) -> Result<Option<Frame>, FrameError> {
        let (is_request, is_part) = match frame.role {
            Role::Request => (true, false),
            Role::RequestPart => (true, true),
            Role::Reply => (false, false),
            Role::ReplyPart => (false, true),
            Role::Refusal => return Ok(Some(frame)),
        };
        let key = (is_request, frame.id);
        if !is_part {
            return match self.0.remove(&key) {
                None => Ok(Some(frame)),
                Some(before) => whole(before, frame).map(Some),
            };
        }
        if !self.0.contains_key(&key) && self.0.len() >= OPEN {
            return Err(FrameError::Pieces);
        }
        let before = self.0.entry(key).or_default();
        extend(before, &frame.payload)?;
        Ok(None)
    }
}

fn whole(mut before: BytesMut, last: Frame) -> Result<Frame, FrameError> {
    extend(&mut before, &last.payload)?;
    let payload: Bytes = before.freeze();
    Ok(Frame { payload, ..last })
}

fn extend(before: &mut BytesMut, piece: &[u8]) -> Result<(), FrameError> {
    let length = before.len() + piece.len();
    if length > bound::MESSAGE {
        return Err(FrameError::Length(length));
    }
    before.extend_from_slice(piece);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::super::frame::Kind;
    use super::*;
    use crate::format::Version;

    fn frame(id: u64, bytes: usize, role: Role) -> Frame {
        let payload = (0..bytes).map(|n| (n / 7) as u8).collect::<Vec<_>>().into();
        let (kind, group) = (Kind::Append, 1);
        Frame {
            version: Version::CURRENT,
            kind,
            role,
            group,
            id,
            payload,
        }
    }

    /// Writes all of them, a turn each, and reads them again.
    fn travel(frames: &[Frame]) -> (Vec<Frame>, usize) {
        let room = Arc::new(Semaphore::new(frames.len()));
        let (mut outgoing, mut wire) = (Outgoing::default(), Vec::new());
        for frame in frames {
            let room = room.clone().try_acquire_owned().expect("one each");
            outgoing.push((frame.clone(), room));
        }
        while !outgoing.is_empty() {
            outgoing.write(&mut wire);
        }
        let (mut bytes, mut incoming) = (BytesMut::from(&wire[..]), Incoming::default());
        let (mut arrived, mut count) = (Vec::new(), 0);
        while let Some(frame) = frame::decode(&mut bytes).expect("our own") {
            assert!(frame.payload.len() <= PIECE);
            count += 1;
            arrived.extend(incoming.take(frame).expect("whole"));
        }
        assert!(incoming.0.is_empty() && bytes.is_empty());
        (arrived, count)
    }

    #[test]
    fn what_is_cut_into_pieces_is_whole_again_at_the_other_end() {
        for (bytes, pieces) in [
            (0, 1),
            (PIECE - 1, 1),
            (PIECE, 1),
            (PIECE + 1, 2),
            (3 * PIECE, 3),
            (bound::MESSAGE, bound::MESSAGE / PIECE),
        ] {
            for role in [Role::Request, Role::Reply] {
                let frames = [frame(1, bytes, role)];
                assert_eq!(travel(&frames), (frames.to_vec(), pieces), "{bytes}");
            }
        }
    }

    #[test]
    fn large_ones_take_turns_and_do_not_mix() {
        // A request and a reply may have the same number: each side counts by itself.
        let long = frame(1, 5 * PIECE + 1, Role::Request);
        let short = frame(1, PIECE + 1, Role::Reply);
        let other = frame(2, PIECE, Role::Request);
        let (arrived, count) = travel(&[long.clone(), short.clone(), other.clone()]);
        assert_eq!((arrived, count), (vec![other, short, long], 9));
    }

    #[test]
    fn t_68_a_peer_that_never_comes_to_an_end_is_refused() {
        let mut incoming = Incoming::default();
        let part = |id| frame(id, PIECE, Role::RequestPart);
        for _ in 0..bound::MESSAGE / PIECE {
            assert_eq!(incoming.take(part(1)), Ok(None));
        }
        assert!(matches!(incoming.take(part(1)), Err(FrameError::Length(_))));
        let mut incoming = Incoming::default();
        for id in 0..OPEN as u64 {
            assert_eq!(incoming.take(part(id)), Ok(None));
        }
        assert_eq!(incoming.take(part(99)), Err(FrameError::Pieces));
    }
}
