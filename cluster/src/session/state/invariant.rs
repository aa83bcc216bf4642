//! What always holds in a shard's state, as one function for tests and the simulation.

use std::collections::BTreeMap;

use proto::Jid;

use super::ShardState;
use crate::id::ArchiveId;
use crate::session::session::Session;
use crate::session::settings::Settings;

/// The first thing found broken, in words.
pub(crate) fn broken(state: &ShardState) -> Option<String> {
    let (mut sleeping, mut remembered) = (0, 0);
    for (account, user) in state.users.iter() {
        if user.is_empty() {
            return Some(format!("{account} is kept without need"));
        }
        let mut holders: BTreeMap<ArchiveId, u32> = BTreeMap::new();
        for (resource, session) in user.sessions.iter() {
            let jid = account.with_prepared_resource(resource);
            if let Some(what) = broken_session(state, session) {
                return Some(format!("{jid}: {what}"));
            }
            sleeping += u32::from(session.owner().is_none());
            if let Some(what) = broken_sleep(state, &jid, session) {
                return Some(format!("{jid}: {what}"));
            }
            for mid in session.queue.shared() {
                *holders.entry(mid).or_default() += 1;
            }
        }
        let (max_hibernated, max_old) = state.limits_of(account);
        let revised = !state.limits.awaits_revision(account);
        if revised && user.old.len() > max_old as usize {
            return Some(format!("{account} has too many old sessions (I-12)"));
        }
        if let Some(at) = user.old.next_forget() {
            remembered += 1;
            if !state.forgets.is_set(at, account.clone()) {
                return Some(format!("{account} is never forgotten (I-12)"));
            }
        }
        let hibernated = user.sessions.values().filter(|s| s.owner().is_none());
        if revised && hibernated.count() > max_hibernated as usize {
            return Some(format!("{account} has too many hibernated sessions (I-12)"));
        }
        for mid in user.waiting_and_shared() {
            *holders.entry(mid).or_default() += 1;
        }
        if user.shared.holders() != holders {
            return Some(format!("{account} miscounts who holds shared messages"));
        }
    }
    if state.forgets.len() != remembered {
        return Some(String::from(
            "old sessions are to be forgotten twice (I-12)",
        ));
    }
    if let Some(what) = state.outboxes.broken().or_else(|| state.effects.broken()) {
        return Some(what);
    }
    (state.deadlines.len() != sleeping as usize).then(|| String::from("a deadline has no session"))
}

fn broken_session(state: &ShardState, session: &Session) -> Option<&'static str> {
    if let Some(what) = session.queue.broken(session.owner().is_some()) {
        return Some(what);
    }
    if session.is_stuck(&moving(state.settings)) {
        return Some("it has room, and what waits behind its queue does not move");
    }
    let effect = session.queue.awaits();
    let done = effect.is_some_and(|effect| !state.effects.contains(effect));
    done.then_some("it waits for nothing")
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
    let sleep = session.hibernation()?;
    let ends = state.deadlines.is_set(sleep.until, jid.clone());
    (!ends).then_some("it hibernates without a deadline")
}
