//! What a service says to a push (IM-104).

use cluster::session::{Action, Relay};
use proto::stanza::error::{Condition, StanzaError};
use proto::stanza::{IqType, Kind, Stanza};
use proto::{BareJid, Element, ns};

use super::publish::id;
use super::storage::Registration;
use crate::hooks::{Message, Sender, Turn, at_once, later};
use crate::storage::StorageError;

/// An iq without a question has come for an account. If it is a service's word that a node of the
/// account's is gone for good, the registration goes too.
pub fn answered<'a>(
    sender: Sender<'a>,
    account: &'a BareJid,
    stanza: &'a Stanza,
) -> Turn<'a, Vec<Action>> {
    if stanza.header.kind != Kind::Iq(IqType::Error) {
        return at_once(Vec::new());
    }
    let error = stanza.child("error", ns::CLIENT).map(StanzaError::parse);
    if !error.is_some_and(|error| is_final(error.condition)) {
        return at_once(Vec::new());
    }
    let named = stanza.header.id.as_deref().unwrap_or_default();
    later(withdraw(sender, account, move |registration| {
        id(registration) == named
    }))
}

/// A message has come for an account. If it is a service's word that the account has nothing to do with a
/// node any more, the registration goes.
pub fn revoked<'a>(
    sender: Sender<'a>,
    message: &'a mut Message,
) -> Turn<'a, Result<(), StanzaError>> {
    let Some(node) = revoked_node(&message.stanza, &message.account) else {
        return at_once(Ok(()));
    };
    later(async move {
        let meant = |registration: &Registration| registration.node == node;
        let actions = withdraw(sender, &message.account, meant).await;
        message.before.extend(actions);
        Ok(())
    })
}

/// The node that the account has no part in any more, if that is what a message says.
fn revoked_node(stanza: &Stanza, account: &BareJid) -> Option<String> {
    let pubsub = stanza.child("pubsub", ns::PUBSUB)?;
    let none = |e: &Element| {
        e.is("affiliation", ns::PUBSUB)
            && e.attr("affiliation") == Some("none")
            && e.attr("jid").is_none_or(|jid| jid == account.as_str())
    };
    let node = pubsub.attr("node")?;
    pubsub.elements().any(none).then(|| node.to_owned())
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
    sender: Sender<'_>,
    account: &BareJid,
    meant: impl Fn(&Registration) -> bool,
) -> Vec<Action> {
    match try_withdraw(sender, account, meant).await {
        Ok(actions) => actions,
        Err(error) => {
            // It will say so again at the next push.
            tracing::warn!(%account, %error, "a push registration stays for now");
            Vec::new()
        }
    }
}

async fn try_withdraw(
    sender: Sender<'_>,
    account: &BareJid,
    meant: impl Fn(&Registration) -> bool,
) -> Result<Vec<Action>, StorageError> {
    let storage = &sender.edge.storage;
    let mut registrations = storage.push_registrations(account).await?;
    let found = registrations.iter().position(|registration| {
        let service = &registration.service;
        let speaks = service == sender.session || *service == sender.session.bare().into();
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
    use super::*;
    use crate::router::testing::{Node, bare, edge, says, session};

    async fn enabled() -> (Node, String) {
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
