//! Reads the body of a request, as large as whoever sends it may say.

use std::io;
use std::sync::Arc;

use proto::limit::{HEADER_BYTES, STANZA_BYTES_BEFORE_AUTH};
use proto::stream::bosh::{Condition, Request, RequestReader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::session::Session;
use super::sessions::Sessions;

/// So much is read at a time.
const PIECE: usize = 8 * 1024;

/// A request, and the session that it names, if this node has it.
pub type Asked = (Request, Option<Arc<Session>>);

/// Reads a body of so many bytes, of which some have come already; what is behind it remains of them. Until it is known
/// that its session is logged in it may be as long as an element of a stranger, and then as one of `max_stanza_bytes`.
/// The second result says what is wrong with the body.
///
/// # Errors
///
/// The connection is lost.
pub async fn read(
    socket: &mut (impl AsyncRead + Unpin),
    rest: &mut Vec<u8>,
    length: usize,
    sessions: &Sessions,
    max_stanza_bytes: usize,
) -> io::Result<Result<Asked, Condition>> {
    let mut reader = RequestReader::default();
    let (mut session, mut judged) = (None, false);
    let mut left = length;
    if length > max_stanza_bytes + HEADER_BYTES {
        return Ok(Err(Condition::PolicyViolation));
    }
    loop {
        let count = left.min(rest.len());
        let fed = reader.feed(&rest[..count]);
        rest.drain(..count);
        left -= count;
        if let Err(condition) = fed {
            return Ok(Err(condition));
        }
        if !judged && reader.is_begun() {
            judged = true;
            session = reader.sid().and_then(|sid| sessions.find(sid));
            let is_known = session.as_ref().is_some_and(|it| it.is_authenticated());
            if !is_known && length > STANZA_BYTES_BEFORE_AUTH + HEADER_BYTES {
                return Ok(Err(Condition::PolicyViolation));
            }
            if let Err(condition) = reader.proceed(is_known.then_some(max_stanza_bytes)) {
                return Ok(Err(condition));
            }
        }
        if left == 0 {
            return Ok(reader.finish().map(|request| (request, session)));
        }
        rest.reserve(PIECE.min(left));
        if socket.read_buf(rest).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
