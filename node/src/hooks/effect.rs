//! What follows from the entries of a shard and is carried out by the node that leads it.

use cluster::ShardId;
use cluster::session::{Completed, Effect, Pending, Relay};
use futures_util::future::BoxFuture;

use super::edge::Edge;
use crate::storage::StorageError;

/// Carries out effects.
///
/// Each may be asked for twice: a leader may die after the database has committed and before the shard learns of it, and
/// the next one starts again. The second time must come to the same as the first. And nothing is given up, since
/// whatever led here was acknowledged: what is not done is asked for again.
pub trait EffectHook: Send + Sync + 'static {
    /// It is this hook that carries out such an effect.
    fn takes(&self, effect: &Effect) -> bool;

    /// Carries effects out, all of which it takes, and adds those that are done.
    fn perform<'a>(
        &'a self,
        work: Work<'a>,
        done: &'a mut Vec<Completed>,
    ) -> BoxFuture<'a, Result<(), StorageError>>;
}

/// What a hook is to carry out.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// What the node has.
    pub edge: &'a Edge,
    /// Whose effects they are.
    pub shard: ShardId,
    /// The effects, in order.
    pub effects: &'a [&'a Pending],
}

/// The effect is done, and nothing follows.
pub fn completed(effect: &Pending) -> Completed {
    followed_by(effect, Vec::new())
}

/// The effect is done, and this is sent.
pub fn followed_by(effect: &Pending, relays: Vec<Relay>) -> Completed {
    Completed {
        id: effect.id,
        relays,
        messages: Vec::new(),
    }
}
