//! Keeps one seat connected, or finds out why it is not.
//!
//! ```text
//!          connected                     the connection is lost
//! down ───────────────▶ up, connected ───────────────────────────▶ suspect
//!  ▲                          ▲           connected again, same process │
//!  │                          └─────────────────────────────────────────┤
//!  └── refuses to be called, or cannot be reached for 500 ms ───────────┘
//! ```
//!
//! A connection that carries nothing for 500 ms, five pings, is given up and the peer is down. While it is down both
//! sides dial it again and again. So they learn at once when it is back, and also when it refuses connections, which
//! shows that the process is gone.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::sync::{Notify, mpsc};
use tokio::time::{self, Instant};

use super::connection::{self, Connection, Established, SILENCE};
use super::hello::{Hello, HelloError};
use super::lost::Lost;
use super::{Absence, PeerEvent, Process, Shared};
use crate::NodeId;
use crate::clock;
use crate::config;
use crate::format::Versions;

/// The first and the longest pause between attempts to reach a peer.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// The first and the longest pause between attempts to be dialled by a peer that may not know of this node.
const KNOCK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A peer that is up should have dialled within this time.
const CALL: Duration = Duration::from_secs(10);
/// A connection that is not authenticated within this time is given up.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(3);

/// What is known of a seat.
pub(super) struct Peer {
    pub(super) seat: u64,
    // A lock, as a process may come back at another address.
    address: RwLock<String>,
    /// Whether it is for the peer to dial, because it has the lower seat.
    dialled: bool,
    incoming: mpsc::Sender<Established>,
    /// Set when the connection is to end, so that the process is greeted anew.
    away: Notify,
    // A lock, as others read the state; only the seat's own task changes it.
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// The process that is up. It stays up while it is suspect.
    up: Option<Process>,
    connection: Option<Arc<Connection>>,
    /// The versions of the formats that the last connected process spoke.
    speaks: Option<Versions>,
    /// The zone that it was in; empty if it was in none, or none was ever connected.
    zone: String,
    /// The last process that was up, while none is.
    absence: Option<Absence>,
}

impl Peer {
    pub(super) fn new(
        peer: config::Peer,
        own_seat: u64,
        incoming: mpsc::Sender<Established>,
    ) -> Self {
        let dialled = own_seat < peer.seat;
        Self {
            seat: peer.seat,
            address: RwLock::new(peer.address),
            dialled,
            incoming,
            away: Notify::new(),
            state: RwLock::default(),
        }
    }

    /// Ends the connection.
    pub(super) fn send_away(&self) {
        self.away.notify_one();
    }

    /// Host and port of the peer's listener, as far as known.
    pub(super) fn address(&self) -> String {
        let address = self.address.read().unwrap_or_else(PoisonError::into_inner);
        address.clone()
    }

    pub(super) fn move_to(&self, address: &str) {
        let mut known = self.address.write().unwrap_or_else(PoisonError::into_inner);
        if *known != address {
            address.clone_into(&mut known);
        }
    }

    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .connection
            .clone()
    }

    pub(super) fn process(&self) -> Option<Process> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).up
    }

    /// Which versions of the formats the seat's process speaks, if it was ever met.
    pub(super) fn speaks(&self) -> Option<Versions> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .speaks
    }

    /// The zone that the seat's process is in, if it was ever met and is in one.
    pub(super) fn zone(&self) -> String {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.zone.clone()
    }

    pub(super) fn absence(&self) -> Option<Absence> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .absence
    }

    pub(super) fn disconnect(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = state.connection.take() {
            connection.close();
        }
        state.up = None;
    }

    /// Whether a process may fill this seat, because no other does.
    pub(super) fn admits(&self, process: Process) -> bool {
        self.connection()
            .is_none_or(|connection| connection.process == process)
    }

    /// Whether it is for the peer to dial.
    pub(super) fn is_dialled(&self) -> bool {
        self.dialled
    }

    /// Hands a connection that the peer has made to the seat's task.
    pub(super) async fn hand_over(&self, established: Established) -> Result<(), Lost> {
        self.incoming
            .send(established)
            .await
            .map_err(|_| Lost::Closed)
    }

    fn set_connection(&self, connection: Option<Arc<Connection>>) {
        self.state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .connection = connection;
    }

    /// Notes what the seat's process says of itself.
    fn note(&self, hello: &Hello) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.speaks = Some(hello.speaks);
        state.zone.clone_from(&hello.zone);
    }

    /// Sets the process that fills the seat, or that none does.
    fn set_up(&self, up: Option<Process>, now: Instant) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.up, up);
        state.absence = match (up, before) {
            (Some(_), _) => None,
            (None, Some(process)) => Some(Absence {
                process,
                since: now,
                gone: false,
            }),
            (None, None) => state.absence,
        };
    }

    /// Remembers that the absent process is gone, since nobody listens at its address. Returns it if that was not known
    /// yet.
    fn set_gone(&self) -> Option<Process> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let absence = state.absence.as_mut().filter(|absence| !absence.gone)?;
        absence.gone = true;
        Some(absence.process)
    }
}

