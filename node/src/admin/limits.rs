//! `holdfast limits`: how many sessions of an account may hibernate or are remembered, and how many do.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/limits?jid=ACCOUNT` | counts, limits in force, and where those come from |
//! | `PUT /api/v1/limits?jid=ACCOUNT[&hibernated=N][&old=N]` | the same once the shard has the new limits; `default` takes one back |
//!
//! The account's shard decides, with or without Redis; its leader tells Redis what was set.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use clap::{ArgGroup, Subcommand};
use cluster::session::MAX_LIMIT;
use cluster::session::{Limits, Quota};
use proto::{BareJid, Jid};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use super::cli::Target;
use super::client::ApiRequest;
use super::http::{Node, Refusal};
use super::request::encode;

/// The commands about limits.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum LimitsCommand {
    /// An account's sessions, its limits, and where those come from
    Show {
        /// The account
        jid: String,
        /// The node
        #[command(flatten)]
        target: Target,
    },
    /// Set limits of one account; what is beyond them goes at once, oldest first
    #[command(group(ArgGroup::new("limit").required(true).multiple(true)))]
    Set {
        /// The account
        jid: String,
        /// Sessions that may hibernate at a time
        #[arg(long, value_name = "N|default", group = "limit")]
        hibernated: Option<Setting>,
        /// Ended sessions that are remembered
        #[arg(long, value_name = "N|default", group = "limit")]
        old: Option<Setting>,
        /// The node
        #[command(flatten)]
        target: Target,
    },
}

impl LimitsCommand {
    /// Turns a command into a request and the node to ask.
    pub fn question<E>(
        self,
        address: impl FnOnce(&str) -> Result<Jid, E>,
    ) -> Result<(Target, ApiRequest), E> {
        Ok(match self {
            Self::Show { jid, target } => (target, ApiRequest::LimitsShow(address(&jid)?)),
            Self::Set {
                jid,
                hibernated,
                old,
                target,
            } => {
                let change = Change { hibernated, old };
                (target, ApiRequest::LimitsSet(address(&jid)?, change))
            }
        })
    }
}

/// A limit as an operator gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The configured limit.
    Default,
    /// A limit for this account.
    Number(u32),
}

