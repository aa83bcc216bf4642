//! One connection between two nodes: it carries requests and replies in both directions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{self, Instant};
use tokio_rustls::TlsStream;

use super::frame::{self, Frame, FrameError, Kind, Role};
use super::hello::Hello;
use super::lost::Lost;
use super::pieces::{Incoming, Large, Outgoing, PIECE};
use super::{LinkError, PeerEvent, Process, Request, Shared};
use crate::bound;
use crate::clock;
use crate::format::{Version, Versions};

/// A side that has written nothing for so long sends a ping.
const PING: Duration = Duration::from_millis(100);
/// A peer that was silent for so long, five pings, is down: others lead its groups.
pub(super) const SILENCE: Duration = Duration::from_millis(500);
/// How long a peer that is turned away has to read why.
const TOLD: Duration = Duration::from_millis(250);
/// How many frames may wait to be written. Senders of more have to wait.
const QUEUE: usize = 1024;
/// How many requests of a peer may be in progress. More are refused.
const REQUESTS: usize = 4096;
/// How many bytes of large frames may wait to be written. Senders of more have to wait.
const LARGE: usize = 2 * bound::MESSAGE;
const BUFFER: usize = 64 << 10;

type Stream = TlsStream<TcpStream>;
type Waiters = HashMap<u64, oneshot::Sender<Option<Bytes>>>;

/// An authenticated stream, and the process at its other end.
pub(super) struct Established {
    stream: Stream,
    bytes: BytesMut,
    pub(super) hello: Hello,
    /// The newest version of the formats that both ends speak.
    version: Version,
    reads: Versions,
}

impl Established {
    /// Greets as the dialling side, which speaks first.
    pub(super) async fn dialled(mut stream: Stream, ours: &Hello) -> Result<Self, Lost> {
        say(&mut stream, ours).await?;
        let mut bytes = BytesMut::with_capacity(BUFFER);
        let hello = hear(&mut stream, &mut bytes).await;
        let hello = hello.map_err(Lost::by_greeting)?;
        Ok(Self {
            stream,
            bytes,
            version: ours.common(&hello)?,
            reads: ours.speaks,
            hello,
        })
    }

    /// Tells a peer that was called and has answered that it is no longer a member, and waits a little until it hangs up:
    /// what it has not read yet would be lost with a connection that is closed on what it has said meanwhile.
    pub(super) async fn turn_away(mut self, ours: &Hello) {
        let mut hello = ours.clone();
        hello.body.replaced = true;
        let told = async {
            say(&mut self.stream, &hello).await?;
            while self.stream.read_buf(&mut self.bytes).await? > 0 {
                self.bytes.clear();
            }
            Ok::<_, Lost>(())
        };
        // It is called again, and told again.
        let _ = time::timeout(TOLD, told).await;
    }

    /// Greets as the accepting side, which listens first and answers only if `check` agrees. A peer with another
    /// version, or one that is no longer a member, is answered all the same.
    pub(super) async fn accepted(
        mut stream: Stream,
        ours: &Hello,
        check: impl FnOnce(&Stream, &Hello) -> Result<(), Lost>,
    ) -> Result<Self, Lost> {
        let mut bytes = BytesMut::with_capacity(BUFFER);
        let hello = hear(&mut stream, &mut bytes).await?;
        let checked = check(&stream, &hello);
        if checked.as_ref().err().is_none_or(Lost::is_told) {
            let mut answer = ours.clone();
            answer.body.replaced = checked.as_ref().is_err_and(Lost::is_of_the_replaced);
            say(&mut stream, &answer).await?;
        }
        checked?;
        Ok(Self {
            stream,
            bytes,
            version: ours.common(&hello)?,
            reads: ours.speaks,
            hello,
        })
    }
}

async fn say(stream: &mut Stream, hello: &Hello) -> Result<(), Lost> {
    let payload = hello.encode().into();
    let mut out = Vec::new();
    frame::encode(
        &Frame {
            version: hello.speaks.oldest,
            kind: Kind::Hello,
            role: Role::Request,
            group: 0,
            id: 0,
            payload,
        },
        &mut out,
    );
    stream.write_all(&out).await?;
    Ok(stream.flush().await?)
}

async fn hear(stream: &mut Stream, bytes: &mut BytesMut) -> Result<Hello, Lost> {
    loop {
        match frame::decode(bytes)? {
            Some(frame) if frame.kind == Kind::Hello => return Ok(Hello::decode(&frame.payload)?),
            Some(frame) => return Err(FrameError::Kind(frame.kind as u8).into()),
            None if stream.read_buf(bytes).await? == 0 => return Err(Lost::Closed),
            None => {}
        }
    }
}

