//! Effects that are not known to be carried out, and the lanes that they wait in.
//!
//! Effects of one lane are carried out in the order of their numbers; those of different lanes do not wait
//! for each other, so that what is slow, or cannot be reached, holds up nothing else. What must be written
//! before something of another lane is found by its account.

use std::fmt;
use std::sync::Arc;

use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize, Serializer};

use super::cow::Map;
use super::effect::{Among, Effect, Pending};
use super::load::Load;
use crate::id::{ArchiveId, EffectId};

/// Effects that wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Rows for archives, in their order.
    Rows,
    /// Messages to be read back. Rows that they ask for are written with them.
    Reads,
    /// Rows to be deleted, once they have been written.
    Forgets,
    /// What depends on rosters, and blocklists.
    Rosters,
    /// Clients to be woken.
    Pushes,
    /// What was published last.
    Events,
}

impl Lane {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Rows,
        Self::Reads,
        Self::Forgets,
        Self::Rosters,
        Self::Pushes,
        Self::Events,
    ];
}

impl Effect {
    /// Where it waits.
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::Archive(_) => Lane::Rows,
            Self::Fetch { .. } | Self::Return { .. } => Lane::Reads,
            Self::Forget { .. } => Lane::Forgets,
            Self::Subscription(_) | Self::Unavailable { .. } | Self::Blocklist(_) => Lane::Rosters,
            Self::Push { .. } => Lane::Pushes,
            Self::LastEvents(_) => Lane::Events,
        }
    }

    /// The session whose end it tells of.
    fn leaver(&self) -> Option<&Jid> {
        match self {
            Self::Unavailable { packet, .. } => packet.header.from.as_ref(),
            _ => None,
        }
    }
}

/// See the module. Only the effects themselves are in snapshots; the rest follows from them.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "Map<EffectId, Arc<Effect>>")]
pub(super) struct PendingEffects {
    all: Map<EffectId, Arc<Effect>>,
    lanes: [Map<EffectId, ()>; Lane::ALL.len()],
    /// Rows by their owners.
    rows: Owned,
    /// Messages to be read back for their senders, by their owners.
    returns: Owned,
    /// Farewells by the session that is gone.
    farewells: Map<Jid, Vec<EffectId>>,
    /// Bytes of all of them, about.
    bytes: u64,
    /// Bytes of rows, about.
    row_bytes: u64,
    /// How many rows this replica has seen go: it rises as long as the database answers.
    gone: u64,
}

/// Effects by accounts.
#[derive(Clone, Default)]
struct Owned(Map<BareJid, Map<EffectId, ()>>);

impl Owned {
    fn insert(&mut self, owner: &BareJid, id: EffectId) {
        self.0.or_default(owner.clone()).insert(id, ());
    }

    fn remove(&mut self, owner: &BareJid, id: EffectId) {
        let last = self.0.get_mut(owner).is_some_and(|ids| {
            ids.remove(&id);
            ids.is_empty()
        });
        if last {
            self.0.remove(owner);
        }
    }

    fn of(&self, owner: &BareJid) -> impl Iterator<Item = (&EffectId, &())> {
        self.0.get(owner).into_iter().flat_map(Map::iter)
    }
}

impl PartialEq for PendingEffects {
    /// What does not follow from the effects is this replica's own.
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl fmt::Debug for PendingEffects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.all.fmt(f)
    }
}

impl Serialize for PendingEffects {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(serializer)
    }
}

impl From<Map<EffectId, Arc<Effect>>> for PendingEffects {
    fn from(all: Map<EffectId, Arc<Effect>>) -> Self {
        let mut pending = Self::default();
        for (id, effect) in all.iter() {
            pending.insert(*id, effect.clone());
        }
        pending
    }
}

impl PendingEffects {
    #[cfg(test)]
    pub(super) fn get(&self, id: EffectId) -> Option<&Arc<Effect>> {
        self.all.get(&id)
    }

    pub(super) fn insert(&mut self, id: EffectId, effect: Arc<Effect>) {
        self.bytes += effect.size();
        self.lanes[effect.lane() as usize].insert(id, ());
        match &*effect {
            Effect::Archive(row) => {
                self.row_bytes += effect.size();
                self.rows.insert(&row.owner, id);
            }
            Effect::Return { account, .. } => self.returns.insert(account, id),
            _ => {}
        }
        if let Some(from) = effect.leaver() {
            self.farewells.or_default(from.clone()).push(id);
        }
        self.all.insert(id, effect);
    }

