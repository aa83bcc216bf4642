//! Who sees whom in the simulation, and what must be true of what they saw (I-15).

use std::collections::BTreeSet;

use proto::{BareJid, Jid};

use super::client::Client;

/// What a presence stanza says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// It is available, in its session of this number.
    Here(u32),
    /// It is gone; for subscribers with the shard and the number of the effect that told them.
    Gone(Option<(u16, u64)>),
}

impl Shown {
    pub(super) fn write(self) -> String {
        match self {
            Self::Here(session) => format!("here {session}"),
            Self::Gone(Some((shard, effect))) => format!("gone {shard} {effect}"),
            Self::Gone(None) => String::new(),
        }
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        match words.next()? {
            "" => Some(Self::Gone(None)),
            "here" => Some(Self::Here(words.next()?.parse().ok()?)),
            "gone" => {
                let shard = words.next()?.parse().ok()?;
                Some(Self::Gone(Some((shard, words.next()?.parse().ok()?))))
            }
            _ => None,
        }
    }
}

/// Presence of somebody, as received.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The receiving client's session.
    pub(super) session: u32,
    pub(super) from: Jid,
    pub(super) shown: Shown,
}

/// `contact` may see the presence of `account`. Nobody else does, but who gets it directed.
pub(super) fn is_subscriber(contact: &BareJid, account: &BareJid) -> bool {
    let name = |jid: &BareJid| jid.local().unwrap_or_default().to_owned();
    match name(account).as_str() {
        "user0" => *contact != *account,
        "user1" => matches!(name(contact).as_str(), "user0" | "user2"),
        "user2" => matches!(name(contact).as_str(), "user0" | "user1"),
        _ => name(contact) == "user0",
    }
}

/// At a time when everybody is at home and nothing is under way.
pub(super) fn judge(clients: &[Client]) -> Result<(), String> {
    for client in clients {
        for other in clients.iter().filter(|other| other.jid != client.jid) {
            judge_pair(client, other)?;
        }
    }
    Ok(())
}

fn judge_pair(client: &Client, other: &Client) -> Result<(), String> {
    let broken = |what: &str| Err(format!("{what} {} at {} (I-15)", other.jid, client.jid));
    let mut told = BTreeSet::new();
    let mut last = None;
    for seen in client.seen.iter().filter(|seen| seen.from == other.jid) {
        // Who is not a subscriber is told by the end itself, which is counted when one leaves: between two
        // of them an available may have given way in a full queue (SM-40).
        if let Shown::Gone(Some(effect)) = seen.shown
            && !told.insert((seen.session, effect))
        {
            return broken("a second unavailable of");
        }
        last = Some((seen.session, seen.shown));
    }
    let now = last.filter(|(session, _)| *session == client.session);
    match now.map(|(_, shown)| shown) {
        Some(Shown::Here(session)) if session == other.session => Ok(()),
        Some(Shown::Here(_)) => broken("nothing tells the end of"),
        _ if client.watches(&other.account) => broken("nobody sees"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What user1 saw of user0, in its only session; user0 is in its second one.
    #[track_caller]
    fn check(shown: &[Shown], expect: &str) {
        let account = |name: &str| BareJid::new(&format!("{name}@example.org")).expect("valid");
        let mut other = Client::new(account("user0"), "one", true);
        let mut client = Client::new(account("user1"), "sim", true);
        (client.session, other.session) = (1, 2);
        let seen = |shown: &Shown| Seen {
            session: 1,
            from: other.jid.clone(),
            shown: *shown,
        };
        client.seen = shown.iter().map(seen).collect();
        let verdict = judge_pair(&client, &other).err().unwrap_or_default();
        assert!(
            verdict.starts_with(expect) && expect.is_empty() == verdict.is_empty(),
            "{verdict}"
        );
    }

    #[test]
    fn i_15_untrue_presence_is_refused() {
        use Shown::{Gone, Here};
        check(&[Here(1), Gone(Some((0, 7))), Here(2)], "");
        check(&[Here(1), Here(2)], "");
        check(&[Here(1)], "nothing tells the end");
        check(&[Here(2), Gone(Some((0, 7)))], "nobody sees");
        let twice = [
            Here(1),
            Gone(Some((0, 7))),
            Here(2),
            Gone(Some((0, 7))),
            Here(2),
        ];
        check(&twice, "a second unavailable");
    }
}
