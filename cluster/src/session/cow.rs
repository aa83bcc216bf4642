//! Copy-on-write collections: a copy costs next to nothing, so that a snapshot does not stop the shard.
//!
//! A copy shares everything with its original until one of them is changed, and then only the chunk that
//! changes is copied. Contents and order alone make two of them equal: how the entries came to lie in
//! chunks is history, in which replicas may differ.
//!
//! The libraries of persistent trees take two allocations and a pointer chase for each entry, on the path of
//! every command. This is a row of sorted chunks: as fast as the standard tree, and as small.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The entries of a chunk at most: what the first change after a copy copies.
const MOST: usize = 64;
/// A chunk with fewer is put together with the next one, if there is room.
const FEW: usize = 16;

/// A value that copies share until one of them changes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct CopyOnWrite<T>(Arc<T>);

impl<T> CopyOnWrite<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: Clone> CopyOnWrite<T> {
    /// The value; a copy only if somebody else has it too.
    pub(super) fn into_inner(self) -> T {
        Arc::unwrap_or_clone(self.0)
    }
}

impl<T> Deref for CopyOnWrite<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for CopyOnWrite<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

type Chunk<K, V> = Vec<(K, V)>;

/// A sorted map.
#[derive(Clone)]
pub(super) struct Map<K, V> {
    /// In the order of their bounds: a chunk holds what is not below its own and is below the next one's. None is
    /// empty.
    chunks: Vec<(K, Arc<Chunk<K, V>>)>,
    len: usize,
}

/// Where an entry of a [`Map`] was found: its chunk, and its place there. It lies elsewhere after a change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    chunk: usize,
    at: usize,
}

impl Place {
    /// A number for it; none if it is too far behind for one.
    pub(super) fn number(self) -> Option<u32> {
        u32::try_from(self.chunk * MOST + self.at).ok()
    }

    pub(super) fn of_number(number: u32) -> Self {
        let number = number as usize;
        Self {
            chunk: number / MOST,
            at: number % MOST,
        }
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

fn position<K: Borrow<Q>, V, Q: Ord + ?Sized>(chunk: &[(K, V)], key: &Q) -> Result<usize, usize> {
    chunk.binary_search_by(|(known, _)| known.borrow().cmp(key))
}

impl<K, V> Map<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// In the order of the keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        let entries = self.chunks.iter().flat_map(|(_, chunk)| chunk.iter());
        entries.map(|(key, value)| (key, value))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// What lies at a place.
    pub(super) fn at(&self, place: Place) -> Option<(&K, &V)> {
        let (_, chunk) = self.chunks.get(place.chunk)?;
        chunk.get(place.at).map(|(key, value)| (key, value))
    }
}

impl<K: Ord + Clone, V: Clone> Map<K, V> {
    /// The chunk that a key belongs to; none if the key is below all of them.
    fn chunk_of<Q: Ord + ?Sized>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        let below = |(bound, _): &(K, _)| bound.borrow() <= key;
        self.chunks.partition_point(below).checked_sub(1)
    }

    /// Where the entry of a key lies.
    pub(super) fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Option<Place>
    where
        K: Borrow<Q>,
    {
        let chunk = self.chunk_of(key)?;
        let at = position(&self.chunks[chunk].1, key).ok()?;
        Some(Place { chunk, at })
    }

