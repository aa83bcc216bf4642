//! Settings.

use crate::session;
use crate::session::format::upgrade::{mirror_enum, mirror_struct};

mirror_struct!(Settings => session::Settings {
    max_hibernated_sessions: u32,
    max_old_sessions: u32,
    sessions_per_account: u32,
    on_timeout: OnTimeout,
    old_session_ttl: u64,
    max_undelivered: u32,
    push_hibernation_time: u64,
    max_queue_stanzas: u32,
    max_queue_bytes: u64,
    max_queue_ids: u32,
    max_backlog_bytes: u64,
} with {
    max_account_queue_bytes: session::Settings::default().max_account_queue_bytes,
    max_directed: session::Settings::default().max_directed,
    max_directed_bytes: session::Settings::default().max_directed_bytes,
    compared_after: session::Settings::default().compared_after,
    archive_by_default: session::Settings::default().archive_by_default,
});

mirror_enum!(OnTimeout => session::OnTimeout { Archive, Bounce, Silent });
