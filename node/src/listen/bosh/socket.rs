//! [`Socket`]: a session of BOSH as its stream sees it.
//!
//! It can be read and written like a TLS connection, so that everything behind it is the same. A client's fault is an
//! error of reading that holds the [`StreamError`](proto::stream::StreamError) with which the machine is to end the
//! stream; a client that has been without a request for too long is a lost connection: the session hibernates.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::stream::bosh;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::session::{Session, Side};
use crate::app::App;

/// See the module. When it is dropped without having been shut down, nothing that waited may leave any more.
pub struct Socket {
    session: Arc<Session>,
    app: Arc<App>,
}

impl Socket {
    pub(super) fn new(session: Arc<Session>, app: Arc<App>) -> Self {
        Self { session, app }
    }

    /// The stream writes and reads no more.
    fn leave(&self, act: impl FnOnce(&mut bosh::Session, Duration)) {
        self.session.act(|session, now| {
            if self.app.is_leaving() {
                session.node_leaves();
            }
            act(session, now);
        });
    }
}

fn ready<T>(done: Option<T>) -> Poll<T> {
    done.map_or(Poll::Pending, Poll::Ready)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let max = buf.remaining();
        let read = self
            .session
            .act_or_wait(Side::Reader, cx.waker(), |session, now| {
                session.read(max, now).transpose()
            });
        ready(read).map(|read| match read {
            Ok(bytes) => {
                buf.put_slice(&bytes);
                Ok(())
            }
            Err(fault) => Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self
            .session
            .act_or_wait(Side::Writer, cx.waker(), |session, now| {
                if session.is_over() {
                    return Some(Err(io::ErrorKind::BrokenPipe.into()));
                }
                let count = session.room().min(buf.len());
                session.write(&buf[..count], now);
                (count > 0).then_some(Ok(count))
            });
        ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.act(|session, now| session.flush(now));
        Poll::Ready(Ok(()))
    }

    /// What waits, and the end, are heard when the client asks. A stream that did not end can be resumed elsewhere.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.leave(bosh::Session::shut_down);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.leave(bosh::Session::abandon);
    }
}
