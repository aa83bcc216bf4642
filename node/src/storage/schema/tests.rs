//! What an older database becomes, and whether the parts of the server still make what they made together.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::{Config, StorageUrl};
use crate::hooks::Registry;
use crate::services;
use crate::storage::{Storage, testing};

/// The steps as they were released, each in one piece: for SQLite and for PostgreSQL.
const RELEASED: [[&str; 2]; 5] = [
    [
        include_str!("released/1.sqlite.sql"),
        include_str!("released/1.postgres.sql"),
    ],
    [include_str!("released/2.sql"); 2],
    [include_str!("released/3.sql"); 2],
    [include_str!("released/4.sql"); 2],
    [
        include_str!("released/5.sqlite.sql"),
        include_str!("released/5.postgres.sql"),
    ],
];

/// The statements of scripts, in no order.
fn statements<'a>(scripts: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let code = scripts.into_iter().flat_map(|script| {
        let lines = script.lines().filter(|line| !line.starts_with("--"));
        let code = lines.collect::<Vec<_>>().join("\n");
        let statements = code.split(';').map(|text| text.trim().to_owned());
        statements.collect::<Vec<_>>()
    });
    code.filter(|statement| !statement.is_empty()).collect()
}

#[test]
fn each_released_step_is_still_made_of_the_same_statements() {
    let schema = services::needs().schema;
    for (number, [sqlite, postgres]) in (1..).zip(RELEASED) {
        let own = || schema.steps.iter().filter(|step| step.number == number);
        let of_sqlite = own().map(|step| step.sqlite);
        assert_eq!(statements(of_sqlite), statements([sqlite]), "{number}");
        let of_postgres = own().map(|step| step.postgres);
        assert_eq!(statements(of_postgres), statements([postgres]), "{number}");
    }
}

#[tokio::test]
async fn a_database_of_every_earlier_version_becomes_the_present_one() {
    let schema = services::needs().schema;
    let tables = async |storage: &Storage| {
        let sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
        let rows = storage.database.rows(sql, Vec::new()).await.unwrap();
        let rows = rows
            .iter()
            .map(|row| (row.text(0).unwrap(), row.text(1).unwrap()));
        rows.collect::<Vec<_>>()
    };
    let dir = tempfile::tempdir().unwrap();
    let open = async |name: usize| {
        let url = StorageUrl::Sqlite(dir.path().join(format!("{name}.db")));
        Storage::open(&url, &schema).await.unwrap()
    };
    let fresh = tables(&open(0).await).await;
    assert!(fresh.len() > 12, "{fresh:#?}");
    for version in 1..=RELEASED.len() {
        let file = dir.path().join(format!("{version}.db"));
        let old = Database::sqlite(&file).await.unwrap();
        let noted = "CREATE TABLE IF NOT EXISTS holdfast_schema (version BIGINT NOT NULL)";
        old.raw(noted.to_owned()).await.unwrap();
        for (number, [sqlite, _]) in (1..=version).zip(RELEASED) {
            old.raw(sqlite.to_owned()).await.unwrap();
            let noted = format!("INSERT INTO holdfast_schema (version) VALUES ({number})");
            old.raw(noted).await.unwrap();
        }
        old.close().await;
        assert_eq!(tables(&open(version).await).await, fresh, "{version}");
    }
}

/// The tables with an account's name in them, and the column that has it.
fn owned(schema: &Schema) -> Vec<(&'static str, &'static str)> {
    let scripts = schema
        .steps
        .iter()
        .flat_map(|step| [step.sqlite, step.postgres]);
    let tables = scripts.flat_map(|sql| sql.split("CREATE TABLE ").skip(1));
    // A table that is made anew is what it is made last.
    let tables: BTreeMap<_, _> = tables
        .map(|table| table.split_once(" (").unwrap())
        .collect();
    let owned = tables.into_iter().filter_map(|(name, columns)| {
        let columns = columns.split(");").next().unwrap();
        let key = ["account", "owner"]
            .into_iter()
            .find(|key| columns.contains(&format!(" {key} TEXT")));
        // A note says that the account has changed, to whoever has its sessions.
        let key = key.filter(|_| name != "revocation")?;
        Some((name, key))
    });
    let owned: Vec<_> = owned.collect();
    assert!(owned.len() > 8, "the schema is elsewhere");
    owned
}

/// Everything with an account's name in it goes with the account, whichever table comes next.
#[test]
fn every_table_of_accounts_is_emptied_with_them() {
    let schema = services::needs().schema;
    for (name, key) in owned(&schema) {
        let sql = format!("DELETE FROM {name} WHERE {key} = $1");
        assert!(schema.removals.contains(&sql.as_str()), "{sql}");
    }
}

/// Tables of accounts that stay here when an account is written into a file.
const STAY: [&str; 5] = [
    // They open this server, for one device each.
    "fast_token",
    // Devices register again, and what wakes them is none of another server's business.
    "push",
    // Counts the changes of this server's roster.
    "roster_version",
    // Who has seen which announcement of this server.
    "motd_seen",
    // It is about a file that comes in.
    "unfinished_account",
];

/// And everything can be written into a file, or is named here with a reason.
#[test]
fn every_table_of_accounts_is_written_where_they_leave() {
    let registry = Registry::new(services::ALL, &Config::default()).unwrap();
    let written = registry.portables().flat_map(|portable| portable.tables());
    let written: BTreeSet<&str> = written.copied().collect();
    let names = owned(&services::needs().schema);
    let names: BTreeSet<&str> = names.into_iter().map(|(name, _)| name).collect();
    let stay = BTreeSet::from(STAY);
    assert_eq!(&names - &written, stay);
    assert_eq!(&written - &names, BTreeSet::new());
}

#[tokio::test]
async fn an_upgrade_may_be_repeated_but_a_newer_schema_is_left_alone() {
    testing::each(async |storage| {
        let schema = services::needs().schema;
        upgrade(&storage.database, &schema).await.unwrap();
        storage
            .database
            .execute("INSERT INTO holdfast_schema VALUES (99)", Vec::new())
            .await
            .unwrap();
        let error = upgrade(&storage.database, &schema).await.unwrap_err();
        assert!(matches!(error, StorageError::NewerSchema { found: 99, .. }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_together_share_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let url = StorageUrl::Sqlite(dir.path().join("shared.db"));
    let opening: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { Storage::open(&url, &services::needs().schema).await })
        })
        .collect();
    for opened in opening {
        opened.await.unwrap().unwrap();
    }
}
