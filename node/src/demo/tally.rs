//! The tally of the demo: which messages were sent, which arrived, and which did not arrive as they should.
//!
//! Each pair of sender and receiver is a direction with numbers of its own, 1, 2, 3 …; a receiver must
//! see every number once and in that order. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time that the histogram can hold: ten minutes, in microseconds.
const LONGEST: u64 = 600_000_000;

/// What happened to the messages and sessions of a run.
#[derive(Debug)]
pub struct Tally {
    directions: BTreeMap<(usize, usize), Direction>,
    acknowledged: u64,
    bounced: u64,
    /// The directions in which the sender was once seen online by the receiver.
    acquainted: BTreeSet<(usize, usize)>,
    flaps: u64,
    joined: u64,
    left: u64,
    /// When each node was last killed.
    killed: BTreeMap<usize, Instant>,
    kills: u64,
    resumes: u64,
    failed_resumes: u64,
    /// Times to resume in microseconds.
    times: Histogram<u64>,
    in_flight_min: Option<InFlight>,
}

/// The messages of one sender to one receiver.
#[derive(Debug, Default)]
struct Direction {
    sent: u64,
    /// The number that the receiver has to see next.
    next: u64,
    /// Numbers below `next` that it has not seen.
    missing: BTreeSet<u64>,
    duplicated: u64,
    reordered: u64,
}

impl Direction {
    /// Distinct messages that came.
    fn delivered(&self) -> u64 {
        self.next - self.missing.len() as u64
    }

    fn came(&mut self, number: u64) {
        let number = number.saturating_sub(1);
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.reordered += 1;
        } else {
            self.duplicated += 1;
        }
    }
}

/// Messages that were sent and have not arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct InFlight {
    /// Directions with at least one of them.
    pub directions: usize,
    /// How many messages.
    pub messages: u64,
}

