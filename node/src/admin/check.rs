//! `holdfast check`: would this configuration work here and now?

use std::io::{self, Write};
use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::time::Duration;

use cluster::limit::Address;
use cluster::limit::store::Store;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use super::token::{self, Token};
use crate::config::{Cluster, Config, StorageUrl};
use crate::storage::Storage;

/// How long another machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    weight: Weight,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Good,
    Notice,
    Bad,
}

fn finding(weight: Weight, text: impl Into<String>) -> Finding {
    Finding {
        weight,
        text: text.into(),
    }
}

/// Looks at everything that the configuration names and tells about it on `out`; whether it would work.
pub async fn run(config: &Config, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let mut findings: Vec<Finding> = config
        .check()
        .into_iter()
        .map(|problem| {
            finding(
                if problem.is_serious() {
                    Weight::Bad
                } else {
                    Weight::Notice
                },
                problem.to_string(),
            )
        })
        .collect();
    findings.push(writable("data_dir", config.data_dir()));
    findings.extend(token(&config.data_dir().join(token::FILE)));
    findings.extend(domains(config));
    findings.extend(listeners(config));
    if let Some(certificate) = &config.tls.certificate {
        findings.extend(self::certificate(certificate, config.domains()));
    }
    findings.push(storage(config.storage.url()).await);
    if let Some(redis) = &config.redis {
        findings.push(self::redis(&redis.url).await);
    }
    if let Some(cluster) = &config.cluster {
        findings.extend(peers(cluster).await);
    }
    let mut works = true;
    for Finding { weight, text } in findings {
        let mark = match weight {
            Weight::Good => "ok  ",
            Weight::Notice => "note",
            Weight::Bad => "BAD ",
        };
        works &= weight != Weight::Bad;
        writeln!(out, "{mark}  {text}")?;
    }
    Ok(works)
}

/// Whether files can be made in a directory, or in the one that it would be made in.
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

/// Whether a node could listen where it is to. One that runs does already.
fn listeners(config: &Config) -> Vec<Finding> {
    let c2s = &config.c2s;
    let plain = c2s.listen.iter().map(|address| ("c2s.listen", *address));
    let tls = c2s
        .listen_tls
        .iter()
        .map(|address| ("c2s.listen_tls", *address));
    let cluster = config
        .cluster
        .iter()
        .map(|cluster| ("cluster.listen", cluster.listen));
    let all = plain
        .chain(tls)
        .chain([("admin.listen", config.admin.listen)])
        .chain(cluster);
    let tried = all.filter_map(|(key, address)| {
        let error = std::net::TcpListener::bind(address).err()?;
        let weight = match error.kind() {
            io::ErrorKind::AddrInUse => Weight::Notice,
            _ => Weight::Bad,
        };
        Some(finding(weight, format!("{key}: {address}: {error}")))
    });
    tried.collect()
}

/// A node makes the token at its first start, and refuses to start with one that is none.
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
            Weight::Notice,
            format!(
                "{domain} has no address; clients need one, or SRV records _xmpp-client._tcp.{domain}"
            ),
        ),
    };
    config.domains().iter().map(look_up).collect()
}

fn certificate(path: &Path, domains: &[String]) -> Vec<Finding> {
    let shown = path.display();
    // A file that cannot be opened has been reported already.
    let Ok(text) = std::fs::read(path) else {
        return Vec::new();
    };
    let Some(Ok(leaf)) = Pem::iter_from_buffer(&text).next() else {
        return vec![finding(
            Weight::Bad,
            format!("{shown} holds no certificate in PEM form"),
        )];
    };
    let Ok(leaf) = leaf.parse_x509() else {
        return vec![finding(
            Weight::Bad,
            format!("{shown} does not begin with a certificate"),
        )];
    };
    let mut findings = Vec::new();
    if !leaf.validity().is_valid() {
        findings.push(finding(
            Weight::Bad,
            format!("{shown} is not valid now: {}", leaf.validity().not_after),
        ));
    }
    let names = leaf.subject_alternative_name().ok().flatten();
    let names: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| {
            if let GeneralName::DNSName(name) = name {
                Some(*name)
            } else {
                None
            }
        })
        .collect();
    for domain in domains {
        findings.push(if names.iter().any(|name| covers(name, domain)) {
            finding(Weight::Good, format!("{shown} names {domain}"))
        } else {
            finding(
                Weight::Bad,
                format!("{shown} does not name {domain}: clients will refuse it"),
            )
        });
    }
    findings
}

/// Whether a certificate's name stands for the domain; a star is one whole label (RFC 6125 §6.4.3).
fn covers(name: &str, domain: &str) -> bool {
    let wild = || {
        name.strip_prefix("*.")
            .zip(domain.split_once('.').map(|(_, parent)| parent))
    };
    name.eq_ignore_ascii_case(domain)
        || wild().is_some_and(|(name, parent)| name.eq_ignore_ascii_case(parent))
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
        Err(error) => finding(Weight::Bad, format!("redis.url: {error}")),
    }
}

/// Other nodes may well be down: each is a notice, not a fault.
async fn peers(cluster: &Cluster) -> Vec<Finding> {
    let mut findings = Vec::new();
    for peer in cluster
        .peers
        .iter()
        .filter(|peer| peer.seat != cluster.seat())
    {
        let connect = tokio::net::TcpStream::connect(&peer.address);
        findings.push(match tokio::time::timeout(PATIENCE, connect).await {
            Ok(Ok(_)) => finding(
                Weight::Good,
                format!("node {} listens at {}", peer.seat, peer.address),
            ),
            Ok(Err(error)) => finding(
                Weight::Notice,
                format!("node {} at {}: {error}", peer.seat, peer.address),
            ),
            Err(_) => finding(
                Weight::Notice,
                format!("node {} at {}: no answer", peer.seat, peer.address),
            ),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(sets: &[&str]) -> (bool, String) {
        let dir = tempfile::tempdir().unwrap();
        let mut sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
        sets.push(format!("data_dir={}", dir.path().display()));
        let config = Config::load(None, &sets, []).unwrap();
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

    #[test]
    fn t_73_a_token_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(token::FILE);
        assert_eq!(self::token(&file), None);
        std::fs::write(&file, "").unwrap();
        assert_eq!(self::token(&file).unwrap().weight, Weight::Bad);
    }

    #[test]
    fn a_certificate_has_to_name_each_domain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.pem");
        let made = rcgen::generate_simple_self_signed(vec![
            "a.example".to_owned(),
            "*.b.example".to_owned(),
        ])
        .unwrap();
        std::fs::write(&path, made.cert.pem()).unwrap();
        let domains = ["a.example", "x.b.example", "b.example"].map(str::to_owned);
        let weights: Vec<_> = certificate(&path, &domains)
            .iter()
            .map(|found| found.weight)
            .collect();
        assert_eq!(weights, [Weight::Good, Weight::Good, Weight::Bad]);
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(certificate(&path, &domains).len(), 1);
    }
}
