//! Publish-subscribe on accounts as clients have to do with it: they say what they want to hear of, publish, hear and read
//! (XEP-0115, XEP-0163).

use proto::payload::caps;
use proto::{Element, ns};

use crate::client::Client;

/// What a client can do that wants to hear of a node.
pub fn info(node: &str) -> String {
    format!(
        "<identity category='client' type='pc' name='{node}'/><feature var='{}'/>\
         <feature var='{node}+notify'/>",
        ns::DISCO_INFO
    )
}

/// The hash of it.
pub fn hash(node: &str) -> String {
    let query = format!("<query xmlns='{}'>{}</query>", ns::DISCO_INFO, info(node));
    caps::hash("sha-1", &Element::parse(query).expect("XML")).expect("a known hash")
}

/// A presence of such a client.
pub async fn show(client: &mut Client, node: &str) {
    let hash = hash(node);
    let c = format!(
        "<c xmlns='{}' hash='sha-1' node='urn:client' ver='{hash}'/>",
        ns::CAPS
    );
    client.send(&format!("<presence>{c}</presence>")).await;
}

/// The same of a client that is asked what it can do, and says so.
pub async fn show_and_tell(client: &mut Client, node: &str) {
    show(client, node).await;
    loop {
        let stanza = client.stanza().await.expect("a session");
        let asked = stanza.child("query", ns::DISCO_INFO);
        if let (Some(query), Some(id)) = (asked, stanza.attr("id")) {
            let name = query.attr("node").expect("a hash");
            assert_eq!(stanza.attr("from"), Some(client.jid.bare().as_str()));
            let query = format!(
                "<query xmlns='{}' node='{name}'>{}</query>",
                ns::DISCO_INFO,
                info(node)
            );
            let to = client.jid.bare();
            let answer = format!("<iq type='result' id='{id}' to='{to}'>{query}</iq>");
            client.send(&answer).await;
            return;
        }
    }
}

/// Asks with a fresh id.
pub async fn ask(client: &mut Client, kind: &str, to: &str, ns: &str, what: &str) -> Element {
    let id = format!("{:016x}", rand::random::<u64>());
    let to = match to.is_empty() {
        true => String::new(),
        false => format!(" to='{to}'"),
    };
    let iq = format!("<iq type='{kind}' id='{id}'{to}><pubsub xmlns='{ns}'>{what}</pubsub></iq>");
    client.request(&iq, &id).await.expect("a session")
}

/// Publishes something, with these options.
pub async fn publish(
    client: &mut Client,
    node: &str,
    id: &str,
    text: &str,
    options: &[(&str, &str)],
) {
    let item = format!("<item id='{id}'><text xmlns='urn:text'>{text}</text></item>");
    let mut what = format!("<publish node='{node}'>{item}</publish>");
    if !options.is_empty() {
        what += "<publish-options><x xmlns='jabber:x:data' type='submit'>";
        for (var, value) in options {
            what += &format!("<field var='pubsub#{var}'><value>{value}</value></field>");
        }
        what += "</x></publish-options>";
    }
    let answer = ask(client, "set", "", ns::PUBSUB, &what).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

/// What an event tells: whose, of which node, and what was published.
pub fn told(message: &Element) -> (String, String, String) {
    assert_eq!(message.attr("type"), Some("headline"), "{message:?}");
    let event = message.child("event", ns::PUBSUB_EVENT).expect("an event");
    let about = event.elements().next().expect("something");
    let texts = about.elements().map(|item| match item.local() {
        "item" => item
            .child("text", "urn:text")
            .map(Element::text)
            .unwrap_or_default(),
        other => format!("{other} {}", item.attr("id").unwrap_or_default()),
    });
    let texts: Vec<String> = match about.local() {
        "items" => texts.collect(),
        other => vec![other.to_owned()],
    };
    (
        message.attr("from").expect("a sender").to_owned(),
        about.attr("node").expect("a node").to_owned(),
        texts.join(" "),
    )
}

/// The next messages are these events.
pub async fn hears(client: &mut Client, events: &[(&str, &str, &str)]) {
    for (from, node, text) in events {
        let message = client.message_element().await.expect("a session");
        let expect = ((*from).to_owned(), (*node).to_owned(), (*text).to_owned());
        assert_eq!(told(&message), expect, "{}: {message:?}", client.jid);
    }
}

/// The texts of the items that somebody reads, or the condition of the refusal.
pub async fn read(client: &mut Client, owner: &str, node: &str) -> Vec<String> {
    let what = format!("<items node='{node}'/>");
    let answer = ask(client, "get", owner, ns::PUBSUB, &what).await;
    if let Some(error) = answer.child("error", ns::CLIENT) {
        return error
            .elements()
            .map(|child| child.local().to_owned())
            .collect();
    }
    let pubsub = answer.child("pubsub", ns::PUBSUB).expect("an answer");
    let items = pubsub.child("items", ns::PUBSUB).expect("items");
    let text = |item: &Element| item.child("text", "urn:text").expect("a text").text();
    items.elements().map(text).collect()
}
