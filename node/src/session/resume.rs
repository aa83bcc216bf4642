//! A resource is claimed, or an old session taken over.
//!
//! The connection is entered into the directory first, then the command is proposed, then its output is
//! awaited from this node's own replica: only what was applied here is written here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::connection;
use cluster::session::{
    Bind, Command, Event, NotResumable, Outcome, Output, Resume, Resumed, SessionView, ShardState,
};
use cluster::{ConnId, Epoch, ProposeError, SmId, Unavailable};
use proto::sm::{CountTooHigh, Failed};
use proto::stanza::error::{Condition as Refusal, StanzaError};
use proto::stream::{Condition, StreamError};
use proto::{BareJid, Jid};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout_at;

use super::actor::Opening;
use super::depart::{self, Farewell};
use super::directory::{Mail, Mailbox};
use super::journal;
use super::negotiate::Negotiation;
use crate::app::App;
use crate::clock;
use crate::metrics::ResumeResult;

/// How long this node's replica may lag behind the leader that answered (SM-60).
const LAG: Duration = Duration::from_secs(10);

/// What a client hears that has too often asked for sessions that do not exist.
const TOO_MANY: &str = "too many failed resumptions, try again in a minute";

/// A connection's entry in the directory, taken back unless it comes to a session.
pub struct Entered {
    app: Arc<App>,
    conn: ConnId,
    address: IpAddr,
    mail: Option<Mailbox>,
}

impl Entered {
    fn new(app: &Arc<App>, account: &BareJid, address: IpAddr) -> Self {
        let since = clock::now();
        let (conn, mail) = app.directory.enter(account.clone(), address, since);
        Self {
            app: app.clone(),
            conn,
            address,
            mail: Some(mail),
        }
    }

    /// The connection's name.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Where its client is.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The mailbox, once.
    pub fn mail(&mut self) -> Option<Mailbox> {
        self.mail.take()
    }

