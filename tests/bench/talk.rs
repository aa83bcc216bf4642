//! The generator: clients in pairs who send each other numbered messages of 300 bytes.
//!
//! In a closed loop each keeps some messages on their way: one that arrives lets one more go. In an open loop a clock
//! says when each message is due, whatever the server does meanwhile, and how long it took is counted from that
//! moment. Else a server that stands still would be asked nothing while it does, and its worst moments left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use node::demo::client::Connection;
use node::demo::session::{Resumption, Session, Taken};
use proto::{Element, ns};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Failure;
use crate::order::Order;
use crate::place::Place;
use crate::usage::percentiles;

/// The text of a message. With addresses and markup that makes about 300 bytes.
const BODY: usize = 180;
/// After so many messages a client asks for an acknowledgement.
const ASK_EVERY: u64 = 20;
/// How long what is under way at the end may take.
const SETTLE: Duration = Duration::from_secs(15);

/// What the clients share.
pub struct Talk {
    start: Instant,
    phase: watch::Sender<Phase>,
    /// When messages became due that are measured, in microseconds since the start.
    from: AtomicU64,
    until: AtomicU64,
    /// How many messages each client has on their way; 0 in an open loop.
    window: u64,
    /// Messages that were sent, and those that came or came back.
    pub sent: AtomicU64,
    /// Messages that arrived.
    pub delivered: AtomicU64,
    refused: AtomicU64,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Talk,
    Settle,
    Over,
}

/// What a client is to do.
pub enum Command {
    /// To send a message that is due at this time.
    Say(Instant),
    /// To lose its connection and come back.
    Return,
}

/// What a client has seen, times in microseconds.
#[derive(Default)]
pub struct Seen {
    order: Order,
    /// From when a message was due until it came.
    waits: Vec<u32>,
    /// From when a message was due until it was sent: what the generator itself is late.
    late: Vec<u32>,
    /// From `<resume/>` to `<resumed/>`, and from the connect to `<resumed/>`.
    resumes: Vec<(u32, u32)>,
}

impl Talk {
    /// A talk that begins now.
    pub fn new(window: u64) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            phase: watch::Sender::new(Phase::Talk),
            from: AtomicU64::new(u64::MAX),
            until: AtomicU64::new(u64::MAX),
            window,
            sent: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_micros() as u64
    }

    /// What is due from now on is measured.
    pub fn begin(&self) {
        self.from.store(self.micros(Instant::now()), Relaxed);
    }

    /// What is due from now on is not.
    pub fn end(&self) {
        self.until.store(self.micros(Instant::now()), Relaxed);
    }

    fn is_measured(&self, due: u64) -> bool {
        (self.from.load(Relaxed)..self.until.load(Relaxed)).contains(&due)
    }

    fn is_talking(&self) -> bool {
        *self.phase.borrow() == Phase::Talk
    }

    /// Has commands come at a fixed rate, one client after the other, until the talk ends. A thread of its own does it,
    /// as the timers of the runtime are only exact to a millisecond.
    pub fn pace(
        self: &Arc<Self>,
        rate: f64,
        clients: Vec<UnboundedSender<Command>>,
        command: fn(Instant) -> Command,
    ) {
        let talk = self.clone();
        thread::spawn(move || {
            let start = Instant::now();
            for number in 0u64.. {
                let due = start + Duration::from_secs_f64(number as f64 / rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let client = &clients[number as usize % clients.len()];
                if !talk.is_talking() || client.send(command(due)).is_err() {
                    return;
                }
            }
        });
    }

    /// Ends the talk, waits for what is under way, and adds what was seen to a line.
    pub async fn finish(
        &self,
        mut clients: JoinSet<Result<Seen, Failure>>,
        line: &mut Map<String, Value>,
    ) -> Result<(), Failure> {
        self.phase.send_replace(Phase::Settle);
        let settled = async {
            let done = || self.delivered.load(Relaxed) + self.refused.load(Relaxed);
            while done() < self.sent.load(Relaxed) {
                sleep(Duration::from_millis(20)).await;
            }
            // What comes twice comes behind.
            sleep(Duration::from_millis(200)).await;
        };
        // What has not come by then is lost, and told so.
        drop(timeout(SETTLE, settled).await);
        self.phase.send_replace(Phase::Over);
        let mut all = Seen::default();
        while let Some(ended) = clients.join_next().await {
            all.add(ended??);
        }
        let refused = self.refused.load(Relaxed);
        let arrived = all.order.came + refused;
        line.insert("refused".into(), json!(refused));
        let lost = self.sent.load(Relaxed).saturating_sub(arrived);
        line.insert("lost".into(), json!(lost));
        line.insert("doubled".into(), json!(all.order.doubled));
        line.insert("reordered".into(), json!(all.order.reordered));
        if self.window == 0 {
            percentiles(line, "delivery", &mut all.waits);
            percentiles(line, "generator_late", &mut all.late);
        }
        if !all.resumes.is_empty() {
            line.insert("resumes".into(), json!(all.resumes.len()));
            let (mut resume, mut whole): (Vec<_>, Vec<_>) = all.resumes.into_iter().unzip();
            percentiles(line, "resume", &mut resume);
            percentiles(line, "connect_to_resumed", &mut whole);
        }
        Ok(())
    }
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.order.came += other.order.came;
        self.order.doubled += other.order.doubled;
        self.order.reordered += other.order.reordered;
        self.waits.extend(other.waits);
        self.late.extend(other.late);
        self.resumes.extend(other.resumes);
    }
}

