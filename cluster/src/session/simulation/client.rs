//! Clients in the simulation: honest, with stream management, and forgetful only when refused.

use std::collections::{BTreeSet, VecDeque};

use proto::{BareJid, Jid};

use super::presence::{Seen, Shown, is_subscriber};
use crate::id::{ConnId, SmId};

/// From a client to its node.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Bind(Jid),
    Enable,
    Resume {
        smid: SmId,
        h: u32,
    },
    /// The session's number.
    Available(u32),
    /// Directed presence, and the session's number.
    Direct(Jid, u32),
    /// Copies of what goes to the account's other session are wanted.
    Carbons,
    Send {
        uid: u64,
        to: Jid,
    },
    Ask {
        uid: u64,
        to: Jid,
    },
    Answer {
        uid: u64,
        to: Jid,
    },
    /// The answer to a ping.
    Pong {
        id: String,
    },
    /// How far has the server counted?
    Request,
    Ack(u32),
}

impl Up {
    /// It is a stanza, which is counted.
    pub(super) fn is_stanza(&self) -> bool {
        !matches!(
            self,
            Self::Bind(_) | Self::Enable | Self::Resume { .. } | Self::Request | Self::Ack(_)
        )
    }
}

/// From a node to its client.
#[derive(Clone, Debug)]
pub(super) enum Down {
    Bound,
    Enabled {
        smid: SmId,
    },
    Resumed {
        h: u32,
    },
    Failed {
        h: Option<u32>,
    },
    /// `late`: it waited somewhere before it came here.
    Message {
        uid: u64,
        late: bool,
    },
    /// A copy of what another session of the account got.
    Copy {
        uid: u64,
    },
    Question {
        uid: u64,
        from: Jid,
    },
    Answer {
        uid: u64,
    },
    Presence {
        from: Jid,
        shown: Shown,
    },
    /// A sign of life is wanted.
    Ping {
        id: String,
    },
    Other,
    /// How far has the client counted?
    Request,
    Ack(u32),
}

/// Where both counters start in the simulation, so that every run wraps around (SM-21).
pub(super) const SEED: u32 = u32::MAX - 5;

/// What a client knows of its stream management.
#[derive(Clone, Debug)]
pub(super) struct Management {
    pub(super) smid: SmId,
    /// Stanzas handled, ours to report.
    pub(super) h: u32,
    /// The server's last count.
    pub(super) acked: u32,
    /// Sent and not acknowledged.
    pub(super) unacked: VecDeque<Up>,
}

/// One client.
pub(super) struct Client {
    pub(super) account: BareJid,
    /// Its full JID, in every session.
    pub(super) jid: Jid,
    /// It uses stream management.
    managed: bool,
    pub(super) conn: Option<ConnId>,
    pub(super) ready: bool,
    pub(super) sm: Option<Management>,
    /// Questions that came before stream management was on; answers would count or not.
    early: Vec<Up>,
    /// Counts this client's sessions: a uid may come again in another one.
    pub(super) session: u32,
    /// It wants copies of what the account's other session gets.
    carbons: bool,
    /// (session, uid), as received.
    pub(super) received: Vec<(u32, u64)>,
    /// Uids that came late.
    pub(super) late: Vec<(u32, u64)>,
    /// (session, uid) of copies, as received.
    pub(super) copies: Vec<(u32, u64)>,
    /// Copies that the server is known to have had acknowledged.
    known: BTreeSet<u64>,
    /// Presence of others, as received.
    pub(super) seen: Vec<Seen>,
    /// (session, uid, to), as first sent.
    pub(super) sent: Vec<(u32, u64, BareJid)>,
    /// Uids that the server has acknowledged.
    pub(super) acknowledged: Vec<u64>,
    /// (session, uid) of questions.
    pub(super) asked: Vec<(u32, u64)>,
    /// (session, uid) of their answers, by whomever.
    pub(super) answers: Vec<(u32, u64)>,
    pub(super) resumes: u32,
    /// When its last connection was cut.
    pub(super) cut_at: u64,
}

impl Client {
    pub(super) fn new(account: BareJid, resource: &str, managed: bool) -> Self {
        Self {
            jid: account.with_resource(resource).expect("valid"),
            account,
            managed,
            conn: None,
            ready: false,
            sm: None,
            early: Vec::new(),
            session: 0,
            carbons: false,
            received: Vec::new(),
            late: Vec::new(),
            copies: Vec::new(),
            known: BTreeSet::new(),
            seen: Vec::new(),
            sent: Vec::new(),
            acknowledged: Vec::new(),
            asked: Vec::new(),
            answers: Vec::new(),
            resumes: 0,
            cut_at: 0,
        }
    }

    /// The same, of a client that wants carbons.
    pub(super) fn with_carbons(self) -> Self {
        Self {
            carbons: true,
            ..self
        }
    }

    /// What it says first on a new connection.
    pub(super) fn greet(&mut self, conn: ConnId) -> Vec<Up> {
        self.conn = Some(conn);
        self.ready = false;
        match &self.sm {
            Some(sm) => vec![Up::Resume {
                smid: sm.smid.clone(),
                h: sm.h,
            }],
            None => vec![self.bind()],
        }
    }

    fn bind(&mut self) -> Up {
        self.session += 1;
        self.early.clear();
        Up::Bind(self.jid.clone())
    }

    pub(super) fn send(&mut self, uid: u64, to: Jid) -> Up {
        self.sent.push((self.session, uid, to.bare()));
        self.say(Up::Send { uid, to })
    }

