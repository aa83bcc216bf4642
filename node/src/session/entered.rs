//! A connection's entry in the directory, for as long as it acts, or asks to act, for a session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::connection::negotiation::Granted;
use cluster::session::{Event, query};
use cluster::{ConnId, connection};
use futures_util::StreamExt as _;
use proto::BareJid;
use tokio::time::timeout_at;

use super::directory::{Mail, Mailbox};
use crate::app::App;
use crate::clock;

/// How long this node's replica may lag behind the leader that answered (SM-60).
const LAG: Duration = Duration::from_secs(10);

/// A session at the moment that it gets its actor.
pub struct Opening {
    /// The session, and where it stands.
    pub session: connection::Opening,
    /// The connection's entry in the directory.
    pub entered: Entered,
    /// The session is available.
    pub available: bool,
}

/// The entry, taken back when it is dropped.
pub struct Entered {
    app: Arc<App>,
    conn: ConnId,
    address: IpAddr,
    mail: Option<Mailbox>,
    has_skipped: bool,
}

impl Entered {
    /// Enters a connection of `account`, made from `address`.
    pub(super) fn new(app: &Arc<App>, account: &BareJid, address: IpAddr) -> Self {
        let since = clock::now();
        let (conn, mail) = app.directory.enter(account.clone(), address, since);
        Self {
            app: app.clone(),
            conn,
            address,
            mail: Some(mail),
            has_skipped: false,
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

    /// What says first that the session is ours. No output comes before it; if it was skipped, as the shard is heard
    /// from somewhere else now, the shard is asked for it.
    pub(super) async fn first(&mut self, granted: &Granted) -> Option<Event> {
        let deadline = clock::timer() + LAG;
        let (session, epoch) = granted.what();
        let account = session.bare();
        let opened = query::Opened {
            session: session.clone(),
            epoch,
        };
        loop {
            let mail = timeout_at(deadline, self.mail.as_mut()?.next()).await;
            match mail {
                Ok(Some(Mail::Output(output))) => return Some(output.event),
                Ok(Some(Mail::Resync)) => {
                    let opened = self.app.cluster.query(&account, opened.clone());
                    if let Ok(Ok(Some(event))) = timeout_at(deadline, opened).await {
                        self.has_skipped = true;
                        return Some(event);
                    }
                }
                Ok(Some(Mail::Leave | Mail::Away) | None) | Err(_) => return None,
            }
        }
    }

    /// Whether outputs may have been skipped before there was a connection that would have noticed.
    pub(super) fn has_skipped(&self) -> bool {
        self.has_skipped
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.app.directory.leave(self.conn);
    }
}
