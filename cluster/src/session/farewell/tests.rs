//! Sessions that come back while their predecessors' ends are being told.

use super::super::stage::{Stage, jid, packet, stanzas};
use super::*;
use crate::session::*;

const ALICE: &str = "alice@example.org/a";
const WATCHERS: [&str; 3] = [
    "bob@example.org/b",
    "dora@example.org/d",
    "dora@example.org/e",
];

fn subscribers() -> Vec<BareJid> {
    ["bob@example.org", "dora@example.org"]
        .map(|account| BareJid::new(account).expect("valid"))
        .to_vec()
}

/// What each watcher hears: `+`, alice is there, `-`, she is gone.
struct Story {
    stage: Stage,
    heard: BTreeMap<String, String>,
}

impl Story {
    /// All have seen her, and her session has ended.
    fn new() -> Self {
        let mut stage = Stage::new();
        for watcher in WATCHERS {
            stage.bind(watcher, Some(0));
        }
        let heard = WATCHERS.map(|watcher| (watcher.to_owned(), String::new()));
        let mut story = Self {
            stage,
            heard: BTreeMap::from(heard),
        };
        story.stage.bind(ALICE, None);
        story.say(PresenceType::Available);
        story.end();
        story
    }

    fn hear(&mut self, outputs: &[Output]) {
        for (session, kind) in stanzas(outputs) {
            let sign = match kind {
                Kind::Presence(PresenceType::Available) => '+',
                Kind::Presence(PresenceType::Unavailable) => '-',
                _ => continue,
            };
            self.heard.entry(session).or_default().push(sign);
        }
    }

    fn say(&mut self, kind: PresenceType) {
        let update = PresenceUpdate {
            packet: packet(Kind::Presence(kind), ALICE, None),
            priority: 0,
            subscribers: subscribers(),
            probes: Vec::new(),
            requests: Vec::new(),
        };
        let outputs = self.stage.act(ALICE, Action::Presence(update));
        self.hear(&outputs);
    }

    fn show(&mut self, to: &str) {
        let shown = packet(Kind::Presence(PresenceType::Available), ALICE, Some(to));
        let outputs = self.stage.act(ALICE, Action::Directed(shown));
        self.hear(&outputs);
    }

    fn end(&mut self) {
        let end = Command::End {
            session: jid(ALICE),
            epoch: None,
            reason: EndReason::Closed,
        };
        let outputs = self.stage.apply(end).1;
        self.hear(&outputs);
    }

    /// The first pending farewell, as it is carried out: of those whom it tells only one, or all.
    fn found(&self, in_part: bool) -> Option<Command> {
        let pending = self.stage.state.pending(EffectId(0), 100).into_iter();
        let mut farewells = pending.filter_map(|pending| match &*pending.effect {
            Effect::Unavailable { packet, after, .. } => {
                Some((pending.id, packet.clone(), after.clone()))
            }
            _ => None,
        });
        let (id, packet, after) = farewells.next()?;
        let mut to = subscribers();
        to.retain(|to| after.as_ref().is_none_or(|after| to > after));
        let last = to.first().cloned().filter(|_| in_part && to.len() > 1);
        to.truncate(if last.is_some() { 1 } else { to.len() });
        let told = Relay::Presence {
            packet: packet.clone(),
            to: to.iter().map(Jid::from).collect(),
        };
        let part = Completed {
            id,
            relays: vec![told],
            messages: Vec::new(),
        };
        let rest = last.map(|last| Effect::Unavailable {
            packet,
            directed: Vec::new(),
            after: Some(last),
            among: Among::All,
        });
        Some(match rest {
            Some(rest) => Command::DoneInPart { part, rest },
            None => Command::Done(vec![part]),
        })
    }

    fn tell(&mut self, command: Option<Command>) -> bool {
        let Some(command) = command else { return false };
        let outputs = self.stage.apply(command).1;
        self.hear(&outputs);
        true
    }

    /// All is told; every watcher has heard of each end once.
    #[track_caller]
    fn judge(mut self, what: &str) {
        while self.tell(self.found(false)) {}
        let here = self.stage.state.session(&jid(ALICE));
        let here = here.is_some_and(|session| session.is_available());
        for watcher in WATCHERS {
            let heard = format!("+{}", self.heard[watcher]);
            let last = if here { '+' } else { '-' };
            assert!(
                !heard.contains("--") && heard.ends_with(last),
                "{what}: {watcher} heard {heard}"
            );
        }
    }
}

/// Something that she does after her session has ended.
type Act = fn(&mut Story);

#[test]
fn i_15_who_is_back_before_all_have_heard_that_she_is_gone_is_gone_once() {
    let acts: [(&str, Act); 6] = [
        ("stays", |story| story.say(PresenceType::Available)),
        ("ends", |story| {
            story.say(PresenceType::Available);
            story.end();
        }),
        ("leaves", |story| {
            story.say(PresenceType::Available);
            story.say(PresenceType::Unavailable);
        }),
        ("shows herself and ends", |story| {
            story.show("dora@example.org");
            story.end();
        }),
        ("shows herself to a session and ends", |story| {
            story.show("dora@example.org/d");
            story.end();
        }),
        ("shows herself and leaves", |story| {
            story.show("dora@example.org");
            story.say(PresenceType::Unavailable);
        }),
    ];
    for (what, act) in acts {
        for told in [false, true] {
            for under_way in [false, true] {
                let mut story = Story::new();
                if told {
                    let part = story.found(true);
                    assert!(story.tell(part));
                }
                // A leader may be about to say what it has found.
                let found = story.found(true).filter(|_| under_way);
                story.stage.bind(ALICE, None);
                act(&mut story);
                story.tell(found);
                story.judge(&format!("{what}, told {told}, under way {under_way}"));
            }
        }
    }
}

#[test]
fn i_15_whoever_sees_the_next_session_hears_of_its_end_when_that_is_over() {
    for to in ["dora@example.org", "dora@example.org/e"] {
        let mut story = Story::new();
        story.stage.bind(ALICE, None);
        story.show(to);
        while story.tell(story.found(false)) {}
        assert!(!story.heard["dora@example.org/e"].contains('-'), "{to}");
        story.end();
        story.judge(to);
    }
}