impl Tally {
    /// Starts with nothing sent, for these directions.
    pub fn new(
        directions: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            directions: directions
                .into_iter()
                .map(|d| (d, Direction::default()))
                .collect(),
            acknowledged: 0,
            bounced: 0,
            acquainted: BTreeSet::new(),
            flaps: 0,
            joined: 0,
            left: 0,
            killed: BTreeMap::new(),
            kills: 0,
            resumes: 0,
            failed_resumes: 0,
            times: Histogram::new_with_bounds(1, LONGEST, 3)?,
            in_flight_min: None,
        })
    }

    /// Records that a message is about to be sent. Returns its number.
    pub fn send(&mut self, from: usize, to: usize) -> u64 {
        let direction = self.directions.entry((from, to)).or_default();
        direction.sent += 1;
        direction.sent
    }

    /// Records that a message has arrived. One that was never sent counts as a duplicate.
    pub fn deliver(&mut self, from: usize, to: usize, number: u64) {
        let direction = self.directions.entry((from, to)).or_default();
        match (1..=direction.sent).contains(&number) {
            true => direction.came(number),
            false => direction.duplicated += 1,
        }
    }

    /// Records that the server has acknowledged so many more messages.
    pub fn acknowledge(&mut self, count: usize) {
        self.acknowledged += count as u64;
    }

    /// Records that a message came back with an error.
    pub fn bounce(&mut self) {
        self.bounced += 1;
    }

    /// Records that a contact is online, as the receiver is told. Only contacts of the given directions count.
    pub fn appear(&mut self, from: usize, to: usize) {
        if self.directions.contains_key(&(from, to)) {
            self.acquainted.insert((from, to));
        }
    }

    /// Records that a contact is said to be offline.
    pub fn vanish(&mut self, from: usize, to: usize) {
        self.flaps += u64::from(self.directions.contains_key(&(from, to)));
    }

    /// Whether everybody has seen all contacts online.
    pub fn are_acquainted(&self) -> bool {
        self.acquainted.len() == self.directions.len()
    }

    /// Records that a node has joined the cluster.
    pub fn join(&mut self) {
        self.joined += 1;
    }

    /// Records that a node has left the cluster for good.
    pub fn leave(&mut self) {
        self.left += 1;
    }

    /// Records that a node is killed.
    pub fn kill(&mut self, node: usize, now: Instant) {
        self.kills += 1;
        self.killed.insert(node, now);
        let in_flight = self.in_flight();
        let least = self
            .in_flight_min
            .map_or(in_flight, |least| least.min(in_flight));
        self.in_flight_min = Some(least);
    }

    /// Whether that node was killed, as far as a connection can tell that began at `since`.
    pub fn was_killed(&self, node: Option<usize>, since: Instant) -> Option<Instant> {
        let killed = self.killed.get(&node?).copied();
        killed.filter(|killed| *killed >= since)
    }

    /// Records that a client has resumed after its connection was lost at `lost`, and returns how long that took. If a
    /// kill has cut the connection the time counts from the kill, which is earlier than the client could notice.
    pub fn resume(&mut self, killed: Option<Instant>, lost: Instant, now: Instant) -> f64 {
        let since = killed.map_or(lost, |killed| killed.min(lost));
        let time = now.saturating_duration_since(since);
        self.resumes += 1;
        self.times
            .saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST));
        time.as_secs_f64() * 1000.0
    }

    /// Records that a session could not be resumed.
    pub fn fail(&mut self) {
        self.failed_resumes += 1;
    }

    /// The messages that were sent and have not arrived.
    pub fn in_flight(&self) -> InFlight {
        let open = self
            .directions
            .values()
            .map(|d| d.sent - d.delivered())
            .filter(|open| *open > 0);
        open.fold(InFlight::default(), |sum, open| InFlight {
            directions: sum.directions + 1,
            messages: sum.messages + open,
        })
    }

    /// How many directions there are.
    pub fn directions(&self) -> usize {
        self.directions.len()
    }

    /// Whether everything that was sent has arrived and is acknowledged.
    pub fn is_settled(&self) -> bool {
        self.in_flight().messages == 0 && self.acknowledged >= self.sent()
    }

    fn sent(&self) -> u64 {
        self.directions
            .values()
            .map(|direction| direction.sent)
            .sum()
    }

    /// Sums everything up.
    pub fn report(&self) -> Report {
        let sum = |count: fn(&Direction) -> u64| self.directions.values().map(count).sum();
        let quantile = |q| match self.times.is_empty() {
            true => None,
            false => Some(millis(self.times.value_at_quantile(q))),
        };
        Report {
            sent: self.sent(),
            acknowledged: self.acknowledged,
            delivered: sum(Direction::delivered),
            lost: self.in_flight().messages,
            duplicated: sum(|direction| direction.duplicated),
            reordered: sum(|direction| direction.reordered),
            bounced: self.bounced,
            presence_flaps: self.flaps,
            joined: self.joined,
            left: self.left,
            kills: self.kills,
            resumes: self.resumes,
            failed_resumes: self.failed_resumes,
            resume_ms: Times {
                p50: quantile(0.5),
                p99: quantile(0.99),
                max: quantile(1.0),
            },
            in_flight_min: self.in_flight_min.unwrap_or_default(),
        }
    }
}

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Messages that clients sent.
    pub sent: u64,
    /// Those that the server acknowledged.
    pub acknowledged: u64,
    /// Those that came, each counted once.
    pub delivered: u64,
    /// Those that did not come.
    pub lost: u64,
    /// Times that a message came again.
    pub duplicated: u64,
    /// Messages that came behind a later one.
    pub reordered: u64,
    /// Messages that came back with an error.
    pub bounced: u64,
    /// Times that a contact was said to be offline, though nobody had logged out.
    pub presence_flaps: u64,
    /// Nodes that joined while clients chatted.
    pub joined: u64,
    /// Nodes that left for good while clients chatted.
    pub left: u64,
    /// Nodes killed.
    pub kills: u64,
    /// Sessions that went on after their connection was lost.
    pub resumes: u64,
    /// Sessions that could not be resumed.
    pub failed_resumes: u64,
    /// From the kill to `<resumed/>`, in milliseconds.
    pub resume_ms: Times,
    /// The least that was under way at any kill.
    pub in_flight_min: InFlight,
}

/// Quantiles of a time, in milliseconds; none if it never passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// The median.
    pub p50: Option<f64>,
    /// All but a hundredth are below.
    pub p99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
}

impl Report {
    /// Whether every message came once and in order, every session went on, and no contact noticed anything.
    pub fn is_clean(&self) -> bool {
        let messages = self.lost == 0 && self.duplicated == 0 && self.reordered == 0;
        messages && self.failed_resumes == 0 && self.presence_flaps == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scaled = [("nodes joined", self.joined), ("nodes left", self.left)];
        let rows = [
            ("sent", self.sent),
            ("acknowledged", self.acknowledged),
            ("delivered", self.delivered),
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("reordered", self.reordered),
            ("bounced", self.bounced),
            ("kills", self.kills),
            ("resumes", self.resumes),
            ("failed resumes", self.failed_resumes),
            ("presence flaps", self.presence_flaps),
        ];
        let scaled = scaled.into_iter().filter(|(_, count)| *count > 0);
        for (name, value) in rows.into_iter().chain(scaled) {
            writeln!(f, "{name:>16}  {value:>9}")?;
        }
        let Times { p50, p99, max } = self.resume_ms;
        if let (Some(p50), Some(p99), Some(max)) = (p50, p99, max) {
            writeln!(
                f,
                "{:>16}  p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms",
                "time to resume"
            )?;
        }
        if self.kills > 0 {
            let InFlight {
                directions,
                messages,
            } = self.in_flight_min;
            writeln!(
                f,
                "{:>16}  at least {messages} messages in {directions} directions",
                "in flight"
            )?;
        }
        match self.is_clean() {
            true => writeln!(f, "\nNothing lost, nothing twice, nothing out of order."),
            false => writeln!(
                f,
                "\nFAILED: messages were lost, duplicated or reordered, or sessions were lost."
            ),
        }
    }
}

