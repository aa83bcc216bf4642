//! Scripts: what happens to a connection, and what it asks for then, as lines of text.

mod ending;
mod inactive;
mod incoming;
mod negotiating;
mod outgoing;

use std::time::Duration;

use proto::Jid;
use proto::stanza::{IqType, Kind, MessageType, Packet, Stanza};
use proto::stream::Input;

use super::liveness::Times;
use super::rate::Answers;
use super::write::tests::item;
use super::*;
use crate::id::{BootId, ConnId, NodeId, Owner, SmId};
use crate::session::{Action, Command, Detached, Enabled, Event, Outcome, Output, Resumed};

const SESSION: &str = "alice@example.org/desk";
const EPOCH: Epoch = Epoch(7);
const SETTINGS: Settings = Settings {
    times: Times {
        idle: 300_000,
        patience: 30_000,
        delay: 20_000,
        timeout: 60_000,
        unacked: 100,
    },
    hibernation: 600,
    first_count: 0,
};

/// A connection, and the world around it.
struct Script {
    connection: Connection,
    moment: Moment,
}

impl Script {
    /// Just bound.
    fn bound() -> Self {
        Self::of(Opening::bound(jid(), EPOCH), 0)
    }

    /// Resumed: stanza 5 is to come from the client and 3 of them were counted; stanza 9 is the next one to it, and it
    /// has counted 6.
    fn resumed() -> Self {
        let resumed = Resumed {
            smid: SmId("sm".into()),
            h: 3,
            next_in: 5,
            next_out: 9,
            acked: 6,
            late: 9,
        };
        Self::of(Opening::resumed(jid(), EPOCH, &resumed), 0)
    }

    /// Answers of so many bytes in a second are not held up.
    fn of(opening: Opening, bytes_per_second: u32) -> Self {
        let answers = Answers::new(bytes_per_second, Duration::ZERO);
        let names = Box::new(|bits| format!("name{bits}"));
        Self {
            connection: Connection::new(opening, SETTINGS, answers, names, 0),
            moment: Moment::default(),
        }
    }

