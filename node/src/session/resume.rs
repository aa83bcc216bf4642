//! A resource is claimed, or an old session taken over.
//!
//! What is decided is decided in [`cluster::connection::negotiation`]; here its steps are carried out, and the client
//! is told what came of them.

use cluster::connection::negotiation::{self, Step, Verdict};
use cluster::session::{SessionView, query};
use cluster::{ProposeError, SmId, connection};
use proto::BareJid;
use proto::sm::Failed;
use tokio::io::{AsyncRead, AsyncWrite};

use super::depart::{self, Farewell};
use super::entered::{Entered, Opening};
use super::journal;
use super::negotiate::Negotiation;
use crate::clock;
use crate::metrics::{Distance, ResumeResult, Throttled};

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

fn sessions(account: &BareJid) -> query::Sessions {
    let account = account.clone();
    query::Sessions { account }
}

fn resumable(account: &BareJid, smid: &SmId) -> query::Resumable {
    query::Resumable {
        account: account.clone(),
        smid: smid.clone(),
    }
}

/// What came of a wish to resume.
pub(super) enum Resumption {
    /// The session goes on here, and so many of the client's stanzas were counted.
    Resumed(Box<Opening>, u32),
    /// There is nothing to resume.
    Failed(Failed),
    /// The stream has failed.
    Over,
}

