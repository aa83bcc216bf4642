//! What operators see of this node, and may order: the admin interface's side of [`App`].

use std::path::PathBuf;

use cluster::session::{Command, EndReason, Outcome, SessionView};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use proto::{BareJid, Jid};

use crate::admin::http::{Node, SessionReport, SessionState, Unavailable};
use crate::admin::report::ClusterReport;
use crate::admin::token;
use crate::app::App;

impl Node for App {
    fn token_file(&self) -> PathBuf {
        self.file(token::FILE)
    }

    fn ready(&self) -> Result<(), String> {
        App::ready(self).map_err(|unready| unready.to_string())
    }

    fn metrics(&self) -> String {
        self.metrics_text()
    }

    fn cluster(&self) -> serde_json::Value {
        serde_json::to_value(ClusterReport::from(self.cluster.status())).unwrap_or_default()
    }

    fn sessions(&self, of: Option<&BareJid>, after: &str, max: usize) -> Vec<SessionReport> {
        let views = match of {
            Some(account) => self.cluster.read(account, |shard| shard.sessions(account)),
            None => {
                let all = self.cluster.read_all(|_, shard| {
                    let accounts = shard.accounts().flat_map(|account| shard.sessions(account));
                    page(accounts, after, max)
                });
                all.into_iter().flatten().collect()
            }
        };
        page(views.into_iter(), after, max)
            .into_iter()
            .map(report)
            .collect()
    }

    fn end(&self, session: Jid) -> BoxFuture<'static, Result<bool, Unavailable>> {
        let (cluster, account) = (self.cluster.clone(), session.bare());
        let command = Command::End {
            session,
            epoch: None,
            reason: EndReason::Admin,
        };
        async move {
            match cluster.propose(&account, command).await {
                Ok(outcome) => Ok(outcome == Outcome::Done),
                Err(_) => Err(Unavailable),
            }
        }
        .boxed()
    }
}

/// The first `max` sessions behind `after`, by address.
fn page(views: impl Iterator<Item = SessionView>, after: &str, max: usize) -> Vec<SessionView> {
    let mut views: Vec<_> = views.filter(|view| view.jid.as_str() > after).collect();
    views.sort_by(|a, b| a.jid.cmp(&b.jid));
    views.truncate(max);
    views
}

fn report(view: SessionView) -> SessionReport {
    let state = match view.owner {
        Some(_) => SessionState::Connected,
        None => SessionState::Hibernated,
    };
    SessionReport {
        jid: view.jid.to_string(),
        state,
        node: view.owner.map(|owner| owner.node.to_string()),
        epoch: view.epoch,
        resumable: view.resumable,
        queue: view.queue,
        queue_bytes: view.queue_bytes,
        queue_age_ms: view.oldest,
        priority: view.priority,
        hibernates_for_ms: view.hibernates_for,
    }
}
