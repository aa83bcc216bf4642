//! What services remember of a connection while it lasts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A text for each service that wants one. It spares work and nothing else: it is gone with the connection, and another
/// one that acts for the same session begins without.
///
/// One job of a session is under way at a time, so nobody ever waits for the lock.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Memory {
    /// Remembers a text in place of another one; returns whether it is another one.
    pub fn replace(&self, service: &'static str, text: &str) -> bool {
        // A text is whole even if a holder of the lock has panicked.
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.insert(service, text.to_owned()).as_deref() != Some(text)
    }
}
