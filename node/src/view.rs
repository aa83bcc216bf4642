//! Implements the admin interface for this node.

use std::collections::HashMap;
use std::path::PathBuf;

use cluster::id::Owner;
use cluster::session::{Command, EndReason, Outcome, SessionView, query};
use cluster::status::{MemberState, NodeStatus, ShardStatus};
use cluster::{ArchiveId, Cluster, RemoveError, ShardId};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use proto::{BareJid, Jid};
use serde::de::DeserializeOwned;

use crate::admin::announce::Unsaid;
use crate::admin::http::{Node, SessionReport, SessionState, Unavailable};
use crate::admin::limits::{Change, LimitsReport};
use crate::admin::ready::Check;
use crate::admin::report::{ClusterReport, Seats};
use crate::admin::token;
use crate::app::App;
use crate::clock;
use crate::hooks::Edge;
use crate::inquiry::{self, ClientOf, Inquiry};
use crate::maintenance::DrainError;
use crate::readiness;
use crate::services::{MOST_ANNOUNCED, announcement};
use crate::session::Directory;
use crate::trace::Mark;

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

    fn checks(&self) -> Vec<Check> {
        readiness::checks(self)
    }

    fn cluster(&self) -> BoxFuture<'static, serde_json::Value> {
        let cluster = self.cluster.clone();
        async move {
            let told: Vec<ShardStatus> = ask(&cluster, &Inquiry::Led).await;
            let report = ClusterReport::new(cluster.status(), &told);
            serde_json::to_value(report).unwrap_or_default()
        }
        .boxed()
    }

    fn remove(&self, seat: u64) -> BoxFuture<'static, Result<(), RemoveError>> {
        let cluster = self.cluster.clone();
        async move { cluster.remove(seat).await }.boxed()
    }

    fn drain(&self, seat: u64, drain: bool) -> BoxFuture<'static, Result<(), DrainError>> {
        let (cluster, maintenance) = (self.cluster.clone(), self.maintenance.clone());
        async move {
            let nodes = cluster.status().nodes;
            let is_drained = |node: &NodeStatus| match node.me {
                true => maintenance.is_on(),
                false => node.state == Some(MemberState::Draining),
            };
            let serves = |node: &NodeStatus| node.up && node.seat != seat && !is_drained(node);
            if drain && !nodes.iter().any(serves) {
                return Err(DrainError::Alone(seat));
            }
            if maintenance.ask(seat, drain) {
                return Ok(());
            }
            let told: Vec<u64> = ask(&cluster, &Inquiry::Drain { seat, drain }).await;
            match told.contains(&seat) {
                true => Ok(()),
                false => Err(DrainError::NotThere(seat)),
            }
        }
        .boxed()
    }

    fn sessions(
        &self,
        of: Option<&BareJid>,
        after: &str,
        max: usize,
    ) -> BoxFuture<'static, Result<Vec<SessionReport>, Unavailable>> {
        let (cluster, directory) = (self.cluster.clone(), self.directory.clone());
        let (of, after) = (of.cloned(), after.to_owned());
        async move {
            let views = match of {
                Some(account) => {
                    let of = account.clone();
                    let all = cluster.query(&of, query::Sessions { account });
                    all.await.map_err(|_| Unavailable)?
                }
                None => all_after(&cluster, &after, max).await?,
            };
            let page = page(views, &after, max);
            Ok(reports(&cluster, &directory, page).await)
        }
        .boxed()
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

    fn announce(
        &self,
        domain: Option<String>,
        text: String,
    ) -> BoxFuture<'static, Result<Vec<String>, Unsaid>> {
        let (cluster, edge) = (self.cluster.clone(), self.edge.clone());
        async move { announce(&cluster, &edge, domain, &text).await }.boxed()
    }

    fn trace(&self, id: String) -> BoxFuture<'static, Vec<Mark>> {
        let (cluster, edge) = (self.cluster.clone(), self.edge.clone());
        async move { trail(&cluster, &edge, id).await }.boxed()
    }

    fn limits(
        &self,
        account: BareJid,
    ) -> BoxFuture<'static, Result<Option<LimitsReport>, Unavailable>> {
        let (cluster, edge) = (self.cluster.clone(), self.edge.clone());
        async move {
            if !may_have_limits(&cluster, &edge, &account).await {
                return Ok(None);
            }
            let of = account.clone();
            let quota = cluster.query_latest(&account, query::QuotaOf { account: of });
            Ok(Some(quota.await.map_err(|_| Unavailable)?.into()))
        }
        .boxed()
    }

    fn set_limits(
        &self,
        account: BareJid,
        change: Change,
    ) -> BoxFuture<'static, Result<Option<LimitsReport>, Unavailable>> {
        let (cluster, edge, report) = (
            self.cluster.clone(),
            self.edge.clone(),
            self.limits(account.clone()),
        );
        async move {
            if !may_have_limits(&cluster, &edge, &account).await {
                return Ok(None);
            }
            let of = account.clone();
            let set = cluster.query_latest(&account, query::OverrideOf { account: of });
            let set = set.await.map_err(|_| Unavailable)?;
            let limits = Some(change.applied_to(set.limits));
            let command = Command::SetLimits {
                account: account.clone(),
                limits,
            };
            let done = cluster.propose(&account, command).await;
            done.map_err(|_| Unavailable)?;
            report.await
        }
        .boxed()
    }
}

/// Whether limits may be set for this account: it exists, or it still has limits, which may be removed after the
/// account is gone.
async fn may_have_limits(cluster: &Cluster, edge: &Edge, account: &BareJid) -> bool {
    let of = account.clone();
    let set = cluster
        .query(account, query::OverrideOf { account: of })
        .await;
    set.is_ok_and(|set| set.version > 0) || edge.accounts.exists(account).await.unwrap_or(true)
}

