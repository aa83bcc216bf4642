//! Which connections are here: the way from the cluster's outputs to their mailboxes.
//!
//! A connection is entered before anything is proposed in its name, so that no output can come before
//! its mailbox exists. Outputs for a connection that is gone are dropped: the session's state is
//! elsewhere, and its next owner asks for what is missing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use cluster::session::Output;
use cluster::{ConnId, ShardId};
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use proto::BareJid;

/// What a connection is told from outside.
#[derive(Debug)]
pub enum Mail {
    /// An output of the cluster.
    Output(Output),
    /// Outputs may have been skipped; what is missing is to be read from the state.
    Resync,
    /// The node stops: the connection closes without ending its session.
    Leave,
    /// The cluster cannot be reached from here: the connection closes whatever is under way, and its session
    /// goes on where it can.
    Away,
}

/// What a connection reads its mail from. Bounded by the session's queue in its shard.
pub type Mailbox = UnboundedReceiver<Mail>;

#[derive(Debug)]
struct Entry {
    account: BareJid,
    client: Client,
    mailbox: UnboundedSender<Mail>,
}

/// The client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Where it is, as far as a trusted balancer or the network tells.
    pub address: IpAddr,
    /// Since when it has its session, in milliseconds since 1970.
    pub since: u64,
}

/// The connections of this process that act, or ask to act, for a session.
#[derive(Debug, Default)]
pub struct Directory {
    last: AtomicU64,
    // A lock rather than an actor: outputs come in batches from another runtime, and only look up.
    entries: RwLock<HashMap<ConnId, Entry>>,
}

impl Directory {
    /// Enters a connection of `account`, made from `address`; `since` is in milliseconds since 1970.
    pub fn enter(&self, account: BareJid, address: IpAddr, since: u64) -> (ConnId, Mailbox) {
        let conn = ConnId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let (mailbox, mail) = unbounded();
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let client = Client { address, since };
        entries.insert(
            conn,
            Entry {
                account,
                client,
                mailbox,
            },
        );
        (conn, mail)
    }

    /// Forgets a connection.
    pub fn leave(&self, conn: ConnId) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.remove(&conn);
    }

    /// Hands outputs to their connections, in order.
    pub fn deliver(&self, outputs: Vec<Output>) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        for output in outputs {
            if let Some(entry) = entries.get(&output.owner.conn) {
                // An error means that the connection is just leaving.
                drop(entry.mailbox.unbounded_send(Mail::Output(output)));
            }
        }
    }

    /// Tells the connections whose account lives in `shard` to look for what they missed.
    pub fn resync(&self, shard: ShardId, shard_of: impl Fn(&BareJid) -> ShardId) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        for entry in entries.values().filter(|e| shard_of(&e.account) == shard) {
            drop(entry.mailbox.unbounded_send(Mail::Resync));
        }
    }

    /// Tells one connection to leave; false if it is gone.
    pub fn dismiss(&self, conn: ConnId) -> bool {
        self.tell(conn, Mail::Leave)
    }

    /// Tells one connection that it is of no use here; false if it is gone.
    pub fn send_away(&self, conn: ConnId) -> bool {
        self.tell(conn, Mail::Away)
    }

    fn tell(&self, conn: ConnId, mail: Mail) -> bool {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(&conn)
            .is_some_and(|entry| entry.mailbox.unbounded_send(mail).is_ok())
    }

    /// Whether a connection is here.
    pub fn contains(&self, conn: ConnId) -> bool {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.contains_key(&conn)
    }

    /// The connections of some accounts.
    pub fn connections_of(&self, some: impl Fn(&BareJid) -> bool) -> Vec<ConnId> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let those = entries.iter().filter(|(_, entry)| some(&entry.account));
        those.map(|(conn, _)| *conn).collect()
    }

    /// The client behind a connection, if that is here.
    pub fn client(&self, conn: ConnId) -> Option<Client> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(&conn).map(|entry| entry.client)
    }

    /// All connections.
    pub fn connections(&self) -> Vec<ConnId> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.keys().copied().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use cluster::id::Owner;
    use cluster::session::Event;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn output(conn: ConnId) -> Output {
        let owner = Owner {
            conn,
            ..Owner {
                node: Default::default(),
                boot: Default::default(),
                conn,
            }
        };
        Output {
            owner,
            session: proto::Jid::new("a@b/c").unwrap(),
            epoch: cluster::id::Epoch(1),
            event: Event::Bound,
        }
    }

    #[test]
    fn outputs_reach_the_connection_they_name_and_no_other() {
        let directory = Directory::default();
        let account = BareJid::new("a@b").unwrap();
        let (one, mut mail_one) = directory.enter(account.clone(), HERE, 1);
        let (two, mut mail_two) = directory.enter(account, HERE, 2);
        assert_ne!(one, two);
        directory.deliver(vec![output(two), output(ConnId(99))]);
        assert!(matches!(mail_two.try_recv(), Ok(Mail::Output(o)) if o.owner.conn == two));
        assert!(mail_one.try_recv().is_err());
        directory.leave(two);
        assert!(!directory.dismiss(two));
        assert_eq!(directory.connections(), [one]);
    }
}
