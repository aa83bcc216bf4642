//! The sessions of one account by their resources: few, in order, in little memory.
//!
//! A tree's smallest node has room for eleven; most accounts have one session or two.

use serde::{Deserialize, Serialize};

use super::session::Session;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Resources(Vec<(Box<str>, Box<Session>)>);

impl Resources {
    fn place(&self, resource: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|(known, _)| (**known).cmp(resource))
    }

    pub(super) fn get(&self, resource: &str) -> Option<&Session> {
        let place = self.place(resource).ok()?;
        self.0.get(place).map(|(_, session)| &**session)
    }

    pub(super) fn get_mut(&mut self, resource: &str) -> Option<&mut Session> {
        let place = self.place(resource).ok()?;
        self.0.get_mut(place).map(|(_, session)| &mut **session)
    }

    /// Puts a session in the place of the one that has this resource, if there is one.
    pub(super) fn insert(&mut self, resource: &str, session: Session) {
        let session = Box::new(session);
        match self.place(resource) {
            Ok(place) => self.0[place].1 = session,
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (resource.into(), session));
            }
        }
    }

    pub(super) fn remove(&mut self, resource: &str) -> Option<Session> {
        let place = self.place(resource).ok()?;
        let (_, session) = self.0.remove(place);
        self.0.shrink_to_fit();
        Some(*session)
    }

    /// In the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Session)> + Clone {
        self.0
            .iter()
            .map(|(resource, session)| (&**resource, &**session))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Session> + Clone {
        self.0.iter().map(|(_, session)| &**session)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.0.iter_mut().map(|(_, session)| &mut **session)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
