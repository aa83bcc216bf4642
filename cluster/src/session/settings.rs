//! The bounds that `apply` needs, agreed on as everything else is.

use serde::{Deserialize, Serialize};

/// Bounds that `apply` needs. A leader whose own differ from the shard's proposes them
/// ([`Command::Settings`](super::Command::Settings)), so that replicas with other files agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Sessions of one account that may hibernate at a time; the oldest is ended first.
    pub max_hibernated_sessions: u32,
    /// Ended sessions of one account whose inbound count is kept.
    pub max_old_sessions: u32,
    /// Sessions of one account in all; 0 = no limit.
    pub sessions_per_account: u32,
    /// What becomes of unacknowledged messages.
    pub on_timeout: OnTimeout,
    /// How long an ended session's inbound count is kept, in milliseconds.
    pub old_session_ttl: u64,
    /// Undelivered messages that one account may have waiting.
    pub max_undelivered: u32,
    /// How long a session hibernates whose client can be woken, in milliseconds; less than without, none.
    pub push_hibernation_time: u64,
    /// Stanzas that a session holds in full; of more only what is needed to read them back. 0 = no limit.
    pub max_queue_stanzas: u32,
    /// The same in bytes.
    pub max_queue_bytes: u64,
    /// Stanzas that a session holds in any form; with more it ends. 0 = no limit.
    pub max_queue_ids: u32,
    /// Bytes that may wait for the database. A node lets in no more (see
    /// [`Cluster::admit`](crate::Cluster::admit)); `apply` takes what it is given. 0 = no limit.
    pub max_backlog_bytes: u64,
    /// Bytes that all sessions of one account hold together, before each is held to its share. 0 = no limit.
    pub max_account_queue_bytes: u64,
    /// Addresses that one session's directed presence is remembered for (T-51).
    pub max_directed: u32,
    /// Their bytes.
    pub max_directed_bytes: u64,
    /// After so many entries replicas compare hashes of their states; 0 = never.
    pub compared_after: u32,
    /// Archives may keep messages of accounts that have not said what theirs is to keep
    /// ([`Action::ArchiveStated`](super::Action::ArchiveStated)). If not, the database never hears of what they say,
    /// unless it has to wait.
    pub archive_by_default: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_hibernated_sessions: 10,
            max_old_sessions: 10,
            sessions_per_account: 20,
            on_timeout: OnTimeout::Archive,
            old_session_ttl: 24 * 3600 * 1000,
            max_undelivered: 1000,
            push_hibernation_time: 72 * 3600 * 1000,
            max_queue_stanzas: 2000,
            max_queue_bytes: 8 << 20,
            max_queue_ids: 50_000,
            max_backlog_bytes: 64 << 20,
            max_account_queue_bytes: 32 << 20,
            max_directed: 500,
            max_directed_bytes: 64 << 10,
            compared_after: 1_000,
            archive_by_default: true,
        }
    }
}

/// The fate of unacknowledged messages when their session ends (`sm.on_timeout`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// They go to the user's connected sessions, else they wait for the next one: the marker moves back.
    #[default]
    Archive,
    /// They return to their senders.
    Bounce,
    /// Neither.
    Silent,
}

impl Settings {
    /// So much is more than a queue is to hold in full.
    pub(super) fn is_over(&self, stanzas: usize, bytes: u64) -> bool {
        let (most, most_bytes) = (self.max_queue_stanzas as usize, self.max_queue_bytes);
        (most != 0 && stanzas >= most) || (most_bytes != 0 && bytes >= most_bytes)
    }

    /// So little leaves room for what waits behind a queue.
    pub(super) fn has_room(&self, stanzas: usize, bytes: u64) -> bool {
        let (most, most_bytes) = (self.max_queue_stanzas as usize, self.max_queue_bytes);
        (most == 0 || stanzas <= most / 2) && (most_bytes == 0 || bytes <= most_bytes / 2)
    }
}