    /// The client says all this at once.
    fn says(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<String> {
        let now = self.moment.now;
        self.connection.heard(now);
        for input in inputs {
            self.connection.input(now, input);
        }
        self.settled()
    }

    fn output(&mut self, event: Event) -> Vec<String> {
        let output = output(event);
        self.connection.output(self.moment, output);
        self.settled()
    }

    /// The stanzas with these numbers come from the shard.
    fn stanzas(&mut self, numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
        let mut lines = Vec::new();
        for seq in numbers {
            self.connection.output(self.moment, output(stanza(seq)));
            lines.extend(self.lines());
        }
        lines.extend(self.settled());
        lines
    }

    /// What the router says of so many stanzas; there is room for it.
    fn admitted(&mut self, stanzas: usize) -> Option<Command> {
        self.connection.resolved(std::iter::empty());
        self.connection.admitted(vec![Vec::new(); stanzas])
    }

    /// The client's next stanzas are proposed.
    fn proposed(&mut self, stanzas: usize) {
        let messages = (0..stanzas).map(|_| Input::Stanza(message()));
        let lines = self.says(messages);
        assert_eq!(
            lines,
            [format!("resolve {stanzas}"), format!("taken {stanzas}")]
        );
        assert!(self.admitted(stanzas).is_some());
    }

    fn handled(&mut self, outcome: Result<Outcome, Failure>) -> (Option<Command>, Vec<String>) {
        let again = self.connection.handled(self.moment.now, outcome);
        (again, self.settled())
    }

    /// Everything below `next` is committed.
    fn committed(&mut self, next: u64) -> Vec<String> {
        let (again, lines) = self.handled(Ok(Outcome::Handled { next }));
        assert_eq!(again, None);
        lines
    }

    /// The connection is woken when it wants to, which is at that time.
    fn woken(&mut self, at: u64) -> Vec<String> {
        assert_eq!(self.connection.wake(), Some(at));
        self.moment.now = at;
        self.settled()
    }

    fn settled(&mut self) -> Vec<String> {
        self.connection.settle(self.moment);
        self.lines()
    }

    fn lines(&mut self) -> Vec<String> {
        let requests = std::iter::from_fn(|| self.connection.poll());
        requests.filter_map(line).collect()
    }
}

fn jid() -> Jid {
    Jid::new(SESSION).expect("valid")
}

fn output(event: Event) -> Output {
    let owner = Owner {
        node: NodeId(1),
        boot: BootId(1),
        conn: ConnId(1),
    };
    Output {
        owner,
        session: jid(),
        epoch: EPOCH,
        event,
    }
}

fn message() -> Stanza {
    Stanza::new(Kind::Message(MessageType::Chat))
}

fn stanza(seq: u64) -> Event {
    Event::Stanza {
        seq,
        item: numbered(seq),
    }
}

/// A stanza whose id is its number.
fn numbered(seq: u64) -> std::sync::Arc<crate::session::Item> {
    item(message().with_id(seq.to_string()).pack()).into()
}

fn enabled() -> Event {
    Event::Enabled(enabled_from(1))
}

fn enabled_from(next: u64) -> Enabled {
    Enabled {
        smid: Some(SmId("sm".into())),
        max: 600,
        next,
        seed: 0,
    }
}

fn pong(id: &str) -> Input {
    Input::Stanza(Stanza::new(Kind::Iq(IqType::Result)).with_id(id))
}

/// An answer of so many bytes.
fn answer(bytes: usize) -> Action {
    Action::Reply(Packet {
        header: message().header,
        payload: vec![b'x'; bytes].into(),
    })
}

/// A request as a line; notes are left out.
fn line(request: Request) -> Option<String> {
    Some(match request {
        Request::Write(bytes) => format!("write {}", elements(&bytes)),
        Request::Report => "report".into(),
        Request::Taken(count) => format!("taken {count}"),
        Request::Resolve(stanzas) => format!("resolve {}", stanzas.len()),
        Request::Enable(enable) => {
            let (after, max) = (enable.after, enable.max);
            let smid = enable.smid.map(|smid| String::from(smid.0));
            format!("enable after {after} for {max} as {smid:?}")
        }
        Request::EnableFailed => "enable failed".into(),
        Request::Acknowledge(acknowledge) => format!("acknowledge {}", acknowledge.upto),
        Request::Propose(Command::Overdue { .. }) => "overdue".into(),
        Request::Propose(other) => format!("propose {other:?}"),
        Request::Read(from) => format!("read {from}"),
        Request::Verify(pauses) => format!("verify {pauses}"),
        Request::Finish(farewell) => format!("finish {}", last(&farewell)),
        Request::Depart(farewell) => format!("depart {}", last(&farewell)),
        Request::Stop(Stop::Fail(error)) => format!("fail {}", error.condition.name()),
        Request::Stop(stop) => format!("{stop:?}").to_lowercase(),
        Request::Over(reason) => format!("over {reason:?}"),
        Request::Note(_) => return None,
    })
}

fn last(farewell: &Farewell) -> String {
    let upto = farewell.acknowledge.upto;
    match &farewell.last {
        Command::Lost { .. } => format!("lost, acknowledged {upto}"),
        Command::End { reason, .. } => format!("{reason:?}, acknowledged {upto}"),
        other => format!("{other:?}"),
    }
}

/// What was written: stanzas by their ids, `<a/>` with its count.
fn elements(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let attribute = |tag: &str, name: &str| {
        let (_, rest) = tag.split_once(&format!(" {name}='")).expect("there");
        rest.split('\'').next().map(str::to_owned).expect("there")
    };
    let tags = text.split('<').filter_map(|tag| {
        let name = tag.split([' ', '/', '>']).next()?;
        match name {
            "message" | "presence" => Some(attribute(tag, "id")),
            "iq" => Some(format!("ping {}", attribute(tag, "id"))),
            "a" => Some(format!("a{}", attribute(tag, "h"))),
            "r" | "enabled" => Some(name.to_owned()),
            _ => None,
        }
    });
    tags.filter(|tag| !tag.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
