//! Requests that were queued for a session: each gets exactly one answer (IM-16, SM-63).
//!
//! The client answers, or the session ends and the server does it in its stead. A client that never
//! answers costs bounded memory: the oldest of too many open requests is answered for it, and what the
//! client says to that one later goes nowhere.

use proto::Jid;
use proto::stanza::error::Condition;
use proto::stanza::{Header, IqType, Kind, Packet};
use serde::{Deserialize, Serialize};

use super::state::{Session, ShardState};
use super::*;

/// Requests to one session that are open.
const OPEN: usize = 256;
/// Those, and the ones that were answered in the client's stead while the session went on.
const KNOWN: usize = 2 * OPEN;

/// A request on its way to a client, or with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Question {
    from: Jid,
    id: Box<str>,
    kind: Ask,
    /// The server has answered.
    answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Ask {
    Get,
    Set,
}

impl Question {
    fn new(header: &Header) -> Option<Self> {
        let kind = match header.kind {
            Kind::Iq(IqType::Get) => Ask::Get,
            Kind::Iq(IqType::Set) => Ask::Set,
            _ => return None,
        };
        Some(Self {
            from: header.from.clone()?,
            id: header.id.as_deref().unwrap_or_default().into(),
            kind,
            answered: false,
        })
    }

    /// The request, without its payload, as it was addressed to `to`.
    fn packet(&self, to: &Jid) -> Packet {
        let kind = match self.kind {
            Ask::Get => IqType::Get,
            Ask::Set => IqType::Set,
        };
        Packet {
            header: Header {
                kind: Kind::Iq(kind),
                from: Some(self.from.clone()),
                to: Some(to.clone()),
                id: Some((*self.id).into()),
                lang: None,
            },
            payload: bytes::Bytes::new(),
        }
    }
}

impl Session {
    /// Requests that nobody has answered.
    pub(super) fn open_questions(&self) -> usize {
        self.questions.iter().filter(|q| !q.answered).count()
    }
}

impl ShardState {
    /// A request was queued for the session: its answer is owed from now on.
    pub(super) fn note_question(&mut self, jid: &Jid, header: &Header, out: &mut Vec<Output>) {
        let (Some(question), Some(session)) = (Question::new(header), self.session_mut(jid)) else {
            return;
        };
        session.questions.push_back(question);
        let mut given_up = None;
        if session.open_questions() > OPEN {
            let oldest = session.questions.iter_mut().find(|q| !q.answered);
            given_up = oldest.map(|question| {
                question.answered = true;
                question.packet(jid)
            });
        }
        while session.questions.len() > KNOWN {
            let answered = session.questions.iter().position(|q| q.answered);
            session.questions.remove(answered.unwrap_or_default());
        }
        if let Some(request) = given_up {
            self.bounce(&request, Condition::ServiceUnavailable, out);
        }
    }

    /// The client sends an IQ: whether it may pass. An answer settles its question; one to what was
    /// answered already does not pass.
    pub(super) fn note_answer(&mut self, jid: &Jid, header: &Header) -> bool {
        let (Kind::Iq(IqType::Result | IqType::Error), Some(to)) = (header.kind, &header.to) else {
            return true;
        };
        let id = header.id.as_deref().unwrap_or_default();
        let Some(session) = self.session_mut(jid) else {
            return true;
        };
        let place = session
            .questions
            .iter()
            .position(|q| q.from == *to && *q.id == *id);
        let question = place.and_then(|place| session.questions.remove(place));
        question.is_none_or(|question| !question.answered)
    }

    /// The session is over: whoever still waits for its answer gets one from the server.
    pub(super) fn answer_all(&mut self, jid: &Jid, session: &Session, out: &mut Vec<Output>) {
        for question in session.questions.iter().filter(|q| !q.answered) {
            self.bounce(&question.packet(jid), Condition::ServiceUnavailable, out);
        }
    }
}
