//! Questions that nodes ask each other, about things that only the node knows where they happened.

use std::net::IpAddr;

use cluster::id::Owner;
use cluster::status::ShardStatus;
use cluster::{ArchiveId, ConnId};
use serde::{Deserialize, Serialize};

use crate::auth::{Failures, Told};
use crate::maintenance::Maintenance;
use crate::session::Directory;
use crate::trace::Trail;

/// What one node asks another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Inquiry {
    /// See [`Trail::called`].
    Called(String),
    /// See [`Trail::of`].
    Of(Vec<String>),
    /// The clients behind these connections, of those that are the node's own.
    Clients(Vec<Owner>),
    /// Tells what has failed at the asking node. There is nothing to answer.
    Failed(Told),
    /// The shards that the node leads, as only their leader knows them.
    Led,
    /// Has the node in this seat drained, or put back into service. It answers with the seat, the others with nothing.
    Drain {
        /// The seat.
        seat: u64,
        /// Whether it is to be out of service.
        drain: bool,
    },
}

/// The client at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientOf {
    /// The connection.
    pub owner: Owner,
    /// Where the client is.
    pub address: IpAddr,
    /// Since when it has its session, in milliseconds since 1970.
    pub since: u64,
}

/// Those of these connections that are here; `own` names one of this process.
pub fn clients(
    directory: &Directory,
    own: impl Fn(ConnId) -> Option<Owner>,
    owners: &[Owner],
) -> Vec<ClientOf> {
    let here = owners
        .iter()
        .filter(|owner| own(owner.conn) == Some(**owner));
    let known = here.filter_map(|owner| {
        let client = directory.client(owner.conn)?;
        Some(ClientOf {
            owner: *owner,
            address: client.address,
            since: client.since,
        })
    });
    known.collect()
}

/// What this node needs to answer questions.
pub struct Known<'a> {
    /// What became of messages.
    pub trail: &'a Trail,
    /// The connections of this process.
    pub directory: &'a Directory,
    /// What failed.
    pub failures: &'a Failures,
    /// Looks at the shards that this node leads.
    pub led: &'a dyn Fn() -> Vec<ShardStatus>,
    /// Whether this node is in service.
    pub maintenance: &'a Maintenance,
}

impl Known<'_> {
    /// Answers another node. The answer is empty if the question cannot be read.
    pub fn answer(&self, question: &[u8], own: impl Fn(ConnId) -> Option<Owner>) -> Vec<u8> {
        let answer = match serde_json::from_slice(question) {
            Ok(Inquiry::Called(id)) => {
                let ids = self
                    .trail
                    .called(&id)
                    .iter()
                    .map(ArchiveId::to_string)
                    .collect();
                serde_json::to_vec::<Vec<String>>(&ids)
            }
            Ok(Inquiry::Of(ids)) => {
                let mids: Vec<ArchiveId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
                serde_json::to_vec(&self.trail.of(&mids))
            }
            Ok(Inquiry::Clients(owners)) => {
                serde_json::to_vec(&clients(self.directory, own, &owners))
            }
            Ok(Inquiry::Failed(told)) => {
                self.failures.hear(&told);
                return Vec::new();
            }
            Ok(Inquiry::Led) => serde_json::to_vec(&(self.led)()),
            Ok(Inquiry::Drain { seat, drain }) => {
                let meant = self.maintenance.ask(seat, drain);
                serde_json::to_vec(&meant.then_some(seat).as_slice())
            }
            Err(_) => return Vec::new(),
        };
        answer.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use cluster::{BootId, NodeId};
    use proto::BareJid;

    use super::*;
    use crate::config::Limits;
    use crate::trace::{Mark, Step};

    fn own(conn: ConnId) -> Option<Owner> {
        let (node, boot) = (NodeId(u64::MAX), BootId(7));
        Some(Owner { node, boot, conn })
    }

    #[test]
    fn a_node_tells_what_it_saw_and_who_is_here() {
        let (trail, directory) = (Trail::new(2, || 7), Directory::default());
        let failures = Failures::new(&Limits::default());
        let maintenance = Maintenance::new(2);
        let known = Known {
            trail: &trail,
            directory: &directory,
            failures: &failures,
            led: &Vec::new,
            maintenance: &maintenance,
        };
        let mid = ArchiveId::new(1, 1);
        trail.mark(mid, Step::Written);
        let ask = |inquiry| {
            let question = serde_json::to_vec(&inquiry).unwrap();
            known.answer(&question, own)
        };
        let marks: Vec<Mark> =
            serde_json::from_slice(&ask(Inquiry::Of(vec![mid.to_string()]))).unwrap();
        assert_eq!((marks[0].node, marks[0].at_ms), (2, 7));

        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (conn, _mail) = directory.enter(BareJid::new("a@b").unwrap(), address, 5);
        let here = own(conn).unwrap();
        let elsewhere = Owner {
            node: NodeId(1),
            ..here
        };
        let told: Vec<ClientOf> =
            serde_json::from_slice(&ask(Inquiry::Clients(vec![elsewhere, here]))).unwrap();
        let expect = ClientOf {
            owner: here,
            address,
            since: 5,
        };
        assert_eq!(told, [expect]);
        assert!(ask(Inquiry::Failed(Told::default())).is_empty());
        assert_eq!(ask(Inquiry::Led), b"[]");
        assert!(known.answer(b"nonsense", own).is_empty());
        for (seat, answer) in [(1, "[]"), (2, "[2]")] {
            let told = ask(Inquiry::Drain { seat, drain: true });
            assert_eq!(std::str::from_utf8(&told), Ok(answer));
        }
        assert!(maintenance.is_on());
    }
}
