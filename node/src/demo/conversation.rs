//! The clients of the demo: each chats with its neighbours in a ring, in both directions, at a steady pace.
//!
//! A client that loses its connection connects again through the balancer, as often as necessary, until it has resumed
//! its session. It starts a new session only if the server says that the old one is over.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::{Element, Jid, ns};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::balancer::Balancer;
use super::client::{ClientError, Connection, Credentials};
use super::progress::Progress;
use super::session::{Backoff, Resumption, Session, SessionError, Taken};
use super::tally::Tally;
use crate::clock;

/// How many messages a client sends at once when a node is about to be killed.
const BURST: usize = 3;
/// A client with so many unacknowledged messages waits. Bursts go beyond it.
const WINDOW: usize = 40;
/// How often a client checks its connection.
const PULSE: Duration = Duration::from_millis(250);
/// A server that owes an acknowledgement for so long counts as gone.
const SILENCE: Duration = Duration::from_secs(10);
/// How long an attempt to resume may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// What clients do at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// They log in.
    Gather,
    /// They ask their neighbours to be told whether they are online.
    Meet,
    /// They send and receive.
    Talk,
    /// They only receive.
    Settle,
    /// They log out.
    Leave,
}

/// What all clients share.
pub struct Talk {
    /// The balancer, through which they reach the nodes.
    pub balancer: Balancer,
    /// The TLS settings, with the certificate that clients trust.
    pub tls: Arc<ClientConfig>,
    /// Their accounts.
    pub accounts: Vec<Credentials>,
    /// How often each sends a message.
    pub pace: Duration,
    /// The record of their messages.
    pub tally: Mutex<Tally>,
    /// What all clients do now.
    pub phase: watch::Sender<Phase>,
    /// How often they were asked for a burst.
    pub burst: watch::Sender<u64>,
    /// How many are online.
    pub online: watch::Sender<usize>,
    /// Prints events.
    pub progress: Progress,
}

impl Talk {
    /// Nobody is online yet.
    pub fn new(
        balancer: Balancer,
        tls: Arc<ClientConfig>,
        (accounts, pace): (Vec<Credentials>, Duration),
        progress: Progress,
    ) -> Result<Self, hdrhistogram::CreationError> {
        let clients = accounts.len();
        let directions = (0..clients).flat_map(|me| {
            let neighbours = Self::neighbours(me, clients);
            neighbours.into_iter().map(move |to| (me, to))
        });
        Ok(Self {
            balancer,
            tls,
            accounts,
            pace,
            tally: Mutex::new(Tally::new(directions)?),
            phase: watch::Sender::new(Phase::Gather),
            burst: watch::Sender::new(0),
            online: watch::Sender::new(0),
            progress,
        })
    }

    /// Locks the record. Nobody holds it across an await.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The neighbours of a client in the ring; only one if there are two clients.
    pub fn neighbours(me: usize, clients: usize) -> Vec<usize> {
        let mut neighbours = vec![(me + 1) % clients, (me + clients - 1) % clients];
        neighbours.dedup();
        neighbours
    }
}

/// Runs one client until the demo ends.
pub async fn client(talk: Arc<Talk>, me: usize) -> Result<(), SessionError> {
    let (mut talker, mut connection) = Talker::start(talk, me).await?;
    loop {
        let lost = match talker.stay(&mut connection).await {
            Ok(()) => {
                // All messages are on record, so it does not matter if closing fails.
                drop(connection.close().await);
                return Ok(());
            }
            Err(error) => error,
        };
        talker.lose(&lost);
        match talker.go_on().await? {
            Some(next) => connection = next,
            None => return Ok(()),
        }
    }
}

/// A client and its session.
struct Talker {
    talk: Arc<Talk>,
    me: usize,
    neighbours: Vec<usize>,
    session: Session,
    /// The node of the last connection.
    node: Option<usize>,
    /// When the connection began.
    connected: Instant,
    /// When the connection was lost.
    lost: Instant,
    /// The kill that cut it, if one did.
    killed: Option<Instant>,
    /// Whether it has asked its neighbours.
    has_asked: bool,
    /// How many messages it has sent.
    spoken: usize,
    phase: watch::Receiver<Phase>,
    burst: watch::Receiver<u64>,
    /// When the server was last heard.
    heard: Instant,
}

impl Talker {
    async fn start(talk: Arc<Talk>, me: usize) -> Result<(Self, Connection), SessionError> {
        let mut connection = connect(&talk, me).await?;
        let session = Session::start(&mut connection, None).await?;
        let mut burst = talk.burst.subscribe();
        burst.mark_unchanged();
        let mut talker = Self {
            me,
            neighbours: Talk::neighbours(me, talk.accounts.len()),
            session,
            node: talk.balancer.node_of(connection.local_addr()),
            connected: clock::instant(),
            lost: clock::instant(),
            killed: None,
            has_asked: false,
            spoken: 0,
            phase: talk.phase.subscribe(),
            burst,
            heard: clock::instant(),
            talk,
        };
        talker.session.request(&mut connection).await?;
        while talker.session.unacknowledged() > 0 {
            let element = connection.next().await?;
            talker.hear(&mut connection, element).await?;
        }
        talker.talk.online.send_modify(|online| *online += 1);
        Ok((talker, connection))
    }

