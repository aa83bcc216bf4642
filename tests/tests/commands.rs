//! What the command line says when something is wrong: clear, on standard error, without a panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use tests::archive;
use tests::client::{Client, numbered};
use tests::cluster::Cluster;
use tests::process::{self, tail};

/// The exit code and what was said on standard error.
fn fails(arguments: &[&str]) -> (Option<i32>, String) {
    let output = process::run(arguments, "");
    assert!(!output.status.success(), "{arguments:?}");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[track_caller]
fn check(arguments: &[&str], code: i32, parts: &[&str]) {
    let (got, text) = fails(arguments);
    assert_eq!(got, Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_the_nearest_flag() {
    check(&["serve", "--confg", "x"], 2, &["--confg", "--config"]);
    check(&["serv"], 2, &["serv", "serve"]);
    check(&["user", "add"], 2, &["<JID>"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    check(
        &["serve", "--config", "/nowhere/holdfast.toml"],
        1,
        &["/nowhere/holdfast.toml", "No such file"],
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_one() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        file,
        "domain = \"localhost\"\n[sm]\nhibernation_tme = \"1s\""
    )
    .unwrap();
    let path = file.path().to_string_lossy().into_owned();
    check(
        &["serve", "--config", &path],
        1,
        &["line 3", "`sm.hibernation_tme`", "`hibernation_time`"],
    );
    check(&["check", "--config", &path], 1, &["line 3"]);
}

#[test]
fn a_configuration_that_is_no_text_is_refused() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0xff, 0x00, 0xfe, b'[', 0x80]).unwrap();
    let path = file.path().to_string_lossy().into_owned();
    check(&["serve", "--config", &path], 1, &[&path]);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cluster = Cluster::prepare(1, "").unwrap();
    let config = cluster.config(0).to_string_lossy().into_owned();
    for key in ["c2s.listen", "admin.listen"] {
        let set = format!("{key}={address}");
        check(
            &["serve", "--config", &config, "--set", &set],
            1,
            &[&address, "in use"],
        );
    }
}

#[tokio::test]
async fn a_second_node_in_the_same_directory_is_refused() {
    let mut cluster = Cluster::start(1, &[], "").await;
    let config = cluster.config(0).to_string_lossy().into_owned();
    let free = [
        "c2s.listen=127.0.0.1:0",
        "c2s.listen_tls=127.0.0.1:0",
        "admin.listen=127.0.0.1:0",
    ];
    let data_dir = cluster.data_dir(0);
    let process = format!("in use by process {}", cluster.process(0).id());
    let parts = [&*data_dir.to_string_lossy(), &process];
    // The ports are taken too, which matters less.
    let mut arguments = vec!["serve", "--config", &config];
    check(&arguments, 1, &parts);
    arguments.extend(free.iter().flat_map(|set| ["--set", set]));
    check(&arguments, 1, &parts);
    assert!(looked(&config, 0).contains(&process));
}

#[tokio::test]
async fn t_80_a_data_directory_that_is_not_its_owners_alone_is_named() {
    let cluster = Cluster::prepare(1, "").unwrap();
    let config = cluster.config(0).to_string_lossy().into_owned();
    let dir = cluster.data_dir(0);
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, Permissions::from_mode(0o2770)).unwrap();
    let told = looked(&config, 0);
    assert!(
        told.contains("note  data_dir: ") && told.contains("(mode 2770)"),
        "{told}"
    );
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&dir, Some(65534), Some(65534)).unwrap();
        let told = looked(&config, 0);
        assert!(told.contains("belongs to user 65534"), "{told}");
    }
}

#[tokio::test]
async fn a_damaged_identity_is_foretold_with_what_to_move_away_and_what_that_costs() {
    let mut cluster = Cluster::start(1, &[], "").await;
    cluster.kill(0);
    let file = cluster.data_dir(0).join("identity");
    std::fs::write(&file, "holdfast-identity 1\nnode 12\n").unwrap();
    let config = cluster.config(0).to_string_lossy().into_owned();
    let advice = "move identity, log and snapshots, and nothing else";
    let damage = format!("{} is damaged at line 2", file.display());
    let told = looked(&config, 1);
    assert!(
        told.contains("BAD   data_dir: ") && told.contains(&damage),
        "{told}"
    );
    assert!(
        told.contains(advice) && told.contains("keeps accounts"),
        "{told}"
    );
    check(&["serve", "--config", &config], 1, &[&damage, advice]);
}

