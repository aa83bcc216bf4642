//! `holdfast check`: finds out whether this configuration would work here and now.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::time::Duration;

use cluster::claim;
use cluster::config::Peer;
use cluster::mirror::Address;
use cluster::mirror::store::Store;
use cluster::room;
use cluster::tls::{AuthError, Tls};
use cluster::verify::verify;

use super::token::{self, Token};
use crate::config::{Config, StorageUrl};
use crate::preflight;
use crate::storage::Storage;

/// How long to wait for the answer of another machine.
const PATIENCE: Duration = Duration::from_secs(3);

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    weight: Weight,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Good,
    Hint,
    Bad,
}

fn finding(weight: Weight, text: impl Into<String>) -> Finding {
    Finding {
        weight,
        text: text.into(),
    }
}

/// Checks everything that the configuration names and writes the results to `out`. Returns whether a node would work.
pub async fn run(config: &Config, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let mut findings: Vec<Finding> = config
        .check()
        .into_iter()
        .map(|problem| {
            finding(
                if problem.is_serious() {
                    Weight::Bad
                } else {
                    Weight::Hint
                },
                problem.to_string(),
            )
        })
        .collect();
    findings.push(writable("data_dir", config.data_dir()));
    findings.extend(data_dir(config).await);
    findings.extend(token(&config.data_dir().join(token::FILE)));
    findings.extend(domains(config));
    findings.extend(room(config.data_dir()));
    findings.extend(listeners(config));
    findings.extend(certificate(config));
    findings.push(storage(config.storage.url()).await);
    if let Some(redis) = &config.redis {
        findings.push(self::redis(&redis.url).await);
    }
    if config.cluster.is_some() {
        findings.extend(cluster(config).await);
    }
    let mut works = true;
    for Finding { weight, text } in findings {
        let mark = match weight {
            Weight::Good => "ok  ",
            Weight::Hint => "note",
            Weight::Bad => "BAD ",
        };
        works &= weight != Weight::Bad;
        writeln!(out, "{mark}  {text}")?;
    }
    Ok(works)
}

/// Checks whether files can be made in a directory or, if it does not exist, in the directory above it.
fn writable(key: &str, dir: &Path) -> Finding {
    let there = dir.ancestors().find(|path| path.exists());
    let there = there.filter(|path| !path.as_os_str().is_empty());
    let tried = there
        .unwrap_or(Path::new("."))
        .join(format!(".{key}.check"));
    let made = std::fs::File::create(&tried).and_then(|_| std::fs::remove_file(&tried));
    match made {
        Ok(()) => finding(
            Weight::Good,
            format!("{key}: {} can be written", dir.display()),
        ),
        Err(error) => finding(
            Weight::Bad,
            format!("{key}: cannot write in {}: {error}", dir.display()),
        ),
    }
}

/// Checks whether a start would accept the data directory and its content.
async fn data_dir(config: &Config) -> Vec<Finding> {
    let told = |weight, what: &dyn Display| finding(weight, format!("data_dir: {what}"));
    let mut findings: Vec<Finding> = match claim::check_dir(config.data_dir()) {
        Ok(notices) => notices.iter().map(|n| told(Weight::Hint, n)).collect(),
        Err(error) => return vec![told(Weight::Bad, &error)],
    };
    if let Err(error) = claim::check_claim(config.data_dir()) {
        // A running node has the files, so they cannot be read here.
        findings.push(told(Weight::Hint, &error));
        return findings;
    }
    // Errors in the cluster's configuration are reported by `cluster`.
    let Ok(cluster::Config { seat, shards, .. }) = preflight::cluster(config) else {
        return findings;
    };
    let dir = config.data_dir().to_owned();
    let read = tokio::task::spawn_blocking(move || verify(&dir, seat, shards)).await;
    findings.extend(match read {
        Ok(Ok(true)) => Some(finding(
            Weight::Good,
            "identity, log and snapshots can be read",
        )),
        Ok(Err(error)) if error.is_in_use() => Some(told(Weight::Hint, &error)),
        Ok(Err(error)) => Some(told(Weight::Bad, &error)),
        Ok(Ok(false)) | Err(_) => None,
    });
    findings
}

/// Checks whether there is room for the log. A node without room would start, but accept nothing.
fn room(dir: &Path) -> Option<Finding> {
    let lacks = room::foretell(dir).ok()??;
    Some(finding(Weight::Bad, format!("data_dir: {lacks}")))
}

/// Checks whether a node could listen on its addresses. If one runs in this data directory, it listens there already.
fn listeners(config: &Config) -> Vec<Finding> {
    let all = config.listeners();
    let runs = claim::check_claim(config.data_dir()).is_err();
    let tried = all.filter_map(|(key, address)| {
        let error = std::net::TcpListener::bind(address).err()?;
        let weight = match error.kind() {
            io::ErrorKind::AddrInUse if runs => Weight::Hint,
            _ => Weight::Bad,
        };
        Some(finding(weight, format!("{key}: {address}: {error}")))
    });
    tried.collect()
}