    /// The first output, which says that the session is ours. Nothing comes before it.
    async fn first(&mut self) -> Option<Output> {
        let deadline = clock::timer() + LAG;
        let mail = self.mail.as_mut()?;
        match timeout_at(deadline, mail.recv()).await {
            Ok(Some(Mail::Output(output))) => Some(output),
            Ok(Some(Mail::Resync | Mail::Leave | Mail::Away) | None) | Err(_) => None,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.app.directory.leave(self.conn);
    }
}

/// Why nobody can say whether a session was opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undecided {
    /// The shard did not decide.
    #[error(transparent)]
    Proposal(#[from] ProposeError),
    /// It decided something else.
    #[error("the shard had another outcome")]
    Outcome,
    /// It decided, and its replica here is late.
    #[error("this node has not seen in time what was decided")]
    Unseen,
}

impl From<Result<Outcome, ProposeError>> for Undecided {
    fn from(other: Result<Outcome, ProposeError>) -> Self {
        other.map_or_else(Self::from, |_| Self::Outcome)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Negotiation<S> {
    /// Claims a resource. On `None` the machine has been told.
    pub(super) async fn bind(&mut self, id: &str, resource: Option<String>) -> Option<Opening> {
        let account = self.account.clone()?;
        let Some(session) = self.claim(&account, resource) else {
            self.machine
                .bind_failed(id, StanzaError::new(Refusal::BadRequest));
            return None;
        };
        let mut entered = Entered::new(&self.app, &account, self.address);
        let owner = self.app.cluster.owner(entered.conn);
        let command = Command::Bind(Bind {
            session: session.clone(),
            owner,
        });
        let epoch = match self.app.cluster.propose(&account, command).await {
            Ok(Outcome::Bound { epoch }) => epoch,
            Ok(Outcome::TooManySessions) => {
                self.machine
                    .bind_failed(id, StanzaError::new(Refusal::ResourceConstraint));
                return None;
            }
            other => return self.undecided(&other.into()),
        };
        match entered.first().await {
            Some(Output {
                event: Event::Bound,
                ..
            }) => {}
            _ => return self.abandon(entered.conn, session, epoch),
        }
        self.machine.bound(id, &session);
        journal::began(&session, entered.conn, self.address, "bound");
        Some(Opening {
            session: connection::Opening::bound(session, epoch),
            entered,
            available: false,
        })
    }

    /// The address to bind: the wished one, even if another session holds it, unless two clients seem to
    /// drive each other out of it (ST-64, T-44). Who hibernates is no other client: it lost its connection,
    /// and is most likely the one that binds now.
    fn claim(&self, account: &BareJid, wish: Option<String>) -> Option<Jid> {
        let wished = wish.and_then(|resource| account.with_resource(&resource).ok());
        let generated = || account.with_resource(&clock::name(64)).ok();
        let Some(wished) = wished else {
            return generated();
        };
        let sessions = self
            .app
            .cluster
            .read(account, |shard| shard.sessions(account));
        let conflicts = |held: &SessionView| held.jid == wished && held.owner.is_some();
        if sessions.iter().any(conflicts) {
            let takeovers = &self.app.takeovers;
            if takeovers.check(account, None, clock::instant()).is_none() {
                return generated();
            }
            takeovers.failed(Some(account), None, clock::instant());
        }
        Some(wished)
    }

    /// Takes an old session over. On `None` the machine has been told.
    pub(super) async fn resume(&mut self, previd: String, h: u32) -> Option<Opening> {
        let account = self.account.clone()?;
        let smid = SmId(previd.as_str().into());
        match self.resumable(&account, &smid).await {
            Ok(Ok(_)) => {}
            Ok(Err(gone)) => return self.not_resumed(&account, gone.h).await,
            Err(error) => return self.undecided(&Undecided::Proposal(error.into())),
        }
        let mut entered = Entered::new(&self.app, &account, self.address);
        let owner = self.app.cluster.owner(entered.conn);
        let command = Command::Resume(Resume {
            account: account.clone(),
            smid,
            h,
            owner,
        });
        let outcome = self.app.cluster.propose(&account, command).await;
        let (session, epoch) = match outcome {
            Ok(Outcome::Resumed { session, epoch }) => (session, epoch),
            Ok(Outcome::NotResumed { h }) => return self.not_resumed(&account, h).await,
            Ok(Outcome::CountTooHigh { h, sent }) => {
                self.app.metrics.resume(ResumeResult::CountTooHigh);
                self.machine.fail(CountTooHigh { h, sent }.into());
                return None;
            }
            other => {
                self.app.metrics.resume(ResumeResult::Unavailable);
                return self.undecided(&other.into());
            }
        };
        let resumed = match entered.first().await {
            Some(Output {
                event: Event::Resumed(resumed),
                ..
            }) => resumed,
            _ => {
                self.app.metrics.resume(ResumeResult::Unavailable);
                return self.abandon(entered.conn, session, epoch);
            }
        };
        self.app.metrics.resume(ResumeResult::Resumed);
        self.machine.resumed(previd, resumed.h);
        journal::began(&session, entered.conn, self.address, "resumed");
        Some(self.resumed(&account, entered, session, epoch, &resumed))
    }

    /// Whether there is nothing to resume. What this node has applied may be old: only what the leader
    /// confirms is a refusal, and it costs no entry in the log (T-40).
    async fn resumable(
        &self,
        account: &BareJid,
        smid: &SmId,
    ) -> Result<Result<Jid, NotResumable>, Unavailable> {
        let cluster = &self.app.cluster;
        let near = cluster.read(account, |shard| shard.resumable(account, smid));
        if near.is_ok() {
            return Ok(near);
        }
        let (of, smid) = (account.clone(), smid.clone());
        let look = move |shard: &ShardState| shard.resumable(&of, &smid);
        cluster.read_latest(account, look).await
    }

    /// Only now, when the state has said that there is nothing to resume, do earlier failures matter: they
    /// slow the answer down, and when there were too many of them the stream ends (T-40).
    async fn not_resumed(&mut self, account: &BareJid, h: Option<u32>) -> Option<Opening> {
        self.app.metrics.resume(ResumeResult::NotFound);
        let (throttle, address) = (&self.app.failures.resumes, Some(self.address));
        let delay = throttle.check(account, address, clock::instant());
        throttle.failed(Some(account), address, clock::instant());
        let Some(delay) = delay else {
            let error = StreamError::new(Condition::PolicyViolation);
            self.machine.fail(error.with_text(TOO_MANY));
            return None;
        };
        tokio::time::sleep(delay).await;
        self.machine.resume_failed(Failed {
            condition: Refusal::ItemNotFound,
            h,
        });
        None
    }

    fn resumed(
        &self,
        account: &BareJid,
        entered: Entered,
        session: Jid,
        epoch: Epoch,
        resumed: &Resumed,
    ) -> Opening {
        let views = self
            .app
            .cluster
            .read(account, |shard| shard.sessions(account));
        let available = views
            .iter()
            .any(|v| v.jid == session && v.priority.is_some());
        Opening {
            session: connection::Opening::resumed(session, epoch, resumed),
            entered,
            available,
        }
    }

    /// The cluster could not decide: the client keeps its session and tries again (SM-60).
    fn undecided(&mut self, why: &Undecided) -> Option<Opening> {
        self.app
            .journal
            .not_opened(self.account.as_ref(), self.address, why);
        self.machine.fail(self.app.trouble());
        None
    }

    /// The session is this connection's, but this node does not know it: the client must come again.
    fn abandon(&mut self, conn: ConnId, session: Jid, epoch: Epoch) -> Option<Opening> {
        let account = session.bare();
        let farewell = Farewell {
            conn,
            account,
            acknowledge: None,
            last: Command::Lost { session, epoch },
        };
        depart::insist(&self.app, farewell);
        self.undecided(&Undecided::Unseen)
    }
}
