//! `holdfast announce`: tells something to everybody who is online.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /api/v1/announcements?text=…[&domain=…]` | the domains that were told; without a name, all that are served |

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};

use super::http::{Node, Refusal, Unavailable};
use super::request::encode;

/// The query.
#[derive(Debug, Deserialize)]
pub(super) struct What {
    text: String,
    domain: Option<String>,
}

/// Who was told.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    domains: Vec<String>,
}

/// Why nobody was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsaid {
    /// The domain is not served here.
    #[error("{0} is not served here")]
    NotServed(String),
    /// There is nothing to say.
    #[error("there is no text")]
    Empty,
    /// It is too long.
    #[error("the text has more than {0} bytes")]
    TooLong(usize),
    /// It holds what XML cannot hold.
    #[error("the text holds control characters")]
    Unwritable,
    /// The cluster did not decide.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Tells it.
pub(super) async fn say<N: Node>(
    State(node): State<Arc<N>>,
    Query(what): Query<What>,
) -> Result<Json<Told>, Refusal> {
    let domains = node.announce(what.domain, what.text).await?;
    Ok(Json(Told { domains }))
}

/// The path that tells a text.
pub(crate) fn path(text: &str, domain: Option<&str>) -> String {
    let domain = domain.map(|domain| format!("&domain={}", encode(domain)));
    let domain = domain.unwrap_or_default();
    format!("/api/v1/announcements?text={}{domain}", encode(text))
}
