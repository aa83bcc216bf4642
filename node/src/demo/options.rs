//! The options of the demo.

use std::time::Duration;

use super::outside::Outside;
use crate::config::parse_duration;

/// The longest that a demo may last.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The shortest time between kills: nodes that are killed more often never come back.
const SHORTEST: Duration = Duration::from_millis(100);
/// The slowest pace: clients that hardly speak would not show what is lost.
const SLOWEST: Duration = Duration::from_secs(60);

/// How many nodes a cluster begins with that grows.
const FOUNDERS: usize = 3;

/// What `holdfast demo` does.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct DemoOptions {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub nodes: usize,
    /// How many clients; they sit in a ring, and each chats with its neighbours
    #[arg(long, default_value_t = 6, value_name = "N")]
    pub clients: usize,
    /// For how long, e.g. 60s or 5m
    #[arg(long, default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// How often each client sends a message; many clients at a fast pace measure the machine
    #[arg(long, default_value = "25ms", value_parser = parse_duration, value_name = "TIME")]
    pub pace: Duration,
    /// How often a node is killed; 0 = never
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub kill_every: Duration,
    /// Begin with 3 nodes, grow to --nodes while clients chat, and shrink to 3 again
    #[arg(long)]
    pub scale: bool,
    /// Keep the nodes' configurations and logs even if all is well
    #[arg(long)]
    pub keep: bool,
    /// End with one JSON object
    #[arg(long)]
    pub json: bool,
    /// A cluster that runs elsewhere
    #[command(flatten)]
    pub outside: Option<Outside>,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            clients: 6,
            duration: Duration::from_secs(30),
            pace: Duration::from_millis(25),
            kill_every: Duration::from_secs(5),
            scale: false,
            keep: false,
            json: false,
            outside: None,
        }
    }
}

/// Options that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOptions {
    /// Two nodes have no majority without each other.
    #[error("--nodes must be 1, or 3 to 9: of two nodes neither goes on without the other")]
    Nodes,
    /// There is nothing to grow to.
    #[error("--scale begins with 3 nodes, so --nodes must be 4 to 9")]
    Scale,
    /// There are too few or too many clients.
    #[error("--clients must be 2 to 1000")]
    Clients,
    /// Times that make no sense.
    #[error("--kill-every must be 0 or at least 100ms, --pace 1ms to 1m, --duration at most 24h")]
    Times,
}

impl DemoOptions {
    /// How many nodes there are at the start, and at the end.
    pub fn founders(&self) -> usize {
        match self.scale {
            true => FOUNDERS,
            false => self.nodes,
        }
    }

    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), BadOptions> {
        if !matches!(self.nodes, 1 | 3..=9) {
            return Err(BadOptions::Nodes);
        }
        if self.scale && self.nodes <= FOUNDERS {
            return Err(BadOptions::Scale);
        }
        if !(2..=1000).contains(&self.clients) {
            return Err(BadOptions::Clients);
        }
        let kills = self.kill_every.is_zero() || (SHORTEST..=LONGEST).contains(&self.kill_every);
        let pace = (Duration::from_millis(1)..=SLOWEST).contains(&self.pace);
        match kills && pace && self.duration <= LONGEST {
            true => Ok(()),
            false => Err(BadOptions::Times),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    fn parse(line: &str) -> Result<DemoOptions, clap::Error> {
        let command = DemoOptions::augment_args(clap::Command::new("demo"));
        let matches = command.try_get_matches_from(line.split(' '))?;
        DemoOptions::from_arg_matches(&matches)
    }

    #[test]
    fn the_defaults_of_the_command_line_are_the_defaults() {
        assert_eq!(parse("demo").unwrap(), DemoOptions::default());
        assert_eq!(DemoOptions::default().check(), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let check = |line: &str| parse(line).unwrap().check();
        assert_eq!(check("demo --nodes 2"), Err(BadOptions::Nodes));
        assert_eq!(check("demo --scale"), Err(BadOptions::Scale));
        assert_eq!(check("demo --nodes 4 --scale"), Ok(()));
        assert_eq!(check("demo --clients 1"), Err(BadOptions::Clients));
        assert_eq!(check("demo --kill-every 1ms"), Err(BadOptions::Times));
        assert_eq!(check("demo --pace 0"), Err(BadOptions::Times));
        assert_eq!(check("demo --pace 2m"), Err(BadOptions::Times));
        assert_eq!(check("demo --duration 25h"), Err(BadOptions::Times));
        assert_eq!(check("demo --nodes 1 --clients 2 --kill-every 0"), Ok(()));
    }

    #[test]
    fn a_cluster_elsewhere_needs_certificates_and_accounts() {
        let all = "demo --against h:1 --ca c.pem --accounts a.csv";
        let outside = parse(all).unwrap().outside.unwrap();
        assert_eq!(outside.against, "h:1");
        assert_eq!(outside.accounts.to_str(), Some("a.csv"));
        for wrong in [
            "demo --against h:1",
            "demo --against h:1 --ca c.pem",
            "demo --ca c.pem",
            &format!("{all} --nodes 3"),
            &format!("{all} --clients 3"),
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
