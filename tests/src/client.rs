//! A client with stream management: it counts what it gets, keeps what it sent until that is
//! acknowledged, and goes on with its session on another connection.
//!
//! It counts by itself and not with the server's code, so that both cannot be wrong in the same way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::{Element, Jid, ns};
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::PATIENCE;
use crate::wire::{DOMAIN, End, Wire};

/// The password of every account.
pub const PASSWORD: &str = "correct horse";

/// Lost connections that nobody intended and that a test puts up with.
const RETURNS: usize = 5;
/// A client waits so long between attempts to come back.
const RETRY: Duration = Duration::from_millis(10);
/// Asks for an acknowledgement.
const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";

/// A session and the connection that it has at the moment.
pub struct Client {
    /// The connection. A lost one stays here until the session is resumed.
    pub wire: Wire,
    /// The account's localpart.
    pub user: String,
    /// The full address.
    pub jid: Jid,
    /// The SM-ID.
    pub id: String,
    /// The number of the last stanza that came in.
    pub handled: u32,
    /// The number of the last stanza that the server acknowledged.
    pub acked: u32,
    /// How long the server promised to keep the session, in seconds.
    pub max: u64,
    tls: Arc<ClientConfig>,
    unacked: VecDeque<String>,
    presences: Vec<Element>,
    messages: VecDeque<Element>,
    returns: usize,
}

impl Client {
    /// Logs in, binds, asks for a session that can be resumed, and becomes available. Counters start at
    /// `first`, which is 0 everywhere but in tests of their wrap-around.
    pub async fn start(
        address: SocketAddr,
        tls: &Arc<ClientConfig>,
        user: &str,
        resource: &str,
        first: u32,
    ) -> Result<Self, End> {
        let mut client = Self::connected(address, tls, user, resource, first).await?;
        client.become_available().await?;
        Ok(client)
    }

    /// The same without becoming available.
    pub async fn connected(
        address: SocketAddr,
        tls: &Arc<ClientConfig>,
        user: &str,
        resource: &str,
        first: u32,
    ) -> Result<Self, End> {
        let mut wire = Wire::direct(address, tls).await?;
        let features = wire.login(user, PASSWORD).await?;
        assert!(features.child("sm", ns::SM).is_some(), "SM-2: {features:?}");
        let jid = wire.bind(resource).await?;
        wire.send(&format!("<enable xmlns='{}' resume='true'/>", ns::SM))
            .await?;
        let enabled = wire.next().await?;
        assert!(
            enabled.is("enabled", ns::SM) && enabled.attr("resume") == Some("true"),
            "{enabled:?}"
        );
        Ok(Self {
            wire,
            user: user.to_owned(),
            jid,
            id: enabled.attr("id").expect("SM-7: an id").to_owned(),
            handled: first,
            acked: first,
            max: enabled
                .attr("max")
                .and_then(|max| max.parse().ok())
                .expect("SM-8: a max"),
            tls: tls.clone(),
            unacked: VecDeque::new(),
            presences: Vec::new(),
            messages: VecDeque::new(),
            returns: 0,
        })
    }

    /// Sends initial presence.
    pub async fn become_available(&mut self) -> Result<(), End> {
        self.send("<presence/>").await;
        self.own_presence().await?;
        self.settle().await
    }

    /// Waits for our own presence, which comes back to us too (RFC 6121 §4.2.2).
    async fn own_presence(&mut self) -> Result<(), End> {
        loop {
            let presence = self.stanza().await?;
            if presence.attr("from") == Some(self.jid.as_str()) {
                assert_eq!(presence.local(), "presence", "{presence:?}");
                return Ok(());
            }
            self.keep(presence).await;
        }
    }

    /// Sends a stanza and keeps it. That the connection is lost does not matter yet.
    pub async fn send(&mut self, stanza: &str) {
        self.unacked.push_back(stanza.to_owned());
        drop(self.wire.send(stanza).await);
    }

    /// Sends stanzas in one go, so that the server finds all of them at once.
    pub async fn send_together(&mut self, stanzas: Vec<String>) {
        drop(self.wire.send(&stanzas.concat()).await);
        self.unacked.extend(stanzas);
    }

    /// Sends a chat message.
    pub async fn say(&mut self, to: &str, body: &str) {
        let id = format!("{}-{body}", self.user);
        self.send(&format!(
            "<message to='{to}' type='chat' id='{id}'><body>{body}</body></message>"
        ))
        .await;
    }

