//! Between the socket and the stream machine: bytes in, inputs to the actor; the actor's orders, bytes out.
//!
//! Decides nothing about the session. Reads only when [`Reading`] says so: as far ahead as the actor keeps up, and as
//! fast as the rate allows (T-13, T-15). An idle connection holds no buffer: all connections of an arbiter read into
//! the same one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use actix::{Addr, Message};
use cluster::connection::rate::Rate;
use cluster::connection::reading::{Gate, Reading};
use futures_channel::mpsc::UnboundedReceiver;
use futures_util::StreamExt as _;
use proto::stanza::error::Condition;
use proto::stream::{Input, Stream, StreamError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout};

use super::actor::SessionActor;
use crate::clock;
use crate::config::Limits;
use crate::metrics::{Metrics, Throttled};

/// Below so many unwritten bytes the actor may go on.
const LOW: usize = 16 * 1024;
/// How long the last bytes may take (ST-18).
const FAREWELL: Duration = Duration::from_secs(5);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 16 * 1024].into());
}

/// What the actor is told.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum FromPump {
    /// These arrived, in order; none, if only bytes did.
    Inputs(Vec<Input>),
    /// Nearly everything is written, as [`Order::Report`] asked to be told.
    Drained,
    /// The socket is closed.
    Gone,
}

/// What the actor wants.
#[derive(Debug)]
pub enum Order {
    /// Send these bytes.
    Write(Vec<u8>),
    /// So many inputs have been taken up.
    Taken(usize),
    /// Say when nearly everything is written.
    Report,
    /// Stream Management could not be switched on.
    EnableFailed(Condition),
    /// End the stream with this error.
    Fail(Box<StreamError>),
    /// End the stream.
    Close,
    /// Write what there is and close the socket; the stream does not end (the session goes on elsewhere).
    Leave,
    /// Close the socket now: nothing more may reach the client (P3).
    Drop,
}

/// How the connection ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// With a last word.
    Said,
    /// Without `</stream:stream>`.
    Left,
    /// At once.
    Dropped,
}

/// Bytes on their way out.
#[derive(Debug, Default)]
struct Out {
    bytes: Vec<u8>,
    at: usize,
    unflushed: bool,
}

/// The task of one connection.
pub struct Pump<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    machine: Stream,
    actor: Addr<SessionActor>,
    orders: UnboundedReceiver<Order>,
    out: Out,
    fed: usize,
    reading: Reading,
    /// What it measures time from.
    started: Instant,
    report: bool,
    metrics: Arc<Metrics>,
}