/// Milliseconds, to a hundredth.
fn millis(micros: u64) -> f64 {
    (micros as f64 / 10.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tally(sent: u64) -> Tally {
        let mut tally = Tally::new([(0, 1), (1, 0)]).unwrap();
        for _ in 0..sent {
            tally.send(0, 1);
        }
        tally
    }

    /// Sends five, delivers these: lost, duplicated, reordered.
    #[track_caller]
    fn check(came: &[u64], expect: (u64, u64, u64)) {
        let mut tally = tally(5);
        for number in came {
            tally.deliver(0, 1, *number);
        }
        let report = tally.report();
        assert_eq!(
            (report.lost, report.duplicated, report.reordered),
            expect,
            "{came:?}"
        );
        assert_eq!(report.is_clean(), expect == (0, 0, 0));
    }

    #[test]
    fn p2_every_number_once_and_in_order_is_clean() {
        check(&[1, 2, 3, 4, 5], (0, 0, 0));
    }

    #[test]
    fn what_does_not_come_is_lost() {
        check(&[], (5, 0, 0));
        check(&[1, 2, 4, 5], (1, 0, 0));
        check(&[1, 2, 3, 4], (1, 0, 0));
    }

    #[test]
    fn what_comes_again_is_duplicated() {
        check(&[1, 2, 2, 3, 4, 5], (0, 1, 0));
        check(&[1, 2, 3, 4, 5, 1, 5], (0, 2, 0));
        check(&[1, 2, 3, 4, 5, 6], (0, 1, 0));
    }

    #[test]
    fn what_comes_behind_a_later_one_is_reordered() {
        check(&[1, 3, 2, 4, 5], (0, 0, 1));
        check(&[3, 1, 2, 2, 4, 5], (0, 1, 2));
    }

    #[test]
    fn a_resume_counts_from_the_kill() {
        let mut tally = tally(1);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        tally.kill(2, at(5));
        assert_eq!(tally.was_killed(Some(2), at(0)), Some(at(5)));
        assert_eq!(tally.was_killed(Some(2), at(6)), None);
        assert_eq!(tally.was_killed(Some(1), at(0)), None);
        assert!((tally.resume(Some(at(0)), at(3), at(40)) - 40.0).abs() < 0.1);
        assert!((tally.resume(None, at(30), at(40)) - 10.0).abs() < 0.1);
        let report = tally.report();
        assert_eq!((report.kills, report.resumes), (1, 2));
        assert!((report.resume_ms.max.unwrap() - 40.0).abs() < 0.1);
        assert_eq!(
            report.in_flight_min,
            InFlight {
                directions: 1,
                messages: 1
            }
        );
    }

    #[test]
    fn a_session_that_ends_or_seems_to_is_not_clean() {
        let mut tally = tally(0);
        tally.appear(0, 1);
        tally.appear(1, 1);
        assert!(!tally.are_acquainted());
        tally.appear(1, 0);
        assert!(tally.are_acquainted());
        tally.vanish(1, 1);
        assert!(tally.report().is_clean(), "nobody is their own contact");
        tally.vanish(1, 0);
        assert_eq!(tally.report().presence_flaps, 1);
        assert!(!tally.report().is_clean());
        let mut tally = self::tally(0);
        tally.fail();
        assert!(!tally.report().is_clean());
    }

    #[test]
    fn a_run_is_settled_when_all_is_acknowledged_and_delivered() {
        let mut tally = tally(1);
        tally.deliver(0, 1, 1);
        assert!(!tally.is_settled());
        tally.acknowledge(1);
        assert!(tally.is_settled());
        assert!(tally.report().to_string().contains("Nothing lost"));
    }

    #[test]
    fn a_program_finds_every_number() {
        let json = serde_json::to_value(tally(1).report()).unwrap();
        for name in [
            "sent",
            "acknowledged",
            "delivered",
            "lost",
            "duplicated",
            "reordered",
            "kills",
            "resumes",
            "failed_resumes",
            "presence_flaps",
            "joined",
            "left",
        ] {
            assert!(json[name].is_u64(), "{name}");
        }
        assert!(json["resume_ms"].get("p50").is_some());
    }
}
