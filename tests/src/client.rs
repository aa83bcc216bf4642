//! A client with stream management: it counts what it gets, keeps what it sent until that is
//! acknowledged, and goes on with its session on another connection.
//!
//! It counts by itself and not with the server's code, so that both cannot be wrong in the same way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use proto::{Element, Jid, ns};
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::PATIENCE;
use crate::wire::{End, Wire};

/// The password of every account.
pub const PASSWORD: &str = "correct horse";

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
        let mut client = Self {
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
        };
        client.send("<presence/>").await;
        client.own_presence().await?;
        client.settle().await?;
        Ok(client)
    }

    /// Waits for our own presence, which comes back to us too (RFC 6121 §4.2.2).
    async fn own_presence(&mut self) -> Result<(), End> {
        loop {
            let presence = self.stanza().await?;
            assert_eq!(presence.local(), "presence", "{presence:?}");
            if presence.attr("from") == Some(self.jid.as_str()) {
                return Ok(());
            }
            self.presences.push(presence);
        }
    }

    /// Sends a stanza and keeps it. That the connection is lost does not matter yet.
    pub async fn send(&mut self, stanza: &str) {
        self.unacked.push_back(stanza.to_owned());
        drop(self.wire.send(stanza).await);
    }

    /// Sends a chat message.
    pub async fn say(&mut self, to: &str, body: &str) {
        let id = format!("{}-{body}", self.user);
        self.send(&format!(
            "<message to='{to}' type='chat' id='{id}'><body>{body}</body></message>"
        ))
        .await;
    }

    /// The next stanza. Requests for acknowledgements are answered, acknowledgements are taken.
    pub async fn stanza(&mut self) -> Result<Element, End> {
        loop {
            let element = self.wire.next().await?;
            if let Some(stanza) = self.take(element).await? {
                return Ok(stanza);
            }
        }
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
        loop {
            let stanza = self.stanza().await?;
            match stanza.local() {
                "message" => return Ok(stanza),
                "presence" => self.presences.push(stanza),
                _ => self.answer(&stanza).await,
            }
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
            if let Some(presence) = self.presences().into_iter().next() {
                return Ok(presence);
            }
            let stanza = self.stanza().await?;
            match stanza.local() {
                "presence" => self.presences.push(stanza),
                "message" => panic!("no message is due: {stanza:?}"),
                _ => self.answer(&stanza).await,
            }
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

    /// Asks for an acknowledgement and waits until everything is acknowledged. No message may come.
    pub async fn settle(&mut self) -> Result<(), End> {
        let request = format!("<r xmlns='{}'/>", ns::SM);
        self.wire.send(&request).await?;
        while self.unacknowledged() > 0 {
            let element = self.wire.next().await?;
            match self.take(element).await? {
                Some(stanza) if stanza.local() == "presence" => self.presences.push(stanza),
                Some(stanza) if stanza.local() == "iq" => {
                    self.answer(&stanza).await;
                    self.wire.send(&request).await?;
                }
                Some(stanza) => panic!("no message is due: {stanza:?}"),
                None => {}
            }
        }
        Ok(())
    }

    /// Asks for something and waits for the answer. No message may come.
    pub async fn request(&mut self, iq: &str, id: &str) -> Result<Element, End> {
        self.send(iq).await;
        loop {
            let stanza = self.stanza().await?;
            match stanza.local() {
                "iq" if stanza.attr("id") == Some(id) => return Ok(stanza),
                "iq" => self.answer(&stanza).await,
                "presence" => self.presences.push(stanza),
                _ => panic!("no message is due: {stanza:?}"),
            }
        }
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
                Err(End::Lost(_)) => tokio::task::yield_now().await,
                Err(end) if end.condition() == "internal-server-error" => {}
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
