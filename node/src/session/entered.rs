//! A connection's entry in the directory, for as long as it acts, or asks to act, for a session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::session::Output;
use cluster::{ConnId, connection};
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
    pub(super) async fn first(&mut self) -> Option<Output> {
        let deadline = clock::timer() + LAG;
        let mail = self.mail.as_mut()?;
        loop {
            match timeout_at(deadline, mail.recv()).await {
                Ok(Some(Mail::Output(output))) => return Some(output),
                // If it was skipped it will not come; else it comes from somewhere else.
                Ok(Some(Mail::Resync)) => {}
                Ok(Some(Mail::Leave | Mail::Away) | None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.app.directory.leave(self.conn);
    }
}
