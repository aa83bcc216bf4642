//! What broken builds do to a shard.

use std::sync::Arc;

use proto::stanza::{Header, Kind, Packet, PresenceType};
use proto::{BareJid, Jid};

use super::Mutant;
use crate::session::account::Account;
use crate::session::simulation::client::SEED;
use crate::session::simulation::presence::is_subscriber;
use crate::session::state::ShardState;
use crate::session::step::Step;
use crate::session::{Among, Batch, Command, Effect, Event, Output, Relay, Resume};

/// What a broken build makes of a command.
pub(super) fn mutate(mutant: Mutant, state: &ShardState, command: Command) -> Command {
    match (mutant, command) {
        (Mutant::EpochUnchecked, Command::Inbound(mut inbound)) => {
            if let Some(session) = state.session(&inbound.session) {
                inbound.epoch = session.epoch();
                inbound.first = session.next_in();
            }
            Command::Inbound(inbound)
        }
        (Mutant::PositionUnchecked, Command::Inbound(mut inbound)) => {
            if let Some(session) = state.session(&inbound.session) {
                inbound.first = session.next_in();
            }
            Command::Inbound(inbound)
        }
        (
            Mutant::WrapOffByOne | Mutant::ResendFromH | Mutant::ResumeOffByOne,
            Command::Resume(mut resume),
        ) => {
            resume.h = miscount(mutant, state, &resume).unwrap_or(resume.h);
            Command::Resume(resume)
        }
        (Mutant::IdentifierForAll, Command::Resume(mut resume)) => {
            let holder = state.users().iter().find(|(_, user)| {
                let ids = user.sessions.values().filter_map(|s| s.smid());
                ids.into_iter().any(|id| *id == resume.smid)
            });
            if let Some((account, _)) = holder {
                resume.account = account.clone();
            }
            Command::Resume(resume)
        }
        (Mutant::MarkerEarly, Command::Done(mut done)) => {
            for completed in &mut done {
                completed.messages.clear();
            }
            Command::Done(done)
        }
        (Mutant::GoneUnsaid, Command::Done(mut done)) => {
            for completed in &mut done {
                completed.relays.clear();
            }
            Command::Done(done)
        }
        (_, command) => command,
    }
}

/// A count that is wrong by one, where it is one that the session takes.
fn miscount(mutant: Mutant, state: &ShardState, resume: &Resume) -> Option<u32> {
    let user = state.account(&resume.account);
    let smid = Some(&resume.smid);
    let mut sessions = user.sessions.values();
    let session = sessions.find(|s| s.smid() == smid)?;
    let sm = session.sm()?;
    let known = sm
        .seed
        .wrapping_add((session.queue.base().max(sm.start) - sm.start) as u32);
    let wrong = match mutant {
        Mutant::WrapOffByOne if known < SEED || resume.h >= SEED => return None,
        Mutant::WrapOffByOne | Mutant::ResendFromH => resume.h.wrapping_sub(1),
        _ => resume.h.wrapping_add(1),
    };
    session.covered(wrong).is_ok().then_some(wrong)
}

/// What a broken build does to the state before an entry is applied to it.
pub(super) fn before(mutant: Mutant, state: &mut ShardState, batch: &Batch) -> Vec<Output> {
    let mut step = Step::default();
    match mutant {
        Mutant::EndDropsQuestions => {
            each_user(state, |_, user| {
                for session in user.sessions.values_mut().filter(|s| s.owner().is_none()) {
                    session.rare.questions.clear();
                }
            });
        }
        Mutant::ForgetsPile => {
            for (account, user) in state.users().clone().iter() {
                for old in user.old.iter() {
                    state.forgets_mut().set(old.until, account.clone());
                }
            }
        }
        Mutant::FanForgetsRest => state.fan_mut().forget(),
        Mutant::GoneTwice => repeat_gone(state, batch),
        Mutant::GoneWhenLost => say_gone_when_lost(state, batch, &mut step),
        Mutant::GoneApart => say_gone_apart(state, batch, &mut step),
        Mutant::CopyUncounted => {
            each_user(state, |_, user| {
                let shared = user.shared.all_mut();
                shared.for_each(|shared| shared.acknowledged = false);
            });
        }
        _ => {}
    }
    step.applied(Vec::new()).outputs
}

