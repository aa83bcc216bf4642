//! Keys for a newer mechanism, for accounts that were made before it was there (XEP-0480).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::sasl::Mechanism;
use proto::{Element, ns};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tests::client::PASSWORD;
use tests::cluster::Cluster;
use tests::sasl2::{Device, upgrade};
use tests::wire::Wire;
use tests::{until, web};

const PHONE: Device = Device {
    user: "alice",
    id: "9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11",
};

/// The mechanisms of SASL2 and the upgrades that are offered.
async fn offered(cluster: &Cluster) -> (Wire, Vec<String>, Vec<String>) {
    let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
    let mut wire = wire.unwrap();
    wire.send(&PHONE.header()).await.unwrap();
    let features = wire.next().await.unwrap();
    let offer = features.child("authentication", ns::SASL2).expect("SA-1");
    let texts = |name: &str| {
        let named = offer.elements().filter(|child| child.local() == name);
        named.map(Element::text).collect()
    };
    (wire, texts("mechanism"), texts("upgrade"))
}

#[tokio::test]
async fn sa_12_and_st_41_accounts_of_an_older_release_get_the_keys_that_they_lack() {
    let mut cluster = Cluster::prepare(1, "").unwrap();
    cluster.accounts(&["alice", "bob"]);
    let file = SqliteConnectOptions::new().filename(cluster.path().join("holdfast.db"));
    let mut database = file.connect().await.unwrap();
    let aged = sqlx::query("UPDATE account SET sha512_stored = NULL").execute(&mut database);
    assert_eq!(aged.await.unwrap().rows_affected(), 2);
    database.close().await.unwrap();
    cluster.run(0);
    cluster.ready(0).await;

    let (newest, task) = ("SCRAM-SHA-512".to_owned(), "UPGR-SCRAM-SHA-512");
    let wish = format!(
        "<upgrade xmlns='{}'>{task}</upgrade><bind xmlns='{}'/>",
        ns::UPGRADE,
        ns::BIND2
    );
    let (mut wire, mechanisms, upgrades) = offered(&cluster).await;
    assert!(!mechanisms.contains(&newest), "{mechanisms:?}");
    assert_eq!(upgrades, [task]);
    let older = Mechanism::ScramSha256;
    let asked = PHONE.authenticate(&mut wire, older, PASSWORD, &wish).await;
    let asked = asked.unwrap();
    assert!(asked.is("continue", ns::SASL2), "{asked:?}");
    let success = upgrade(&mut wire, &asked, PASSWORD).await.unwrap();
    assert!(success.child("bound", ns::BIND2).is_some(), "{success:?}");
    // Whoever asks again has the keys by now, and is not told anything.
    let (mut wire, ..) = offered(&cluster).await;
    let success = PHONE.authenticate(&mut wire, older, PASSWORD, &wish).await;
    assert!(success.unwrap().is("success", ns::SASL2));
    // Of who says his password they are made at once.
    let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
    let mut wire = wire.unwrap();
    wire.open().await.unwrap();
    let plain = web::plain("bob");
    let auth = format!(
        "<auth xmlns='{}' mechanism='PLAIN'>{plain}</auth>",
        ns::SASL
    );
    wire.send(&auth).await.unwrap();
    assert!(wire.next().await.unwrap().is("success", ns::SASL));

    cluster.kill(0);
    cluster.run(0);
    cluster.ready(0).await;
    until("the mechanism is offered", async || {
        let (_, mechanisms, upgrades) = offered(&cluster).await;
        mechanisms.contains(&newest) && upgrades.is_empty()
    })
    .await;
    for (password, outcome) in [("wrong", "failure"), (PASSWORD, "success")] {
        let (mut wire, ..) = offered(&cluster).await;
        let answer = PHONE.authenticate(&mut wire, Mechanism::ScramSha512, password, "");
        assert_eq!(answer.await.unwrap().local(), outcome);
    }
}
