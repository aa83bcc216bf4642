//! Tells Redis who hibernates, and the shard what operators have set in Redis.
//!
//! The shard has decided already: this runs behind the entries and nothing waits for it. While Redis is
//! away there is nothing to do, for the shard holds the limits by itself. Every fifteen seconds, and at once after
//! a reconnect or when it has missed something, it goes over all accounts and makes Redis agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::BareJid;
use redis::Cmd;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, sleep_until};

use super::{Group, News, Queue};
use crate::limit::script::{Answer, Decision, Odd, Verdict, What, compare};
use crate::limit::store::{Store, StoreError};
use crate::limit::{Address, Tally};
use crate::session::{Command, Limits, Occasion, Quota};

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
/// Decisions taken together; more wait.
const TAKEN: usize = 4 * BATCH;
/// Pauses between attempts to connect.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Which Redis a node uses, if any, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Where it is.
    pub address: Option<Address>,
    /// What is counted.
    pub tally: Arc<Tally>,
}

/// Runs for as long as this node leads.
pub async fn run<G: Group>(group: Arc<G>, queue: Queue, ledger: Ledger) {
    let news = group.news();
    match ledger.address {
        Some(address) => {
            let keeper = Keeper::new(group, queue, address, ledger.tally);
            keeper.run(news).await;
        }
        None => count(news, &ledger.tally).await,
    }
}

/// Without Redis the shard decides alone.
async fn count(mut news: Receiver<News>, tally: &Tally) {
    loop {
        match news.recv().await {
            Ok(some) => tally.decided(false, admitted(&some)),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn admitted(news: &News) -> usize {
    let starts = |what| matches!(what, Occasion::HibernationStart { .. });
    news.iter().filter(|notice| starts(notice.what)).count()
}

struct Keeper<G> {
    group: Arc<G>,
    queue: Queue,
    address: Address,
    tally: Arc<Tally>,
    store: Option<Store>,
    /// When the next page, or the next attempt to connect, is due.
    due: Instant,
    /// Behind which account the next page begins; none = a new round.
    place: Option<BareJid>,
    pause: Duration,
    /// Accounts whose limits were taken from Redis in this round: once is enough, whatever it says.
    taken: BTreeSet<BareJid>,
}

impl<G: Group> Keeper<G> {
    fn new(group: Arc<G>, queue: Queue, address: Address, tally: Arc<Tally>) -> Self {
        Self {
            group,
            queue,
            address,
            tally,
            store: None,
            due: Instant::now(),
            place: None,
            pause: SHORTEST,
            taken: BTreeSet::new(),
        }
    }

    async fn run(mut self, mut news: Receiver<News>) {
        loop {
            tokio::select! {
                heard = news.recv() => match heard {
                    Ok(first) => self.decide(gather(first, &mut news)).await,
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
        self.due = Instant::now() + pause;
    }

    /// Has Redis hear of what was decided.
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
            self.tally.decided(told.is_some(), starts);
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
                self.due = Instant::now();
            }
            None => self.complete().await,
        }
    }

    /// Redis agrees with all that there is.
    async fn complete(&mut self) {
        // An empty round has not shown that it answers.
        let probe = match &self.store {
            Some(store) => store.scripts().probe(),
            None => return,
        };
        if self.ask(vec![probe]).await.is_none() {
            return;
        }
        self.pause = SHORTEST;
        self.start_over(EVERY);
        if self.tally.is_back() {
            tracing::info!(shard = %self.group.shard(), "Redis is back and agrees about limits");
        }
    }

    /// Makes Redis agree about these accounts. False if it is away.
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

    /// Limits that make no sense are overwritten, as if there were none.
    fn verdict(&self, quota: &Quota, answer: &Result<Answer, Odd>) -> Verdict {
        match answer {
            Ok(answer) => compare(quota.set, answer.set),
            Err(Odd) => {
                self.tally.failed();
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
            // Evictions are the shard's as well, unless it knows better.
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

    /// The shard gets what an operator has set in Redis.
    fn take(&mut self, account: &BareJid, limits: Limits) {
        if self.taken.insert(account.clone()) {
            let Limits { hibernated, old } = limits;
            tracing::info!(%account, hibernated, old, "limits were set in Redis");
            let account = account.clone();
            let limits = Some(limits);
            self.queue
                .propose_lazily(Command::SetLimits { account, limits });
        }
    }

    /// Asks Redis. None: it is away.
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
        self.tally.failed();
        if self.tally.is_away() {
            tracing::warn!(
                shard = %self.group.shard(), %error,
                "Redis is away; the shards hold limits by themselves"
            );
        }
        self.start_over(self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
    }
}

/// What there is to tell, as far as it is known.
fn gather(first: News, news: &mut Receiver<News>) -> Vec<Decision> {
    let mut decisions: Vec<_> = first.iter().filter_map(Decision::of).collect();
    while decisions.len() < TAKEN {
        // That something was missed is told again by the next call.
        let Ok(more) = news.try_recv() else { break };
        decisions.extend(more.iter().filter_map(Decision::of));
    }
    decisions
}
