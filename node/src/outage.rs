//! Sends clients away from a node that reaches no majority, or that cannot take entries because it lacks room.
//!
//! Nothing can be committed from such a node, or nothing reaches it that was committed elsewhere, and a client that
//! has nothing to say does not notice. So after five seconds the node's listeners close, which turns clients and
//! balancers to other nodes, and the connections of the shards concerned close without ending their sessions,
//! which are resumed elsewhere. When all is well again the listeners open. A node that is alone does the same:
//! who tries again and again is told the truth, and one who is connected would not be.
//!
//! Time is counted in checks and not by a clock, because a paused process has missed nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::ShardId;
use cluster::status::NotReady;
use tokio::sync::watch;

use crate::app::App;
use crate::drain::paced;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// After so many checks a loss is logged. Leaders move in less time.
const LOST: u32 = 2;
/// After so many checks clients are sent away, and again after as many more, for those that came in between.
const AWAY: u32 = 10;
/// A cluster that has never had a majority gets so many checks to find one: nodes may still be starting.
const START: u32 = 30;

/// Runs for as long as the node does. `open` says whether it listens.
pub async fn watch(app: Arc<App>, open: watch::Sender<bool>) {
    let mut outage = Outage::default();
    loop {
        let cut = app.cluster.cut_off();
        let count = i64::try_from(cut.len()).unwrap_or(i64::MAX);
        app.metrics.cut_off.set(count);
        let turn = outage.look(&cut);
        match turn.news {
            Some(News::Lost(why)) => {
                tracing::error!("this node reaches no majority and can commit nothing: {why}");
            }
            Some(News::Back) => tracing::info!("this node reaches a majority again"),
            None => {}
        }
        let was_open = open.send_replace(turn.open && !app.maintenance.is_closed());
        match (was_open, cut.first()) {
            (true, Some((_, why))) if !turn.open => {
                tracing::warn!(
                    "clients are sent away, and the listeners are closed for as long as {why}"
                );
            }
            (false, None) if *open.borrow() => tracing::info!("the node listens again"),
            _ => {}
        }
        if !turn.away.is_empty() {
            let of = |shard| turn.away.contains(&shard);
            let those = app
                .directory
                .connections_of(|account| of(app.cluster.shard_of(account)));
            let app = app.clone();
            actix_rt::spawn(async move {
                paced(&those, app.live.get().drain.spread, |conn| {
                    app.directory.send_away(conn);
                })
                .await;
            });
        }
        cluster::beat(LOOK).await;
    }
}

/// Counts for how many checks shards were out of reach. Pure.
#[derive(Debug, Default)]
struct Outage {
    looks: BTreeMap<ShardId, u32>,
    /// Whether all was well once. Before that the cluster is only starting.
    begun: bool,
    said: bool,
}

/// What follows from a look.
#[derive(Debug, PartialEq)]
struct Turn {
    news: Option<News>,
    /// Whether clients are welcome.
    open: bool,
    /// The shards whose clients are sent away now.
    away: Vec<ShardId>,
}

/// What is worth a line in the log.
#[derive(Debug, PartialEq)]
enum News {
    Lost(NotReady),
    Back,
}

impl Outage {
    fn look(&mut self, cut: &[(ShardId, NotReady)]) -> Turn {
        let longer = |(shard, _): &(ShardId, NotReady)| {
            let before = self.looks.get(shard).copied().unwrap_or_default();
            (*shard, before.saturating_add(1))
        };
        self.looks = cut.iter().map(longer).collect();
        let longest = self.looks.values().copied().max().unwrap_or_default();
        let (patience, leave) = match self.begun {
            true => (LOST, AWAY),
            false => (START, START),
        };
        let news = match cut.first() {
            // A shortage, and its end, are logged where it is measured.
            Some((_, NotReady::Short(_))) => None,
            Some((_, why)) if longest >= patience && !self.said => {
                self.said = true;
                Some(News::Lost(*why))
            }
            Some(_) => None,
            None => {
                self.begun = true;
                std::mem::take(&mut self.said).then_some(News::Back)
            }
        };
        let due = self
            .looks
            .iter()
            .filter(|(_, looks)| **looks >= leave && looks.is_multiple_of(AWAY));
        Turn {
            news,
            open: longest < leave,
            away: due.map(|(shard, _)| *shard).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use cluster::room::Shortage;

    use super::*;

    const CUT: (ShardId, NotReady) = (ShardId(1), NotReady::NoQuorum(ShardId(1)));

    /// Looks so often at a shard that is out of reach; the last turn.
    fn cut(outage: &mut Outage, looks: u32) -> Turn {
        let turns = (0..looks).map(|_| outage.look(&[CUT]));
        turns.last().expect("at least one")
    }

    fn quiet(open: bool) -> Turn {
        let (news, away) = (None, Vec::new());
        Turn { news, open, away }
    }

    #[test]
    fn clients_are_sent_away_after_five_seconds_and_welcome_when_all_is_well() {
        let mut outage = Outage::default();
        assert_eq!(outage.look(&[]), quiet(true));
        assert_eq!(cut(&mut outage, LOST - 1), quiet(true));
        let said = cut(&mut outage, 1);
        assert_eq!(said.news, Some(News::Lost(CUT.1)));
        assert_eq!(cut(&mut outage, AWAY - LOST - 1), quiet(true));
        let away = Turn {
            away: vec![ShardId(1)],
            ..quiet(false)
        };
        assert_eq!(cut(&mut outage, 1), away);
        assert_eq!(cut(&mut outage, AWAY - 1), quiet(false));
        assert_eq!(cut(&mut outage, 1), away);
        let back = outage.look(&[]);
        assert_eq!((back.news, back.open), (Some(News::Back), true));
    }

    #[test]
    fn t_75_who_takes_no_entries_sends_clients_away_and_says_why_but_once() {
        let short = NotReady::Short(Shortage::Full);
        let both = [(ShardId(0), short), (ShardId(1), short)];
        let mut outage = Outage::default();
        outage.look(&[]);
        let turns: Vec<Turn> = (0..AWAY).map(|_| outage.look(&both)).collect();
        assert!(turns.iter().all(|turn| turn.news.is_none()));
        let away = Turn {
            away: vec![ShardId(0), ShardId(1)],
            ..quiet(false)
        };
        assert_eq!(turns.last(), Some(&away));
        assert_eq!(outage.look(&[]), quiet(true));
    }

    #[test]
    fn a_cluster_that_starts_has_lost_nothing_yet() {
        let mut outage = Outage::default();
        assert_eq!(cut(&mut outage, START - 1), quiet(true));
        assert_eq!(cut(&mut outage, 1).news, Some(News::Lost(CUT.1)));
    }
}