    /// An effect is done, or nobody wants it any more.
    pub(super) fn remove(&mut self, id: EffectId) -> Option<Arc<Effect>> {
        let effect = self.all.remove(&id)?;
        self.bytes -= effect.size();
        self.lanes[effect.lane() as usize].remove(&id);
        match &*effect {
            Effect::Archive(row) => {
                self.row_bytes -= effect.size();
                self.gone += 1;
                self.rows.remove(&row.owner, id);
            }
            Effect::Return { account, .. } => self.returns.remove(account, id),
            _ => {}
        }
        if let Some(from) = effect.leaver()
            && let Some(farewells) = self.farewells.get_mut(from)
        {
            farewells.retain(|known| *known != id);
            if farewells.is_empty() {
                self.farewells.remove(from);
            }
        }
        Some(effect)
    }

    /// Those that tell of the end of a session with this name.
    pub(super) fn farewells_of(&self, jid: &Jid) -> Vec<EffectId> {
        self.farewells.get(jid).cloned().unwrap_or_default()
    }

    /// Changes what a farewell says: behind which subscriber it goes on, in which shards, and to whom besides.
    pub(super) fn change_farewell(
        &mut self,
        id: EffectId,
        change: impl FnOnce(&Option<BareJid>, &mut Among, &mut Vec<Jid>),
    ) {
        let Some(mut effect) = self.remove(id) else {
            return;
        };
        if let Effect::Unavailable {
            directed,
            after,
            among,
            ..
        } = Arc::make_mut(&mut effect)
        {
            change(after, among, directed);
        }
        self.insert(id, effect);
    }

    /// Those to whom the session had directed its presence that this farewell is about.
    pub(super) fn directed_of(&self, farewell: EffectId) -> Vec<Jid> {
        match self.all.get(&farewell).map(|effect| &**effect) {
            Some(Effect::Unavailable { directed, .. }) => directed.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    #[cfg(test)]
    pub(super) fn contains(&self, id: EffectId) -> bool {
        self.all.find(&id).is_some()
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&EffectId, &Arc<Effect>)> {
        self.all.iter()
    }

    /// Those after `after`, in order.
    pub(super) fn after(&self, after: &EffectId) -> impl Iterator<Item = Pending> {
        self.all.after(Some(after)).map(pending)
    }

    /// Those of a lane after `after`, in order.
    pub(super) fn lane(&self, lane: Lane, after: &EffectId) -> impl Iterator<Item = Pending> {
        self.found(self.lanes[lane as usize].after(Some(after)))
    }

    /// Rows for an account's archive, in order.
    pub(super) fn rows_of(&self, account: &BareJid) -> impl Iterator<Item = Pending> {
        self.found(self.rows.of(account))
    }

    /// Whether some of these messages of an account are still to be written, or to be read back.
    pub(super) fn needs_rows(&self, account: &BareJid, mids: &[ArchiveId]) -> bool {
        let mut returns = self.found(self.returns.of(account));
        let reads = returns.any(|pending| {
            let Effect::Return { mids: read, .. } = &*pending.effect else {
                return false;
            };
            read.iter().any(|mid| mids.contains(mid))
        });
        reads || self.rows_among(account, mids).next().is_some()
    }

    /// Those of them that are of these messages.
    pub(super) fn rows_among(
        &self,
        account: &BareJid,
        mids: &[ArchiveId],
    ) -> impl Iterator<Item = Pending> {
        self.rows_of(account)
            .filter(|row| matches!(&*row.effect, Effect::Archive(row) if mids.contains(&row.mid)))
    }

    fn found<'a>(
        &self,
        ids: impl Iterator<Item = (&'a EffectId, &'a ())>,
    ) -> impl Iterator<Item = Pending> {
        ids.filter_map(|(id, ())| Some(pending((id, self.all.get(id)?))))
    }

    /// Bytes of all of them, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What waits for the database to take it as a row of an archive.
    pub(super) fn row_load(&self) -> Load {
        Load {
            bytes: self.row_bytes,
            gone: self.gone,
        }
    }

    /// What is wrong with them, if anything is.
    #[cfg(test)]
    pub(super) fn broken(&self) -> Option<String> {
        let bytes: u64 = self.all.values().map(|effect| effect.size()).sum();
        (bytes != self.bytes).then(|| String::from("the backlog is miscounted"))
    }
}

fn pending((id, effect): (&EffectId, &Arc<Effect>)) -> Pending {
    Pending {
        id: *id,
        effect: effect.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_back_for_its_sender_is_not_deleted_before() {
        let account: BareJid = "bob@example.org".parse().expect("valid");
        let (one, other) = (ArchiveId::new(1, 1), ArchiveId::new(1, 2));
        let mut pending = PendingEffects::default();
        let read = Effect::Return {
            account: account.clone(),
            mids: vec![one],
        };
        pending.insert(EffectId(1), Arc::new(read));
        assert!(pending.needs_rows(&account, &[other, one]));
        assert!(!pending.needs_rows(&account, &[other]));
        pending.remove(EffectId(1));
        assert!(!pending.needs_rows(&account, &[one]));
    }
}