/// Keeps a seat connected for as long as the node runs.
pub(super) async fn run(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    incoming: mpsc::Receiver<Established>,
) {
    let mut task = Task {
        shared,
        peer,
        incoming,
        said: String::new(),
    };
    let mut next = None;
    loop {
        let established = match (next.take(), task.peer.process()) {
            (Some(established), _) => Some(established),
            (None, Some(_)) => time::timeout(SILENCE, task.regain()).await.unwrap_or(None),
            (None, None) => task.connect().await,
        };
        match established {
            Some(established) => next = task.carry(established).await,
            None => task.change(None),
        }
    }
}

struct Task {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    incoming: mpsc::Receiver<Established>,
    /// The last failure that was logged: a peer that is away for a day gets one line, not thousands.
    said: String,
}

impl Task {
    /// Serves a connection until it is lost, or until the same process comes with a new one.
    async fn carry(&mut self, established: Established) -> Option<Established> {
        let process = established.hello.process();
        let (connection, queues) = Connection::new(&established);
        self.peer.set_connection(Some(connection.clone()));
        self.peer.note(&established.hello);
        self.change(Some(process));
        let (lost, next) = tokio::select! {
            lost = connection::run(&self.shared, &connection, queues, established) => (Some(lost), None),
            next = self.incoming.recv() => (None, next),
            () = sent_away(&self.shared, &self.peer, process.node) => (Some(HelloError::Retired(process.node).into()), None),
        };
        connection.close();
        self.peer.set_connection(None);
        if let Some(lost) = lost {
            tracing::debug!(seat = self.peer.seat, "connection lost: {lost}");
            if lost.is_silence() {
                // It had its time to answer, so it is down at once.
                self.change(None);
            }
        }
        next
    }

    /// Sets who fills the seat from now on, and tells subscribers.
    fn change(&mut self, now: Option<Process>) {
        let before = self.peer.process();
        if before == now {
            return;
        }
        self.peer.set_up(now, clock::timer());
        if let Some(process) = before {
            tracing::info!(seat = process.seat, node = %process.node, "peer down");
            // There may be no subscriber.
            let _ = self.shared.events.send(PeerEvent::Down(process));
        }
        if let Some(process) = now {
            self.said.clear();
            tracing::info!(seat = process.seat, node = %process.node, "peer up");
            let _ = self.shared.events.send(PeerEvent::Up(process));
        }
    }

    /// Remembers that the process is gone, and tells subscribers.
    fn gone(&self) {
        if let Some(process) = self.peer.set_gone() {
            tracing::info!(seat = process.seat, node = %process.node, "the peer's process is gone");
            let _ = self.shared.events.send(PeerEvent::Gone(process));
        }
    }

