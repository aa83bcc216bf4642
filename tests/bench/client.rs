//! A client of the benches that need more of one than that it chats.

use std::time::{Duration, Instant};

use node::demo::client::Connection;
use node::demo::session::{Session, Taken};
use proto::{Element, ns};
use tokio::time::timeout;

use crate::Failure;

/// How long a subscription or an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session and its connection.
pub struct Client {
    /// The connection.
    pub connection: Connection,
    /// What is remembered of the session.
    pub session: Session,
}

impl Client {
    /// A client that is online.
    pub fn new((connection, session): (Connection, Session)) -> Self {
        Self {
            connection,
            session,
        }
    }

    /// Sends a stanza, and keeps it until it is acknowledged.
    pub async fn send(&mut self, stanza: &Element) -> Result<(), Failure> {
        Ok(self.session.send(&mut self.connection, stanza).await?)
    }

    /// The next stanza. May be cancelled until one is there.
    pub async fn next(&mut self) -> Result<Element, Failure> {
        loop {
            let element = self.connection.next().await?;
            if let Taken::Stanza(stanza) = self.session.take(&mut self.connection, element).await? {
                return Ok(stanza);
            }
        }
    }

    /// Waits for a presence of this type from this account.
    pub async fn presence(&mut self, kind: Option<&str>, from: &str) -> Result<(), Failure> {
        let come = async {
            loop {
                let stanza = self.next().await?;
                let sender = stanza.attr("from").unwrap_or_default();
                let sender = sender.split('/').next().unwrap_or_default();
                if stanza.is("presence", ns::CLIENT)
                    && stanza.attr("type") == kind
                    && sender == from
                {
                    return Ok(());
                }
            }
        };
        let late = |_| format!("no presence of type {kind:?} comes from {from}");
        timeout(PATIENCE, come).await.map_err(late)?
    }

    /// The bare address.
    pub fn account(&self) -> String {
        self.session.jid().bare().to_string()
    }

    /// Waits for a presence from this account, for as long as that takes.
    pub async fn presence_soon(&mut self, from: &str) -> Result<(), Failure> {
        loop {
            let stanza = self.next().await?;
            let sender = stanza.attr("from").unwrap_or_default();
            if stanza.is("presence", ns::CLIENT) && sender.starts_with(from) {
                return Ok(());
            }
        }
    }

    /// Asks, and waits for the answer; how long that took. A refusal is an error.
    pub async fn ask(
        &mut self,
        kind: &str,
        to: &str,
        payload: Element,
    ) -> Result<(Element, Duration), Failure> {
        let id = format!("{:016x}", rand::random::<u64>());
        let iq = Element::new("iq", ns::CLIENT)
            .with_attr("type", kind)
            .with_attr("to", to)
            .with_attr("id", &id)
            .with_child(payload);
        let start = Instant::now();
        self.send(&iq).await?;
        self.session.request(&mut self.connection).await?;
        let come = async {
            loop {
                let stanza = self.next().await?;
                if stanza.is("iq", ns::CLIENT) && stanza.attr("id") == Some(&id) {
                    return Ok::<_, Failure>(stanza);
                }
            }
        };
        let answer = timeout(PATIENCE, come).await;
        let answer = answer.map_err(|_| "no answer comes")??;
        match answer.attr("type") {
            Some("result") => Ok((answer, start.elapsed())),
            _ => Err(format!("refused: {}", answer.to_xml(ns::CLIENT)).into()),
        }
    }

    /// Waits for a message.
    pub async fn message(&mut self) -> Result<(), Failure> {
        let come = async {
            while !self.next().await?.is("message", ns::CLIENT) {}
            Ok(())
        };
        let late = |_| "no message comes";
        timeout(PATIENCE, come).await.map_err(late)?
    }

    /// Closes the stream.
    pub async fn close(self) -> Result<(), Failure> {
        Ok(self.connection.close().await?)
    }
}