/// What came of the steps, and the connection's entry if there is one.
pub(super) type Led = Result<(Verdict, Option<Entered>), ProposeError>;

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Negotiation<S> {
    /// Claims a resource. On `None` the machine has been told.
    pub(super) async fn bind(&mut self, id: &str, resource: Option<String>) -> Option<Opening> {
        let account = self.account.clone()?;
        let step = negotiation::bind(&account, resource, &clock::name(64));
        match self.lead(&account, step).await {
            Ok((Verdict::Bound(opening), Some(entered))) => {
                self.machine.bound(id, &opening.session);
                Some(self.began(opening, entered, "bound").await)
            }
            Ok((Verdict::NotBound(error), _)) => {
                self.machine.bind_failed(id, error);
                None
            }
            other => {
                self.not_opened(other);
                None
            }
        }
    }

    /// Takes an old session over. On `None` the machine has been told.
    pub(super) async fn resume(&mut self, previd: String, h: u32) -> Option<Opening> {
        let account = self.account.clone()?;
        match self.take_back(&account, &previd, h).await {
            Resumption::Resumed(opening, h) => {
                self.machine.resumed(previd, h);
                Some(*opening)
            }
            Resumption::Failed(failed) => {
                self.machine.resume_failed(failed);
                None
            }
            Resumption::Over => None,
        }
    }

    /// Takes an old session over, however the client has asked for it.
    pub(super) async fn take_back(
        &mut self,
        account: &BareJid,
        previd: &str,
        h: u32,
    ) -> Resumption {
        let smid = SmId(previd.into());
        let last = query::LastNode {
            account: account.clone(),
            smid: smid.clone(),
        };
        // It is only counted.
        let before = self.app.cluster.query(account, last).await;
        let before = before.ok().flatten();
        let step = negotiation::resume(account, smid, h);
        let led = self.lead(account, step).await;
        let (result, resumption) = match led {
            Ok((Verdict::Resumed { opening, h }, Some(entered))) => {
                // Of a session that was here this node knows.
                let was_here = before == Some(self.app.cluster.node());
                self.app.metrics.resumed.inc(match was_here {
                    true => Distance::SameNode,
                    false => Distance::OtherNode,
                });
                let opening = self.began(opening, entered, "resumed").await;
                (
                    ResumeResult::Resumed,
                    Resumption::Resumed(Box::new(opening), h),
                )
            }
            Ok((Verdict::NotResumed { after, failed }, _)) => {
                tokio::time::sleep(after).await;
                (ResumeResult::NotFound, Resumption::Failed(failed))
            }
            Ok((Verdict::TooOften(error), _)) => {
                self.machine.fail(error);
                self.app.metrics.throttled.inc(Throttled::Resume);
                (ResumeResult::Throttled, Resumption::Over)
            }
            Ok((Verdict::TooHigh(too_high), _)) => {
                self.machine.fail(too_high.into());
                (ResumeResult::CountTooHigh, Resumption::Over)
            }
            other => {
                self.not_opened(other);
                (ResumeResult::Unavailable, Resumption::Over)
            }
        };
        self.app.metrics.resumes.inc(result);
        resumption
    }

    /// Carries out one step after the other.
    pub(super) async fn lead(&self, account: &BareJid, mut step: Step) -> Led {
        let cluster = &self.app.cluster;
        let mut entered = None;
        loop {
            step = match step {
                Step::Sessions(claim) => {
                    claim.sessions(&cluster.query(account, sessions(account)).await?)
                }
                Step::TakeOver(rival) => rival.answered(self.may_take_over(account)),
                Step::Look(look) => {
                    let old = resumable(account, look.smid());
                    look.seen(cluster.query(account, old).await?)
                }
                Step::Confirm(confirm) => {
                    let old = resumable(account, confirm.smid());
                    confirm.seen(cluster.query_latest(account, old).await?)
                }
                Step::Enter(enter) => {
                    let new = Entered::new(&self.app, account, self.address);
                    let owner = cluster.owner(new.conn());
                    entered = Some(new);
                    enter.entered(owner)
                }
                Step::Propose(proposal) => {
                    let outcome = cluster.propose(account, proposal.command()).await?;
                    proposal.decided(outcome)
                }
                Step::Await(granted) => {
                    let first = match &mut entered {
                        Some(entered) => entered.first(&granted).await,
                        None => None,
                    };
                    granted.first(first)
                }
                Step::Delay(delay) => {
                    let (throttle, address) = (&self.app.failures.resumes, Some(self.address));
                    let after = throttle.check(account, address, clock::instant());
                    throttle.failed(Some(account), address, clock::instant());
                    delay.answered(after)
                }
                Step::Over(verdict) => return Ok((*verdict, entered)),
            };
        }
    }

    fn may_take_over(&self, account: &BareJid) -> bool {
        let takeovers = &self.app.takeovers;
        let may = takeovers.check(account, None, clock::instant()).is_some();
        match may {
            true => takeovers.failed(Some(account), None, clock::instant()),
            false => self.app.metrics.throttled.inc(Throttled::Takeover),
        }
        may
    }

    pub(super) async fn began(
        &self,
        opening: connection::Opening,
        entered: Entered,
        how: &str,
    ) -> Opening {
        let session = &opening.session;
        journal::began(session, entered.conn(), self.address, how);
        let account = session.bare();
        let cluster = &self.app.cluster;
        // What cannot be known counts as unavailable: the client says what it is.
        let views = cluster
            .query(&account, sessions(&account))
            .await
            .unwrap_or_default();
        let is_available = |view: &SessionView| view.jid == *session && view.priority.is_some();
        Opening {
            available: views.iter().any(is_available),
            session: opening,
            entered,
        }
    }

    /// The cluster could not decide: the client keeps its session and tries again (SM-60).
    pub(super) fn not_opened(&mut self, led: Led) {
        let why = match led {
            Err(error) => Undecided::Proposal(error),
            Ok((Verdict::Unseen(last), Some(entered))) => {
                if let Some(account) = self.account.clone() {
                    let farewell = Farewell {
                        conn: entered.conn(),
                        account,
                        acknowledge: None,
                        last,
                    };
                    depart::insist(&self.app, farewell);
                }
                Undecided::Unseen
            }
            Ok(_) => Undecided::Outcome,
        };
        let (journal, account) = (&self.app.journal, self.account.as_ref());
        journal.not_opened(account, self.address, &why);
        self.machine.fail(self.app.trouble());
    }
}