    /// The next stanza. Requests for acknowledgements are answered, acknowledgements are taken. A lost
    /// connection is replaced, as every client does it: a node that got no processor for half a second is
    /// taken for dead by the others.
    pub async fn stanza(&mut self) -> Result<Element, End> {
        loop {
            if let Some(stanza) = self.next().await? {
                return Ok(stanza);
            }
        }
    }

    /// What comes next, if it is a stanza.
    async fn next(&mut self) -> Result<Option<Element>, End> {
        let end = match self.wire.next().await {
            Ok(element) => match self.take(element).await {
                Ok(stanza) => return Ok(stanza),
                Err(end) => end,
            },
            Err(end) => end,
        };
        if !end.is_passing() || self.returns >= RETURNS {
            return Err(end);
        }
        self.returns += 1;
        self.resume(self.wire.address).await;
        self.wire.send(REQUEST).await?;
        Ok(None)
    }

    /// Digests what came; a stanza is returned, counted.
    async fn take(&mut self, element: Element) -> Result<Option<Element>, End> {
        match (element.local(), element.ns()) {
            ("message" | "presence" | "iq", ns::CLIENT) => {
                self.handled = self.handled.wrapping_add(1);
                return Ok(Some(element));
            }
            ("r", ns::SM) => self.acknowledge().await?,
            ("a", ns::SM) => self.acknowledged(&element),
            _ => panic!("what is this? {element:?}"),
        }
        Ok(None)
    }

    /// Says how much has come.
    pub async fn acknowledge(&mut self) -> Result<(), End> {
        let ack = format!("<a xmlns='{}' h='{}'/>", ns::SM, self.handled);
        Ok(self.wire.send(&ack).await?)
    }

    /// Takes an `h`, which must lie between the last one and what was sent.
    fn acknowledged(&mut self, element: &Element) {
        let h: u32 = element
            .attr("h")
            .and_then(|h| h.parse().ok())
            .expect("an h");
        let covered = h.wrapping_sub(self.acked) as usize;
        let kept = self.unacked.len();
        assert!(
            covered <= kept,
            "I-6: h = {h} behind {} with {kept} sent since",
            self.acked
        );
        self.unacked.drain(..covered);
        self.acked = h;
    }