    /// What lies at a place, to be changed.
    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut V> {
        let (_, chunk) = self.chunks.get_mut(place.chunk)?;
        let entry = Arc::make_mut(chunk).get_mut(place.at);
        entry.map(|(_, value)| value)
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.at(self.find(key)?).map(|(_, value)| value)
    }

    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.at_mut(self.find(key)?)
    }

    /// Returns what was there before.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let place = self.chunk_of(&key);
        if let Some((_, chunk)) = place.and_then(|place| self.chunks.get_mut(place)) {
            match position(chunk, &key) {
                Ok(at) => {
                    let (_, known) = &mut Arc::make_mut(chunk)[at];
                    return Some(std::mem::replace(known, value));
                }
                Err(at) if chunk.len() < MOST => {
                    Arc::make_mut(chunk).insert(at, (key, value));
                    self.len += 1;
                    return None;
                }
                Err(_) => {}
            }
        }
        self.make_room(place, &key);
        self.insert(key, value)
    }

    /// One step towards a chunk that this key belongs to and that has room. `place` is the one it belongs to now.
    fn make_room(&mut self, place: Option<usize>, key: &K) {
        let Some(place) = place else {
            // Below everything: the first chunk gets a lower bound.
            match self.chunks.first_mut() {
                Some((bound, _)) => *bound = key.clone(),
                None => self.chunks.push((key.clone(), Arc::default())),
            }
            return;
        };
        let is_last = place + 1 == self.chunks.len();
        let (_, chunk) = &mut self.chunks[place];
        // Keys that rise leave full chunks behind.
        if is_last && chunk.last().is_some_and(|(last, _)| last < key) {
            self.chunks.push((key.clone(), Arc::default()));
            return;
        }
        let upper = Arc::make_mut(chunk).split_off(MOST / 2);
        if let Some((bound, _)) = upper.first() {
            self.chunks
                .insert(place + 1, (bound.clone(), Arc::new(upper)));
        }
    }

    /// The value of a key, a new one if there is none.
    pub(super) fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if self.find(&key).is_none() {
            self.insert(key.clone(), V::default());
        }
        // The lines above have found it or put it there.
        self.get_mut(&key).expect("is there")
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key)?;
        let (_, chunk) = &mut self.chunks[place.chunk];
        let (_, value) = Arc::make_mut(chunk).remove(place.at);
        let is_small = chunk.len() < FEW;
        self.len -= 1;
        if is_small {
            self.join(place.chunk);
        }
        Some(value)
    }

    /// Puts a small chunk together with the next one, or does away with it if it is empty.
    fn join(&mut self, place: usize) {
        let len = self.chunks[place].1.len();
        if len == 0 {
            self.chunks.remove(place);
            return;
        }
        // Well below what is cut again, so that entries which come and go do not join and cut.
        let has_room = |(_, next): &(K, Arc<Chunk<K, V>>)| len + next.len() <= MOST - FEW;
        if self.chunks.get(place + 1).is_some_and(has_room) {
            let (_, upper) = self.chunks.remove(place + 1);
            let (_, chunk) = &mut self.chunks[place];
            Arc::make_mut(chunk).extend(Arc::unwrap_or_clone(upper));
        }
    }

    /// Those behind `key`, or all, in order.
    pub(super) fn after(&self, key: Option<&K>) -> impl Iterator<Item = (&K, &V)> {
        let from = key.and_then(|key| self.chunk_of(key)).unwrap_or(0);
        let entries = self.chunks[from..].iter().flat_map(|(_, chunk)| &**chunk);
        let behind = key.cloned();
        let entries =
            entries.skip_while(move |(known, _)| behind.as_ref().is_some_and(|key| known <= key));
        entries.map(|(key, value)| (key, value))
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Map<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len))?;
        self.iter()
            .try_for_each(|(key, value)| map.serialize_entry(key, value))?;
        map.end()
    }
}

impl<'de, K, V> Deserialize<'de> for Map<K, V>
where
    K: Ord + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<K, V>(PhantomData<(K, V)>);

impl<'de, K, V> Visitor<'de> for Entries<K, V>
where
    K: Ord + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    type Value = Map<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Map<K, V>, A::Error> {
        let mut map = Map::default();
        while let Some((key, value)) = access.next_entry()? {
            map.insert(key, value);
        }
        Ok(map)
    }
}

/// First in, first out.
#[derive(Clone)]
pub(super) struct Queue<T> {
    /// All but the first and the last have [`MOST`] items; none is empty.
    chunks: VecDeque<Arc<VecDeque<T>>>,
    len: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            chunks: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Queue<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.from(0)
    }

    /// Without the first `skip`.
    pub(super) fn from(&self, mut skip: usize) -> impl Iterator<Item = &T> {
        let whole = |chunk: &&Arc<VecDeque<T>>| {
            let passed = skip >= chunk.len();
            skip -= if passed { chunk.len() } else { 0 };
            passed
        };
        let chunks = self.chunks.iter().take_while(whole).count();
        let rest = self.chunks.range(chunks..).flat_map(|chunk| chunk.iter());
        rest.skip(skip)
    }
}

impl<T: Clone> Queue<T> {
    pub(super) fn push_back(&mut self, item: T) {
        self.len += 1;
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < MOST => Arc::make_mut(chunk).push_back(item),
            _ => self.chunks.push_back(Arc::new(VecDeque::from([item]))),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let chunk = self.chunks.front_mut()?;
        let item = Arc::make_mut(chunk).pop_front();
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        self.len -= usize::from(item.is_some());
        item
    }
}

impl<T: PartialEq> PartialEq for Queue<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<T: fmt::Debug> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Serialize> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_seq(Some(self.len))?;
        self.iter()
            .try_for_each(|item| items.serialize_element(item))?;
        items.end()
    }
}

impl<'de, T: Clone + Deserialize<'de>> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = VecDeque::<T>::deserialize(deserializer)?;
        Ok(items.into_iter().collect())
    }
}

impl<T: Clone> FromIterator<T> for Queue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut queue = Self::default();
        items.into_iter().for_each(|item| queue.push_back(item));
        queue
    }
}

#[cfg(test)]
mod tests;
