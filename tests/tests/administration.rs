//! Service administration by commands of clients (XEP-0050, XEP-0133), over real processes: what one node is told holds
//! on all of them, a command goes on where it was after a resume elsewhere, and an announcement reaches everybody once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use proto::payload::caps;
use proto::{Element, ns};
use tests::client::{Client, PASSWORD, body};
use tests::cluster::Cluster;
use tests::command::{begin, completed, refused, run, stage, values};
use tests::login::can_log_in;
use tests::process;
use tests::wire::{DOMAIN, Wire};

/// What an administrator orders has come about everywhere after so long.
const SOON: Duration = Duration::from_secs(5);

/// Nodes with accounts, of which alice's administers them.
async fn nodes(count: usize, users: &[&str], extra: &str) -> Cluster {
    let cluster = Cluster::prepare(count, extra).unwrap();
    cluster.add_to("[admin]", "jids = [\"alice@localhost\"]");
    cluster.started(users).await
}

async fn disco(client: &mut Client, what: &str, node: &str) -> Element {
    let id = format!("{:016x}", rand::random::<u64>());
    let iq = format!("<iq type='get' id='{id}' to='{DOMAIN}'><query xmlns='{what}'{node}/></iq>");
    client.request(&iq, &id).await.unwrap()
}

/// No node has written a password down.
fn check_logs(cluster: &Cluster, passwords: &[&str]) {
    for node in 0..cluster.count() {
        let log = std::fs::read_to_string(cluster.log(node)).unwrap();
        for password in passwords {
            assert!(!log.contains(password), "{password} is in the log");
        }
    }
}

