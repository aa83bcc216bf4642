//! Logs when a node stops being ready and why, and when it is ready again. Balancers learn it from `/readyz`, people
//! from the log.

use std::sync::Arc;
use std::time::Duration;

use crate::app::{App, Unready};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// How many checks in a row must differ from what was logged last. Leaders move in less time.
const HELD: u32 = 4;

/// Runs from the moment when the node was ready first, until it is stopped.
pub async fn watch(app: Arc<App>) {
    let mut spell = Spell::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let found = app.ready();
        if matches!(found, Err(Unready::Draining)) {
            return;
        }
        match spell.look(found.is_ok()) {
            Some(true) => tracing::info!("ready again"),
            Some(false) => {
                let reason = found.err().map(|unready| unready.to_string());
                tracing::warn!(reason, "not ready: balancers send clients elsewhere");
            }
            None => {}
        }
    }
}

/// Remembers what was logged last, and for how many checks it was different. Pure.
#[derive(Debug, Default)]
struct Spell {
    is_unready: bool,
    otherwise: u32,
}

impl Spell {
    /// Takes the result of a check. Returns it if it has to be logged.
    fn look(&mut self, is_ready: bool) -> Option<bool> {
        if is_ready != self.is_unready {
            self.otherwise = 0;
            return None;
        }
        self.otherwise += 1;
        if self.otherwise < HELD {
            return None;
        }
        self.otherwise = 0;
        self.is_unready = !is_ready;
        Some(is_ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_and_what_passes_is_not() {
        let mut spell = Spell::default();
        let mut looks = |is_ready, times: u32| -> Vec<bool> {
            (0..times).filter_map(|_| spell.look(is_ready)).collect()
        };
        assert_eq!(looks(true, 9), [true; 0]);
        assert_eq!(looks(false, HELD - 1), [true; 0]);
        assert_eq!(looks(true, 1), [true; 0]);
        assert_eq!(looks(false, 3 * HELD), [false]);
        assert_eq!(looks(true, HELD - 1), [true; 0]);
        assert_eq!(looks(true, 2 * HELD), [true]);
    }
}
