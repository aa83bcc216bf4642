//! XEP-0012: Last Activity. Of the server its uptime; of an account how long ago its last session ended,
//! told to those who see its presence (T-50).

use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, ns};

use crate::empty_payload;
use crate::hooks::{Request, Scope, Service, Setup, Xep, fail, failure, permission};

/// The service.
pub const SERVICE: Service = Service::new("last", &[Xep(12, "2.0")], register);

fn register(setup: &mut Setup<'_>) {
    setup.iq_get(&[Scope::Host, Scope::Account, Scope::Contact], last);
}

async fn last(request: Request<Last>) -> Result<Element, StanzaError> {
    let edge = &request.edge;
    let now = (edge.now)();
    let answer = |since: u64| {
        let seconds = now.saturating_sub(since) / 1000;
        Element::new("query", ns::LAST).with_attr("seconds", seconds.to_string())
    };
    match request.scope {
        Scope::Host => return Ok(answer(edge.started)),
        Scope::Account => {}
        Scope::Contact if permission::sees(edge, &request.account, &request.target).await? => {}
        // As for an account that does not exist: `forbidden` would tell them apart (ST-81).
        Scope::Contact => return fail(Condition::ServiceUnavailable),
    }
    if !edge.presences.available(&request.target).is_empty() {
        return Ok(answer(now));
    }
    let stored = edge
        .storage
        .last_activity(&request.target)
        .await
        .map_err(|error| failure(&error))?;
    match stored {
        Some(last) => Ok(answer(last.stamp).with_text(last.status.as_deref().unwrap_or_default())),
        None => fail(Condition::ItemNotFound),
    }
}

empty_payload! {
    /// The question.
    Last, ns::LAST, "query"
}