/// One client.
pub struct Client {
    talk: Arc<Talk>,
    connection: Connection,
    /// None if nothing but TLS is measured.
    session: Option<Session>,
    /// To whom it writes.
    partner: String,
    /// Where it comes back to: the servers, the one that it is at, its account.
    home: Option<(Arc<Place>, usize, usize)>,
    sent: u64,
    seen: Seen,
}

impl Client {
    /// A client that is connected.
    pub fn new(
        talk: &Arc<Talk>,
        (connection, session): (Connection, Option<Session>),
        partner: String,
        home: Option<(Arc<Place>, usize, usize)>,
    ) -> Self {
        Self {
            talk: talk.clone(),
            connection,
            session,
            partner,
            home,
            sent: 0,
            seen: Seen::default(),
        }
    }

    /// Starts it; the first value sends it commands.
    pub fn start(self, clients: &mut JoinSet<Result<Seen, Failure>>) -> UnboundedSender<Command> {
        let (sender, commands) = unbounded_channel();
        clients.spawn(self.run(commands));
        sender
    }

    async fn run(mut self, mut commands: UnboundedReceiver<Command>) -> Result<Seen, Failure> {
        let talk = self.talk.clone();
        let mut phase = talk.phase.subscribe();
        for _ in 0..talk.window {
            self.say(Instant::now()).await?;
        }
        let mut commanded = true;
        loop {
            tokio::select! {
                element = self.connection.next() => self.take(element?).await?,
                command = commands.recv(), if commanded => match command {
                    Some(Command::Say(due)) => self.say(due).await?,
                    Some(Command::Return) => self.come_back().await?,
                    None => commanded = false,
                },
                () = over(&mut phase) => return Ok(self.seen),
            }
        }
    }

    async fn say(&mut self, due: Instant) -> Result<(), Failure> {
        let micros = self.talk.micros(due);
        if self.talk.window == 0 && self.talk.is_measured(micros) {
            self.seen.late.push(due.elapsed().as_micros() as u32);
        }
        let message = Element::new("message", ns::CLIENT)
            .with_attr("type", "chat")
            .with_attr("to", &self.partner)
            .with_attr("id", format!("{}.{micros}", self.sent))
            .with_child(Element::new("body", ns::CLIENT).with_text(&"x".repeat(BODY)));
        self.sent += 1;
        self.talk.sent.fetch_add(1, Relaxed);
        let Some(session) = &mut self.session else {
            return Ok(self.connection.send(&message).await?);
        };
        session.send(&mut self.connection, &message).await?;
        if self.sent.is_multiple_of(ASK_EVERY) {
            session.request(&mut self.connection).await?;
        }
        Ok(())
    }

    async fn take(&mut self, element: Element) -> Result<(), Failure> {
        let stanza = match &mut self.session {
            None => element,
            Some(session) => match session.take(&mut self.connection, element).await? {
                Taken::Stanza(stanza) => stanza,
                _ => return Ok(()),
            },
        };
        if !stanza.is("message", ns::CLIENT) {
            return Ok(());
        }
        if stanza.attr("type") == Some("error") {
            self.talk.refused.fetch_add(1, Relaxed);
        } else if let Some((number, due)) = numbers(&stanza) {
            if self.seen.order.take(number) {
                self.talk.delivered.fetch_add(1, Relaxed);
            }
            if self.talk.window == 0 && self.talk.is_measured(due) {
                let wait = self.talk.micros(Instant::now()) - due;
                self.seen.waits.push(wait as u32);
            }
        }
        if self.talk.window > 0 && self.talk.is_talking() {
            self.say(Instant::now()).await?;
        }
        Ok(())
    }

    /// Loses its connection, and resumes at the next server.
    async fn come_back(&mut self) -> Result<(), Failure> {
        let (Some((place, server, account)), Some(session)) = (&mut self.home, &mut self.session)
        else {
            return Err("this client has nowhere to come back to".into());
        };
        *server += 1;
        let cut = Instant::now();
        let mut connection = place.connect(*server, *account).await?;
        let asked = Instant::now();
        let (resumption, _) = session.resume(&mut connection).await?;
        if resumption == Resumption::Failed {
            return Err("a session was not resumed".into());
        }
        let times = (asked.elapsed().as_micros(), cut.elapsed().as_micros());
        if self.talk.is_measured(self.talk.micros(cut)) {
            self.seen.resumes.push((times.0 as u32, times.1 as u32));
        }
        self.connection = connection;
        Ok(session.resend(&mut self.connection).await?)
    }
}

async fn over(phase: &mut watch::Receiver<Phase>) {
    // The talk that sends the phases is ours too.
    drop(phase.wait_for(|phase| *phase == Phase::Over).await);
}

/// The number of a message, and when it was due.
fn numbers(message: &Element) -> Option<(u64, u64)> {
    let (number, due) = message.attr("id")?.split_once('.')?;
    Some((number.parse().ok()?, due.parse().ok()?))
}
