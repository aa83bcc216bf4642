//! Keeps Redis informed of who hibernates, and tells the shard which limits operators have set in Redis.
//!
//! The shard has decided already, so this task runs behind the entries and nothing waits for it. While Redis is away it
//! does nothing, because the shard enforces the limits by itself. Every fifteen seconds, and at once after a reconnect
//! or when it has missed notices, it goes through all accounts and makes Redis agree with the shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::BareJid;
use redis::Cmd;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, sleep_until};

use super::script::{Answer, Decision, Odd, Verdict, What, compare};
use super::store::{Store, StoreError};
use super::{Address, LimitCounters};
use crate::clock;
use crate::propose::{Notices, Proposer, ShardGroup};
use crate::session::{Command, Limits, Quota, SessionEvent};

#[cfg(test)]
mod tests;

/// How often all accounts are compared. The sets in Redis live three times as long.
const EVERY: Duration = if cfg!(test) {
    Duration::from_millis(200)
} else {
    Duration::from_secs(15)
};
/// Accounts that are compared in one round trip.
const PAGE: usize = 128;
/// Decisions in one round trip.
pub const BATCH: usize = 512;
/// How many decisions are taken from the queue at a time.
const TAKEN: usize = 4 * BATCH;
/// The shortest and the longest pause between attempts to connect.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The Redis that a node uses, if any, and the counters that its leaders' tasks share.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    /// Its address; `None` if the shards are alone.
    pub address: Option<Address>,
    /// How limits were decided.
    pub counters: Arc<LimitCounters>,
}

/// Runs for as long as this node leads.
pub async fn run<G: ShardGroup>(group: Arc<G>, proposer: Proposer, mirror: Mirror) {
    let notices = group.notices();
    match mirror.address {
        Some(address) => {
            let mirror = MirrorTask::new(group, proposer, address, mirror.counters);
            mirror.run(notices).await;
        }
        None => count(notices, &mirror.counters).await,
    }
}

