//! What follows when an effect has been carried out.

use proto::stanza::error::Condition;
use proto::stanza::{IqType, Kind};

use super::effect::{Completed, Effect};
use super::relay::Relay;
use super::state::ShardState;
use super::step::Step;
use crate::id::EffectId;

impl ShardState {
    /// An effect is done, by whichever leader: its results count once.
    pub(super) fn completed(&mut self, completed: Completed, step: &mut Step) {
        if let Some(effect) = self.effects_mut().remove(completed.id) {
            self.follow(&effect, completed, None, step);
        }
    }

    /// As [`Self::completed`]; `rest` takes the effect's place.
    pub(super) fn completed_in_part(&mut self, part: Completed, rest: Effect, step: &mut Step) {
        if let Some(effect) = self.effects_mut().remove(part.id) {
            let rest = self.farewell_rest(&effect, rest);
            let rest = self.add_effect(rest);
            self.follow(&effect, part, Some(rest), step);
        }
    }

    /// What follows from an effect that has been carried out, but for what `rest` will bring.
    fn follow(
        &mut self,
        effect: &Effect,
        completed: Completed,
        rest: Option<EffectId>,
        step: &mut Step,
    ) {
        match effect {
            Effect::Fetch { session, .. } => {
                self.fetched(session, completed.id, completed.messages, rest, step);
            }
            Effect::Return { .. } => {
                for message in &completed.messages {
                    self.bounce(&message.packet, Condition::RecipientUnavailable, step);
                }
            }
            Effect::Unavailable { .. } => {
                return self.farewell_found(effect, completed.relays, rest, step);
            }
            _ => {}
        }
        for relay in completed.relays {
            if !self.asks_in_vain(&relay) {
                self.send(relay, step);
            }
        }
    }

    /// A request of the server's own to a shard that takes nothing, such as a push: nobody waits for the answer,
    /// and the next one will say more.
    fn asks_in_vain(&self, relay: &Relay) -> bool {
        let Relay::Iq { packet, .. } = relay else {
            return false;
        };
        matches!(packet.header.kind, Kind::Iq(IqType::Get | IqType::Set))
            && self.is_out_of_reach(packet)
    }
}