/// The steps that all nodes saw of the message with this archive id, or of those with this id of their senders.
async fn trail(cluster: &Cluster, edge: &Edge, id: String) -> Vec<Mark> {
    // A sender may choose an id that looks like an archive id, so both are searched.
    let told: Vec<String> = ask(cluster, &Inquiry::Called(id.clone())).await;
    let told = told.iter().filter_map(|id| id.parse().ok());
    let called = edge.trail.called(&id).into_iter().chain(told);
    let mids: Vec<ArchiveId> = id.parse().ok().into_iter().chain(called).collect();
    let ids = mids.iter().map(ArchiveId::to_string).collect();
    let mut marks: Vec<Mark> = ask(cluster, &Inquiry::Of(ids)).await;
    marks.extend(edge.trail.of(&mids));
    marks.sort();
    marks
}

/// Tells a text to everybody of one domain or of all.
async fn announce(
    cluster: &Cluster,
    edge: &Edge,
    domain: Option<String>,
    text: &str,
) -> Result<Vec<String>, Unsaid> {
    if text.trim().is_empty() {
        return Err(Unsaid::Empty);
    }
    if text.len() > MOST_ANNOUNCED {
        return Err(Unsaid::TooLong(MOST_ANNOUNCED));
    }
    // What is no character of XML would end every client's stream.
    let is_bad = |c: char| match c {
        '\n' | '\t' => false,
        '\u{FFFE}' | '\u{FFFF}' => true,
        c => c.is_control(),
    };
    if text.contains(is_bad) {
        return Err(Unsaid::Unwritable);
    }
    let domains = match domain {
        None => edge.domains.clone(),
        Some(domain) => {
            let prepared = Jid::new(&domain).ok().map(|jid| jid.domain().to_owned());
            let served = prepared.filter(|domain| edge.serves(domain));
            vec![served.ok_or(Unsaid::NotServed(domain))?]
        }
    };
    for domain in &domains {
        let Ok(from) = BareJid::from_parts(None, domain) else {
            return Err(Unsaid::NotServed(domain.clone()));
        };
        // The shard knows it again if it is proposed twice.
        let id = edge.archive_id();
        let packet = announcement(&from, id, text);
        let command = Command::Broadcast { id, packet };
        let done = cluster.propose(&from, command).await;
        done.map_err(|_| Unavailable)?;
        tracing::info!(%domain, "an announcement");
    }
    Ok(domains)
}

/// Asks all other nodes, and joins their answers.
async fn ask<T: DeserializeOwned>(cluster: &Cluster, inquiry: &Inquiry) -> Vec<T> {
    let question = serde_json::to_vec(inquiry).unwrap_or_default();
    let answers = cluster.ask_others(&question.into()).await;
    let answers = answers
        .iter()
        .filter_map(|answer| serde_json::from_slice(answer).ok());
    answers.flat_map(|some: Vec<T>| some).collect()
}

/// The first `max` sessions behind `after` of each shard.
async fn all_after(
    cluster: &Cluster,
    after: &str,
    max: usize,
) -> Result<Vec<SessionView>, Unavailable> {
    let mut all = Vec::new();
    for shard in (0..cluster.shards()).map(ShardId) {
        let after = after.to_owned();
        let some = cluster.query_shard(shard, query::SessionsAfter { after, max });
        all.extend(some.await.map_err(|_| Unavailable)?);
    }
    Ok(all)
}

/// The first `max` sessions behind `after`, by address.
fn page(mut views: Vec<SessionView>, after: &str, max: usize) -> Vec<SessionView> {
    views.retain(|view| view.jid.as_str() > after);
    views.sort_by(|a, b| a.jid.cmp(&b.jid));
    views.truncate(max);
    views
}

/// Sessions with what only the nodes of their connections know.
async fn reports(
    cluster: &Cluster,
    directory: &Directory,
    views: Vec<SessionView>,
) -> Vec<SessionReport> {
    let owners: Vec<Owner> = views.iter().filter_map(|view| view.owner).collect();
    let mut known = inquiry::clients(directory, |conn| Some(cluster.owner(conn)), &owners);
    let elsewhere = |owner: &Owner| owner.node != cluster.node();
    let asked: Vec<Owner> = owners.into_iter().filter(elsewhere).collect();
    if !asked.is_empty() {
        known.extend(ask::<ClientOf>(cluster, &Inquiry::Clients(asked)).await);
    }
    let known: HashMap<Owner, ClientOf> = known.into_iter().map(|c| (c.owner, c)).collect();
    let seats = Seats::of(&cluster.status().nodes);
    let all = views.into_iter().map(|view| {
        let client = view.owner.and_then(|owner| known.get(&owner));
        report(view, client, &seats)
    });
    all.collect()
}

fn report(view: SessionView, client: Option<&ClientOf>, seats: &Seats) -> SessionReport {
    let state = match view.owner {
        Some(_) => SessionState::Connected,
        None => SessionState::Hibernated,
    };
    SessionReport {
        jid: view.jid.to_string(),
        state,
        node: view.owner.map(|owner| seats.name(owner.node)),
        address: client.map(|client| client.address.to_string()),
        since: client.and_then(|client| clock::text(client.since)),
        epoch: view.epoch.0,
        resumable: view.resumable,
        queue: view.queue,
        queue_bytes: view.queue_bytes,
        queue_age_ms: view
            .oldest
            .map_or(0, |stamp| clock::now().saturating_sub(stamp)),
        priority: view.priority,
        hibernates_for_ms: view.hibernates_for,
    }
}