/// The sending end of a connection, and the callers that wait for replies.
pub(super) struct Connection {
    pub(super) process: Process,
    /// The version in which frames are written.
    version: Version,
    urgent: mpsc::Sender<Frame>,
    small: mpsc::Sender<Frame>,
    large: mpsc::Sender<Large>,
    /// Bytes of large frames that may still wait.
    room: Arc<Semaphore>,
    next: AtomicU64,
    began: Instant,
    /// When something was written last, in milliseconds since `began`.
    written: AtomicU64,
    // `None` once the connection is lost. The reader and callers hold the lock only briefly.
    waiters: Mutex<Option<Waiters>>,
}

/// The receiving ends of a connection's queues, for its writer.
pub(super) struct Queues {
    urgent: mpsc::Receiver<Frame>,
    small: mpsc::Receiver<Frame>,
    large: mpsc::Receiver<Large>,
}

impl Connection {
    pub(super) fn new(established: &Established) -> (Arc<Self>, Queues) {
        let (urgent, urgent_queue) = mpsc::channel(QUEUE);
        let (small, small_queue) = mpsc::channel(QUEUE);
        let (large, large_queue) = mpsc::channel(QUEUE);
        let connection = Self {
            process: established.hello.process(),
            version: established.version,
            urgent,
            small,
            large,
            room: Arc::new(Semaphore::new(LARGE)),
            next: AtomicU64::new(1),
            began: clock::timer(),
            written: AtomicU64::new(0),
            waiters: Mutex::new(Some(HashMap::new())),
        };
        (
            Arc::new(connection),
            Queues {
                urgent: urgent_queue,
                small: small_queue,
                large: large_queue,
            },
        )
    }

    /// Sends a request and waits for the reply.
    pub(super) async fn call(
        &self,
        kind: Kind,
        group: u64,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, LinkError> {
        bound::check("a request", payload.len(), bound::MESSAGE)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiters()
            .as_mut()
            .ok_or(LinkError::Down)?
            .insert(id, sender);
        let _forget = Forget {
            connection: self,
            id,
        };
        let asked = async {
            self.send(Frame {
                version: self.version,
                kind,
                role: Role::Request,
                group,
                id,
                payload,
            })
            .await?;
            receiver
                .await
                .map_err(|_| LinkError::Down)?
                .ok_or(LinkError::Refused)
        };
        time::timeout(timeout, asked)
            .await
            .unwrap_or(Err(LinkError::Timeout))
    }

    async fn send(&self, frame: Frame) -> Result<(), LinkError> {
        if frame.payload.len() > PIECE {
            let room = self.room(frame.payload.len()).await?;
            let sent = self.large.send((frame, room)).await;
            return sent.map_err(|_| LinkError::Down);
        }
        let queue = match frame.kind.is_urgent() {
            true => &self.urgent,
            false => &self.small,
        };
        queue.send(frame).await.map_err(|_| LinkError::Down)
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, LinkError> {
        // The cast is safe: a message has at most [`bound::MESSAGE`] bytes.
        let room = self.room.clone().acquire_many_owned(bytes as u32).await;
        room.map_err(|_| LinkError::Down)
    }

    /// Fails all callers that wait, and every later one.
    pub(super) fn close(&self) {
        self.waiters().take();
        self.room.close();
    }

    fn note_written(&self) {
        let since = clock::timer().saturating_duration_since(self.began);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.written.store(millis, Ordering::Relaxed);
    }

    fn last_written(&self) -> Instant {
        self.began + Duration::from_millis(self.written.load(Ordering::Relaxed))
    }

    fn waiters(&self) -> MutexGuard<'_, Option<Waiters>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a caller from those that wait when its call ends, however it ends.
struct Forget<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiters) = self.connection.waiters().as_mut() {
            waiters.remove(&self.id);
        }
    }
}

/// Carries frames until the connection is lost, and returns the reason.
pub(super) async fn run(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    queues: Queues,
    established: Established,
) -> Lost {
    let (reader, writer) = tokio::io::split(established.stream);
    let lost = tokio::select! {
        lost = read(shared, connection, reader, established.bytes, established.reads) => lost,
        lost = write(connection, writer, queues) => lost,
        lost = ping(connection) => lost,
    };
    connection.close();
    match lost {
        Ok(never) => match never {},
        Err(lost) => lost,
    }
}

/// Reads frames. Whatever arrives is a sign of life.
async fn read(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    mut stream: ReadHalf<Stream>,
    mut bytes: BytesMut,
    reads: Versions,
) -> Result<std::convert::Infallible, Lost> {
    let room = Arc::new(Semaphore::new(REQUESTS));
    let mut pieces = Incoming::default();
    loop {
        while let Some(frame) = frame::decode(&mut bytes)? {
            if !reads.contains(frame.version) {
                return Err(Lost::Version(frame.version));
            }
            if let Some(frame) = pieces.take(frame)? {
                take(shared, connection, &room, frame);
            }
        }
        bytes.reserve(BUFFER / 4);
        match time::timeout(SILENCE, stream.read_buf(&mut bytes)).await {
            Ok(Ok(0)) => return Err(Lost::Closed),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Lost::Silent),
        }
    }
}