#[tokio::test]
async fn ad_2_only_administrators_are_shown_commands_and_may_run_them() {
    let cluster = nodes(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let list = format!(" node='{}'", ns::COMMANDS);
    let answer = disco(&mut alice, ns::DISCO_ITEMS, &list).await;
    let items = answer.child("query", ns::DISCO_ITEMS).unwrap();
    let nodes: Vec<&str> = items
        .elements()
        .filter_map(|item| item.attr("node"))
        .collect();
    let (admin, others): (Vec<&str>, Vec<&str>) = nodes
        .iter()
        .copied()
        .partition(|node| node.starts_with(ns::ADMIN));
    assert_eq!(admin.len(), 17, "{nodes:?}");
    for node in &admin {
        let name = node
            .strip_prefix(ns::ADMIN)
            .unwrap()
            .trim_start_matches('#');
        let answer = stage(&mut bob, name, "", "").await;
        assert_eq!(refused(&answer), "forbidden", "{name}");
        let of_node = format!(" node='{node}'");
        let answer = disco(&mut alice, ns::DISCO_INFO, &of_node).await;
        let info = answer.child("query", ns::DISCO_INFO).unwrap();
        let identity = info.child("identity", ns::DISCO_INFO).unwrap();
        assert_eq!(identity.attr("category"), Some("automation"));
        let answer = disco(&mut bob, ns::DISCO_INFO, &of_node).await;
        assert_eq!(refused(&answer), "item-not-found");
    }
    let answer = disco(&mut bob, ns::DISCO_ITEMS, &list).await;
    let items = answer.child("query", ns::DISCO_ITEMS).unwrap();
    let nodes = items.elements().filter_map(|item| item.attr("node"));
    assert_eq!(nodes.collect::<Vec<_>>(), others, "{items:?}");
    let answer = stage(&mut alice, "none", "", "").await;
    assert_eq!(refused(&answer), "item-not-found");
}

#[tokio::test]
async fn ad_2_accounts_are_made_changed_locked_and_removed_for_all_nodes() {
    let cluster = nodes(3, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let new = "battery staple";
    let password = ("password", PASSWORD);
    // Each has an account of its own, so that none meets what is left of the one before.
    for (name, command, more) in [
        ("dora", "change-user-password", Some(("password", new))),
        ("erik", "disable-user", None),
        ("frank", "delete-user", None),
    ] {
        let jid = format!("{name}@{DOMAIN}");
        let one = ("accountjid", &*jid);
        let made = [one, password, ("password-verify", PASSWORD)];
        run(&mut alice, "add-user", &made).await;
        let again = begin(&mut alice, "add-user").await;
        let again = again.submit(&mut alice, &made).await;
        assert_eq!(refused(&again), "conflict");
        let mut live = cluster.client_with(1, name, "live").await;
        let mut asleep = cluster.client_with(2, name, "asleep").await;
        asleep.wire.cut();
        let ordered = Instant::now();
        match more {
            Some(more) => run(&mut alice, command, &[one, more]).await,
            None => run(&mut alice, command, &[("accountjids", &jid)]).await,
        };
        assert_eq!(
            live.wire.end().await.condition(),
            "not-authorized",
            "{command}"
        );
        assert!(ordered.elapsed() < SOON, "{:?}", ordered.elapsed());
        assert!(!can_log_in(&cluster, 2, name, PASSWORD).await, "{command}");
    }
    assert!(can_log_in(&cluster, 2, "dora", new).await);
    run(
        &mut alice,
        "reenable-user",
        &[("accountjids", "erik@localhost")],
    )
    .await;
    assert!(can_log_in(&cluster, 1, "erik", PASSWORD).await);
    let gone = begin(&mut alice, "delete-user").await;
    let gone = gone
        .submit(&mut alice, &[("accountjids", "frank@localhost")])
        .await;
    assert_eq!(refused(&gone), "item-not-found");
    check_logs(&cluster, &[PASSWORD, new]);
}

#[tokio::test]
async fn ad_2_sessions_on_other_nodes_end_one_or_all() {
    let cluster = nodes(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut desk = cluster.client_with(1, "bob", "desk").await;
    let mut phone = cluster.client_with(2, "bob", "phone").await;
    let mut asleep = cluster.client_with(2, "bob", "asleep").await;
    asleep.wire.cut();
    let told = run(&mut alice, "user-stats", &[("accountjid", "bob@localhost")]).await;
    let mut resources = values(&told, "onlineresources");
    resources.sort();
    assert_eq!(resources, ["asleep", "desk", "phone"]);
    run(
        &mut alice,
        "end-user-session",
        &[("accountjids", "bob@localhost/desk")],
    )
    .await;
    let end = desk.wire.end().await;
    assert!(!end.is_passing(), "{end}");
    phone.check_nothing_more().await;
    run(
        &mut alice,
        "end-user-session",
        &[("accountjids", "bob@localhost")],
    )
    .await;
    let end = phone.wire.end().await;
    assert!(!end.is_passing(), "{end}");
    let answer = asleep.try_resume(cluster.address(0)).await.unwrap();
    assert_eq!(answer.local(), "failed", "{answer:?}");
    let none = begin(&mut alice, "end-user-session").await;
    let none = none
        .submit(&mut alice, &[("accountjids", "bob@localhost")])
        .await;
    assert_eq!(refused(&none), "item-not-found");
}

#[tokio::test]
async fn ad_2_numbers_lists_and_rosters_are_those_of_all_nodes() {
    let users = ["alice", "bob", "carol", "dora"];
    let cluster = nodes(3, &users, "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let mut carol = cluster.client(2, "carol").await;
    carol.wire.cut();
    let told = run(&mut alice, "get-registered-users-num", &[]).await;
    assert_eq!(values(&told, "registeredusersnum"), ["4"]);
    let told = run(&mut alice, "get-online-users-num", &[]).await;
    assert_eq!(values(&told, "onlineusersnum"), ["3"]);
    let told = run(&mut alice, "get-online-users-list", &[("max_items", "2")]).await;
    assert_eq!(
        values(&told, "onlineuserjids"),
        ["alice@localhost", "bob@localhost"]
    );
    assert!(
        told.child("note", ns::COMMANDS)
            .unwrap()
            .text()
            .contains("2 of 3")
    );
    let told = run(
        &mut alice,
        "get-registered-users-list",
        &[("max_items", "none")],
    )
    .await;
    let all = users.map(|user| format!("{user}@{DOMAIN}"));
    assert_eq!(values(&told, "registereduserjids"), all);
    let item = format!(
        "<iq type='set' id='item'><query xmlns='{}'><item jid='dora@localhost' name='D'/></query></iq>",
        ns::ROSTER
    );
    bob.request(&item, "item").await.unwrap();
    let of_bob = [("accountjids", "bob@localhost")];
    let told = run(&mut alice, "get-user-roster", &of_bob).await;
    let form = told.child("x", ns::DATA_FORM).unwrap();
    let roster = form.child("query", ns::ROSTER).unwrap();
    let jids: Vec<_> = roster
        .elements()
        .filter_map(|item| item.attr("jid"))
        .collect();
    assert_eq!(jids, ["dora@localhost"]);
    let told = run(&mut alice, "get-user-lastlogin", &of_bob).await;
    assert!(values(&told, "lastlogin")[0].ends_with('Z'));
}

#[tokio::test]
async fn ad_1_a_command_goes_on_on_another_node_after_a_resume() {
    let mut cluster = nodes(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let begun = begin(&mut alice, "announce").await;
    cluster.kill(0);
    alice.resume(cluster.address(2)).await;
    let text = [("announcement", "one\ntwo")];
    completed(&begun.submit(&mut alice, &text).await);
    assert_eq!(bob.message().await.unwrap(), "one\ntwo");
    assert_eq!(alice.message().await.unwrap(), "one\ntwo");
    // It is the same announcement, whoever asks for it again.
    completed(&begun.submit(&mut alice, &text).await);
    bob.check_nothing_more().await;
    alice.check_nothing_more().await;
}

#[tokio::test]
async fn ad_2_an_announcement_reaches_everybody_who_is_online_once() {
    let cluster = nodes(3, &["alice", "bob", "carol", "dora"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut others = vec![
        cluster.client_with(1, "bob", "desk").await,
        cluster.client_with(2, "bob", "phone").await,
    ];
    let mut asleep = cluster.client(1, "carol").await;
    asleep.wire.cut();
    let config = cluster.config(2).to_string_lossy().into_owned();
    let said = process::run(["announce", "by hand", "--config", &config], "");
    assert!(said.status.success(), "{said:?}");
    run(&mut alice, "announce", &[("announcement", "by a client")]).await;
    asleep.resume(cluster.address(0)).await;
    others.extend([alice, asleep]);
    for client in &mut others {
        for expect in ["by hand", "by a client"] {
            let message = client.message_element().await.unwrap();
            assert_eq!(message.attr("type"), Some("headline"), "{message:?}");
            assert_eq!(message.attr("from"), Some(DOMAIN), "{message:?}");
            assert_eq!(message.attr("to"), Some(client.jid.as_str()), "{message:?}");
            assert_eq!(body(&message), expect);
        }
        client.check_nothing_more().await;
    }
    // Who comes later was not there.
    cluster.client(0, "dora").await.check_nothing_more().await;
    for (text, more, why) in [
        ("", "", "no text"),
        (
            "x",
            "--domain=elsewhere.example",
            "elsewhere.example is not served here",
        ),
        (&*"x".repeat(9_000), "", "more than 8192 bytes"),
    ] {
        let arguments = ["announce", text, "--config", &config, more];
        let arguments: Vec<_> = arguments
            .into_iter()
            .take(if more.is_empty() { 4 } else { 5 })
            .collect();
        let said = process::run(&arguments, "");
        let errors = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && errors.contains(why), "{errors}");
    }
}

#[tokio::test]
async fn ad_2_the_message_of_the_day_is_told_to_each_account_once() {
    let cluster = nodes(3, &["alice", "bob", "carol"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    run(&mut alice, "set-motd", &[("motd", "Welcome")]).await;
    // Who is online is told at once, and not again.
    assert_eq!(alice.message().await.unwrap(), "Welcome");
    alice.check_nothing_more().await;
    let greeted = async |node: usize, user: &str, resource: &str| {
        let mut client = cluster.client_with(node, user, resource).await;
        client.settle().await.unwrap();
        let told = client.take_messages(|_| true);
        client.check_nothing_more().await;
        told.iter().map(body).collect::<Vec<_>>()
    };
    // A node knows of it a second later at the latest.
    let begun = Instant::now();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let told = greeted(1, "bob", &format!("desk{attempt}")).await;
        if told == ["Welcome"] {
            break;
        }
        assert!(told.is_empty() && begun.elapsed() < SOON, "{told:?}");
    }
    for node in 0..3 {
        let told = greeted(node, "bob", &format!("phone{node}")).await;
        assert!(told.is_empty(), "{told:?}");
    }
    assert!(greeted(0, "alice", "tablet").await.is_empty());
    run(&mut alice, "delete-motd", &[]).await;
    assert!(greeted(0, "carol", "desk").await.is_empty());
}

#[tokio::test]
async fn di_3_the_features_of_a_stream_name_what_the_server_answers() {
    let extra = "[contact]\nabuse = [\"mailto:abuse@localhost\"]\noutage = [\"https://status.localhost/x.json\"]\n";
    let cluster = nodes(1, &["alice"], extra).await;
    let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
    let features = wire.unwrap().login("alice", PASSWORD).await.unwrap();
    let named = features.child("c", ns::CAPS).expect("DI-3");
    let attr = |name| named.attr(name).unwrap().to_owned();
    assert_eq!(attr("hash"), "sha-1");
    let mut alice = cluster.client(0, "alice").await;
    let node = format!("{}#{}", attr("node"), attr("ver"));
    for asked in [String::new(), format!(" node='{node}'")] {
        let answer = disco(&mut alice, ns::DISCO_INFO, &asked).await;
        let info = answer.child("query", ns::DISCO_INFO).unwrap();
        assert_eq!(caps::hash("sha-1", info), Some(attr("ver")), "{info:?}");
        assert_eq!(info.attr("node"), asked.split('\'').nth(1));
        let forms = info.elements().filter(|child| child.is("x", ns::DATA_FORM));
        assert_eq!(forms.count(), 2, "DI-6: {info:?}");
    }
    let other = format!(" node='{}#AAAA'", attr("node"));
    let answer = disco(&mut alice, ns::DISCO_INFO, &other).await;
    assert_eq!(refused(&answer), "item-not-found", "DI-2");
}

#[tokio::test]
async fn di_6_a_relay_s_secret_is_read_from_a_file_beside_the_configuration() {
    let extra = "[[external.service]]\ntype = \"turn\"\nhost = \"turn.localhost\"\nport = 3478\n\
                 secret_file = \"turn.secret\"\n";
    let cluster = Cluster::prepare(1, extra).unwrap();
    let config = cluster.config(0).to_string_lossy().into_owned();
    let check = process::run(["check", "--config", &config], "");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(
        said.contains("BAD ") && said.contains("turn.secret cannot be used"),
        "{said}"
    );
    std::fs::write(cluster.path().join("turn.secret"), "north\n").unwrap();
    let cluster = cluster.started(&["alice"]).await;
    let mut alice = cluster.client(0, "alice").await;
    let services = format!("<services xmlns='{}' type='turn'/>", ns::EXTERNAL_SERVICES);
    let iq = format!("<iq type='get' id='turn' to='{DOMAIN}'>{services}</iq>");
    let answer = alice.request(&iq, "turn").await.unwrap();
    let services = answer.child("services", ns::EXTERNAL_SERVICES).unwrap();
    let turn = services.child("service", ns::EXTERNAL_SERVICES).unwrap();
    let attr = |name| turn.attr(name).unwrap_or_default();
    assert_eq!(
        (attr("host"), attr("restricted")),
        ("turn.localhost", "true")
    );
    let password = proto::sasl::Digest::Sha1.hmac(b"north", attr("username").as_bytes());
    // Twenty bytes in base64.
    assert_eq!((password.len(), attr("password").len()), (20, 28));
}

#[test]
fn keys_that_cannot_work_are_refused_with_what_would() {
    let cluster = Cluster::prepare(1, "").unwrap();
    let config = cluster.config(0).to_string_lossy().into_owned();
    let base = std::fs::read_to_string(&config).unwrap();
    for (text, parts) in [
        (
            "[contact]\nabuse = [\"abuse at localhost\"]",
            ["contact.abuse", "mailto:"],
        ),
        (
            "[contact]\noutage = [\"xmpp:localhost\"]",
            ["contact.outage", "https:"],
        ),
        (
            "[contact]\nabus = []",
            ["contact.abus", "did you mean `abuse`"],
        ),
        (
            "[[external.service]]\ntype = \"turn\"\nhost = \"h\"",
            ["external.service", "secret_file"],
        ),
        (
            "[[external.service]]\ntype = \"stun\"",
            ["external.service", "host"],
        ),
        (
            "[[external.service]]\ntype = \"stun\"\nhost = \"h\"\nhots = 1",
            ["external.service", "hots"],
        ),
        (
            "[[external.service]]\ntype = \"stun\"\nhost = \"h\"\nlifetime = \"1s\"",
            ["lifetime", "60"],
        ),
    ] {
        std::fs::write(&config, format!("{base}\n{text}\n")).unwrap();
        let output = process::run(["check", "--config", &config], "");
        let said = String::from_utf8_lossy(&output.stderr);
        let all = parts.iter().all(|part| said.contains(part));
        assert!(!output.status.success() && all, "{text}: {said}");
    }
    for jid in ["bob@elsewhere.example", "localhost", "a b@localhost"] {
        let text = base.replace("[admin]", &format!("[admin]\njids = [\"{jid}\"]"));
        std::fs::write(&config, text).unwrap();
        let output = process::run(["check", "--config", &config], "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("admin.jids"),
            "{said}"
        );
    }
}