    /// How many stanzas are not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.unacked.len()
    }

    /// The body of the next message. Presence is kept for [`Self::presences`], pings are answered.
    pub async fn message(&mut self) -> Result<String, End> {
        Ok(body(&self.message_element().await?))
    }

    /// The next message.
    pub async fn message_element(&mut self) -> Result<Element, End> {
        while self.messages.is_empty() {
            let stanza = self.stanza().await?;
            self.keep(stanza).await;
        }
        Ok(self.messages.pop_front().expect("is not empty"))
    }

    /// Those of the messages that have come which are wanted, taken out.
    pub fn take_messages(&mut self, wanted: impl Fn(&Element) -> bool) -> Vec<Element> {
        let all = std::mem::take(&mut self.messages).into_iter();
        let (taken, rest): (Vec<_>, Vec<_>) = all.partition(|message| wanted(message));
        self.messages = rest.into();
        taken
    }

    /// Says how much has come and closes the stream.
    pub async fn close(mut self) -> Result<(), End> {
        self.acknowledge().await?;
        self.wire.close().await;
        Ok(())
    }

    /// Puts a stanza where it belongs.
    pub async fn keep(&mut self, stanza: Element) {
        match stanza.local() {
            "message" => self.messages.push_back(stanza),
            "presence" => self.presences.push(stanza),
            _ => self.answer(&stanza).await,
        }
    }

    /// So many messages must be the next ones, with these bodies.
    pub async fn expect(&mut self, bodies: impl IntoIterator<Item = String>) {
        for expected in bodies {
            match self.message().await {
                Ok(body) => assert_eq!(body, expected, "{}", self.jid),
                Err(end) => panic!("{} waits for {expected:?}: {end}", self.jid),
            }
        }
    }

    /// The presence that came from others than ourselves, taken out.
    pub fn presences(&mut self) -> Vec<Element> {
        let own = self.jid.to_string();
        self.presences
            .drain(..)
            .filter(|presence| presence.attr("from") != Some(&own))
            .collect()
    }

    /// Waits for a presence from others.
    pub async fn presence(&mut self) -> Result<Element, End> {
        loop {
            let own = self.jid.as_str();
            let others = |presence: &Element| presence.attr("from") != Some(own);
            if let Some(first) = self.presences.iter().position(others) {
                return Ok(self.presences.remove(first));
            }
            let stanza = self.stanza().await?;
            self.keep(stanza).await;
        }
    }

    async fn answer(&mut self, iq: &Element) {
        if let (Some("get" | "set"), Some(id)) = (iq.attr("type"), iq.attr("id")) {
            let to = iq
                .attr("from")
                .map(|from| format!(" to='{from}'"))
                .unwrap_or_default();
            self.send(&format!("<iq type='result' id='{id}'{to}/>"))
                .await;
        }
    }

    /// Asks for an acknowledgement and waits until everything is acknowledged.
    pub async fn settle(&mut self) -> Result<(), End> {
        // If the connection is lost, that shows when an answer is awaited.
        drop(self.wire.send(REQUEST).await);
        while self.unacknowledged() > 0 {
            let Some(stanza) = self.next().await? else {
                continue;
            };
            let unacknowledged = self.unacknowledged();
            self.keep(stanza).await;
            if self.unacknowledged() > unacknowledged {
                drop(self.wire.send(REQUEST).await);
            }
        }
        Ok(())
    }

    /// Asks for something and waits for the answer.
    pub async fn request(&mut self, iq: &str, id: &str) -> Result<Element, End> {
        self.send(iq).await;
        loop {
            let stanza = self.stanza().await?;
            if stanza.local() == "iq" && stanza.attr("id") == Some(id) {
                return Ok(stanza);
            }
            self.keep(stanza).await;
        }
    }

    /// Has the server answer a ping, and everything acknowledged. Then no message may have come that
    /// nobody waited for.
    pub async fn check_nothing_more(&mut self) {
        let ping = format!(
            "<iq type='get' id='more' to='{DOMAIN}'><ping xmlns='{}'/></iq>",
            ns::PING
        );
        let pong = self.request(&ping, "more").await.expect("a session");
        assert_eq!(pong.attr("type"), Some("result"), "{pong:?}");
        self.settle().await.expect("a session");
        assert!(
            self.messages.is_empty(),
            "{}: {:?}",
            self.jid,
            self.messages
        );
    }

    /// Goes on with the session at this node; what the server has not handled is sent again. The node
    /// may not be able to decide yet: then it says so, never that there is no such session (SM-60).
    pub async fn resume(&mut self, address: SocketAddr) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_resume(address).await {
                Ok(answer) if answer.is("resumed", ns::SM) => return,
                Ok(answer) => panic!("I-10: {} is refused: {answer:?}", self.jid),
                Err(end) if Instant::now() > deadline => {
                    panic!("{} is not resumed: {end}", self.jid)
                }
                Err(end) if end.is_passing() => tokio::time::sleep(RETRY).await,
                Err(end) => panic!("{} is not resumed: {end}", self.jid),
            }
        }
    }

    /// One attempt to resume; the server's answer. The old connection is let go of, not closed.
    pub async fn try_resume(&mut self, address: SocketAddr) -> Result<Element, End> {
        let (wire, answer) = self.take_over(address).await?;
        std::mem::replace(&mut self.wire, wire).cut();
        if answer.is("resumed", ns::SM) {
            self.resumed(&answer).await?;
        }
        Ok(answer)
    }

    /// Asks for the session on a connection of its own, and leaves the old one as it is.
    pub async fn take_over(&self, address: SocketAddr) -> Result<(Wire, Element), End> {
        let mut wire = Wire::direct(address, &self.tls).await?;
        wire.login(&self.user, PASSWORD).await?;
        let (id, h) = (&self.id, self.handled);
        wire.send(&format!(
            "<resume xmlns='{}' previd='{id}' h='{h}'/>",
            ns::SM
        ))
        .await?;
        let answer = wire.next().await?;
        Ok((wire, answer))
    }

    /// Takes `<resumed/>` on [`Self::wire`], and sends again what it does not cover (SM-54).
    pub async fn resumed(&mut self, answer: &Element) -> Result<(), End> {
        assert!(answer.is("resumed", ns::SM), "{answer:?}");
        assert_eq!(answer.attr("previd"), Some(&*self.id), "SM-46");
        self.acknowledged(answer);
        for stanza in self.unacked.clone() {
            self.wire.send(&stanza).await?;
        }
        Ok(())
    }
}

/// The text that a message is for.
pub fn body(message: &Element) -> String {
    message
        .child("body", ns::CLIENT)
        .map(Element::text)
        .unwrap_or_default()
}

/// The bodies of numbered messages.
pub fn numbered(prefix: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{prefix} {number}")).collect()
}
