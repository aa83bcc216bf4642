//! `GET /readyz`: whether clients should be sent to this node, and with `?verbose` everything that this depends on.
//!
//! ```text
//! not ready
//! fail  shard 0      fewer than half of the voters of shard 0 can be reached
//! ok    shard 1      led by node 2, 3 of 3 voters can be reached, 0 entries to apply
//! warn  database     does not answer: chat goes on
//! ```
//!
//! A `fail` makes the node unready. A `warn` does not: it is the same on all nodes, or concerns no client yet.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::http::Node;

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// How it is.
    pub verdict: Verdict,
    /// What it is.
    pub subject: String,
    /// What was found.
    pub found: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// An operator should see to it, and clients are welcome all the same.
    Warn,
    /// Clients should be sent elsewhere.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verdict,
            subject,
            found,
        } = self;
        write!(f, "{verdict:<5} {subject:<12} {found}")
    }
}

/// The query.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    verbose: Option<String>,
}

/// Answers a balancer, or a person.
pub(super) async fn readyz<N: Node>(
    State(node): State<Arc<N>>,
    Query(asked): Query<Asked>,
) -> Response {
    let (status, mut page) = match node.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(_) if asked.verbose.is_some() => {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned())
        }
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    };
    if asked.verbose.is_some() {
        let checks = node.checks();
        page.extend(checks.iter().map(|check| format!("{check}\n")));
    }
    (status, page).into_response()
}
