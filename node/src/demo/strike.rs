//! Kills nodes while clients chat: one at a time, and none before the last one is back, so that a majority is always
//! there.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::conversation::Talk;
use super::nodes::Nodes;
use super::{DemoError, START};
use crate::clock;

/// How long a kill waits for messages to be under way in every direction.
const AIM: Duration = Duration::from_millis(200);

/// Kills a node now and then.
pub(super) struct Striker {
    /// How often; zero stands for never.
    every: Duration,
    next: Instant,
    last: Option<usize>,
}

impl Striker {
    /// The first kill comes after `every`.
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            next: clock::timer() + every,
            last: None,
        }
    }

    /// How often nodes are killed.
    pub(super) fn every(&self) -> Duration {
        self.every
    }

    /// Kills members until the time is over.
    pub(super) async fn until(
        &mut self,
        end: Instant,
        nodes: &mut Nodes,
        talk: &Talk,
    ) -> Result<(), DemoError> {
        while self.next < end && !self.every.is_zero() {
            sleep_until(self.next).await;
            let members = nodes.members();
            let victim = members[choose(&members, self.last)];
            self.strike(victim, nodes, talk).await?;
        }
        sleep_until(end).await;
        Ok(())
    }

    /// Kills this node, and waits until it is back.
    pub(super) async fn strike(
        &mut self,
        victim: usize,
        nodes: &mut Nodes,
        talk: &Talk,
    ) -> Result<(), DemoError> {
        self.last = Some(victim);
        aim(talk).await;
        // The kill is recorded before the signal is sent, so that no client can be back before it is.
        talk.tally().kill(victim, clock::instant());
        let in_flight = talk.tally().in_flight();
        nodes.kill(victim).await?;
        talk.progress.event(&format!(
            "kill -9 of node {}, with {} messages under way in {} of {} directions",
            victim + 1,
            in_flight.messages,
            in_flight.directions,
            talk.tally().directions(),
        ));
        sleep(self.every / 2).await;
        nodes.start(victim)?;
        let took = nodes.ready(victim, START).await?;
        let took = took.as_secs_f64();
        talk.progress.event(&format!(
            "node {} is back, {took:.2} s after its start",
            victim + 1
        ));
        self.next = (self.next + self.every).max(clock::timer());
        Ok(())
    }
}

/// Chooses the place of a random member, but not of the last one again, whose clients are elsewhere.
fn choose(members: &[usize], last: Option<usize>) -> usize {
    let last = last.and_then(|last| members.iter().position(|member| *member == last));
    match last {
        Some(last) if members.len() > 1 => {
            (last + 1 + clock::below(members.len() - 1)) % members.len()
        }
        _ => clock::below(members.len()),
    }
}

/// Has every client send a burst, and waits until messages are under way in every direction.
async fn aim(talk: &Talk) {
    let deadline = clock::timer() + AIM;
    talk.burst.send_modify(|count| *count += 1);
    loop {
        let (in_flight, directions) = {
            let tally = talk.tally();
            (tally.in_flight(), tally.directions())
        };
        if in_flight.directions == directions || clock::timer() > deadline {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_victim_is_spared_unless_it_is_alone() {
        for _ in 0..50 {
            assert_ne!(choose(&[0, 1, 4], Some(4)), 2);
        }
        assert_eq!(choose(&[7], Some(7)), 0);
    }
}
