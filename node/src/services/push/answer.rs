//! What a service says to a push (IM-104).

use cluster::session::{Action, Relay};
use proto::stanza::error::{Condition, StanzaError};
use proto::stanza::{IqType, Kind, Stanza};
use proto::{BareJid, Element, ns};

use super::publish::id;
use crate::router::SessionContext;
use crate::storage::{Registration, StorageError};

/// An iq without a question has come for an account. If it is a service's word that a node of the
/// account's is gone for good, the registration goes too.
pub async fn answered(ctx: &SessionContext, account: &BareJid, stanza: &Stanza) -> Vec<Action> {
    if stanza.header.kind != Kind::Iq(IqType::Error) {
        return Vec::new();
    }
    let error = stanza.child("error", ns::CLIENT).map(StanzaError::parse);
    if !error.is_some_and(|error| is_final(error.condition)) {
        return Vec::new();
    }
    let named = stanza.header.id.as_deref().unwrap_or_default();
    withdraw(ctx, account, |registration| id(registration) == named).await
}

/// A message has come for an account. If it is a service's word that the account has nothing to do with a
/// node any more, the registration goes.
pub async fn revoked(ctx: &SessionContext, account: &BareJid, stanza: &Stanza) -> Vec<Action> {
    let Some(pubsub) = stanza.child("pubsub", ns::PUBSUB) else {
        return Vec::new();
    };
    let none = |e: &Element| {
        e.is("affiliation", ns::PUBSUB)
            && e.attr("affiliation") == Some("none")
            && e.attr("jid").is_none_or(|jid| jid == account.as_str())
    };
    match pubsub.attr("node") {
        Some(node) if pubsub.elements().any(none) => {
            withdraw(ctx, account, |registration| registration.node == node).await
        }
        _ => Vec::new(),
    }
}

/// It makes no sense to try again.
fn is_final(condition: Condition) -> bool {
    matches!(
        condition,
        Condition::ItemNotFound
            | Condition::Forbidden
            | Condition::Gone
            | Condition::NotAllowed
            | Condition::NotAuthorized
    )
}

/// Ends the registration that is meant, if it is one of the service that speaks.
async fn withdraw(
    ctx: &SessionContext,
    account: &BareJid,
    meant: impl Fn(&Registration) -> bool,
) -> Vec<Action> {
    match try_withdraw(ctx, account, meant).await {
        Ok(actions) => actions,
        Err(error) => {
            // It will say so again at the next push.
            tracing::warn!(%account, %error, "a push registration stays for now");
            Vec::new()
        }
    }
}

async fn try_withdraw(
    ctx: &SessionContext,
    account: &BareJid,
    meant: impl Fn(&Registration) -> bool,
) -> Result<Vec<Action>, StorageError> {
    let storage = &ctx.edge.storage;
    let mut registrations = storage.push_registrations(account).await?;
    let found = registrations.iter().position(|registration| {
        let service = &registration.service;
        let speaks = [&ctx.session, &ctx.session.bare().into()].contains(&service);
        speaks && meant(registration)
    });
    let Some(found) = found.map(|found| registrations.remove(found)) else {
        return Ok(Vec::new());
    };
    let node = Some(found.node.as_str());
    storage.disable_push(account, &found.service, node).await?;
    if registrations.iter().any(|r| r.resource == found.resource) {
        return Ok(Vec::new());
    }
    Ok(vec![Action::Send(Relay::NoPush {
        account: account.clone(),
        resource: found.resource.into(),
    })])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hooks::Edge;
    use crate::router::testing::{bare, edge, says, session};

    async fn enabled() -> (Arc<Edge>, String) {
        let edge = edge().await;
        let alice = session(&edge, "alice@example.org/desk");
        let enable = "<iq type='set' id='1'><enable xmlns='urn:xmpp:push:0' jid='bob@example.org/push' node='n'/></iq>";
        says(&alice, enable).await;
        let account = bare("alice@example.org");
        let all = edge.storage.push_registrations(&account).await.unwrap();
        (edge, id(&all[0]))
    }

    /// What follows when `from` answers with this condition.
    async fn check(from: &str, id: Option<&str>, condition: &str, left: usize, expect: &[&str]) {
        let (edge, own) = enabled().await;
        let id = id.unwrap_or(&own);
        let error = format!(
            "<iq type='error' id='{id}' to='alice@example.org'><error type='cancel'>\
             <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        );
        assert_eq!(
            says(&session(&edge, from), &error).await,
            expect,
            "{condition}"
        );
        let account = bare("alice@example.org");
        let all = edge.storage.push_registrations(&account);
        assert_eq!(all.await.unwrap().len(), left, "{from} {condition}");
    }

    #[tokio::test]
    async fn im_104_who_has_no_part_in_a_node_any_more_is_not_woken_through_it() {
        for (from, node, affiliation, left) in [
            ("bob@example.org/push", "n", "none", 0),
            ("bob@example.org/push", "n", "publish-only", 1),
            ("bob@example.org/push", "m", "none", 1),
            ("carol@example.org/push", "n", "none", 1),
        ] {
            let (edge, _) = enabled().await;
            let message = format!(
                "<message to='alice@example.org'><pubsub xmlns='http://jabber.org/protocol/pubsub' node='{node}'>\
                 <affiliation jid='alice@example.org' affiliation='{affiliation}'/></pubsub></message>"
            );
            let actions = says(&session(&edge, from), &message).await;
            let account = bare("alice@example.org");
            let all = edge.storage.push_registrations(&account).await.unwrap();
            assert_eq!(all.len(), left, "{from} {node} {affiliation}");
            assert_eq!(actions.len(), 2 - left, "{actions:?}");
        }
    }

    #[tokio::test]
    async fn im_104_a_service_ends_its_own_registration_and_no_other() {
        let service = "bob@example.org/push";
        let gone = ["no push for desk of alice@example.org"];
        check(service, None, "item-not-found", 0, &gone).await;
        check(service, None, "gone", 0, &gone).await;
        check(service, None, "resource-constraint", 1, &[]).await;
        check(service, Some("push-0"), "gone", 1, &[]).await;
        check("bob@example.org/other", None, "gone", 1, &[]).await;
        check("carol@example.org/push", None, "gone", 1, &[]).await;
    }
}
