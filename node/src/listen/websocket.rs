//! [`WebSocket`]: the bytes of an XMPP stream over the messages of a WebSocket (RFC 7395).
//!
//! It can be read and written like a TLS connection, so that everything behind it is the same: what is read is what the
//! client's messages mean to the machine of a stream, what is written leaves as messages. What the two mean is said by
//! [`Framing`]; this does the I/O. A client's fault is an error of reading that holds the [`StreamError`] with which
//! the machine is to end the stream.
//!
//! A connection that is lost, and a WebSocket that is closed without `<close/>`, are the same: the session hibernates.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use proto::limit::STANZA_BYTES_BEFORE_AUTH;
use proto::stream::{Condition, Framing, StreamError};
use proto::xml::{Measured, ReadError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::Error;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Message, Utf8Bytes};

/// What a connection holds to read into, also while it is idle.
const READ_BYTES: usize = 2 * 1024;
/// So many bytes are gathered before they are written unless somebody asks for it.
const WRITE_BYTES: usize = 16 * 1024;
/// The bytes of a frame beside its content.
const FRAME_BYTES: usize = 6;

/// See the module.
pub struct WebSocket<S> {
    socket: S,
    frames: WebSocketContext,
    framing: Framing,
    /// What a message meant and was not read yet.
    inbox: VecDeque<u8>,
    /// Messages that the frames did not take yet.
    outbox: VecDeque<String>,
    /// The socket took no more; it is asked again before anything else is framed.
    blocked: bool,
    /// The largest message of a client that is logged in.
    max_message: usize,
    end: Option<CloseCode>,
    closing: bool,
}

impl<S> WebSocket<S> {
    /// Behind the answer to an upgrade. `rest` came behind the request.
    pub fn new(socket: S, rest: Vec<u8>, max_message: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(WRITE_BYTES)
            .max_message_size(Some(STANZA_BYTES_BEFORE_AUTH))
            .max_frame_size(Some(STANZA_BYTES_BEFORE_AUTH));
        Self {
            socket,
            frames: WebSocketContext::from_partially_read(rest, Role::Server, Some(config)),
            framing: Framing::default(),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            blocked: false,
            max_message,
            end: None,
            closing: false,
        }
    }

    /// The client's fault, and how the WebSocket will be closed for it. Nothing more of it is understood.
    fn fault(&mut self, error: impl Into<StreamError>, code: CloseCode) -> io::Error {
        self.end = Some(code);
        io::Error::new(io::ErrorKind::InvalidData, error.into())
    }

    /// Takes a message; whether there is something to read now.
    fn take(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Text(text) => match self.framing.inward(&text) {
                Ok(bytes) => self.inbox = bytes.into(),
                Err(error) => return Err(self.fault(error, CloseCode::Policy)),
            },
            Message::Binary(_) => {
                let error = StreamError::new(Condition::BadFormat);
                return Err(self.fault(error, CloseCode::Unsupported));
            }
            // They are a sign of life, and cost the client as many bytes of its rate as they have (T-15).
            Message::Ping(content) | Message::Pong(content) if self.framing.is_live() => {
                self.inbox = vec![b' '; content.len() + FRAME_BYTES].into();
            }
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    /// The client has logged in, and may send larger messages.
    fn widen(&mut self) {
        let max = Some(self.max_message);
        if self.framing.is_authenticated() && self.frames.get_config().max_message_size != max {
            self.frames.set_config(|config| {
                (config.max_message_size, config.max_frame_size) = (max, max);
            });
        }
    }
}

/// A socket that can be asked without waiting, as the frames ask it; whoever waits is woken by the socket.
struct Asked<'a, 'b, S> {
    socket: &'a mut S,
    cx: &'a mut Context<'b>,
}

impl<S: AsyncRead + Unpin> Read for Asked<'_, '_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buf) {
            Poll::Ready(read) => read.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Asked<'_, '_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write(self.cx, buf) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match Pin::new(&mut *self.socket).poll_flush(self.cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// A result of the frames. That a WebSocket has been closed in order is none of its errors.
fn done(result: tungstenite::Result<()>) -> Poll<io::Result<()>> {
    match result {
        Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        Err(Error::Io(error)) => Poll::Ready(Err(error)),
        Err(error) => Poll::Ready(Err(io::Error::other(error))),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The next message that means something; false at the end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let mut asked = Asked {
                socket: &mut self.socket,
                cx,
            };
            let error = match self.frames.read(&mut asked) {
                Ok(message) => {
                    self.take(message)?;
                    if !self.inbox.is_empty() {
                        return Poll::Ready(Ok(true));
                    }
                    continue;
                }
                Err(error) => error,
            };
            return Poll::Ready(Err(match error {
                Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Poll::Pending;
                }
                Error::ConnectionClosed | Error::AlreadyClosed => return Poll::Ready(Ok(false)),
                Error::Capacity(_) => {
                    self.fault(ReadError::TooBig(Measured::Stanza), CloseCode::Size)
                }
                Error::Utf8(_) => self.fault(ReadError::NotWellFormed, CloseCode::Invalid),
                Error::Io(error) => error,
                error => io::Error::other(error),
            }));
        }
    }

    /// Has the frames take all messages, one at a time while the socket takes what they make of them.
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut asked = Asked {
                socket: &mut self.socket,
                cx,
            };
            if self.blocked {
                ready!(done(self.frames.flush(&mut asked)))?;
                self.blocked = false;
            }
            let Some(message) = self.outbox.pop_front() else {
                return Poll::Ready(Ok(()));
            };
            let message = Message::Text(Utf8Bytes::from(message));
            // A message that the socket did not take is kept by the frames.
            match done(self.frames.write(&mut asked, message)) {
                Poll::Pending => self.blocked = true,
                Poll::Ready(written) => written?,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.end.is_some() {
            // Frames cannot be told apart any more. What still comes is read and means nothing.
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        if this.inbox.is_empty() && !ready!(this.poll_message(cx))? {
            return Poll::Ready(Ok(()));
        }
        let (bytes, _) = this.inbox.as_slices();
        let count = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..count]);
        this.inbox.drain(..count);
        if this.inbox.is_empty() {
            // An idle connection should cost little.
            this.inbox = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_outbox(cx))?;
        let messages = self.framing.outward(buf);
        self.outbox.extend(messages);
        self.widen();
        // What does not fit into the socket goes before the next bytes are taken.
        match self.poll_outbox(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outbox(cx))?;
        let Self { socket, frames, .. } = &mut *self;
        done(frames.flush(&mut Asked { socket, cx }))
    }

    /// Closes the WebSocket, and then our half of the connection. A stream that did not end can be resumed elsewhere.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outbox(cx))?;
        let this = &mut *self;
        let usual = match this.framing.is_closed() {
            true => CloseCode::Normal,
            false => CloseCode::Away,
        };
        let socket = &mut this.socket;
        let mut asked = Asked { socket, cx };
        let closed = match std::mem::replace(&mut this.closing, true) {
            true => this.frames.flush(&mut asked),
            false => {
                let frame = CloseFrame {
                    code: this.end.unwrap_or(usual),
                    reason: Utf8Bytes::default(),
                };
                this.frames.close(&mut asked, Some(frame))
            }
        };
        ready!(done(closed))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}