/// Checks the admin token. A missing one is made by the first start; with an unusable one a node does not start.
fn token(file: &Path) -> Option<Finding> {
    match Token::read(file) {
        Err(error) if file.exists() => Some(finding(Weight::Bad, error.to_string())),
        _ => None,
    }
}

fn domains(config: &Config) -> Vec<Finding> {
    let look_up = |domain: &String| match (domain.as_str(), 5222).to_socket_addrs() {
        Ok(_) => finding(Weight::Good, format!("{domain} has an address")),
        Err(_) => finding(
            Weight::Hint,
            format!(
                "{domain} has no address; clients need one, or SRV records _xmpp-client._tcp.{domain}"
            ),
        ),
    };
    config.domains().iter().map(look_up).collect()
}

/// Checks the configured certificate as a start would. Without one, the start makes its own.
fn certificate(config: &Config) -> Vec<Finding> {
    let Some(file) = &config.tls.certificate else {
        return Vec::new();
    };
    let certificates = match preflight::certificates(config) {
        Ok(certificates) => certificates,
        Err(error) => return vec![finding(Weight::Bad, error.to_string())],
    };
    let (file, current) = (file.display(), certificates.current());
    let verdict = current.verdict();
    let end = verdict.end.as_deref().unwrap_or("unknown");
    let mut findings = vec![finding(
        Weight::Good,
        format!("{file} fits its key and is valid until {end}"),
    )];
    if let Some(fault) = verdict.fatal() {
        findings = vec![finding(Weight::Bad, format!("{file}: {fault}"))];
    }
    let rest = verdict
        .faults
        .iter()
        .filter(|f| Some(*f) != verdict.fatal());
    findings.extend(rest.map(|fault| {
        let weight = match fault.is_fatal() {
            true => Weight::Bad,
            false => Weight::Hint,
        };
        finding(weight, format!("{file}: {fault}"))
    }));
    findings
}

async fn storage(url: &StorageUrl) -> Finding {
    if let StorageUrl::Sqlite(file) = url
        && !file.exists()
    {
        let made = writable("storage.url", file.parent().unwrap_or(Path::new(".")));
        return match made.weight {
            Weight::Good => finding(
                Weight::Good,
                format!("{} will be made at the first start", file.display()),
            ),
            _ => made,
        };
    }
    let opened = match Storage::connect(url).await {
        Ok(storage) => storage.ping().await.map(|()| storage.engine()),
        Err(error) => Err(error),
    };
    match opened {
        Ok(engine) => finding(Weight::Good, format!("the {engine} database answers")),
        Err(error) => finding(Weight::Bad, format!("storage.url: {error}")),
    }
}

async fn redis(address: &Address) -> Finding {
    let works = async {
        let mut store = Store::connect(address).await?;
        let probe = store.scripts().probe();
        store.ask(vec![probe]).await
    };
    match works.await {
        Ok(_) => finding(Weight::Good, "Redis answers and takes changes"),
        Err(error) => finding(Weight::Bad, format!("redis.url: {address}: {error}")),
    }
}

/// Checks the cluster's configuration as a start would, and whether the other nodes accept this one.
async fn cluster(config: &Config) -> Vec<Finding> {
    let checked = preflight::cluster(config).map_err(|error| error.to_string());
    let tls = checked.and_then(|cluster| {
        let tls = Tls::new(&cluster.auth).map_err(|error| format!("cluster: {error}"))?;
        Ok((cluster, tls))
    });
    let (cluster, tls) = match tls {
        Ok(works) => works,
        Err(error) => return vec![finding(Weight::Bad, error)],
    };
    let mut findings = Vec::new();
    for peer in cluster.peers.iter().filter(|p| p.seat != cluster.seat) {
        findings.push(self::peer(&tls, peer).await);
    }
    findings
}

/// Checks one peer. It may well be down, which is only worth a notice; it is an error if it refuses this node.
async fn peer(tls: &Tls, peer: &Peer) -> Finding {
    let named = format!("node {} at {}", peer.seat, peer.address);
    let greet = tls.dial(&peer.address, &peer.address);
    match tokio::time::timeout(PATIENCE, greet).await {
        Ok(Ok(_)) => finding(Weight::Good, format!("{named} knows us")),
        Ok(Err(AuthError::Io(error))) if error.kind() == io::ErrorKind::ConnectionRefused => {
            finding(Weight::Hint, format!("{named} is down"))
        }
        Ok(Err(AuthError::Io(error))) if error.kind() != io::ErrorKind::InvalidData => {
            finding(Weight::Hint, format!("{named}: {error}"))
        }
        Ok(Err(error)) => finding(Weight::Bad, format!("{named}: {error}")),
        Err(_) => finding(Weight::Hint, format!("{named} does not answer")),
    }
}

#[cfg(test)]
mod tests {
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
        let (works, out) =
            check(&["domain=invalid.example", "redis.url=redis://127.0.0.1:1"]).await;
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
}
