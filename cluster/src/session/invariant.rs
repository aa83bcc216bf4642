//! What always holds in a shard's state, as one function for debug builds, simulation and chaos runs.

use std::collections::BTreeMap;

use proto::Jid;

use super::command::Settings;
use super::state::{Session, ShardState};
use super::ticket::Later;
use crate::id::Mid;

/// The first thing found broken, in words.
pub fn broken(state: &ShardState) -> Option<String> {
    let (mut sleeping, mut remembered) = (0, 0);
    for (account, user) in state.users.iter() {
        if user.is_empty() {
            return Some(format!("{account} is kept without need"));
        }
        let mut holders: BTreeMap<Mid, u32> = BTreeMap::new();
        for (resource, session) in user.sessions.iter() {
            let jid = account.with_prepared_resource(resource);
            if let Some(what) = broken_session(state, session) {
                return Some(format!("{jid}: {what}"));
            }
            sleeping += u32::from(session.owner.is_none());
            if let Some(what) = broken_sleep(state, &jid, session) {
                return Some(format!("{jid}: {what}"));
            }
            let queue = session.queue.iter().filter(|i| i.shared);
            let queue = queue.filter_map(|i| i.mid);
            let later = session.behind.later.iter().filter(|l| l.is_shared());
            for mid in queue.chain(later.filter_map(Later::mid)) {
                *holders.entry(mid).or_default() += 1;
            }
        }
        let (max_hibernated, max_old) = state.limits_of(account);
        let revised = !state.awaits_revision(account);
        if revised && user.old.len() > max_old as usize {
            return Some(format!("{account} has too many old sessions (I-12)"));
        }
        if let Some(at) = user.next_forget() {
            remembered += 1;
            if !state.forgets.contains_key(&(at, account.clone())) {
                return Some(format!("{account} is never forgotten (I-12)"));
            }
        }
        let hibernated = user.sessions.values().filter(|s| s.hibernation.is_some());
        if revised && hibernated.count() > max_hibernated as usize {
            return Some(format!("{account} has too many hibernated sessions (I-12)"));
        }
        let counted: BTreeMap<Mid, u32> =
            user.shared.iter().map(|(m, s)| (*m, s.holders)).collect();
        if counted != holders {
            return Some(format!("{account} miscounts who holds shared messages"));
        }
    }
    if state.forgets.len() != remembered {
        return Some(String::from(
            "old sessions are to be forgotten twice (I-12)",
        ));
    }
    for (to, outbox) in &state.outboxes {
        let bytes: u64 = outbox.items.iter().map(|item| item.size() as u64).sum();
        if outbox.bytes != bytes {
            return Some(format!("what waits for shard {to} is miscounted"));
        }
    }
    let pending: u64 = state.pending.iter().map(|(_, e)| e.size()).sum();
    let outboxes = state.outboxes.values().flat_map(|o| o.items.iter());
    if pending + outboxes.map(|r| r.size() as u64).sum::<u64>() != state.backlog {
        return Some(String::from("the backlog is miscounted"));
    }
    (state.deadlines.len() != sleeping as usize).then(|| String::from("a deadline has no session"))
}

fn broken_session(state: &ShardState, session: &Session) -> Option<&'static str> {
    let next = session.next_out();
    if session.base > session.sent || session.sent > next {
        return Some("numbers of its queue are out of order");
    }
    if session.owner.is_some() && session.sent != next {
        return Some("an owned session has stanzas without a number");
    }
    if session.is_stuck(&moving(state.settings)) {
        return Some("it has room, and what waits behind its queue does not move");
    }
    if let Some(fetching) = &session.behind.fetching
        && (fetching.count > session.behind.later.len() || !state.pending.contains(fetching.effect))
    {
        return Some("it waits for nothing");
    }
    let queue: u64 = session.queue.iter().map(|i| i.size()).sum();
    let later: u64 = session.behind.later.iter().map(Later::size).sum();
    if (queue, later) != (session.queue_bytes, session.behind.later_bytes) {
        return Some("the bytes of its queue are miscounted");
    }
    None
}

/// The bounds below which nothing waits behind a queue. Where an account's sessions share a bound, what others
/// hold changes by itself: there a session is sure to move on only when its own queue is empty.
fn moving(mut settings: Settings) -> Settings {
    if settings.max_account_queue_bytes != 0 {
        settings.max_queue_bytes = 1;
    }
    settings
}

fn broken_sleep(state: &ShardState, jid: &Jid, session: &Session) -> Option<&'static str> {
    match (&session.owner, session.hibernation) {
        (Some(_), None) => None,
        (None, Some(sleep)) if state.deadlines.contains_key(&(sleep.until, jid.clone())) => None,
        (None, Some(_)) => Some("it hibernates without a deadline"),
        (None, None) => Some("it has neither an owner nor a deadline"),
        (Some(_), Some(_)) => Some("it is owned and hibernates"),
    }
}
