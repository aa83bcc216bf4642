//! Holds accounts to limits that the operator has lowered, some at a time.
//!
//! All accounts of a shard at once would make every session of it wait. Each entry goes on where the last one
//! ended, and while something is left the leader makes the next one without delay.

use super::state::ShardState;
use super::step::{SLICE, Step};

/// Accounts that an entry looks at, at most; most of them are within the limits.
const LOOK: usize = 20 * SLICE;

impl ShardState {
    /// Ends what is beyond the limits of the next accounts, a slice of it.
    pub(super) fn revise(&mut self, step: &mut Step) {
        let Some(mut revision) = self.limits_mut().take_revision() else {
            return;
        };
        let mut ended = 0;
        for _ in 0..LOOK {
            let Some((account, user)) = self.users().after(revision.behind()).next() else {
                return;
            };
            let (account, before) = (account.clone(), user.sessions.len());
            self.enforce_limit(&account, step);
            self.enforce_old(&account);
            self.tidy(&account);
            ended += before - self.account(&account).sessions.len();
            revision.pass(account);
            if ended >= SLICE {
                break;
            }
        }
        self.limits_mut().go_on(revision);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::stage::{Stage, jid};

    #[test]
    fn i_12_what_is_beyond_a_lower_limit_is_ended_a_slice_an_entry() {
        let mut stage = Stage::new();
        for user in 0..3 {
            for session in ["a", "b"] {
                let name = format!("user{user}@example.org/{session}");
                stage.resumable(&name, Some(0));
                stage.lose(&name);
            }
        }
        let hibernated = |stage: &Stage| stage.state.counts().1;
        assert_eq!(hibernated(&stage), 6);
        stage.settings.max_hibernated_sessions = 1;
        stage.apply(Command::Tick);
        assert_eq!(hibernated(&stage), 6, "the entry itself ends none");
        assert_eq!(stage.state.next_deadline(), Some(0), "the next one is due");
        let mut left = Vec::new();
        while stage.state.next_deadline() == Some(0) {
            stage.apply(Command::Tick);
            left.push(hibernated(&stage));
        }
        assert_eq!(left[..3], [5, 4, 3]);
        assert_eq!(hibernated(&stage), 3);
        assert!(
            stage.state.session(&jid("user1@example.org/b")).is_some(),
            "the newer one stays"
        );
    }
}