#[test]
fn a_secret_that_anybody_reads_and_a_file_that_is_wrong_are_named_once() {
    let cluster = Cluster::prepare(1, "").unwrap();
    let config = cluster.config(0).to_string_lossy().into_owned();
    let key = cluster.path().join("key.pem");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let named = |told: &str, place: &str| told.matches(place).count();
    let told = looked(&config, 0);
    let secret = format!("note  {} holds a secret", key.display());
    assert!(told.contains(&secret), "{told}");
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let told = looked(&config, 0);
    assert!(!told.contains("holds a secret"), "{told}");
    let other = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&key, other.serialize_pem()).unwrap();
    let told = looked(&config, 1);
    assert_eq!(named(&told, &key.to_string_lossy()), 1, "{told}");
    std::fs::remove_file(&key).unwrap();
    let told = looked(&config, 1);
    assert_eq!(named(&told, &key.to_string_lossy()), 1, "{told}");
    let redis = [
        "check",
        "--config",
        &config,
        "--set",
        "redis.url=redis://127.0.0.1:1",
    ];
    let told = process::run(redis, "").stdout;
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("BAD   redis.url: 127.0.0.1:1: "), "{told}");
}

/// The segments of a node's log.
fn segments(cluster: &Cluster) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(cluster.data_dir(0).join("log")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|path| path.to_string_lossy().contains("wal-"))
        .collect()
}

/// Turns a bit of the first occurrence of `needle`; where.
fn damage(file: &Path, needle: &[u8]) -> u64 {
    let bytes = std::fs::read(file).unwrap();
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .expect("is in the log");
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    at as u64
}