    /// Asks to see whether the neighbours are online: whatever happens to nodes, they must never seem to leave.
    async fn befriend(&mut self, connection: &mut Connection) -> Result<(), SessionError> {
        for neighbour in self.neighbours.clone() {
            let subscribe = presence("subscribe", &self.talk.accounts[neighbour]);
            self.session.send(connection, &subscribe).await?;
        }
        self.session.request(connection).await
    }

    /// Talks until the connection is lost, or until it is time to leave.
    async fn stay(&mut self, connection: &mut Connection) -> Result<(), SessionError> {
        let mut pace = interval(self.talk.pace);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pulse = interval(PULSE);
        self.heard = clock::instant();
        loop {
            let phase = *self.phase.borrow_and_update();
            if phase == Phase::Leave {
                return Ok(());
            }
            if phase == Phase::Meet && !self.has_asked {
                self.has_asked = true;
                self.befriend(connection).await?;
            }
            tokio::select! {
                element = connection.next() => self.hear(connection, element?).await?,
                _ = pace.tick(), if phase == Phase::Talk && self.session.unacknowledged() < WINDOW => {
                    self.speak(connection, 1).await?;
                }
                Ok(()) = self.burst.changed(), if phase == Phase::Talk => {
                    let count = BURST * self.neighbours.len();
                    self.speak(connection, count).await?;
                }
                _ = pulse.tick() => self.look_after(connection).await?,
                // The sender cannot be gone, as it is part of what all clients share.
                _ = self.phase.changed() => {}
            }
        }
    }

    async fn speak(
        &mut self,
        connection: &mut Connection,
        count: usize,
    ) -> Result<(), SessionError> {
        for _ in 0..count {
            if self.session.unacknowledged() >= 10 * WINDOW {
                break;
            }
            let to = self.neighbours[self.spoken % self.neighbours.len()];
            self.spoken += 1;
            let number = self.talk.tally().send(self.me, to);
            let message = message(&self.talk.accounts[to], self.me, to, number);
            self.session.send(connection, &message).await?;
        }
        self.session.request(connection).await
    }

    async fn hear(
        &mut self,
        connection: &mut Connection,
        element: Element,
    ) -> Result<(), SessionError> {
        self.heard = clock::instant();
        match self.session.take(connection, element).await? {
            Taken::Acknowledged(count) => self.talk.tally().acknowledge(count),
            Taken::Stanza(stanza) if stanza.local() == "presence" => {
                self.meet(connection, &stanza).await?;
            }
            Taken::Stanza(stanza) => self.note(&stanza),
            Taken::Nothing => {}
        }
        Ok(())
    }

