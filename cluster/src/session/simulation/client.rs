//! Clients in the simulation: honest, with stream management, and forgetful only when refused.

use std::collections::VecDeque;

use proto::{BareJid, Jid};

use crate::id::{ConnId, SmId};

/// From a client to its edge.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Bind(Jid),
    Enable,
    Resume { smid: SmId, h: u32 },
    Available,
    Send { uid: u64, to: BareJid },
    Ack(u32),
}

/// From an edge to its client.
#[derive(Clone, Debug)]
pub(super) enum Down {
    Bound,
    Enabled { smid: SmId },
    Resumed { h: u32 },
    Failed { h: Option<u32> },
    Message { uid: u64 },
    Other,
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
    /// Sent and not acknowledged; none for what is not a message.
    pub(super) unacked: VecDeque<Option<(u64, BareJid)>>,
}

/// One client.
pub(super) struct Client {
    pub(super) account: BareJid,
    pub(super) conn: Option<ConnId>,
    pub(super) ready: bool,
    pub(super) sm: Option<Management>,
    /// Counts this client's sessions: a uid may come again in another one.
    pub(super) session: u32,
    /// (session, uid), as received.
    pub(super) received: Vec<(u32, u64)>,
    /// (session, uid, to), as first sent.
    pub(super) sent: Vec<(u32, u64, BareJid)>,
    /// Uids that the server has acknowledged.
    pub(super) acknowledged: Vec<u64>,
    pub(super) resumes: u32,
    /// When its last connection was cut.
    pub(super) cut_at: u64,
}

impl Client {
    pub(super) fn new(account: BareJid) -> Self {
        Self {
            account,
            conn: None,
            ready: false,
            sm: None,
            session: 0,
            received: Vec::new(),
            sent: Vec::new(),
            acknowledged: Vec::new(),
            resumes: 0,
            cut_at: 0,
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
        Up::Bind(self.account.with_resource("sim").expect("valid"))
    }

    pub(super) fn send(&mut self, uid: u64, to: BareJid) -> Up {
        self.sent.push((self.session, uid, to.clone()));
        if let Some(sm) = &mut self.sm {
            sm.unacked.push_back(Some((uid, to.clone())));
        }
        Up::Send { uid, to }
    }

    /// Handles what the server says; the error names a broken promise.
    pub(super) fn receive(&mut self, down: Down) -> Result<Vec<Up>, String> {
        match down {
            Down::Bound => return Ok(vec![Up::Enable]),
            Down::Enabled { smid } => {
                self.sm = Some(Management {
                    smid,
                    h: SEED,
                    acked: SEED,
                    unacked: VecDeque::from([None]),
                });
                self.ready = true;
                return Ok(vec![Up::Available]);
            }
            Down::Resumed { h } => {
                self.resumes += 1;
                self.acknowledged_up_to(h)?;
                self.ready = true;
                let sm = self.sm.as_ref().ok_or("resumed without having asked")?;
                let again = sm.unacked.iter().map(|sent| match sent {
                    Some((uid, to)) => Up::Send {
                        uid: *uid,
                        to: to.clone(),
                    },
                    None => Up::Available,
                });
                return Ok(again.collect());
            }
            Down::Failed { h } => {
                if let Some(h) = h {
                    self.acknowledged_up_to(h)?;
                }
                self.sm = None;
                return Ok(vec![self.bind()]);
            }
            Down::Message { uid } => {
                self.received.push((self.session, uid));
                self.count();
            }
            Down::Other => self.count(),
            Down::Ack(h) => self.acknowledged_up_to(h)?,
        }
        Ok(Vec::new())
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
        self.acknowledged
            .extend(sm.unacked.drain(..new).flatten().map(|(uid, _)| uid));
        Ok(())
    }
}
