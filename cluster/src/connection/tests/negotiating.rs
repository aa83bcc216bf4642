//! How a connection comes to its session: what a node is asked to find out, and what follows from the answers.

use std::time::Duration;

use proto::BareJid;

use super::super::negotiation::{self, Along, Granted, Step, Verdict};
use super::*;
use crate::session::{NotResumable, OpenSm, SessionView};

/// The steps of a negotiation, as lines of text.
struct Script(Step);

impl Script {
    fn bind(wish: Option<&str>) -> Self {
        Self(negotiation::bind(
            &account(),
            wish.map(str::to_owned),
            "spare",
        ))
    }

    fn resume() -> Self {
        Self(negotiation::resume(&account(), SmId("sm".into()), 6))
    }

    /// The account has one session, held by a connection or by none.
    fn session(self, jid: &str, owner: Option<Owner>) -> Self {
        let Step::Sessions(claim) = self.0 else {
            panic!("not asked for: {:?}", self.0);
        };
        Self(claim.sessions(&[view(jid, owner)]))
    }

    fn may_take_over(self, may: bool) -> Self {
        let Step::TakeOver(rival) = self.0 else {
            panic!("not asked for: {:?}", self.0);
        };
        Self(rival.answered(may))
    }

    /// There is such a session.
    fn found(self) -> Self {
        self.seen(Ok(jid()))
    }

    /// There is none, and of that which was there so much is known.
    fn gone(self, h: Option<u32>) -> Self {
        self.seen(Err(NotResumable { h }))
    }

    fn seen(self, old: Result<Jid, NotResumable>) -> Self {
        Self(match self.0 {
            Step::Look(look) => look.seen(old),
            Step::Confirm(confirm) => confirm.seen(old),
            other => panic!("not asked for: {other:?}"),
        })
    }

    /// The connection is entered and its command proposed, which must be this one.
    fn proposes(self, command: &str) -> Self {
        let Step::Enter(enter) = self.0 else {
            panic!("not asked for: {:?}", self.0);
        };
        let step = enter.entered(owner());
        let Step::Propose(proposal) = &step else {
            panic!("not proposed: {step:?}");
        };
        let proposed = match proposal.command() {
            Command::Bind(bind) => format!("bind {} to {}", bind.session, bind.owner.conn.0),
            Command::Resume(resume) => {
                let (smid, h) = (resume.smid.0, resume.h);
                format!("resume {smid} from {h} to {}", resume.owner.conn.0)
            }
            Command::Open(open) => {
                let (session, agent, conn) = (open.session, open.agent, open.owner.conn.0);
                format!("open {session} of {agent:?} to {conn}")
            }
            other => format!("{other:?}"),
        };
        assert_eq!(proposed, command);
        Self(step)
    }

    fn decided(self, outcome: Outcome) -> Self {
        let Step::Propose(proposal) = self.0 else {
            panic!("not proposed: {:?}", self.0);
        };
        Self(proposal.decided(outcome))
    }

    fn first(self, event: Option<Event>) -> Self {
        let Step::Await(granted) = self.0 else {
            panic!("not awaited: {:?}", self.0);
        };
        Self(granted.first(event))
    }

    fn delayed(self, delay: Option<u64>) -> Self {
        let Step::Delay(asked) = self.0 else {
            panic!("not asked for: {:?}", self.0);
        };
        Self(asked.answered(delay.map(Duration::from_secs)))
    }

    #[track_caller]
    fn ends(self, expected: &str) {
        assert_eq!(line(self.0), expected);
    }
}

fn account() -> BareJid {
    jid().bare()
}

fn owner() -> Owner {
    output(Event::Bound).owner
}

fn view(jid: &str, owner: Option<Owner>) -> SessionView {
    SessionView {
        jid: Jid::new(jid).expect("valid"),
        owner,
        epoch: EPOCH,
        resumable: true,
        queue: 0,
        queue_bytes: 0,
        oldest: None,
        priority: None,
        hibernates_for: None,
    }
}

