//! Rosters with many contacts, and accounts with many sessions.

use std::sync::Arc;
use std::time::Instant;

use node::demo::session::Session;
use proto::{Element, ns};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _, SqliteConnection};

use super::{Audience, Measured, changes, millis};
use crate::Failure;
use crate::client::Client;
use crate::place::{Place, Where};

/// Accounts that have contacts, one for each size.
const OWNERS: usize = 2;

/// Measures accounts with so many contacts each, of whom the first are online.
pub async fn measure(
    asked: &Where,
    sizes: [usize; 2],
    online: usize,
) -> Result<(Measured, Measured), Failure> {
    let mut place = Place::prepare(asked, OWNERS, "").await?;
    fill(&place, sizes).await?;
    // All contacts have the keys of the first account, and so its password.
    for number in 1..=online {
        let mut account = place.accounts[0].clone();
        account.username = format!("c{number}");
        place.accounts.push(account);
    }
    let place = Arc::new(place);
    let mut audience = Audience::new();
    for client in place.clients(OWNERS..OWNERS + online).await? {
        audience.add(Client::new(client));
    }
    let mut measured = Vec::new();
    for (owner, size) in sizes.into_iter().enumerate() {
        measured.push(one(&place, owner, online.min(size), &mut audience).await?);
    }
    let large = measured.pop().unwrap_or_default();
    Ok((measured.pop().unwrap_or_default(), large))
}

/// Logs in with a large roster, reads it, shows itself to its contacts, and goes.
async fn one(
    place: &Arc<Place>,
    owner: usize,
    online: usize,
    audience: &mut Audience,
) -> Result<Measured, Failure> {
    let mut measured = Measured::new();
    let before = place.usage().await?;
    let start = Instant::now();
    let mut connection = place.connect(0, owner).await?;
    measured.insert("login_ms", millis(start.elapsed()));
    let start = Instant::now();
    let session = Session::start(&mut connection, None).await?;
    let mut person = Client::new((connection, session));
    let account = person.account();
    audience.hears(online, &account, "").await?;
    measured.insert("shown_to_contacts_ms", millis(start.elapsed()));
    for _ in 0..online {
        person.presence_of_another().await?;
    }
    measured.insert("contacts_shown_ms", millis(start.elapsed()));
    let spent = place.usage().await?.since(&before);
    measured.insert("login_cpu_ms", spent.micros_per(1) / 1e3);

    let roster = || Element::new("query", ns::ROSTER);
    match person.ask("get", &account, roster()).await {
        Ok((_, time)) => measured.insert("roster_ms", millis(time)),
        Err(error) => {
            eprintln!("bench: the roster is not read: {error}");
            None
        }
    };
    let (time, cpu) = changes(place, &mut person, audience, online).await?;
    measured.insert("change_ms", time);
    measured.insert("change_cpu_us", cpu);
    let start = Instant::now();
    person.close().await?;
    audience.hears(online, &account, "unavailable").await?;
    measured.insert("gone_ms", millis(start.elapsed()));
    Ok(measured)
}

impl Client {
    /// Waits for the presence of somebody else.
    async fn presence_of_another(&mut self) -> Result<(), Failure> {
        let own = self.session.jid().to_string();
        loop {
            let stanza = self.next().await?;
            if stanza.is("presence", ns::CLIENT) && stanza.attr("from") != Some(&own) {
                return Ok(());
            }
        }
    }
}

/// Makes accounts, and has them and the owners in each other's rosters.
async fn fill(place: &Place, sizes: [usize; 2]) -> Result<(), Failure> {
    let options = SqliteConnectOptions::new().filename(place.database()?);
    let mut database = options.connect().await?;
    let columns = sqlx::query("SELECT name FROM pragma_table_info('account')");
    let columns = columns.fetch_all(&mut database).await?;
    let names: Result<Vec<String>, _> = columns.iter().map(|row| row.try_get(0)).collect();
    let names = names?;
    let first = &place.accounts[0];
    let copied = names.iter().map(|name| match name.as_str() {
        "localpart" => "'c' || n.value".to_owned(),
        name => format!("a.{name}"),
    });
    let (names, copied) = (names.join(", "), copied.collect::<Vec<_>>().join(", "));
    let most = sizes.into_iter().max().unwrap_or_default();
    // As many as there are numbers.
    let numbers = |count: usize| {
        format!(
            "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {count}) "
        )
    };
    run(&mut database, "BEGIN".into()).await?;
    let sql = format!(
        "{} INSERT INTO account ({names}) SELECT {copied} FROM account a, n WHERE a.localpart = '{}'",
        numbers(most),
        first.username
    );
    run(&mut database, sql).await?;
    let columns =
        "(account, contact, removed, listed, subscription, ask, approved, contact_groups, version)";
    for (owner, size) in place.accounts.iter().zip(sizes) {
        let domain = &owner.domain;
        let (owner, contact) = (
            format!("'{}@{domain}'", owner.username),
            format!("'c' || n.value || '@{domain}'"),
        );
        for (account, contact) in [(&owner, &contact), (&contact, &owner)] {
            let sql = format!(
                "{} INSERT INTO roster {columns} SELECT {account}, {contact}, 0, 1, 'both', 0, 0, '[]', 1 FROM n",
                numbers(size)
            );
            run(&mut database, sql).await?;
        }
    }
    let sql = "INSERT INTO roster_version (account, epoch, version) SELECT DISTINCT account, 'bench', 1 FROM roster";
    run(&mut database, sql.into()).await?;
    run(&mut database, "COMMIT".into()).await
}

async fn run(database: &mut SqliteConnection, sql: String) -> Result<(), Failure> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(database).await?;
    Ok(())
}

/// Measures accounts with so many sessions each, which all see each other.
pub async fn resources(asked: &Where, sizes: [usize; 2]) -> Result<(Measured, Measured), Failure> {
    let place = Arc::new(Place::prepare(asked, sizes.len(), "").await?);
    let mut measured = Vec::new();
    for (account, size) in sizes.into_iter().enumerate() {
        let mut audience = Audience::new();
        for _ in 1..size {
            let client = place.client(0, account).await?;
            audience.add(Client::new(client));
        }
        let (others, mut all) = (size - 1, Measured::new());
        let before = place.usage().await?;
        let start = Instant::now();
        let mut last = Client::new(place.client(0, account).await?);
        let own = last.session.jid().to_string();
        audience.hears(others, &own, "").await?;
        all.insert("last_login_ms", millis(start.elapsed()));
        for _ in 0..others {
            last.presence_of_another().await?;
        }
        all.insert("last_login_sees_all_ms", millis(start.elapsed()));
        let spent = place.usage().await?.since(&before);
        all.insert("last_login_cpu_ms", spent.micros_per(1) / 1e3);
        let (time, cpu) = changes(&place, &mut last, &mut audience, others).await?;
        all.insert("change_ms", time);
        all.insert("change_cpu_us", cpu);
        measured.push(all);
    }
    let large = measured.pop().unwrap_or_default();
    Ok((measured.pop().unwrap_or_default(), large))
}
