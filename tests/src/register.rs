//! Accounts that clients ask for, change and remove themselves (XEP-0077, XEP-0445).

use proto::{Element, ns};

use crate::client::PASSWORD;
use crate::cluster::Cluster;
use crate::wire::{End, Wire};

/// What anybody may do.
pub const OPEN: &str = "[auth]\nregistration = \"open\"\n";
/// What those may do who are invited.
pub const INVITED: &str = "[auth]\nregistration = \"invited\"\n";

/// Asks for the form.
pub const FIELDS: &str =
    "<iq xmlns='jabber:client' type='get' id='fields'><query xmlns='jabber:iq:register'/></iq>";

/// A stream over TLS on which nobody has logged in.
pub async fn stranger(cluster: &Cluster, node: usize) -> Wire {
    let wire = Wire::direct(cluster.address(node), cluster.tls()).await;
    let mut wire = wire.expect("a connection");
    wire.open().await.expect("features");
    wire
}

/// A request with these fields.
pub fn set(fields: &str) -> String {
    format!(
        "<iq xmlns='jabber:client' type='set' id='set'><query xmlns='jabber:iq:register'>{fields}</query></iq>"
    )
}

/// A request for an account, or for a new password.
pub fn account(name: &str, password: &str) -> String {
    set(&format!(
        "<username>{name}</username><password>{password}</password>"
    ))
}

/// Shows an invitation.
pub fn preauth(token: &str) -> String {
    format!(
        "<iq xmlns='jabber:client' type='set' id='show'><preauth xmlns='{}' token='{token}'/></iq>",
        ns::PREAUTH
    )
}

/// Asks something, and takes what comes next for the answer.
pub async fn ask(wire: &mut Wire, request: &str) -> Result<Element, End> {
    wire.send(request).await?;
    wire.next().await
}

/// An account of this name, from a stream of its own; the answer.
pub async fn register(cluster: &Cluster, node: usize, name: &str) -> Element {
    let mut wire = stranger(cluster, node).await;
    let answer = ask(&mut wire, &account(name, PASSWORD)).await;
    answer.expect("an answer")
}

/// `result`, or the condition of the error, which repeats nothing of the request (ST-76).
pub fn outcome(answer: &Element) -> String {
    assert!(answer.is("iq", ns::CLIENT), "{answer:?}");
    match (answer.attr("type"), answer.child("error", ns::CLIENT)) {
        (Some("result"), None) => "result".to_owned(),
        (Some("error"), Some(error)) => {
            assert_eq!(answer.elements().count(), 1, "{answer:?}");
            let condition = error.elements().find(|child| child.ns() == ns::STANZAS);
            condition.map_or("", Element::local).to_owned()
        }
        _ => panic!("no answer: {answer:?}"),
    }
}