    /// Lets contacts in, and records when they seem to come or go.
    async fn meet(
        &mut self,
        connection: &mut Connection,
        stanza: &Element,
    ) -> Result<(), SessionError> {
        let Some(from) = self.sender(stanza) else {
            return Ok(());
        };
        match stanza.attr("type") {
            Some("subscribe") => {
                let subscribed = presence("subscribed", &self.talk.accounts[from]);
                self.session.send(connection, &subscribed).await?;
                self.session.request(connection).await?;
            }
            None => self.talk.tally().appear(from, self.me),
            // At the end they do leave, and each knows it before the first does.
            Some("unavailable") if *self.talk.phase.borrow() != Phase::Leave => {
                self.talk.tally().vanish(from, self.me);
                let name = &self.talk.accounts[from].username;
                self.tell(&format!("is told that {name} is offline"));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Records a received message.
    fn note(&self, stanza: &Element) {
        if stanza.local() != "message" {
            return;
        }
        if stanza.attr("type") == Some("error") {
            self.talk.tally().bounce();
            self.tell(&format!(
                "got a message back: {}",
                stanza.to_xml(ns::CLIENT)
            ));
        } else if let Some((from, number)) = self.read(stanza) {
            self.talk.tally().deliver(from, self.me, number);
        }
    }

    /// The client that has sent a stanza.
    fn sender(&self, stanza: &Element) -> Option<usize> {
        let from = Jid::new(stanza.attr("from")?).ok()?;
        let named = |account: &Credentials| Some(account.username.as_str()) == from.local();
        self.talk.accounts.iter().position(named)
    }

    /// Reads sender and number of a message of the demo.
    fn read(&self, stanza: &Element) -> Option<(usize, u64)> {
        let from = self.sender(stanza)?;
        let body = stanza.child("body", ns::CLIENT)?.text();
        Some((from, body.rsplit(' ').next()?.parse().ok()?))
    }

    async fn look_after(&mut self, connection: &mut Connection) -> Result<(), SessionError> {
        if self.session.unacknowledged() == 0 {
            self.heard = clock::instant();
            return Ok(());
        }
        if clock::instant() - self.heard > SILENCE {
            let silent = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(ClientError::Io(silent).into());
        }
        self.session.request(connection).await
    }

    /// Records that the connection is lost. If a kill was the cause, only the resume is reported.
    fn lose(&mut self, reason: &SessionError) {
        // A connection that fell silent was lost when it did so.
        let silent = matches!(reason, SessionError::Connection(ClientError::Io(error))
            if error.kind() == std::io::ErrorKind::TimedOut);
        self.lost = match silent {
            true => self.heard,
            false => clock::instant(),
        };
        self.killed = self.talk.tally().was_killed(self.node, self.connected);
        if self.killed.is_none() {
            self.tell(&format!("lost its connection: {reason}"));
        }
    }

    /// Connects until the session is resumed; `None` if it is time to leave.
    async fn go_on(&mut self) -> Result<Option<Connection>, SessionError> {
        let mut backoff = Backoff::default();
        loop {
            if *self.phase.borrow() == Phase::Leave {
                return Ok(None);
            }
            match timeout(ATTEMPT, self.attempt()).await {
                Ok(Ok(connection)) => return Ok(Some(connection)),
                Ok(Err(error)) => self.complain(&error.to_string()),
                Err(_) => self.complain("no answer in time"),
            }
            sleep(backoff.next(clock::random() as u32)).await;
        }
    }

    /// Reports a failure, unless it comes right after a kill, where failures are expected.
    fn complain(&self, reason: &str) {
        if clock::instant() - self.lost > Duration::from_secs(1) {
            self.tell(&format!("cannot go on yet: {reason}"));
        }
    }

    async fn attempt(&mut self) -> Result<Connection, SessionError> {
        let mut connection = connect(&self.talk, self.me).await?;
        let (resumption, acknowledged) = self.session.resume(&mut connection).await?;
        let now = clock::instant();
        self.talk.tally().acknowledge(acknowledged);
        self.node = self.talk.balancer.node_of(connection.local_addr());
        self.connected = now;
        match resumption {
            Resumption::Resumed => {
                let time = self.talk.tally().resume(self.killed, self.lost, now);
                self.tell(&format!("has resumed, after {time:.1} ms"));
                self.session.resend(&mut connection).await?;
            }
            Resumption::Failed => {
                self.talk.tally().fail();
                self.tell("could not resume, and starts a new session");
                self.session.replace(&mut connection).await?;
            }
        }
        Ok(connection)
    }

    fn tell(&self, what: &str) {
        let name = &self.talk.accounts[self.me].username;
        let node = self
            .node
            .map_or(String::new(), |node| format!(" on node {}", node + 1));
        self.talk.progress.event(&format!("{name}{node} {what}"));
    }
}

async fn connect(talk: &Talk, me: usize) -> Result<Connection, ClientError> {
    let account = &talk.accounts[me];
    let address = talk.balancer.address();
    let (domain, tls) = (&account.domain, &talk.tls);
    let mut connection = match address.ip().is_loopback() {
        true => Connection::open_tls_from(home(me), address, domain, tls).await?,
        false => Connection::open_tls(address, domain, tls).await?,
    };
    connection.login(account).await?;
    Ok(connection)
}

/// Each client has its own loopback address, since limits count connections per address.
fn home(me: usize) -> Ipv4Addr {
    let [.., high, low] = me.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

fn bare(account: &Credentials) -> String {
    format!("{}@{}", account.username, account.domain)
}

fn presence(kind: &str, account: &Credentials) -> Element {
    Element::new("presence", ns::CLIENT)
        .with_attr("to", bare(account))
        .with_attr("type", kind)
}

fn message(account: &Credentials, from: usize, to: usize, number: u64) -> Element {
    let body = format!("This is message {number}");
    Element::new("message", ns::CLIENT)
        .with_attr("to", bare(account))
        .with_attr("type", "chat")
        .with_attr("id", format!("{from}-{to}-{number}"))
        .with_child(Element::new("body", ns::CLIENT).with_text(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_neighbour_is_one_back() {
        for clients in 2..7 {
            for me in 0..clients {
                for neighbour in Talk::neighbours(me, clients) {
                    assert_ne!(neighbour, me);
                    assert!(
                        Talk::neighbours(neighbour, clients).contains(&me),
                        "{me} of {clients}"
                    );
                }
            }
        }
        assert_eq!(Talk::neighbours(0, 2), [1]);
    }
}
