//! What an operator is told of a configuration.

use super::*;
use crate::services;

async fn check(sets: &[&str]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    sets.push(format!("data_dir={}", dir.path().display()));
    // The usual ports may be in use where the tests run.
    for key in ["c2s.listen", "c2s.listen_tls", "admin.listen"] {
        if !sets.iter().any(|set| set.starts_with(&format!("{key}="))) {
            sets.push(format!("{key}=127.0.0.1:0"));
        }
    }
    let config = Config::load(&services::needs().tables, None, &sets, []).unwrap();
    let mut out = Vec::new();
    let works = run(&config, &mut out).await.unwrap();
    (works, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn the_default_works() {
    let (works, out) = check(&[]).await;
    assert!(works, "{out}");
}

#[tokio::test]
async fn what_is_absent_is_named() {
    let (works, out) = check(&["domain=invalid.example", "redis.url=redis://127.0.0.1:1"]).await;
    assert!(!works);
    for part in [
        "BAD   `tls.certificate`",
        "BAD   redis.url",
        "note  invalid.example",
    ] {
        assert!(out.contains(part), "{out} lacks {part}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_named() {
    let (works, out) = check(&["admin.listen=192.0.2.1:9"]).await;
    assert!(
        !works && out.contains("BAD   admin.listen: 192.0.2.1:9"),
        "{out}"
    );
    let (works, out) = check(&["storage.url=sqlite:/proc/holdfast.db"]).await;
    assert!(!works && out.contains("BAD   storage.url: cannot write in /proc"));
    let bad = writable("data_dir", Path::new("/proc/holdfast/data"));
    assert_eq!(bad.weight, Weight::Bad);
}

#[tokio::test]
async fn a_port_of_another_program_is_named_unless_the_node_itself_runs() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let set = format!("admin.listen={}", taken.local_addr().unwrap());
    let (works, out) = check(&[&set]).await;
    assert!(!works && out.contains("BAD   admin.listen"), "{out}");
    let dir = tempfile::tempdir().unwrap();
    let _claim = claim::claim_dir(dir.path()).unwrap();
    let sets = [set, format!("data_dir={}", dir.path().display())];
    let found = listeners(&Config::load(&services::needs().tables, None, &sets, []).unwrap());
    assert!(found.iter().all(|found| found.weight == Weight::Hint));
}

#[tokio::test]
async fn t_80_a_directory_that_anybody_may_write_in_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let set = format!("data_dir={}", dir.path().display());
    let config = Config::load(&services::needs().tables, None, &[set], []).unwrap();
    let found = data_dir(&config).await;
    assert_eq!(found[0].weight, Weight::Bad, "{}", found[0].text);
}

#[test]
fn t_63_a_token_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(token::FILE);
    assert_eq!(self::token(&file), None);
    std::fs::write(&file, "").unwrap();
    assert_eq!(self::token(&file).unwrap().weight, Weight::Bad);
}

#[tokio::test]
async fn a_certificate_that_the_start_would_refuse_or_clients_would_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (own, other) = (made("localhost"), made("localhost"));
    let sets = [
        format!("tls.certificate={}", certificate.display()),
        format!("tls.key={}", key.display()),
    ];
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let elsewhere = made("elsewhere.example");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n";
    for (leaf, secret, expect) in [
        (own.cert.pem(), own.signing_key.serialize_pem(), "ok  "),
        (
            own.cert.pem(),
            other.signing_key.serialize_pem(),
            "BAD   cannot use",
        ),
        (own.cert.pem(), encrypted.to_owned(), "the key is encrypted"),
        (
            elsewhere.cert.pem(),
            elsewhere.signing_key.serialize_pem(),
            "does not name localhost",
        ),
        (
            "nonsense".to_owned(),
            own.signing_key.serialize_pem(),
            "BAD   cannot read",
        ),
    ] {
        std::fs::write(&certificate, leaf).unwrap();
        std::fs::write(&key, secret).unwrap();
        let (works, out) = check(&sets).await;
        assert_eq!(works, expect == "ok  ", "{out}");
        assert!(out.contains(expect), "{out} lacks {expect}");
    }
}

#[tokio::test]
async fn a_cluster_that_the_start_would_refuse_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "short").unwrap();
    let sets = [
        "domain=localhost".to_owned(),
        "cluster.node_id=1".to_owned(),
        "cluster.listen=127.0.0.1:0".to_owned(),
        "cluster.peers=['1@127.0.0.1:1', '2@127.0.0.1:2']".to_owned(),
        format!("storage.url=sqlite:{}/shared.db", dir.path().display()),
        format!("cluster.secret_file={}", secret.display()),
    ];
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let (works, out) = check(&sets).await;
    assert!(!works && out.contains("BAD   cluster: "), "{out}");
    assert!(
        out.contains("note  `cluster.peers` names two nodes"),
        "{out}"
    );
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let (works, out) = check(&sets).await;
    assert!(works, "{out}");
}

#[tokio::test]
async fn what_is_bad_comes_with_what_helps() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("admin.listen={}", taken.local_addr().unwrap());
    for (set, part) in [
        (&*taken, "stop that one, or choose another port"),
        ("c2s.listen=192.0.2.1:9", "an address that this machine has"),
        ("storage.url=sqlite:/proc/holdfast.db", "name one in which"),
        (
            "storage.url=postgres://nobody@127.0.0.1:1/x",
            "see that it is started",
        ),
        ("redis.url=redis://127.0.0.1:1", "see that it is started"),
        ("domain=invalid.example", "name the domain's, and its key"),
    ] {
        let (works, out) = check(&[set]).await;
        let bad = out.lines().filter(|line| line.starts_with("BAD"));
        let bad: Vec<_> = bad.collect();
        assert!(
            !works && bad.iter().any(|line| line.contains(part)),
            "{set}: {out}"
        );
        assert!(
            bad.iter()
                .all(|line| line.contains("; ") || line.contains("must be set")),
            "{out}"
        );
    }
}

#[tokio::test]
async fn clients_in_browsers_are_spoken_of() {
    let (_, out) = check(&[]).await;
    assert!(out.contains("note  web: no `web.listen`"), "{out}");
    let sets = [
        "web.listen=127.0.0.1:0",
        "web.bosh_url=https://x.example/http-bind",
    ];
    let (works, out) = check(&sets).await;
    let expect = "ok    web: listens at 127.0.0.1:0 for clients in browsers, which are told nothing for WebSocket and of \
                  https://x.example/http-bind for BOSH";
    assert!(works && out.contains(expect), "{out}");
}

#[tokio::test]
async fn a_key_of_tokens_that_the_start_would_refuse_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let set = format!("auth.token_key_file={}", file.path().display());
    let (works, out) = check(&[&set]).await;
    assert!(
        !works && out.contains("BAD   cannot use auth.token_key_file"),
        "{out}"
    );
    assert!(out.contains("openssl rand"), "{out}");
    std::fs::write(file.path(), [7; 32]).unwrap();
    let (works, out) = check(&[&set]).await;
    assert!(works && out.contains("ok    auth.token_key_file"), "{out}");
}
