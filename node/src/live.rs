//! The configuration that is in force, parts of which may change while the node runs.
//!
//! The configuration is read anew when its file changes. Stream management, timeouts of connections, the times of a
//! drain, when nodes are given up, and limits of sessions and stanzas take effect at once, for sessions that exist too;
//! whatever else has changed waits for a restart, and is named.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Config;

/// Holds the configuration in force. Readers keep what they have read until they look again.
#[derive(Debug)]
pub struct Live(watch::Sender<Arc<Config>>);

impl Live {
    /// Begins with what the node was started with.
    pub fn new(config: Config) -> Self {
        Self(watch::Sender::new(Arc::new(config)))
    }

    /// The configuration, now.
    pub fn get(&self) -> Arc<Config> {
        self.0.borrow().clone()
    }

    /// The configuration, and its changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Config>> {
        self.0.subscribe()
    }

    /// Takes over what may change. Returns the sections in which something else has changed.
    pub fn reload(&self, fresh: &Config) -> Vec<&'static str> {
        let mut next = Config::clone(&self.0.borrow());
        next.sm = fresh.sm.clone();
        next.c2s.idle_timeout = fresh.c2s.idle_timeout;
        next.c2s.ping_timeout = fresh.c2s.ping_timeout;
        next.drain = fresh.drain.clone();
        next.limits.sessions_per_account = fresh.limits.sessions_per_account;
        next.limits.stanzas_per_second = fresh.limits.stanzas_per_second;
        next.limits.bytes_per_second = fresh.limits.bytes_per_second;
        if let (Some(next), Some(fresh)) = (&mut next.cluster, &fresh.cluster) {
            next.replace_after = fresh.replace_after;
            next.expected_size = fresh.expected_size;
        }
        let fixed = [
            ("domain", next.domains() == fresh.domains()),
            ("data_dir", next.data_dir() == fresh.data_dir()),
            ("c2s", next.c2s == fresh.c2s),
            ("web", next.web == fresh.web),
            ("tls", next.tls == fresh.tls),
            ("auth", next.auth == fresh.auth),
            ("storage", next.storage == fresh.storage),
            ("limits", next.limits == fresh.limits),
            ("quotas", next.quotas == fresh.quotas),
            ("redis", next.redis.is_some() == fresh.redis.is_some()),
            ("cluster", next.cluster == fresh.cluster),
            ("admin", next.admin == fresh.admin),
            ("log", next.log == fresh.log),
        ];
        let fixed = fixed.into_iter();
        let mut waiting: Vec<_> = fixed
            .filter_map(|(section, same)| (!same).then_some(section))
            .collect();
        for section in next.changed_tables(fresh) {
            if !waiting.contains(&section) {
                waiting.push(section);
            }
        }
        self.0.send_replace(Arc::new(next));
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services;

    fn config(sets: &[&str]) -> Config {
        let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
        Config::load(&services::needs().tables, None, &sets, []).unwrap()
    }

    #[test]
    fn what_may_change_does_and_the_rest_is_named() {
        let live = Live::new(config(&[]));
        let fresh = config(&[
            "sm.hibernation_time=7s",
            "c2s.ping_timeout=9s",
            "admin.listen=127.0.0.1:1",
            "limits.logins_per_minute=1",
        ]);
        assert_eq!(live.reload(&fresh), ["limits", "admin"]);
        let now = live.get();
        assert_eq!(now.sm.hibernation_time.as_secs(), 7);
        assert_eq!(now.c2s.ping_timeout.as_secs(), 9);
        assert_eq!(now.admin.listen.port(), 9090);
        assert_eq!(live.reload(&config(&[])), [""; 0]);
        // Services are told what they were started with.
        let sets = [
            "push.with_body=true",
            "quotas.vcard_bytes=1000",
            "quotas.push_bytes=1000",
        ];
        let mut waiting = live.reload(&config(&sets));
        waiting.sort_unstable();
        assert_eq!(waiting, ["push", "quotas"]);
    }

    #[test]
    fn when_a_node_is_given_up_may_change_and_where_it_listens_may_not() {
        let cluster = |more: &[&str]| {
            let peers = "cluster.peers=['1@127.0.0.1:1', '2@127.0.0.1:2']";
            let sets = [
                "domain=localhost",
                "cluster.node_id=1",
                "cluster.secret_file=s",
                peers,
            ];
            config(&[&sets[..], &["storage.url=sqlite:shared.db"], more].concat())
        };
        let sets = ["cluster.replace_after=7s", "cluster.expected_size=3"];
        let live = Live::new(cluster(&["cluster.listen=127.0.0.1:1"]));
        let waiting = live.reload(&cluster(
            &[&sets[..], &["cluster.listen=127.0.0.1:1"]].concat(),
        ));
        assert_eq!(waiting, [""; 0]);
        let patience = live.get().cluster.as_ref().unwrap().patience();
        assert_eq!(
            (patience.replace_after.as_secs(), patience.expected_size),
            (7, 3)
        );
        let elsewhere = cluster(&[&sets[..], &["cluster.listen=127.0.0.1:9"]].concat());
        assert_eq!(live.reload(&elsewhere), ["cluster"]);
    }
}