fn resumed() -> Resumed {
    Resumed {
        smid: SmId("sm".into()),
        h: 3,
        next_in: 5,
        next_out: 9,
        acked: 6,
        late: 9,
    }
}

fn line(step: Step) -> String {
    let Step::Over(verdict) = step else {
        return format!("{step:?}");
    };
    match *verdict {
        Verdict::Bound(opening) => format!("bound {} in {}", opening.session, opening.epoch.0),
        Verdict::Resumed { opening, h } => {
            let (session, epoch) = (opening.session, opening.epoch.0);
            format!("resumed {session} in {epoch} at {h}")
        }
        Verdict::NotBound(error) => format!("not bound: {}", error.condition.name()),
        Verdict::NotResumed { after, failed } => {
            let (condition, h) = (failed.condition.name(), failed.h);
            format!("not resumed: {condition} at {h:?} after {after:?}")
        }
        Verdict::TooOften(error) => format!("too often: {}", error.condition.name()),
        Verdict::TooHigh(wrong) => format!("too high: {} of {}", wrong.h, wrong.sent),
        Verdict::Undecided => "undecided".into(),
        Verdict::Unseen(Command::Lost { session, epoch }) => {
            format!("lost {session} in {}", epoch.0)
        }
        Verdict::Unseen(other) => format!("{other:?}"),
    }
}

const DESK: &str = "bind alice@example.org/desk to 1";
const SPARE: &str = "bind alice@example.org/spare to 1";

#[test]
fn st_63_whoever_wishes_nothing_or_the_impossible_gets_a_name() {
    Script::bind(None).proposes(SPARE);
    Script::bind(Some("")).proposes(SPARE);
}

#[test]
fn st_64_a_wish_is_granted_though_another_connection_holds_the_resource() {
    let wish = || Script::bind(Some("desk"));
    wish()
        .session("alice@example.org/phone", Some(owner()))
        .proposes(DESK);
    // One that hibernates is most likely its own.
    wish().session(SESSION, None).proposes(DESK);
    wish()
        .session(SESSION, Some(owner()))
        .may_take_over(true)
        .proposes(DESK);
}

#[test]
fn t_44_two_clients_do_not_drive_each_other_out_for_ever() {
    let wish = Script::bind(Some("desk")).session(SESSION, Some(owner()));
    wish.may_take_over(false).proposes(SPARE);
}

#[test]
fn a_resource_is_bound_when_this_node_has_seen_it() {
    let granted = || {
        let wish = Script::bind(None).proposes(SPARE);
        wish.decided(Outcome::Bound { epoch: EPOCH })
    };
    let bound = "bound alice@example.org/spare in 7";
    granted().first(Some(Event::Bound)).ends(bound);
    // What is committed and not seen is given back.
    let lost = "lost alice@example.org/spare in 7";
    for other in [None, Some(stanza(1)), Some(Event::Resumed(resumed()))] {
        granted().first(other).ends(lost);
    }
}

#[test]
fn st_63_whoever_has_too_many_sessions_may_ask_again() {
    let wish = Script::bind(None).proposes(SPARE);
    let refused = "not bound: resource-constraint";
    wish.decided(Outcome::TooManySessions).ends(refused);
}

#[test]
fn an_outcome_of_something_else_decides_nothing() {
    let resumed = Outcome::Resumed {
        session: jid(),
        epoch: EPOCH,
    };
    for outcome in [Outcome::Stale, Outcome::Done, resumed] {
        Script::bind(None)
            .proposes(SPARE)
            .decided(outcome)
            .ends("undecided");
    }
    let proposed = Script::resume().found().proposes(RESUME);
    proposed
        .decided(Outcome::Bound { epoch: EPOCH })
        .ends("undecided");
}

const RESUME: &str = "resume sm from 6 to 1";

