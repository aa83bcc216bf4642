//! Every kind of Redis that a URL can name, with the scripts that count sessions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cluster::mirror::script::{Decision, Keys, What};
use cluster::mirror::store::Store;
use cluster::session::{Override, Settings};
use proto::BareJid;
use tests::process::command;
use tests::redis::{Redis, free_port};

/// Twenty accounts have three sessions fall asleep each, of which two may.
async fn count(url: &str) {
    let mut store = Store::connect(&url.parse().unwrap()).await.unwrap();
    let settings = Settings {
        max_hibernated_sessions: 2,
        ..Settings::default()
    };
    let decision = |number: u64| Decision {
        account: account(number % 20),
        what: What::Hibernate {
            resource: format!("r{}", number / 20).into(),
            since: 1_000 + number,
        },
    };
    let scripts = store.scripts();
    let call = |number| scripts.decide(&decision(number), &settings, Override::default());
    let answers = store.ask((0..60).map(call).collect()).await.unwrap();
    let evicted: Vec<_> = answers.into_iter().map(|a| a.unwrap().evicted).collect();
    assert!(evicted[..40].iter().all(Vec::is_empty), "{evicted:?}");
    assert!(evicted[40..].iter().all(|e| e == &["r0"]), "{evicted:?}");
}

fn account(number: u64) -> BareJid {
    BareJid::new(&format!("user{number}@example.org")).unwrap()
}

#[tokio::test]
async fn a_master_is_found_through_its_sentinel() {
    let master = Redis::start().unwrap();
    let sentinel = master.sentinel("main").unwrap();
    count(&format!("redis+sentinel://{}/main", sentinel.address())).await;
    let [sleeping, ..] = Keys::of(&account(0)).0;
    assert_eq!(master.run(&["ZCARD", &sleeping]), ["2"]);
    let other = format!("redis+sentinel://{}/other", sentinel.address());
    assert!(Store::connect(&other.parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn a_cluster_has_all_keys_of_an_account_in_one_place() {
    let servers = Redis::cluster().unwrap();
    let address = servers[1].address();
    count(&format!("redis+cluster://127.0.0.1:1,{address}")).await;
    let keys = |redis: &Redis| redis.run(&["DBSIZE"])[0].parse::<u64>().unwrap();
    let each: Vec<_> = servers.iter().map(keys).collect();
    assert_eq!(each.iter().sum::<u64>(), 20, "{each:?}");
    assert!(
        each.iter().filter(|keys| **keys > 0).count() > 1,
        "{each:?}"
    );
}

/// Only whom the system's authorities vouch for is believed.
#[test]
fn t_71_over_tls_a_certificate_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let certificate = file("certificate.pem", made.cert.pem());
    let key = file("key.pem", made.signing_key.serialize_pem());
    let nobody = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let nobody = file("nobody.pem", nobody.cert.pem());
    let port = free_port().unwrap().to_string();
    let _redis = Redis::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &certificate,
        "--tls-auth-clients",
        "no",
    ]);
    for (authorities, works) in [(&certificate, true), (&nobody, false)] {
        let url = format!("redis.url=rediss://localhost:{port}");
        let output = command(["check", "--set", &url])
            .env("SSL_CERT_FILE", authorities)
            .env_remove("SSL_CERT_DIR")
            .current_dir(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.contains("ok    Redis answers"), works, "{said}");
        assert_eq!(said.contains("BAD   redis.url"), !works, "{said}");
    }
}
