//! The admin interface: health and metrics for everyone who reaches it, the rest for the token.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process runs |
//! | `GET /readyz[?verbose]` | 200, or 503 and why clients should be sent elsewhere; see [`ready`] |
//! | `GET /metrics` | Prometheus' text format; it names no user (T-64) |
//! | `GET /api/v1/cluster` | nodes, shards, leaders |
//! | `GET /api/v1/sessions[?jid=…&after=…&limit=…]` | sessions by address, a page at a time |
//! | `DELETE /api/v1/cluster?node=N` | gives up a node that is away |
//! | `PUT`, `DELETE /api/v1/cluster/drain?node=N` | takes a node out of service, and back into it |
//! | `DELETE /api/v1/sessions?jid=FULL` | ends one |
//! | `GET`, `PUT /api/v1/limits?jid=…` | see [`limits`] |
//! | `GET /api/v1/trace?id=…` | see `trace` |
//! | `PUT /api/v1/announcements?text=…` | see `announce` |
//!
//! Liveness asks for nothing but an answer: a node without a majority or a database must not be
//! restarted for it. Errors are `{"error": "…"}`.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use cluster::RemoveError;
use futures_util::future::BoxFuture;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::announce::{self, Unsaid};
use super::limits::{self, Change, LimitsReport};
use super::members;
use super::ready::{self, Check};
use super::socket::Bounded;
use super::token::{Token, TokenError};
use super::trace;
use crate::maintenance::DrainError;
use crate::trace::Mark;

/// The number of sessions on a page, unless fewer are asked for.
const PAGE: usize = 1000;
/// How long an answer may take: a change waits for a commit, which may have to wait for a leader.
const PATIENCE: Duration = Duration::from_secs(15);
/// The media type of Prometheus' text format.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the interface shows of a node, and may have it do.
pub trait Node: Send + Sync + 'static {
    /// The path of the token's file.
    fn token_file(&self) -> PathBuf;
    /// Whether clients should be sent here, or why not.
    fn ready(&self) -> Result<(), String>;
    /// Everything that this depends on, and more that an operator should know.
    fn checks(&self) -> Vec<Check>;
    /// The metrics page.
    fn metrics(&self) -> String;
    /// Nodes and shards, as this node sees them, and as the leaders of the shards do that it reaches.
    fn cluster(&self) -> BoxFuture<'static, serde_json::Value>;
    /// Gives up the node in a seat, which is away.
    fn remove(&self, seat: u64) -> BoxFuture<'static, Result<(), RemoveError>>;
    /// Takes the node in a seat out of service, or puts it back.
    fn drain(&self, seat: u64, drain: bool) -> BoxFuture<'static, Result<(), DrainError>>;
    /// Up to `max` sessions, by address, behind `after`: of one account, or of all.
    fn sessions(
        &self,
        of: Option<&BareJid>,
        after: &str,
        max: usize,
    ) -> BoxFuture<'static, Result<Vec<SessionReport>, Unavailable>>;
    /// Ends a session. `false` if there is none.
    fn end(&self, session: Jid) -> BoxFuture<'static, Result<bool, Unavailable>>;
    /// An account's sessions and limits.
    fn limits(
        &self,
        account: BareJid,
    ) -> BoxFuture<'static, Result<Option<LimitsReport>, Unavailable>>;
    /// Tells a text to everybody who is online, in one domain or in all; returns which.
    fn announce(
        &self,
        domain: Option<String>,
        text: String,
    ) -> BoxFuture<'static, Result<Vec<String>, Unsaid>>;
    /// The steps of a message that the nodes saw, oldest first.
    fn trace(&self, id: String) -> BoxFuture<'static, Vec<Mark>>;
    /// Changes an account's limits. None if there is no such account.
    fn set_limits(
        &self,
        account: BareJid,
        change: Change,
    ) -> BoxFuture<'static, Result<Option<LimitsReport>, Unavailable>>;
}

/// The cluster did not decide or answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster cannot commit at the moment")]
pub struct Unavailable;

/// A session as an operator sees it. Its SM-ID is not in it: that would be a key to it (T-73).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionReport {
    /// The full JID.
    pub jid: String,
    /// Whether it has a connection.
    pub state: SessionState,
    /// The seat of the node with that connection; the node's id if it has lost its seat.
    pub node: Option<String>,
    /// Where the client is; unknown if its node does not answer.
    pub address: Option<String>,
    /// Since when this connection has it, in RFC 3339 format.
    pub since: Option<String>,
    /// Its epoch, which rises with each connection that takes it over.
    pub epoch: u64,
    /// Whether it may be resumed.
    pub resumable: bool,
    /// Stanzas that the client has not acknowledged.
    pub queue: usize,
    /// How many bytes they have.
    pub queue_bytes: usize,
    /// The age of the first of them.
    pub queue_age_ms: u64,
    /// Its presence, if it is available.
    pub priority: Option<i8>,
    /// How long it will still wait for its client.
    pub hibernates_for_ms: Option<u64>,
}

/// Whether a session has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// It has one.
    Connected,
    /// It has none and waits for its client.
    Hibernated,
}

/// Why there is no admin interface.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The socket cannot be opened.
    #[error("cannot serve the admin interface: {0}")]
    Socket(#[from] io::Error),
}

/// Opens the interface. The returned future serves it until the process ends.
pub fn open<N: Node>(
    node: Arc<N>,
    listener: TcpListener,
) -> Result<impl Future<Output = ()>, AdminError> {
    let token = Token::open(&node.token_file())?;
    let listener = Bounded::new(listener)?;
    let service = router(node, token);
    Ok(listener.serve(service))
}

