//! What a configuration may say, and what each mistake is told.

use super::*;
use crate::services;

const EXAMPLE: &str = include_str!("example.toml");

fn load(text: &str, sets: &[&str], env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holdfast.toml");
    std::fs::write(&path, text).unwrap();
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    let env = env
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Config::load(&services::needs().tables, Some(&path), &sets, env)
}

#[track_caller]
fn refused(text: &str, sets: &[&str], env: &[(&str, &str)], expect: &[&str]) {
    let error = load(text, sets, env).unwrap_err().to_string();
    for part in expect {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn without_a_file_one_node_serves_localhost() {
    let config = Config::load(&services::needs().tables, None, &[], []).unwrap();
    assert_eq!(config.domains(), ["localhost"]);
    assert_eq!(config.data_dir(), Path::new("data"));
    assert_eq!(
        config.storage.url(),
        &StorageUrl::Sqlite("data/holdfast.db".into())
    );
    assert!(config.cluster.is_none() && config.redis.is_none());
}

#[test]
fn the_example_holds_every_key() {
    let config = load(EXAMPLE, &[], &[]).unwrap();
    assert_eq!(config.sm.hibernation_time.as_secs(), 300);
    assert_eq!(config.quotas, Quotas::default());
    let default = load("", &[], &[]).unwrap();
    assert_eq!(config.changed_tables(&default).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(config.cluster.unwrap().node_id, Some(1));
    // A key that excludes another one stands there as a comment.
    let text = EXAMPLE.replace("# ", "");
    let mut section = "";
    let mut found = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.split_once(" = ") {
            found.insert((section, key));
        }
    }
    let known = keys::Keys::new(&services::needs().tables);
    let keys = known.sections.iter();
    let keys = keys.flat_map(|(section, keys)| keys.iter().map(move |key| (*section, *key)));
    for key in keys.chain(known.top.iter().map(|key| ("", *key))) {
        assert!(found.contains(&key), "{key:?}");
    }
}

#[test]
fn quotas_are_bounded_on_both_sides() {
    for (key, one_less, one_more) in [
        ("roster_contacts", "0", "10001"),
        ("roster_bytes", "999", "409601"),
        ("vcard_bytes", "999", "262145"),
        ("queue_bytes", "65535", "1099511627777"),
        ("directed_presence", "0", "5001"),
    ] {
        for value in [one_less, one_more] {
            let set = format!("quotas.{key}={value}");
            refused("", &[&set], &[], &[&format!("quotas.{key}"), "between"]);
        }
    }
}

#[test]
fn t_78_one_typo_in_any_line_is_refused_with_its_line_and_the_nearest_key() {
    for (index, line) in EXAMPLE.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let wrong = line.replacen(key, &format!("{key}x"), 1);
        let text: Vec<_> = EXAMPLE
            .lines()
            .enumerate()
            .map(|(n, l)| if n == index { &wrong } else { l })
            .collect();
        refused(
            &text.join("\n"),
            &[],
            &[],
            &[&format!("line {}", index + 1), &format!("`{key}`")],
        );
    }
}

#[test]
fn t_78_a_section_that_does_not_exist_is_refused() {
    refused("[smm]\nx = 1", &[], &[], &["line 1", "smm", "`sm`"]);
    refused("sm = 3", &[], &[], &["line 1", "sm"]);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = "[sm]\nmax_old_sessions = 1\nmax_hibernated_sessions = 1\nhibernation_time = '1s'";
    let env = [
        ("HOLDFAST_SM__MAX_OLD_SESSIONS", "2"),
        ("HOLDFAST_SM__MAX_HIBERNATED_SESSIONS", "2"),
    ];
    let config = load(file, &["sm.max_old_sessions=3"], &env).unwrap();
    assert_eq!(config.sm.max_old_sessions, 3);
    assert_eq!(config.sm.max_hibernated_sessions, 2);
    assert_eq!(config.sm.hibernation_time.as_secs(), 1);
    assert_eq!(config.sm.max_ack_delay.as_secs(), 60);
}

#[test]
fn an_error_names_the_place_it_comes_from() {
    refused(
        "[sm]\n\nhibernation_time = 'soon'",
        &[],
        &[],
        &["line 3", "sm.hibernation_time", "soon"],
    );
    refused(
        "",
        &["sm.on_timeout=never"],
        &[],
        &["--set", "sm.on_timeout"],
    );
    refused(
        "",
        &[],
        &[("HOLDFAST_C2S__LISTEN", "x")],
        &["HOLDFAST_C2S__LISTEN"],
    );
    refused(
        "",
        &[],
        &[("HOLDFAST_SM__MAX_OLD", "1")],
        &["HOLDFAST_SM__MAX_OLD", "max_old_sessions"],
    );
    refused("a = [", &[], &[], &["line 1"]);
    refused("", &["sm"], &[], &["--set", "section.key=value"]);
}

#[test]
fn variables_that_kubernetes_makes_up_are_not_ours() {
    let env = [
        ("HOLDFAST_SERVICE_HOST", "10.0.0.1"),
        ("HOLDFAST_PORT", "tcp://10.0.0.1:5222"),
        ("HOLDFAST_PORT_5222_TCP_ADDR", "10.0.0.1"),
        ("HOLDFAST_PORT_5222_TCP", "tcp://10.0.0.1:5222"),
        ("HOLDFAST_SERVICE_PORT_XMPP", "5222"),
        ("HOLDFAST_HEADLESS_SERVICE_HOST", "None"),
        ("HOLDFAST_HEADLESS_PORT_7400_TCP_PROTO", "tcp"),
        ("HOLDFAST_CONFIG", "/etc/holdfast.toml"),
    ];
    assert!(load("", &[], &env).is_ok());
}

#[test]
fn t_78_a_variable_that_names_no_key_is_refused_with_the_nearest() {
    for (name, nearest) in [
        ("HOLDFAST_LOG_LEVEL", "`HOLDFAST_LOG__LEVEL`"),
        ("HOLDFAST_DATADIR", "HOLDFAST_DATADIR"),
        ("HOLDFAST_PORT_5222_XYZ", "HOLDFAST_PORT_5222_XYZ"),
    ] {
        refused("", &[], &[(name, "debug")], &[name, nearest]);
    }
}

#[test]
fn what_the_start_would_stumble_over_is_refused_before_it() {
    refused(
        "",
        &["admin.listen=127.0.0.1:5223"],
        &[],
        &["admin.listen", "127.0.0.1:5223 is listened on twice"],
    );
    let cluster = "domain = 'localhost'\n[cluster]\nnode_id = 1\nsecret_file = 's'\nlisten = '127.0.0.1:7400'\n\
                   advertise = '127.0.0.1:7409'\npeers = ['1@127.0.0.1:7400', '2@127.0.0.1:7401']";
    refused(cluster, &[], &[], &["cluster.advertise", "127.0.0.1:7409"]);
    for (text, key, part) in [
        (
            "domain = 'a.example'\ndomains = ['b.example']",
            "domain",
            "not both",
        ),
        (
            "[c2s]\nlisten = []\nlisten_tls = []",
            "c2s.listen",
            "at least one address",
        ),
        (
            "[c2s]\nproxy_protocol = true",
            "c2s.proxy_protocol",
            "trusted_proxies",
        ),
        (
            "[auth]\nmechanisms = []",
            "auth.mechanisms",
            "at least one mechanism",
        ),
        (
            "[tls]\ncertificate = 'c.pem'",
            "tls.certificate",
            "belong together",
        ),
        ("[tls]\nkey = 'k.pem'", "tls.certificate", "belong together"),
        ("[sm]\nhibernation_time = '0s'", "sm.hibernation_time", "1"),
    ] {
        refused(text, &[], &[], &[key, part]);
    }
}

#[test]
fn re_1_who_may_register_is_a_word_or_whether_anybody_may() {
    for (value, expect) in [
        ("false", Registration::Off),
        ("true", Registration::Open),
        ("off", Registration::Off),
        ("invited", Registration::Invited),
        ("open", Registration::Open),
    ] {
        let config = load("", &[&format!("auth.registration={value}")], &[]).unwrap();
        assert_eq!(config.auth.registration, expect, "{value}");
        let notes = config.check();
        let open = notes.contains(&Problem::OpenRegistration);
        assert_eq!(open, expect == Registration::Open, "{value}");
    }
    for value in ["invite", "1", "'Open'"] {
        let set = format!("auth.registration={value}");
        refused("", &[&set], &[], &["auth.registration", "invited"]);
    }
    let unlimited = ["auth.registration=open", "limits.registrations_per_hour=0"];
    let config = load("", &unlimited, &[]).unwrap();
    assert!(config.check().contains(&Problem::UnlimitedRegistration));
}

#[test]
fn re_4_invitations_have_a_page_where_there_is_a_listener_for_browsers() {
    let page = |registration: &str, url: &str| {
        let text = format!(
            "[auth]\nregistration = '{registration}'\n[web]\nlisten = '127.0.0.1:0'\n{url}"
        );
        load(&text, &[], &[]).unwrap().invite_page()
    };
    let url = "url = 'wss://a.example:5443/ws'";
    let expect = "https://a.example:5443/invite";
    assert_eq!(page("invited", url).as_deref(), Some(expect));
    // Who has an account invites contacts all the same.
    assert_eq!(page("off", url).as_deref(), Some(expect));
    assert_eq!(page("invited", ""), None);
}

#[test]
fn paths_are_taken_from_the_directory_of_the_file() {
    let config = load(
        "data_dir = 'd'\n[tls]\ncertificate = 'c.pem'\nkey = '/k.pem'",
        &[],
        &[],
    )
    .unwrap();
    assert!(config.data_dir().is_absolute() && config.data_dir().ends_with("d"));
    assert!(config.tls.certificate.as_ref().unwrap().is_absolute());
    assert_eq!(config.tls.key.as_deref(), Some(Path::new("/k.pem")));
    let StorageUrl::Sqlite(file) = config.storage.url() else {
        panic!("not SQLite")
    };
    assert!(file.is_absolute() && file.ends_with("d/holdfast.db"));
}

#[test]
fn t_78_an_empty_path_is_refused() {
    let variable = [("HOLDFAST_DATA_DIR", "")];
    refused("", &[], &variable, &["data_dir", "empty"]);
    refused("", &["tls.key="], &[], &["tls.key", "empty"]);
}

#[test]
fn what_would_end_every_connection_or_hide_the_log_is_refused() {
    for (set, part) in [
        ("c2s.idle_timeout=0s", "1s"),
        ("c2s.ping_timeout=0s", "1s"),
        ("sm.max_ack_delay=10ms", "1s"),
        ("log.level=zzz", "zzz"),
        ("log.level=node=loud", "loud"),
        ("log.level==info", "=info"),
        ("log.level=[=info", "[=info"),
        ("log.level=foo bar=info", "foo bar"),
    ] {
        refused("", &[set], &[], &[part, set.split('=').next().unwrap()]);
    }
    assert!(load("", &["log.level=info,node::session=debug"], &[]).is_ok());
}

#[test]
fn a_relative_file_leads_to_the_same_places_as_an_absolute_one() {
    let mut storage = Storage::default();
    storage.anchor(Path::new("conf"), Path::new("conf/data"));
    let at = |path: &str| StorageUrl::Sqlite(path.into());
    assert_eq!(storage.url(), &at("conf/data/holdfast.db"));
    let mut storage = Storage::at(at("own.db"));
    storage.anchor(Path::new("conf"), Path::new("conf/data"));
    assert_eq!(storage.url(), &at("conf/own.db"));
}

#[test]
fn a_cluster_refuses_sqlite_unless_all_its_addresses_are_loopback() {
    let cluster = |host: &str| {
        format!(
            "domain = 'localhost'\n[cluster]\nnode_id = 1\nsecret_file = 's'\nlisten = '127.0.0.1:7400'\n\
             peers = ['1@127.0.0.1:7400', '2@{host}:7401']"
        )
    };
    let shared = "storage.url=sqlite:shared.db";
    assert!(load(&cluster("localhost"), &[shared], &[]).is_ok());
    // Each node would keep what nobody else finds.
    for own in ["log.level=info", "storage.url=sqlite:data/own.db"] {
        refused(
            &cluster("localhost"),
            &[own],
            &[],
            &["storage.url", "one database"],
        );
    }
    refused(&cluster("10.1.1.1"), &[], &[], &["storage.url", "postgres"]);
    assert!(
        load(
            &cluster("10.1.1.1"),
            &["storage.url=postgres://u:p@h/d"],
            &[]
        )
        .is_ok()
    );
}

#[test]
fn t_71_a_redis_that_anyone_could_change_is_refused_without_repeating_its_url() {
    refused(
        "",
        &["redis.url=redis://far.example"],
        &[],
        &["redis.url", "password or TLS"],
    );
    let error = load("", &["redis.url=http://:hunter2@h"], &[]).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn t_73_no_secret_is_printed() {
    let config = load(
        "",
        &[
            "storage.url=postgres://u:hunter2@h/d",
            "redis.url=redis://:hunter2@h",
        ],
        &[],
    );
    assert!(!format!("{:?}", config.unwrap()).contains("hunter2"));
}

proptest::proptest! {
    #[test]
    fn t_78_no_file_makes_it_panic(text in "(\\[[a-z]{0,3}\\]|[a-z._]{0,4} = [\\['\"0-9a-z]{0,5}|\n| |.){0,20}") {
        drop(load(&text, &[], &[]));
    }

    #[test]
    fn t_78_no_flag_makes_it_panic(text in "[a-z]{0,3}\\.?[a-z0-9_]{0,8}=?.{0,10}") {
        drop(Config::load(&services::needs().tables, None, &[text], []));
    }
}

#[test]
fn a_stanza_that_no_entry_can_carry_is_not_allowed() {
    for (bytes, allowed) in [
        (9_999, false),
        (10_000, true),
        (393_216, true),
        (393_217, false),
    ] {
        let c2s = C2s {
            max_stanza_bytes: bytes,
            ..C2s::default()
        };
        assert_eq!(c2s.settle().is_ok(), allowed, "{bytes}");
    }
    let set = "c2s.max_stanza_bytes=16777216";
    refused("", &[set], &[], &["c2s.max_stanza_bytes", "393216"]);
}

#[test]
fn what_would_be_ignored_or_guessed_is_refused() {
    let cluster = "[cluster]\nnode_id = 1\nsecret_file = 's'\nlisten = '127.0.0.1:7400'\n\
                   peers = ['1@127.0.0.1:7400']\n";
    refused(cluster, &[], &[], &["`domain`", "name the domain"]);
    assert!(load(&format!("domain = 'localhost'\n{cluster}"), &[], &[]).is_ok());
    let proxies = "[c2s]\ntrusted_proxies = ['10.0.0.0/8']\n";
    let expect = ["c2s.trusted_proxies", "proxy_protocol = true"];
    refused(proxies, &[], &[], &expect);
    for (variable, hint) in [
        ("HOLDFAST_DOMIAN", "HOLDFAST_DOMAIN"),
        ("HOLDFAST_HIBERNATION_TIME", "HOLDFAST_SM__HIBERNATION_TIME"),
        ("HOLDFAST_X", "HOLDFAST_SECTION__KEY"),
        ("HOLDFAST_SMM__S2S", "`sm`"),
    ] {
        refused("", &[], &[(variable, "x")], &[hint]);
    }
}