    /// Connects, however often it has to try; `None` only when the node stops.
    async fn connect(&mut self) -> Option<Established> {
        if !self.peer.is_dialled() {
            return self.await_call().await;
        }
        let (mut pause, longest) = BACKOFF;
        loop {
            match self.dial().await {
                Ok(established) => return Some(established),
                Err(lost) => {
                    if lost.is_refusal() {
                        self.gone();
                    }
                    self.say(&lost);
                }
            }
            time::sleep(pause.mul_f64(clock::jitter(0.75..1.25))).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Waits for the peer to dial. Meanwhile it checks whether the peer's process still exists, and knocks: whoever has
    /// forgotten this node does not dial it, and one that refuses it says so only when it is asked.
    async fn await_call(&mut self) -> Option<Established> {
        let begun = clock::timer();
        let (mut pause, longest) = KNOCK;
        loop {
            let unsure = self.peer.absence().is_some_and(|absence| !absence.gone);
            let is_gone = tokio::select! {
                established = self.incoming.recv() => return established,
                () = refuses(&self.peer), if unsure => true,
                () = time::sleep(pause) => false,
            };
            if is_gone {
                self.gone();
                continue;
            }
            self.knock(clock::timer() - begun > CALL).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Tells the peer that this node exists and where, so that it dials. If it still does not after a while, this is
    /// logged.
    async fn knock(&mut self, late: bool) {
        let met = self.dial().await;
        if let Err(lost) = &met
            && lost.is_refusal_of_ours()
        {
            self.say(lost);
        } else if met.is_ok() && late {
            let text = "it answers and does not call this node: can it reach `cluster.advertise`, and is no other \
                        process in this seat?";
            self.say(&text);
        }
    }

    /// Tries to connect with the same process after its connection was lost; `None` once it refuses connections. It is
    /// gone then, and the next attempt to connect reports it.
    async fn regain(&mut self) -> Option<Established> {
        if !self.peer.is_dialled() {
            let gone = refuses(&self.peer);
            tokio::pin!(gone);
            return tokio::select! {
                established = self.incoming.recv() => established,
                () = gone => None,
            };
        }
        loop {
            match self.dial().await {
                Ok(established) => return Some(established),
                Err(lost) if lost.is_refusal() => return None,
                Err(_) => time::sleep(BACKOFF.0).await,
            }
        }
    }

    async fn dial(&self) -> Result<Established, Lost> {
        let attempt = async {
            let address = self.peer.address();
            let established = self.shared.greet(&*address, &address).await?;
            self.shared.check(established, self.peer.seat).await
        };
        time::timeout(HANDSHAKE, attempt)
            .await
            .unwrap_or(Err(Lost::Silent))
    }

    fn say(&mut self, problem: &impl ToString) {
        let text = problem.to_string();
        if text != self.said {
            tracing::warn!(
                seat = self.peer.seat,
                address = self.peer.address(),
                "cannot reach peer: {text}"
            );
            self.said = text;
        }
    }
}

impl Shared {
    /// The greeting of this node, as of now.
    pub(super) fn hello(&self) -> Hello {
        Hello::of(&self.identity, self.speaks, &self.place)
    }

    /// Connects, authenticates and greets. With certificates, the peer's has to be for the host of `name`.
    pub(super) async fn greet(
        &self,
        address: impl ToSocketAddrs,
        name: &str,
    ) -> Result<Established, Lost> {
        let stream = self.tls().dial(address, name).await?;
        let established = Established::dialled(stream, &self.hello()).await?;
        if established.hello.body.replaced {
            // There may be no subscriber yet; the peer says it again.
            let _ = self.events.send(PeerEvent::Replaced);
            return Err(HelloError::Retired(self.identity.node()).into());
        }
        Ok(established)
    }

    /// Refuses a peer that was called if it is not the one that should be in `seat`. One that is no longer a member is
    /// told so: it may be waiting to be called, and would never ask.
    pub(super) async fn check(
        &self,
        established: Established,
        seat: u64,
    ) -> Result<Established, Lost> {
        let (ours, theirs) = (self.hello(), &established.hello);
        let retired = self.identity.is_retired(theirs.body.node);
        match ours.check(theirs, seat, retired) {
            Ok(()) => Ok(established),
            Err(refused) => {
                if matches!(refused, HelloError::Retired(_)) {
                    established.turn_away(&ours).await;
                }
                Err(refused.into())
            }
        }
    }
}

/// Returns once this node is refused. The word may have been about one that was here before it.
async fn sent_away(shared: &Shared, peer: &Peer, node: NodeId) {
    while !shared.identity.is_retired(node) {
        peer.away.notified().await;
    }
}

/// Returns once nobody listens at the peer's address. The side that does not dial needs it to learn that a process is gone.
///
/// A successful connection proves little: the kernel may accept it for a process that is just dying, and resets it
/// right after. A living peer waits for us to speak.
async fn refuses(peer: &Peer) {
    let (mut pause, longest) = BACKOFF;
    loop {
        match TcpStream::connect(peer.address()).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return,
            Err(_) => {}
            Ok(mut tcp) => {
                let _ = time::timeout(BACKOFF.1, tcp.read_u8()).await;
            }
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}