#[test]
fn a_session_is_resumed_when_this_node_has_seen_it() {
    let granted = || {
        let proposed = Script::resume().found().proposes(RESUME);
        proposed.decided(Outcome::Resumed {
            session: jid(),
            epoch: EPOCH,
        })
    };
    assert!(matches!(granted().0, Step::Await(Granted::Resumed(..))));
    let event = Some(Event::Resumed(resumed()));
    granted()
        .first(event)
        .ends("resumed alice@example.org/desk in 7 at 3");
    let lost = "lost alice@example.org/desk in 7";
    for other in [
        None,
        Some(Event::Detached(Detached::Resumed)),
        Some(Event::Bound),
    ] {
        granted().first(other).ends(lost);
    }
}

#[test]
fn t_40_a_replica_that_may_be_late_refuses_nothing() {
    let asked = Script::resume().gone(None);
    assert!(matches!(asked.0, Step::Confirm(_)));
    asked.found().proposes(RESUME);
}

#[test]
fn sm_47_what_the_leader_does_not_know_is_not_resumed_and_nothing_is_proposed_for_it() {
    for (h, told) in [(None, "None"), (Some(4), "Some(4)")] {
        let refused = Script::resume().gone(None).gone(h);
        let answer = format!("not resumed: item-not-found at {told} after 2s");
        refused.delayed(Some(2)).ends(&answer);
    }
}

#[test]
fn sm_47_what_has_ended_meanwhile_is_not_resumed() {
    let proposed = Script::resume().found().proposes(RESUME);
    let refused = proposed.decided(Outcome::NotResumed { h: Some(9) });
    let answer = "not resumed: item-not-found at Some(9) after 0ns";
    refused.delayed(Some(0)).ends(answer);
}

#[test]
fn t_40_whoever_asks_too_often_for_what_does_not_exist_is_cut() {
    let refused = Script::resume().gone(None).gone(None);
    refused.delayed(None).ends("too often: policy-violation");
}

#[test]
fn sm_28_a_resume_that_claims_too_much_ends_the_stream() {
    let proposed = Script::resume().found().proposes(RESUME);
    let outcome = Outcome::CountTooHigh { h: 6, sent: 5 };
    proposed.decided(outcome).ends("too high: 6 of 5");
}

/// A client of this name wants the resource, and Stream Management and copies along with it.
fn open() -> Script {
    let along = Along {
        agent: Some("c1".into()),
        sm: Some(OpenSm {
            smid: Some(SmId("sm".into())),
            max: 60,
            seed: 7,
        }),
        carbons: true,
    };
    Script(negotiation::open(&account(), "App/c1", "App/spare", along))
}

const OPEN: &str = "open alice@example.org/App/c1 of Some(\"c1\") to 1";
const OPEN_SPARE: &str = "open alice@example.org/App/spare of None to 1";

#[test]
fn bi_4_a_client_may_end_its_own_older_session_but_not_for_ever() {
    open().session(SESSION, Some(owner())).proposes(OPEN);
    for older in ["alice@example.org/App/c1", "alice@example.org/Other/c1"] {
        open().session(older, None).proposes(OPEN);
        let held = || open().session(older, Some(owner()));
        held().may_take_over(true).proposes(OPEN);
        held().may_take_over(false).proposes(OPEN_SPARE);
    }
}

#[test]
fn sm_72_a_session_that_was_opened_counts_however_this_node_hears_of_it() {
    let granted = || {
        let wish = open().session(SESSION, None).proposes(OPEN);
        wish.decided(Outcome::Bound { epoch: EPOCH })
    };
    for event in [Event::Bound, Event::Resumed(resumed())] {
        let Step::Over(verdict) = granted().first(Some(event)).0 else {
            panic!("not over");
        };
        let Verdict::Bound(opening) = *verdict else {
            panic!("not bound: {verdict:?}");
        };
        assert_eq!(opening.incoming.h(), Some(7));
        assert!(opening.outgoing.counts());
    }
    granted()
        .first(None)
        .ends("lost alice@example.org/App/c1 in 7");
    let wish = open().session(SESSION, None).proposes(OPEN);
    wish.decided(Outcome::TooManySessions)
        .ends("not bound: resource-constraint");
}
