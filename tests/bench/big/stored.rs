//! Accounts with many nodes for publish-subscribe, and with many blocked addresses.

use std::sync::Arc;
use std::time::Duration;

use proto::{Element, ns};

use super::{Measured, ROUNDS, median, messages, millis};
use crate::Failure;
use crate::client::Client;
use crate::place::{Place, Where};

/// Publishes an item on a node; how long that took.
async fn publish(client: &mut Client, node: &str) -> Result<Duration, Failure> {
    let text = Element::new("text", "urn:bench").with_text("what there is to say");
    let item = Element::new("item", ns::PUBSUB)
        .with_attr("id", "current")
        .with_child(text);
    let publish = Element::new("publish", ns::PUBSUB)
        .with_attr("node", node)
        .with_child(item);
    let pubsub = Element::new("pubsub", ns::PUBSUB).with_child(publish);
    let account = client.account();
    Ok(client.ask("set", &account, pubsub).await?.1)
}

/// Measures accounts with so many nodes each.
pub async fn pubsub(asked: &Where, sizes: [usize; 2]) -> Result<(Measured, Measured), Failure> {
    let place = Arc::new(Place::prepare(asked, sizes.len(), "").await?);
    let mut measured = Vec::new();
    for (account, size) in sizes.into_iter().enumerate() {
        let mut client = Client::new(place.client(0, account).await?);
        let own = client.account();
        let (mut all, mut making) = (Measured::new(), Vec::new());
        for number in 0..size {
            making.push(publish(&mut client, &format!("urn:node:{number}")).await?);
        }
        let last = making.split_off(size - size.min(ROUNDS));
        all.insert("publish_on_a_new_node_ms", median(last));
        let before = place.usage().await?;
        let mut times = Vec::new();
        for number in 0..ROUNDS {
            let node = format!("urn:node:{}", number % size);
            times.push(publish(&mut client, &node).await?);
        }
        let spent = place.usage().await?.since(&before);
        all.insert("publish_ms", median(times));
        all.insert("publish_cpu_us", spent.micros_per(ROUNDS as u64));
        let mut times = Vec::new();
        for _ in 0..10 {
            let query = Element::new("query", ns::DISCO_ITEMS);
            let (answer, time) = client.ask("get", &own, query).await?;
            let found = answer.child("query", ns::DISCO_ITEMS);
            let found = found.map_or(0, |query| query.elements().count());
            if found != size {
                return Err(format!("{found} of {size} nodes are listed").into());
            }
            times.push(time);
        }
        all.insert("list_ms", median(times));
        let mut times = Vec::new();
        for number in 0..ROUNDS {
            let items = Element::new("items", ns::PUBSUB)
                .with_attr("node", format!("urn:node:{}", number % size));
            let pubsub = Element::new("pubsub", ns::PUBSUB).with_child(items);
            times.push(client.ask("get", &own, pubsub).await?.1);
        }
        all.insert("read_ms", median(times));
        measured.push(all);
    }
    let large = measured.pop().unwrap_or_default();
    Ok((measured.pop().unwrap_or_default(), large))
}

/// Measures accounts with so many blocked addresses each, whom somebody writes to and who write to somebody.
pub async fn blocked(asked: &Where, sizes: [usize; 2]) -> Result<(Measured, Measured), Failure> {
    let place = Arc::new(Place::prepare(asked, sizes.len() + 1, "").await?);
    let mut other = Client::new(place.client(0, sizes.len()).await?);
    let mut measured = Vec::new();
    for (account, size) in sizes.into_iter().enumerate() {
        let mut client = Client::new(place.client(0, account).await?);
        let (own, mut all) = (client.account(), Measured::new());
        let mut block = Element::new("block", ns::BLOCKING);
        for number in 0..size {
            let jid = format!("spammer{number}@example.net");
            block.push(Element::new("item", ns::BLOCKING).with_attr("jid", jid));
        }
        let (_, time) = client.ask("set", &own, block).await?;
        all.insert("block_all_ms", millis(time));
        let mut times = Vec::new();
        for number in 0..ROUNDS {
            let name = if number % 2 == 0 { "unblock" } else { "block" };
            let item = Element::new("item", ns::BLOCKING).with_attr("jid", "spammer0@example.net");
            let change = Element::new(name, ns::BLOCKING).with_child(item);
            times.push(client.ask("set", &own, change).await?.1);
        }
        all.insert("change_ms", median(times));
        let mut times = Vec::new();
        for _ in 0..10 {
            let list = Element::new("blocklist", ns::BLOCKING);
            times.push(client.ask("get", &own, list).await?.1);
        }
        all.insert("list_ms", median(times));
        let before = place.usage().await?;
        all.insert("message_to_ms", messages(&mut other, &mut client).await?);
        all.insert("message_from_ms", messages(&mut client, &mut other).await?);
        let spent = place.usage().await?.since(&before);
        all.insert("message_cpu_us", spent.micros_per(2 * ROUNDS as u64));
        measured.push(all);
    }
    let large = measured.pop().unwrap_or_default();
    Ok((measured.pop().unwrap_or_default(), large))
}
