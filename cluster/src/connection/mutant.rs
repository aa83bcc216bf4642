//! What a wrong build would decide, for the simulation to prove that it can see.

use super::Connection;
use super::state::Job;

impl Connection {
    /// Acknowledges what is proposed before it is committed.
    pub(crate) fn acknowledge_early(&mut self) {
        if let Some(Job::Handling(handling)) = self.state.job() {
            let inbound = &handling.inbound;
            let next = inbound.first + inbound.stanzas.len() as u64;
            self.incoming.handled(next);
            self.answer();
        }
    }
}
