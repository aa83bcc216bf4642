//! The client's side of a session: what it must remember to resume it (XEP-0198).
//!
//! A session outlives its connections. The counters and the queue of unacknowledged stanzas are those of `proto`; here
//! they are driven by the elements that are sent and received.

use std::time::Duration;

use proto::sm::{CountTooHigh, Inbound, Outbound, SmElement, elements};
use proto::{Element, Jid, ns};

use super::client::{ClientError, Connection};

/// How many stanzas may be unacknowledged.
const UNACKNOWLEDGED: usize = 1000;

/// What a client remembers of its session.
pub struct Session {
    jid: Jid,
    id: Option<String>,
    outbound: Outbound<String>,
    inbound: Inbound,
}

/// The result of an attempt to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// The session goes on.
    Resumed,
    /// There is no such session any more; the connection is still usable for a new one.
    Failed,
}

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection.
    #[error(transparent)]
    Connection(#[from] ClientError),
    /// The server acknowledges what was never sent (SM-28).
    #[error(transparent)]
    Count(#[from] CountTooHigh),
    /// Too much is unacknowledged.
    #[error("the server does not acknowledge what it is sent")]
    Full,
}

impl Session {
    /// Binds a resource, enables stream management and becomes available, on a connection that has
    /// logged in.
    pub async fn start(
        connection: &mut Connection,
        resource: Option<&str>,
    ) -> Result<Self, SessionError> {
        let jid = connection.bind(resource).await?;
        let mut session = Self {
            jid,
            id: None,
            outbound: Outbound::new(UNACKNOWLEDGED),
            inbound: Inbound::default(),
        };
        let enable = SmElement::Enable {
            resume: true,
            max: None,
        };
        connection.send(&enable.to_element()).await?;
        loop {
            let element = connection.next().await?;
            match SmElement::parse(&element) {
                Ok(SmElement::Enabled(enabled)) => {
                    session.id = enabled.id;
                    break;
                }
                Ok(SmElement::Failed(_)) => {
                    return Err(ClientError::NotOffered("resumption").into());
                }
                // A stanza that precedes <enabled/> is not counted (SM-17).
                _ => {}
            }
        }
        session
            .send(connection, &Element::new("presence", ns::CLIENT))
            .await?;
        Ok(session)
    }

    /// Our full address.
    pub fn jid(&self) -> &Jid {
        &self.jid
    }

    /// The SM-ID, if the session may be resumed.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// How many stanzas of the server we have handled.
    pub fn handled(&self) -> u32 {
        self.inbound.h()
    }

    /// How many stanzas of ours the server has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.outbound.unacked().len()
    }

    /// Sends a stanza and keeps it until it is acknowledged. On a connection that is lost meanwhile it
    /// is kept all the same, and sent when the session is resumed.
    pub async fn send(
        &mut self,
        connection: &mut Connection,
        stanza: &Element,
    ) -> Result<(), SessionError> {
        let text = stanza.to_xml(ns::CLIENT);
        self.outbound
            .push(text.clone())
            .map_err(|_| SessionError::Full)?;
        Ok(connection.send_text(&text).await?)
    }

    /// Asks for an acknowledgement.
    pub async fn request(&self, connection: &mut Connection) -> Result<(), SessionError> {
        Ok(connection.send(&SmElement::Request.to_element()).await?)
    }

    /// Handles a received element: a stanza is counted and returned, anything else is answered or processed.
    pub async fn take(
        &mut self,
        connection: &mut Connection,
        element: Element,
    ) -> Result<Taken, SessionError> {
        match SmElement::parse(&element) {
            Ok(SmElement::Request) => {
                let mut answer = Vec::new();
                elements::write_ack(self.handled(), &mut answer);
                connection
                    .send_text(&String::from_utf8_lossy(&answer))
                    .await?;
                Ok(Taken::Nothing)
            }
            Ok(SmElement::Ack(h)) => Ok(Taken::Acknowledged(self.acknowledge(h)?)),
            _ if element.ns() == ns::CLIENT => {
                self.inbound.count();
                Ok(Taken::Stanza(element))
            }
            _ => Ok(Taken::Nothing),
        }
    }

    /// Resumes on a connection that has logged in; [`Session::resend`] is what comes next. The second
    /// value says how many messages turned out to be acknowledged.
    pub async fn resume(
        &mut self,
        connection: &mut Connection,
    ) -> Result<(Resumption, usize), SessionError> {
        let Some(previd) = self.id.clone() else {
            return Ok((Resumption::Failed, 0));
        };
        let h = self.handled();
        let resume = SmElement::Resume { previd, h };
        connection.send(&resume.to_element()).await?;
        let answer = connection.next().await?;
        match SmElement::parse(&answer) {
            Ok(SmElement::Resumed { h, .. }) => Ok((Resumption::Resumed, self.acknowledge(h)?)),
            Ok(SmElement::Failed(failed)) => {
                let acknowledged = failed.h.map_or(Ok(0), |h| self.acknowledge(h))?;
                Ok((Resumption::Failed, acknowledged))
            }
            _ => Err(ClientError::Unexpected(answer.local().to_owned()).into()),
        }
    }

    /// Sends again what the server has not handled (SM-52).
    pub async fn resend(&self, connection: &mut Connection) -> Result<(), SessionError> {
        let rest: String = self.outbound.unacked().map(String::as_str).collect();
        Ok(connection.send_text(&rest).await?)
    }

    /// A new session in place of one that could not be resumed; what that one had not got acknowledged
    /// is sent in the new one.
    pub async fn replace(&mut self, connection: &mut Connection) -> Result<(), SessionError> {
        let rest: Vec<String> = self.messages().cloned().collect();
        *self = Self::start(connection, None).await?;
        // Kept before any is sent: the connection may fail between two of them.
        for text in &rest {
            self.outbound
                .push(text.clone())
                .map_err(|_| SessionError::Full)?;
        }
        Ok(connection.send_text(&rest.concat()).await?)
    }

    /// Messages that are not acknowledged.
    fn messages(&self) -> impl Iterator<Item = &String> {
        self.outbound
            .unacked()
            .filter(|text| text.starts_with("<message"))
    }

    /// How many messages `h` covers that were not covered before.
    fn acknowledge(&mut self, h: u32) -> Result<usize, CountTooHigh> {
        let before = self.messages().count();
        self.outbound.acknowledge(h)?;
        Ok(before - self.messages().count())
    }
}

/// What an element was.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// A stanza, counted.
    Stanza(Element),
    /// So many of our messages are acknowledged.
    Acknowledged(usize),
    /// Anything else, which was dealt with.
    Nothing,
}

/// The pauses between attempts to connect: 5 ms at first, 50 ms at most, and random, so that clients do not act in
/// step.
#[derive(Debug, Default)]
pub struct Backoff(u32);

impl Backoff {
    /// The next pause; `random` changes it by up to a half.
    pub fn next(&mut self, random: u32) -> Duration {
        let millis = 5u64.saturating_mul(1 << self.0.min(4)).min(50);
        self.0 += 1;
        Duration::from_micros(millis * 1000 - u64::from(random % 500) * millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_fifty_milliseconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..6).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 50, 50]);
        assert!(Backoff::default().next(499) > Duration::from_millis(2));
    }
}