fn repeat_gone(state: &mut ShardState, batch: &Batch) {
    let commands = batch.commands.iter();
    let done = commands.filter_map(|c| match c {
        Command::Done(done) => Some(done),
        _ => None,
    });
    for completed in done
        .flatten()
        .filter(|c| !state.effects().contains(c.id))
        .collect::<Vec<_>>()
    {
        if let Some(Relay::Presence { packet, .. }) = completed.relays.first() {
            let effect = Effect::Unavailable {
                packet: packet.clone(),
                directed: Vec::new(),
                after: None,
                among: Among::All,
            };
            state.effects_mut().insert(completed.id, Arc::new(effect));
        }
    }
}

fn say_gone_apart(state: &mut ShardState, batch: &Batch, step: &mut Step) {
    let commands = batch.commands.iter();
    let done = commands.filter_map(|c| match c {
        Command::Done(done) => Some(done),
        _ => None,
    });
    for completed in done.flatten() {
        let Some(effect) = state.effects().get(completed.id).cloned() else {
            continue;
        };
        if let (Effect::Unavailable { directed, .. }, Some(Relay::Presence { packet, .. })) =
            (&*effect, completed.relays.first())
        {
            state.spread_presence(packet, directed.clone(), step);
        }
    }
}

fn say_gone_when_lost(state: &mut ShardState, batch: &Batch, step: &mut Step) {
    for command in &batch.commands {
        let Command::Lost {
            session: jid,
            epoch,
        } = command
        else {
            continue;
        };
        let asleep = |s: &&crate::session::Session| s.epoch() == *epoch && s.is_resumable();
        if state
            .session(jid)
            .filter(asleep)
            .is_some_and(|s| s.is_available())
        {
            let header = Header {
                kind: Kind::Presence(PresenceType::Unavailable),
                from: Some(jid.clone()),
                to: None,
                id: None,
                lang: None,
            };
            let packet = Packet {
                header,
                payload: bytes::Bytes::new(),
            };
            let accounts =
                (0..4).filter_map(|n| BareJid::new(&format!("user{n}@example.org")).ok());
            let told = accounts.filter(|a| is_subscriber(a, &jid.bare()));
            let told = told.map(|a| Jid::from(&a)).collect();
            state.spread_presence(&packet, told, step);
        }
    }
}

/// What an end puts aside for the user's next session is gone.
pub(super) fn drop_ended(before: &ShardState, after: &mut ShardState) {
    each_user(after, |account, user| {
        let Some(known) = before.users().get(account) else {
            return;
        };
        if user.sessions.len() < known.sessions.len() || user.old.len() > known.old.len() {
            user.wait_as(known);
        }
    });
}

/// Does something to every account; one of which nothing is left is forgotten.
pub(super) fn each_user(state: &mut ShardState, mut act: impl FnMut(&BareJid, &mut Account)) {
    let accounts: Vec<BareJid> = state
        .users()
        .iter()
        .map(|(account, _)| account.clone())
        .collect();
    for account in accounts {
        if let Some(user) = state.account_mut(&account) {
            act(&account, user);
        }
        state.tidy(&account);
    }
}

/// Ended sessions are remembered a little longer than elsewhere, which nobody will notice for a day.
pub(super) fn remember_longer(state: &mut ShardState) {
    each_user(state, |_, user| {
        user.old
            .all_mut()
            .iter_mut()
            .for_each(|old| old.until = old.until.odd())
    });
}

/// What is sent again comes in the wrong order.
pub(super) fn reverse_replay(outputs: &mut [Output]) {
    let Some(start) = outputs
        .iter()
        .position(|o| matches!(o.event, Event::Resumed(_)))
    else {
        return;
    };
    let mut items: Vec<_> = Vec::new();
    for output in &outputs[start + 1..] {
        if let Event::Stanza { item, .. } = &output.event {
            items.push(item.clone());
        }
    }
    for output in &mut outputs[start + 1..] {
        if let Event::Stanza { item, .. } = &mut output.event {
            *item = items.pop().expect("as many as counted");
        }
    }
}
