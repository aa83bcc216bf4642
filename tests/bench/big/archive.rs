//! Archives with many messages. Neither a page nor a new message may cost more for what there is besides.

use std::time::Duration;

use proto::{Element, ns};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Row as _, SqliteConnection};
use tokio::time::sleep;

use super::Measured;
use crate::Failure;
use crate::client::Client;
use crate::place::{Place, Where};

/// Pages that are read of each place.
const PAGES: u64 = 200;
/// Messages on each.
const PAGE: u64 = 50;
/// Messages that are written into each archive.
const WRITTEN: u64 = 4000;
/// Messages that are on their way at a time.
const TOGETHER: u64 = 50;
/// So long after the last message its row is written.
const REST: Duration = Duration::from_secs(2);

/// Measures archives with so many messages each.
pub async fn measure(asked: &Where, sizes: [usize; 2]) -> Result<(Measured, Measured), Failure> {
    let mut asked = asked.clone();
    asked.archive = true;
    let place = Place::prepare(&asked, 2 * sizes.len(), "").await?;
    let mut middles = Vec::new();
    for (number, size) in sizes.into_iter().enumerate() {
        let (mut owner, mut other) = pair(&place, number).await?;
        chat(&mut other, &mut owner, 1).await?;
        sleep(REST).await;
        middles.push(fill(&place, &owner.account(), size).await?);
    }
    // Filling takes longer than a server waits for a client that says nothing.
    let mut measured = Vec::new();
    for (number, middle) in middles.iter().enumerate() {
        let (mut owner, mut other) = pair(&place, number).await?;
        measured.push(one(&place, &mut owner, &mut other, middle).await?);
    }
    let large = measured.pop().unwrap_or_default();
    Ok((measured.pop().unwrap_or_default(), large))
}

/// The owner of an archive, and who writes to it.
async fn pair(place: &Place, number: usize) -> Result<(Client, Client), Failure> {
    let owner = place.client(0, 2 * number).await?;
    let other = place.client(0, 2 * number + 1).await?;
    Ok((Client::new(owner), Client::new(other)))
}

async fn one(
    place: &Place,
    owner: &mut Client,
    other: &mut Client,
    middle: &str,
) -> Result<Measured, Failure> {
    let mut all = Measured::new();
    let with = other.account();
    let last = || Element::new("before", ns::RSM);
    let behind = || Element::new("after", ns::RSM).with_text(middle);
    let pages = [
        ("last_page_cpu_us", last(), None),
        ("middle_page_cpu_us", behind(), None),
        ("last_page_with_cpu_us", last(), Some(&*with)),
        ("middle_page_with_cpu_us", behind(), Some(&*with)),
    ];
    for (name, at, with) in pages {
        page(owner, &at, with).await?;
        let before = place.usage().await?;
        for _ in 0..PAGES {
            page(owner, &at, with).await?;
        }
        let spent = place.usage().await?.since(&before);
        all.insert(name, spent.micros_per(PAGES * PAGE));
    }
    chat(other, owner, TOGETHER).await?;
    sleep(REST).await;
    let before = place.usage().await?;
    for _ in 0..WRITTEN / TOGETHER {
        chat(other, owner, TOGETHER).await?;
    }
    sleep(REST).await;
    let spent = place.usage().await?.since(&before);
    all.insert("message_cpu_us", spent.micros_per(WRITTEN));
    Ok(all)
}

/// Sends messages, and waits for them.
async fn chat(from: &mut Client, to: &mut Client, count: u64) -> Result<(), Failure> {
    let address = to.account();
    for _ in 0..count {
        let body = Element::new("body", ns::CLIENT).with_text(&"x".repeat(180));
        let message = Element::new("message", ns::CLIENT)
            .with_attr("type", "chat")
            .with_attr("to", &address)
            .with_child(body);
        from.send(&message).await?;
    }
    from.session.request(&mut from.connection).await?;
    for _ in 0..count {
        to.message().await?;
    }
    while from.session.unacknowledged() > 0 {
        let element = from.connection.next().await?;
        from.session.take(&mut from.connection, element).await?;
    }
    Ok(())
}

/// Reads a page.
async fn page(owner: &mut Client, at: &Element, with: Option<&str>) -> Result<(), Failure> {
    let max = Element::new("max", ns::RSM).with_text(&PAGE.to_string());
    let set = Element::new("set", ns::RSM)
        .with_child(max)
        .with_child(at.clone());
    let mut query = Element::new("query", ns::MAM).with_child(set);
    if let Some(with) = with {
        let field = |var: &str, value: &str| {
            let value = Element::new("value", ns::DATA_FORM).with_text(value);
            let field = Element::new("field", ns::DATA_FORM).with_attr("var", var);
            field.with_child(value)
        };
        let form = Element::new("x", ns::DATA_FORM)
            .with_attr("type", "submit")
            .with_child(field("FORM_TYPE", ns::MAM))
            .with_child(field("with", with));
        query.push(form);
    }
    let account = owner.account();
    let (answer, _) = owner.ask("set", &account, query).await?;
    owner.session.request(&mut owner.connection).await?;
    let fin = answer.child("fin", ns::MAM).ok_or("a page has no end")?;
    let set = fin.child("set", ns::RSM).ok_or("a page has no ends")?;
    set.child("last", ns::RSM).ok_or("a page is empty")?;
    Ok(())
}

/// Puts messages into an archive, before the one that is there. Returns the id of the one in the middle.
async fn fill(place: &Place, owner: &str, size: usize) -> Result<String, Failure> {
    let options = SqliteConnectOptions::new().filename(place.database()?);
    let mut database: SqliteConnection = options.connect().await?;
    let sql = "INSERT INTO archive (owner, mid, place, stamp, party, resource, hidden, stanza) \
        WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < $2) \
        SELECT owner, unhex(printf('%012x', stamp - n) || hex(randomblob(10))), place - n, stamp - n, party, \
        resource, 0, stanza \
        FROM number CROSS JOIN archive WHERE owner = (SELECT id FROM archive_name WHERE owner = $1 AND party = '') \
        ORDER BY n DESC";
    let done = sqlx::query(sql)
        .bind(owner)
        .bind(size as i64)
        .execute(&mut database)
        .await?;
    if done.rows_affected() != size as u64 {
        return Err(format!("{} of {size} messages are there", done.rows_affected()).into());
    }
    let sql = "SELECT lower(hex(mid)) FROM archive \
        WHERE owner = (SELECT id FROM archive_name WHERE owner = $1 AND party = '') AND hidden = 0 \
        ORDER BY place LIMIT 1 OFFSET 0 + $2";
    let middle = sqlx::query(sql).bind(owner).bind(size as i64 / 2);
    Ok(middle.fetch_one(&mut database).await?.try_get(0)?)
}