/// Reads once, straight into the machine. 0 = the peer has closed. If what carries the stream finds a fault of the peer,
/// the machine ends the stream with it.
pub async fn read_some(
    reader: &mut (impl AsyncRead + Unpin),
    machine: &mut Stream,
) -> io::Result<usize> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            if let Err(error) = ready!(Pin::new(&mut *reader).poll_read(cx, &mut buf)) {
                machine.fail(error.downcast::<StreamError>()?);
                return Poll::Ready(Ok(1));
            }
            machine.feed(buf.filled());
            Poll::Ready(Ok(buf.filled().len()))
        })
    })
    .await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<S> {
    /// The pump of a connection whose session is bound or resumed.
    pub fn new(
        socket: S,
        machine: Stream,
        actor: Addr<SessionActor>,
        orders: UnboundedReceiver<Order>,
        limits: &Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (reader, writer) = tokio::io::split(socket);
        Self {
            reader,
            writer,
            machine,
            actor,
            orders,
            out: Out::default(),
            fed: 0,
            reading: Reading::new(Rate::new(
                limits.stanzas_per_second,
                limits.bytes_per_second,
                Duration::ZERO,
            )),
            started: clock::timer(),
            report: false,
            metrics,
        }
    }

    /// Runs until the socket is closed. Boxed, because a future that takes it by value has room for it twice.
    pub async fn run(mut self: Box<Self>) {
        let end = self.flow().await;
        self.finish(end).await;
        self.actor.do_send(FromPump::Gone);
    }

    async fn flow(&mut self) -> End {
        loop {
            if self.take_inputs() {
                return End::Said;
            }
            self.out.report(&mut self.report, &self.actor);
            let gate = self.reading.gate(self.now());
            let rest = match gate {
                Gate::Until(until) => Some(self.started + until),
                Gate::Open | Gate::Full | Gate::Shut => None,
            };
            tokio::select! {
                biased;
                order = self.orders.next() => {
                    let end = order.map_or(Some(End::Dropped), |order| self.obey(order));
                    if let Some(end) = end {
                        return end;
                    }
                }
                written = self.out.write(&mut self.writer), if self.out.is_waiting() => {
                    if written.is_err() {
                        return End::Dropped;
                    }
                }
                read = read_some(&mut self.reader, &mut self.machine), if gate == Gate::Open => match read {
                    Ok(0) | Err(_) => return End::Dropped,
                    Ok(bytes) => self.fed += bytes,
                },
                () = sleep_until(rest.unwrap_or(self.started)), if rest.is_some() => {}
            }
        }
    }

    /// Since the pump began.
    fn now(&self) -> Duration {
        clock::timer().saturating_duration_since(self.started)
    }

    /// Hands what the machine has to the actor. True if the stream has failed.
    fn take_inputs(&mut self) -> bool {
        if self.reading.is_over() {
            return false;
        }
        let mut inputs = Vec::new();
        let mut failed = false;
        while let Some(input) = self.machine.poll() {
            failed |= matches!(input, Input::Failed(_));
            if matches!(input, Input::Closed) {
                self.reading.end();
            }
            inputs.push(input);
        }
        if !self.reading.is_over() {
            // Our own end stays in the machine until the actor has had its last word (SM-30).
            self.out.push(self.machine.take_output());
        }
        if self.fed > 0 || !inputs.is_empty() {
            let fed = std::mem::take(&mut self.fed);
            if self.reading.read(inputs.len(), fed, self.now()) {
                self.metrics.throttled.inc(Throttled::ClientRate);
            }
            self.actor.do_send(FromPump::Inputs(inputs));
        }
        failed
    }

    fn obey(&mut self, order: Order) -> Option<End> {
        match order {
            Order::Write(bytes) => self.out.push(bytes),
            Order::Taken(count) => self.reading.taken(count),
            Order::Report => self.report = true,
            Order::EnableFailed(condition) => {
                self.machine.enable_failed(condition);
                self.out.push(self.machine.take_output());
            }
            Order::Fail(error) => {
                self.machine.fail(*error);
                self.out.push(self.machine.take_output());
                return Some(End::Said);
            }
            Order::Close => {
                self.machine.close();
                self.out.push(self.machine.take_output());
                return Some(End::Said);
            }
            Order::Leave => return Some(End::Left),
            Order::Drop => return Some(End::Dropped),
        }
        None
    }

    async fn finish(&mut self, end: End) {
        if end == End::Dropped {
            return;
        }
        let Self {
            out,
            writer,
            reader,
            ..
        } = self;
        let last = async {
            while out.is_waiting() {
                out.write(writer).await?;
            }
            writer.shutdown().await?;
            if end == End::Said {
                // Unread bytes would turn our close into a reset, which overtakes the last word. Not in the future, which
                // every connection has for as long as it lives.
                let mut rest = vec![0; 1024];
                while tokio::io::AsyncReadExt::read(reader, &mut rest).await? > 0 {}
            }
            io::Result::Ok(())
        };
        // Whatever fails here, the socket closes next.
        drop(timeout(FAREWELL, last).await);
    }
}

impl Out {
    fn push(&mut self, bytes: Vec<u8>) {
        match self.bytes.is_empty() {
            true => self.bytes = bytes,
            false => self.bytes.extend_from_slice(&bytes),
        }
    }

    fn is_waiting(&self) -> bool {
        !self.bytes.is_empty() || self.unflushed
    }

    /// Writes once. May be dropped and called again at any await.
    async fn write(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.bytes.is_empty() {
            writer.flush().await?;
            self.unflushed = false;
            return Ok(());
        }
        let written = writer.write(&self.bytes[self.at..]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.at += written;
        if self.at == self.bytes.len() {
            *self = Self {
                unflushed: true,
                ..Self::default()
            };
        }
        Ok(())
    }

    /// Tells the actor if it asked and little is left.
    fn report(&self, asked: &mut bool, actor: &Addr<SessionActor>) {
        if *asked && self.bytes.len() - self.at <= LOW {
            *asked = false;
            actor.do_send(FromPump::Drained);
        }
    }
}