/// All routes.
pub fn router<N: Node>(node: Arc<N>, token: Token) -> Router {
    let guarded = Router::new()
        .route("/cluster", get(cluster::<N>).delete(members::remove::<N>))
        .route(
            "/cluster/drain",
            put(members::drain::<N>).delete(members::undrain::<N>),
        )
        .route("/sessions", get(sessions::<N>).delete(end_session::<N>))
        .route("/trace", get(trace::show::<N>))
        .route("/announcements", put(announce::say::<N>))
        .route("/limits", get(limits::show::<N>).put(limits::set::<N>))
        .fallback(nothing_here)
        .layer(from_fn_with_state(Arc::new(token), guard));
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready::readyz::<N>))
        .route("/metrics", get(metrics::<N>))
        .nest("/api/v1", guarded)
        .fallback(nothing_here)
        .layer(from_fn(hurry))
        .with_state(node)
}

/// Why a request gets an error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this needs the token: Authorization: Bearer …, from data_dir/admin.token")]
    Unauthorized,
    #[error("there is nothing here")]
    NotFound,
    #[error("no node remembers a message {0}")]
    NoTrace(String),
    #[error("there is no session {0}")]
    NoSession(Jid),
    #[error("there is no account {0}")]
    NoAccount(String),
    #[error("{0:?} is not an address")]
    NotAnAddress(String),
    #[error("give the session's full address, jid=user@domain/resource")]
    NotFull,
    #[error(transparent)]
    Remove(#[from] RemoveError),
    #[error(transparent)]
    Drain(#[from] DrainError),
    #[error(transparent)]
    Unsaid(#[from] Unsaid),
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
    #[error("the answer takes too long")]
    Timeout,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound | Self::NoTrace(_) | Self::NoSession(_) | Self::NoAccount(_) => {
                StatusCode::NOT_FOUND
            }
            Self::NotAnAddress(_) | Self::NotFull => StatusCode::BAD_REQUEST,
            Self::Remove(RemoveError::Unknown(_)) => StatusCode::NOT_FOUND,
            Self::Remove(RemoveError::Up(_)) => StatusCode::CONFLICT,
            Self::Drain(DrainError::NotThere(_)) => StatusCode::NOT_FOUND,
            Self::Drain(DrainError::Alone(_)) => StatusCode::CONFLICT,
            Self::Remove(RemoveError::Undecided) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unsaid(Unsaid::NotServed(_)) => StatusCode::NOT_FOUND,
            Self::Unsaid(Unsaid::Empty | Unsaid::TooLong(_) | Unsaid::Unwritable) => {
                StatusCode::BAD_REQUEST
            }
            Self::Unavailable(_) | Self::Unsaid(Unsaid::Unavailable(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.to_string() });
        let mut response = (self.status(), Json(body)).into_response();
        if matches!(self, Self::Unauthorized) {
            let scheme = HeaderValue::from_static("Bearer");
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

async fn guard(
    State(token): State<Arc<Token>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let header = request.headers().get(header::AUTHORIZATION);
    let presented = header.and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.strip_prefix("Bearer "));
    match presented {
        Some(presented) if token.matches(presented.trim()) => Ok(next.run(request).await),
        _ => Err(Refusal::Unauthorized),
    }
}

async fn hurry(request: Request, next: Next) -> Result<Response, Refusal> {
    let answer = tokio::time::timeout(PATIENCE, next.run(request)).await;
    answer.map_err(|_| Refusal::Timeout)
}

async fn nothing_here() -> Refusal {
    Refusal::NotFound
}

async fn metrics<N: Node>(State(node): State<Arc<N>>) -> Response<Body> {
    ([(header::CONTENT_TYPE, METRICS)], node.metrics()).into_response()
}

async fn cluster<N: Node>(State(node): State<Arc<N>>) -> Json<serde_json::Value> {
    Json(node.cluster().await)
}

/// The query for a page of sessions.
#[derive(Deserialize)]
struct Which {
    jid: Option<String>,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

impl Which {
    fn address(&self) -> Result<Option<Jid>, Refusal> {
        let prepare = |text: &String| {
            let wrong = |_| Refusal::NotAnAddress(text.clone());
            Jid::new(text).map_err(wrong)
        };
        self.jid.as_ref().map(prepare).transpose()
    }
}

/// A page of sessions.
#[derive(Serialize)]
struct Page {
    sessions: Vec<SessionReport>,
    /// Whether there are more sessions behind the last one.
    more: bool,
}

async fn sessions<N: Node>(
    State(node): State<Arc<N>>,
    Query(which): Query<Which>,
) -> Result<Json<Page>, Refusal> {
    let address = which.address()?;
    let account = address.as_ref().map(Jid::bare);
    let max = which.limit.unwrap_or(PAGE).clamp(1, PAGE);
    // One session more than fits on the page is fetched, to know whether there are more.
    let mut sessions = node
        .sessions(account.as_ref(), &which.after, max + 1)
        .await?;
    if let Some(full) = address.filter(|address| !address.is_bare()) {
        sessions.retain(|session| session.jid == full.as_str());
    }
    let more = sessions.len() > max;
    sessions.truncate(max);
    Ok(Json(Page { sessions, more }))
}

async fn end_session<N: Node>(
    State(node): State<Arc<N>>,
    Query(which): Query<Which>,
) -> Result<StatusCode, Refusal> {
    let session = which.address()?.filter(|address| !address.is_bare());
    let session = session.ok_or(Refusal::NotFull)?;
    match node.end(session.clone()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::NoSession(session)),
    }
}

#[cfg(test)]
pub(super) mod tests;