    /// Asks another client, if it will know whether the server has the question.
    pub(super) fn ask(&mut self, uid: u64, to: Jid) -> Option<Up> {
        self.sm.as_ref()?;
        self.asked.push((self.session, uid));
        Some(self.say(Up::Ask { uid, to }))
    }

    /// Shows itself to somebody who does not see it otherwise.
    pub(super) fn direct(&mut self, to: Jid) -> Up {
        self.say(Up::Direct(to, self.session))
    }

    /// It sees the presence of this account.
    pub(super) fn watches(&self, account: &BareJid) -> bool {
        self.account == *account || is_subscriber(&self.account, account)
    }

    fn say(&mut self, up: Up) -> Up {
        if let Some(sm) = &mut self.sm {
            sm.unacked.push_back(up.clone());
        }
        up
    }

    /// What it acknowledges, if it counts.
    pub(super) fn count_read(&self) -> Option<u32> {
        self.sm.as_ref().map(|sm| sm.h)
    }

    /// Handles what the server says; the error names a broken promise.
    pub(super) fn receive(&mut self, down: Down) -> Result<Vec<Up>, String> {
        match down {
            Down::Bound if self.managed => return Ok(vec![Up::Enable]),
            Down::Bound => {
                self.ready = true;
                return Ok(vec![Up::Available(self.session)]);
            }
            Down::Enabled { smid } => return Ok(self.enabled(smid)),
            Down::Resumed { h } => return self.resumed(h),
            Down::Failed { h } => {
                if let Some(h) = h {
                    self.acknowledged_up_to(h)?;
                }
                self.sm = None;
                return Ok(vec![self.bind()]);
            }
            Down::Message { uid, late } => self.got(uid, late)?,
            Down::Copy { uid } => {
                self.copies.push((self.session, uid));
                self.count();
            }
            Down::Question { uid, from } => {
                self.count();
                let answer = Up::Answer { uid, to: from };
                match (uid.is_multiple_of(4), self.ready) {
                    // Some questions are never answered.
                    (true, _) => {}
                    (false, true) => return Ok(vec![self.say(answer)]),
                    (false, false) => self.early.push(answer),
                }
            }
            Down::Answer { uid } => {
                self.answers.push((self.session, uid));
                self.count();
            }
            Down::Presence { from, shown } => {
                self.see(from, shown);
            }
            // As with questions, before stream management is on the answer would count or not.
            Down::Ping { id } if self.managed && self.sm.is_none() => {
                self.early.push(Up::Pong { id });
            }
            Down::Ping { id } => return Ok(vec![self.say(Up::Pong { id })]),
            Down::Other => self.count(),
            Down::Request => return Ok(self.count_read().map(Up::Ack).into_iter().collect()),
            Down::Ack(h) => self.acknowledged_up_to(h)?,
        }
        Ok(Vec::new())
    }

    /// What it says first once it counts, and what waited for that.
    fn enabled(&mut self, smid: SmId) -> Vec<Up> {
        self.sm = Some(Management {
            smid,
            h: SEED,
            acked: SEED,
            unacked: VecDeque::new(),
        });
        self.ready = true;
        let early = std::mem::take(&mut self.early).into_iter();
        let mut ups = vec![Up::Available(self.session)];
        ups.extend(self.carbons.then_some(Up::Carbons));
        ups.extend(early);
        ups.into_iter().map(|up| self.say(up)).collect()
    }

    /// Sends again what the server has not got.
    fn resumed(&mut self, h: u32) -> Result<Vec<Up>, String> {
        self.resumes += 1;
        // The count that it resumed with covers this session's copies, and none of one before.
        let session = self.session;
        let counted = self.copies.iter().filter(|(of, _)| *of == session);
        self.known.extend(counted.map(|(_, uid)| *uid));
        self.acknowledged_up_to(h)?;
        self.ready = true;
        let sm = self.sm.as_ref().ok_or("resumed without having asked")?;
        Ok(sm.unacked.iter().cloned().collect())
    }

    /// SM-63: who has the copy has the message.
    fn got(&mut self, uid: u64, late: bool) -> Result<(), String> {
        if self.known.contains(&uid) {
            return Err(format!("{} got {uid} and had its copy (IM-14)", self.jid));
        }
        self.received.push((self.session, uid));
        self.late.extend(late.then_some((self.session, uid)));
        self.count();
        Ok(())
    }

    fn see(&mut self, from: Jid, shown: Shown) {
        let session = self.session;
        self.seen.push(Seen {
            session,
            from,
            shown,
        });
        self.count();
    }

    fn count(&mut self) {
        if let Some(sm) = &mut self.sm {
            sm.h = sm.h.wrapping_add(1);
        }
    }

    /// I-6: the count only grows and never passes what was sent.
    fn acknowledged_up_to(&mut self, h: u32) -> Result<(), String> {
        let Some(sm) = &mut self.sm else {
            return Ok(());
        };
        let new = h.wrapping_sub(sm.acked) as usize;
        if new > sm.unacked.len() {
            return Err(format!(
                "h went from {} to {h} with {} in flight (I-6)",
                sm.acked,
                sm.unacked.len()
            ));
        }
        sm.acked = h;
        let uids = sm.unacked.drain(..new).filter_map(|up| match up {
            Up::Send { uid, .. } | Up::Ask { uid, .. } => Some(uid),
            _ => None,
        });
        self.acknowledged.extend(uids);
        Ok(())
    }
}
