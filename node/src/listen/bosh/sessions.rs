//! The sessions of BOSH that this node has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::stream::bosh::Request;

use super::session::{Reply, Session};
use crate::clock;

/// Sessions by their names, which are as good as keys to them: nobody can guess one.
///
/// Their number is bounded by those who have them: a stranger's has a place at the gate, and any other one belongs to a
/// session of an account.
#[derive(Debug, Default)]
pub struct Sessions {
    // A lock, since requests for one session come by connections of all arbiters.
    all: Mutex<HashMap<String, Arc<Session>>>,
}

impl Sessions {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session with the first request of a client. It is forgotten when [`Session::watch`] returns, for which
    /// the caller gives its name back.
    pub(super) fn begin(&self, request: Request) -> (String, Arc<Session>, Reply) {
        let sid = clock::hex::<20>();
        let (session, reply) = Session::begin(&sid, request);
        self.all().insert(sid.clone(), session.clone());
        (sid, session, reply)
    }

    /// The session of this name.
    pub(super) fn find(&self, sid: &str) -> Option<Arc<Session>> {
        self.all().get(sid).cloned()
    }

    /// The session is over, and its client had its time to hear that.
    pub(super) fn forget(&self, sid: &str) {
        self.all().remove(sid);
    }
}