/// What `holdfast check` tells, with this exit code.
fn looked(config: &str, code: i32) -> String {
    let output = process::run(["check", "--config", config], "");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_secret_that_the_other_nodes_do_not_have_is_named() {
    let mut cluster = Cluster::start(3, &[], "").await;
    cluster.kill(0);
    let config = cluster.config(0).to_string_lossy().into_owned();
    let told = looked(&config, 0);
    assert_eq!(told.matches(" knows us").count(), 2, "{told}");
    let other = cluster.path().join("other.secret");
    std::fs::write(&other, "another secret, which is long enough to be one").unwrap();
    std::fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
    cluster.edit(0, "cluster.secret", "other.secret");
    let told = looked(&config, 1);
    assert_eq!(told.matches("BAD   node ").count(), 2, "{told}");
}

#[tokio::test]
async fn f_24_a_damaged_log_is_refused_with_file_and_offset() {
    let mut cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let to_bob = bob.jid.to_string();
    for body in numbered("logged", 0..30) {
        alice.say(&to_bob, &body).await;
        alice.settle().await.unwrap();
        bob.expect([body]).await;
    }
    cluster.kill(0);
    let config = cluster.config(0).to_string_lossy().into_owned();
    assert!(looked(&config, 0).contains("identity, log and snapshots can be read"));
    let segment = segments(&cluster).pop().unwrap();
    let at = damage(&segment, b"logged 3");
    let foretold = looked(&config, 1);
    assert!(foretold.contains("BAD   data_dir: log file"), "{foretold}");
    assert!(foretold.contains("damaged at byte"), "{foretold}");
    cluster.run(0);
    let status = cluster.process(0).end().await;
    assert_eq!(status.code(), Some(1), "{status}");
    let said = tail(&cluster.log(0));
    assert!(said.contains(&*segment.to_string_lossy()), "{said}");
    let offset = said
        .split("damaged at byte ")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let offset: u64 = offset
        .and_then(|offset| offset.trim().parse().ok())
        .expect("an offset");
    assert!(
        offset <= at && at - offset < 64 * 1024,
        "byte {at} is damaged: {said}"
    );
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn f_25_a_log_that_lost_its_end_is_refused() {
    let mut cluster = Cluster::start(1, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    for body in numbered("logged", 0..20) {
        alice.say("alice@localhost", &body).await;
        alice.settle().await.unwrap();
    }
    cluster.kill(0);
    let segment = segments(&cluster).pop().unwrap();
    let whole = std::fs::metadata(&segment).unwrap().len();
    let file = std::fs::File::options().write(true).open(&segment).unwrap();
    // Ends behind its first frames, as if nothing had ever come after them.
    file.set_len(4096).unwrap();
    file.set_len(whole).unwrap();
    cluster.run(0);
    let status = cluster.process(0).end().await;
    assert_eq!(status.code(), Some(1), "{status}");
    let said = tail(&cluster.log(0));
    assert!(
        said.contains(&*segment.to_string_lossy()) && said.contains("damaged at byte"),
        "{said}"
    );
}

#[tokio::test]
async fn t_63_an_empty_admin_token_is_refused() {
    let cluster = Cluster::prepare(1, "").unwrap();
    std::fs::create_dir_all(cluster.data_dir(0)).unwrap();
    std::fs::write(cluster.data_dir(0).join("admin.token"), "").unwrap();
    let config = cluster.config(0).to_string_lossy().into_owned();
    check(
        &["serve", "--config", &config],
        1,
        &["admin.token", "delete it"],
    );
    check(&["check", "--config", &config], 1, &[]);
}

#[tokio::test]
async fn sm_42_a_new_password_ends_what_the_old_one_opened() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut asleep = cluster.client_with(0, "alice", "asleep").await;
    asleep.wire.cut();
    let config = cluster.config(0).to_string_lossy().into_owned();
    let arguments = [
        "user",
        "passwd",
        "alice@localhost",
        "--password-stdin",
        "--config",
        &config,
    ];
    let output = process::run(arguments, "correct horse\n");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let end = alice.wire.end().await;
    assert!(!end.is_passing(), "{end}");
    let answer = asleep.try_resume(cluster.address(0)).await.unwrap();
    assert_eq!(answer.local(), "failed");
}

#[tokio::test]
async fn accounts_are_made_listed_and_removed() {
    let cluster = Cluster::prepare(1, "").unwrap();
    cluster.accounts(&["alice", "bob"]);
    let config = cluster.config(0).to_string_lossy().into_owned();
    let user = |arguments: &[&str]| {
        let arguments = [&["user"], arguments, &["--config", &config]].concat();
        process::run(arguments, "another one\n")
    };
    let list = String::from_utf8(user(&["list"]).stdout).unwrap();
    assert_eq!(list, "alice@localhost\nbob@localhost\n");
    assert!(
        user(&["passwd", "alice@localhost", "--password-stdin"])
            .status
            .success()
    );
    let unsure = user(&["remove", "bob@localhost"]);
    assert!(!unsure.status.success(), "the answer was not its address");
    let list = String::from_utf8(user(&["list"]).stdout).unwrap();
    assert!(list.contains("bob@localhost"));
    assert!(user(&["remove", "bob@localhost", "--yes"]).status.success());
    assert!(!user(&["remove", "bob@localhost"]).status.success());
    assert!(
        !user(&["add", "alice@localhost", "--password-stdin"])
            .status
            .success()
    );
    let list = String::from_utf8(user(&["list"]).stdout).unwrap();
    assert_eq!(list, "alice@localhost\n");
}

/// What a client is told of its account.
async fn told(client: &mut Client) -> Vec<String> {
    let mut answers = Vec::new();
    for (number, payload) in [
        "<query xmlns='jabber:iq:roster'/>",
        "<vCard xmlns='vcard-temp'/>",
        "<query xmlns='jabber:iq:private'><notes xmlns='example:notes'/></query>",
        "<blocklist xmlns='urn:xmpp:blocking'/>",
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='example:mood'/></pubsub>",
    ]
    .iter()
    .enumerate()
    {
        let iq = format!("<iq type='get' id='told{number}'>{payload}</iq>");
        let answer = client.request(&iq, &format!("told{number}")).await.unwrap();
        let mut payload = answer.elements().next().unwrap().clone();
        // A roster that comes back has versions of its own.
        payload.remove_attr("ver");
        answers.push(payload.to_xml(""));
    }
    let all = archive::all_behind(client, None).await.unwrap();
    answers.extend(all.into_iter().map(|entry| format!("{entry:?}")));
    answers
}

/// What an account keeps, as it is set.
const KEPT: [&str; 5] = [
    "<query xmlns='jabber:iq:roster'><item jid='bob@localhost' name='B'><group>G</group></item></query>",
    "<vCard xmlns='vcard-temp'><FN>Alice</FN></vCard>",
    "<query xmlns='jabber:iq:private'><notes xmlns='example:notes'>n</notes></query>",
    "<block xmlns='urn:xmpp:blocking'><item jid='eve@localhost'/></block>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='example:mood'>\
     <item id='1'><happy xmlns='example:mood'/></item></publish></pubsub>",
];

#[tokio::test]
async fn an_account_leaves_while_a_node_runs_and_comes_back() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    for (number, payload) in KEPT.iter().enumerate() {
        let iq = format!("<iq type='set' id='set{number}'>{payload}</iq>");
        let answer = alice.request(&iq, &format!("set{number}")).await.unwrap();
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    }
    alice.say("bob@localhost", "one").await;
    bob.expect(["one".to_owned()]).await;
    bob.say("alice@localhost", "two").await;
    alice.expect(["two".to_owned()]).await;
    let before = told(&mut alice).await;
    assert_eq!(before.len(), 7, "{before:?}");

    let config = cluster.config(0).to_string_lossy().into_owned();
    let user = |arguments: &[&str]| {
        let output = process::run([&["user"], arguments, &["--config", &config]].concat(), "");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alice.xml");
    let file = file.to_str().unwrap();
    let export = ["export", "alice@localhost", "--with-keys", "--output", file];
    assert_eq!(user(&export), (true, String::new()));
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (done, said) = user(&export);
    assert!(!done && said.contains("cannot make"), "it is there: {said}");
    for output in [&[][..], &["--output", "-"]] {
        let (done, shown) = user(&[&["export", "alice@localhost"], output].concat());
        assert!(done && shown.contains("<body>two</body>") && !shown.contains("scram"));
    }
    assert!(!std::path::Path::new("-").exists());
    let (done, said) = user(&["export", "mallory@localhost"]);
    assert!(
        !done && said.contains("there is no account mallory@localhost"),
        "{said}"
    );

    assert!(user(&["remove", "alice@localhost", "--yes"]).0);
    assert!(!alice.wire.end().await.is_passing());
    let (done, said) = user(&["import", file]);
    assert!(done && said.contains("1 accounts made"), "{said}");
    let mut alice = cluster.client_with(0, "alice", "again").await;
    assert_eq!(told(&mut alice).await, before);
    bob.say("alice@localhost", "three").await;
    alice.expect(["three".to_owned()]).await;
    let all = archive::all_behind(&mut alice, None).await.unwrap();
    assert_eq!(
        all.last().unwrap().body,
        "three",
        "what comes later lies behind"
    );
}

#[test]
fn wd_2_what_dns_should_have_is_printed() {
    let text = [
        "--set",
        "domain=a.invalid",
        "--set",
        "web.listen=127.0.0.1:0",
    ];
    let url = ["--set", "web.url=wss://x.invalid/ws"];
    let arguments = [&["check", "dns"][..], &text, &url].concat();
    let output = process::run(arguments, "");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    for part in [
        "_xmpp-client._tcp.a.invalid. 3600 IN SRV 0 5 5222 a.invalid.",
        "_xmpp-server._tcp.a.invalid. 3600 IN SRV 0 0 0 .",
        "https://a.invalid/.well-known/host-meta.json",
        "wss://x.invalid/ws",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
}