impl Setting {
    fn limit(self) -> Option<u32> {
        match self {
            Self::Default => None,
            Self::Number(number) => Some(number),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// The text is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a number up to {MAX_LIMIT}, or \"default\"")]
pub struct NotALimit;

impl FromStr for Setting {
    type Err = NotALimit;

    fn from_str(text: &str) -> Result<Self, NotALimit> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let number = text.parse().ok().filter(|number| *number <= MAX_LIMIT);
        number.map(Self::Number).ok_or(NotALimit)
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The limits to change; an absent one stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Change {
    /// Sessions that may hibernate.
    pub hibernated: Option<Setting>,
    /// Ended sessions that are remembered.
    pub old: Option<Setting>,
}

impl Change {
    /// The limits after this change.
    pub fn applied_to(self, limits: Limits) -> Limits {
        Limits {
            hibernated: self.hibernated.map_or(limits.hibernated, Setting::limit),
            old: self.old.map_or(limits.old, Setting::limit),
        }
    }

    /// The change as part of a query.
    pub(super) fn query(self) -> String {
        let part = |name, setting: Option<Setting>| {
            setting.map_or_else(String::new, |setting| format!("&{name}={setting}"))
        };
        part("hibernated", self.hibernated) + &part("old", self.old)
    }
}

/// The path that asks about an account.
pub(super) fn path(jid: &Jid) -> String {
    format!("/api/v1/limits?jid={}", encode(jid.as_str()))
}

/// An account's sessions and limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitsReport {
    /// The account.
    pub jid: String,
    /// Sessions with a connection.
    pub live: usize,
    /// Sessions that wait for their clients.
    pub hibernated: usize,
    /// Ended sessions that are remembered.
    pub old: usize,
    /// How many may hibernate.
    pub max_hibernated: u32,
    /// Where that limit comes from.
    pub max_hibernated_from: Source,
    /// How many are remembered.
    pub max_old: u32,
    /// Where that limit comes from.
    pub max_old_from: Source,
}

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The configuration.
    Configuration,
    /// It was set for this account.
    Account,
}

impl From<Quota> for LimitsReport {
    fn from(quota: Quota) -> Self {
        let from = |limit: Option<u32>| match limit {
            Some(_) => Source::Account,
            None => Source::Configuration,
        };
        let set = quota.set.limits;
        Self {
            jid: quota.account.to_string(),
            live: quota.live,
            hibernated: quota.hibernated.len(),
            old: quota.old.len(),
            max_hibernated: quota.max_hibernated,
            max_hibernated_from: from(set.hibernated),
            max_old: quota.max_old,
            max_old_from: from(set.old),
        }
    }
}

/// The query: an account, and the change.
#[derive(Deserialize)]
pub(super) struct Asked {
    jid: String,
    #[serde(flatten)]
    change: Change,
}

impl Asked {
    fn account(&self) -> Result<BareJid, Refusal> {
        let wrong = || Refusal::NotAnAddress(self.jid.clone());
        let jid = Jid::new(&self.jid).map_err(|_| wrong())?;
        // Limits are for accounts, not for single sessions.
        let account = jid.is_bare() && jid.local().is_some();
        account.then(|| jid.bare()).ok_or_else(wrong)
    }
}

pub(super) async fn show<N: Node>(
    State(node): State<Arc<N>>,
    Query(asked): Query<Asked>,
) -> Result<Json<LimitsReport>, Refusal> {
    let account = asked.account()?;
    known(node.limits(account).await?, asked)
}

pub(super) async fn set<N: Node>(
    State(node): State<Arc<N>>,
    Query(asked): Query<Asked>,
) -> Result<Json<LimitsReport>, Refusal> {
    let account = asked.account()?;
    known(node.set_limits(account, asked.change).await?, asked)
}

fn known(report: Option<LimitsReport>, asked: Asked) -> Result<Json<LimitsReport>, Refusal> {
    report.map(Json).ok_or(Refusal::NoAccount(asked.jid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::http::tests::start;
    use crate::admin::request::{Method, request};

    #[test]
    fn a_limit_is_a_number_in_range_or_the_default() {
        assert_eq!("0".parse(), Ok(Setting::Number(0)));
        assert_eq!("default".parse(), Ok(Setting::Default));
        for wrong in ["", "-1", "10001", "many", "99999999999"] {
            assert_eq!(wrong.parse::<Setting>(), Err(NotALimit), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_named_stays_as_it_is() {
        let limits = Limits {
            hibernated: Some(3),
            old: Some(4),
        };
        let change = Change {
            hibernated: Some(Setting::Default),
            old: None,
        };
        let expect = Limits {
            hibernated: None,
            old: Some(4),
        };
        assert_eq!(change.applied_to(limits), expect);
        assert_eq!(change.query(), "&hibernated=default");
    }

    #[tokio::test]
    async fn limits_are_shown_and_set_for_accounts_alone() {
        let (address, _node, token) = start(true);
        let address = address.to_string();
        for (method, query, status) in [
            (Method::Get, "jid=a@x", 200),
            (Method::Get, "jid=nobody@x", 404),
            (Method::Get, "jid=a@x/1", 400),
            (Method::Get, "jid=x", 400),
            (Method::Get, "", 400),
            (Method::Put, "jid=a@x&hibernated=3", 200),
            (Method::Put, "jid=a@x&hibernated=10001", 400),
            (Method::Put, "jid=nobody@x&old=default", 404),
        ] {
            let path = format!("/api/v1/limits?{query}");
            let answer = request(&address, method, &path, Some(&token)).await;
            assert_eq!(answer.unwrap().status, status, "{query}");
        }
    }
}