/// Only counts, because without Redis the shard decides alone.
async fn count(mut notices: Receiver<Notices>, counters: &LimitCounters) {
    loop {
        match notices.recv().await {
            Ok(some) => counters.decided(false, admitted(&some)),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn admitted(notices: &Notices) -> usize {
    let starts = |what| matches!(what, SessionEvent::HibernationStart { .. });
    notices.iter().filter(|notice| starts(notice.what)).count()
}

struct MirrorTask<G> {
    group: Arc<G>,
    proposer: Proposer,
    address: Address,
    counters: Arc<LimitCounters>,
    store: Option<Store>,
    /// When the next page, or the next attempt to connect, is due.
    due: Instant,
    /// The account behind which the next page begins; `None` begins a new round.
    place: Option<BareJid>,
    pause: Duration,
    /// Accounts whose limits were taken from Redis in this round. They are taken once per round, so that the two cannot
    /// go back and forth.
    taken: BTreeSet<BareJid>,
}

impl<G: ShardGroup> MirrorTask<G> {
    fn new(
        group: Arc<G>,
        proposer: Proposer,
        address: Address,
        counters: Arc<LimitCounters>,
    ) -> Self {
        Self {
            group,
            proposer,
            address,
            counters,
            store: None,
            due: clock::timer(),
            place: None,
            pause: SHORTEST,
            taken: BTreeSet::new(),
        }
    }

    async fn run(mut self, mut notices: Receiver<Notices>) {
        loop {
            tokio::select! {
                heard = notices.recv() => match heard {
                    Ok(first) => self.decide(gather(first, &mut notices)).await,
                    Err(RecvError::Lagged(_)) => self.start_over(Duration::ZERO),
                    Err(RecvError::Closed) => return,
                },
                () = sleep_until(self.due) => self.proceed().await,
            }
        }
    }

    fn start_over(&mut self, pause: Duration) {
        self.place = None;
        self.taken.clear();
        self.due = clock::timer() + pause;
    }

    /// Tells Redis of decisions.
    async fn decide(&mut self, decisions: Vec<Decision>) {
        for batch in decisions.chunks(BATCH) {
            let starts = batch.iter();
            let starts = starts.filter(|d| matches!(d.what, What::Hibernate { .. }));
            let starts = starts.count();
            let told = match &self.store {
                Some(store) => {
                    let calls = self.calls(store, batch);
                    self.ask(calls).await
                }
                None => None,
            };
            self.counters.decided(told.is_some(), starts);
            let Some(answers) = told else { continue };
            let accounts = batch.iter().map(|decision| &decision.account);
            self.settle(accounts.zip(answers)).await;
        }
    }

    fn calls(&self, store: &Store, batch: &[Decision]) -> Vec<Cmd> {
        let call = |decision: &Decision| {
            self.group.read(|state| {
                let set = state.override_of(&decision.account);
                store.scripts().decide(decision, state.settings(), set)
            })
        };
        batch.iter().map(call).collect()
    }

    /// Compares the next page of accounts, or tries to connect.
    async fn proceed(&mut self) {
        if self.store.is_none() {
            match Store::connect(&self.address).await {
                Ok(store) => self.store = Some(store),
                Err(error) => return self.away(&error),
            }
        }
        let place = self.place.take();
        let (page, next) = self.group.read(|state| state.quotas(place.as_ref(), PAGE));
        if !self.agree(&page).await {
            return;
        }
        match next {
            Some(account) => {
                self.place = Some(account);
                self.due = clock::timer();
            }
            None => self.complete().await,
        }
    }

    /// Ends a round: Redis agrees about all accounts.
    async fn complete(&mut self) {
        // If there were no accounts, nothing has shown yet that Redis answers.
        let probe = match &self.store {
            Some(store) => store.scripts().probe(),
            None => return,
        };
        if self.ask(vec![probe]).await.is_none() {
            return;
        }
        self.pause = SHORTEST;
        self.start_over(EVERY);
        if self.counters.is_back() {
            tracing::info!(shard = %self.group.shard(), "Redis is back and agrees about limits");
        }
    }

    /// Makes Redis agree about these accounts. Returns false if it is away.
    async fn agree(&mut self, page: &[Quota]) -> bool {
        let Some(store) = &self.store else {
            return false;
        };
        let calls = page.iter().map(|quota| store.scripts().agree(quota));
        let Some(answers) = self.ask(calls.collect()).await else {
            return false;
        };
        let mut tell = Vec::new();
        for (quota, answer) in page.iter().zip(answers) {
            match self.verdict(quota, &answer) {
                Verdict::Agreed => {}
                Verdict::Tell => tell.push(quota),
                Verdict::Take(limits) => self.take(&quota.account, limits),
            }
        }
        let Some(store) = &self.store else {
            return false;
        };
        let set = |quota: &&Quota| store.scripts().set(&quota.account, quota.set);
        let calls: Vec<Cmd> = tell.iter().map(set).collect();
        self.ask(calls).await.is_some()
    }

    /// Decides who is right about an account's limits. An answer that makes no sense is overwritten.
    fn verdict(&self, quota: &Quota, answer: &Result<Answer, Odd>) -> Verdict {
        match answer {
            Ok(answer) => compare(quota.set, answer.set),
            Err(Odd) => {
                self.counters.failed();
                Verdict::Tell
            }
        }
    }

    /// Compares what Redis says of accounts with what the shard says; what differs is mended at once.
    async fn settle(
        &mut self,
        answers: impl Iterator<Item = (&BareJid, Result<Answer, Odd>)> + Send,
    ) {
        let mut last = BTreeMap::new();
        for (account, answer) in answers {
            let evicted = answer.as_ref().map_or(0, |answer| answer.evicted.len());
            let entry: &mut (usize, _) = last.entry(account).or_insert((0, Err(Odd)));
            *entry = (entry.0 + evicted, answer);
        }
        let mut odd = Vec::new();
        for (account, (evicted, answer)) in last {
            let quota = self.group.read(|state| state.quota(account));
            // Redis may evict a session only if the account is full for the shard as well.
            let full = quota.hibernated.len() >= quota.max_hibernated as usize;
            let differs = match &answer {
                Ok(answer) => compare(quota.set, answer.set) != Verdict::Agreed,
                Err(Odd) => true,
            };
            if differs || (evicted > 0 && !full) {
                odd.push(quota);
            }
        }
        if !odd.is_empty() {
            self.agree(&odd).await;
        }
    }

    /// Proposes the limits that an operator has set in Redis.
    fn take(&mut self, account: &BareJid, limits: Limits) {
        if self.taken.insert(account.clone()) {
            let Limits { hibernated, old } = limits;
            tracing::info!(%account, hibernated, old, "limits were set in Redis");
            let account = account.clone();
            let limits = Some(limits);
            self.proposer
                .propose_lazily(Command::SetLimits { account, limits });
        }
    }

    /// Makes calls to Redis; `None` if it is away.
    async fn ask(&mut self, calls: Vec<Cmd>) -> Option<Vec<Result<Answer, Odd>>> {
        let asked = self.store.as_mut()?.ask(calls).await;
        match asked {
            Ok(answers) => Some(answers),
            Err(error) => {
                self.away(&error);
                None
            }
        }
    }

    fn away(&mut self, error: &StoreError) {
        self.store = None;
        self.counters.failed();
        if self.counters.is_away() {
            tracing::warn!(
                shard = %self.group.shard(), %error,
                "Redis is away; the shards hold limits by themselves"
            );
        }
        self.start_over(self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
    }
}

/// Collects the decisions that are waiting, up to a bound.
fn gather(first: Notices, notices: &mut Receiver<Notices>) -> Vec<Decision> {
    let mut decisions: Vec<_> = first.iter().filter_map(Decision::of).collect();
    while decisions.len() < TAKEN {
        // If notices were missed, the next `recv` says so.
        let Ok(more) = notices.try_recv() else { break };
        decisions.extend(more.iter().filter_map(Decision::of));
    }
    decisions
}