fn take(shared: &Arc<Shared>, connection: &Arc<Connection>, room: &Arc<Semaphore>, frame: Frame) {
    match (frame.role, frame.kind) {
        (Role::Reply, _) => finish(connection, frame.id, Some(frame.payload)),
        (Role::Refusal, _) => finish(connection, frame.id, None),
        // Pieces were put together before.
        (Role::RequestPart | Role::ReplyPart, _) => {}
        (Role::Request, Kind::Ping) => {}
        (Role::Request, Kind::Hello) => heed(shared, &frame.payload),
        (Role::Request, kind) => {
            let (shared, connection) = (shared.clone(), connection.clone());
            let place = room.clone().try_acquire_owned();
            let answering = shared.answering.clone();
            answering.spawn(async move {
                let (version, group, id) = (frame.version, frame.group, frame.id);
                let request = Request {
                    from: connection.process,
                    kind,
                    group,
                    payload: frame.payload,
                };
                let answer = match place {
                    Ok(_) => shared.answer(request).await,
                    Err(_) => None,
                };
                let answer = answer.filter(|answer| is_sendable(kind, answer));
                let role = if answer.is_some() {
                    Role::Reply
                } else {
                    Role::Refusal
                };
                let frame = Frame {
                    version,
                    kind,
                    role,
                    group,
                    id,
                    payload: answer.unwrap_or_default(),
                };
                // If the connection is gone the caller has been told.
                let _ = connection.send(frame).await;
            });
        }
    }
}

/// A peer that called greets a second time only to say that this node is no longer a member.
fn heed(shared: &Shared, greeting: &[u8]) {
    if Hello::decode(greeting).is_ok_and(|hello| hello.body.replaced) {
        // There may be no subscriber yet; the peer says it again.
        let _ = shared.events.send(PeerEvent::Replaced);
    }
}

/// Whether a reply is small enough to be sent. The caller gets a refusal in place of one that is too large, so the
/// reason is logged here.
fn is_sendable(kind: Kind, answer: &Bytes) -> bool {
    let checked = bound::check("an answer", answer.len(), bound::MESSAGE);
    if let Err(over) = checked {
        tracing::error!(?kind, %over, "an answer to another node is not sent");
    }
    checked.is_ok()
}

fn finish(connection: &Connection, id: u64, answer: Option<Bytes>) {
    let waiter = connection
        .waiters()
        .as_mut()
        .and_then(|waiters| waiters.remove(&id));
    if let Some(waiter) = waiter {
        // The caller may have stopped waiting.
        let _ = waiter.send(answer);
    }
}

/// Writes what waits in one go: urgent frames first, then small ones, then one piece of a large one. So a ping or an
/// acknowledgement waits for one buffer and one piece at most.
async fn write(
    connection: &Connection,
    mut stream: WriteHalf<Stream>,
    mut queues: Queues,
) -> Result<std::convert::Infallible, Lost> {
    let mut outgoing = Outgoing::default();
    let mut out = Vec::with_capacity(BUFFER + PIECE);
    loop {
        let (urgent, small, large) = (&mut queues.urgent, &mut queues.small, &mut queues.large);
        if outgoing.is_empty() {
            tokio::select! {
                biased;
                first = urgent.recv() => frame::encode(&first.ok_or(Lost::Closed)?, &mut out),
                first = small.recv() => frame::encode(&first.ok_or(Lost::Closed)?, &mut out),
                first = large.recv() => outgoing.push(first.ok_or(Lost::Closed)?),
            }
        }
        while out.len() < BUFFER {
            match urgent.try_recv().or_else(|_| small.try_recv()) {
                Ok(frame) => frame::encode(&frame, &mut out),
                Err(_) => break,
            }
        }
        while outgoing.has_room() {
            match large.try_recv() {
                Ok(frame) => outgoing.push(frame),
                Err(_) => break,
            }
        }
        outgoing.write(&mut out);
        stream.write_all(&out).await?;
        stream.flush().await?;
        connection.note_written();
        out.clear();
        out.shrink_to(BUFFER + PIECE);
    }
}

async fn ping(connection: &Connection) -> Result<std::convert::Infallible, Lost> {
    loop {
        let due = connection.last_written() + PING;
        if clock::timer() < due {
            time::sleep_until(due).await;
            continue;
        }
        let ping = Frame {
            version: connection.version,
            kind: Kind::Ping,
            role: Role::Request,
            group: 0,
            id: 0,
            payload: Bytes::new(),
        };
        connection.send(ping).await.map_err(|_| Lost::Closed)?;
        // It is on its way, or will be once the socket takes more.
        time::sleep(PING).await;
    }
}
