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

use super::advice;
use super::token::{self, Token, TokenError};
use crate::config::{Config, StorageUrl, Web};
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
    findings.push(web(config));
    findings.extend(certificate(config));
    findings.extend(token_key(config));
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
            advice::with(
                format!("{key}: cannot write in {}: {error}", dir.display()),
                advice::unwritable(&error),
            ),
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

/// Checks whether a start would accept the key of the tokens, if there is one.
fn token_key(config: &Config) -> Option<Finding> {
    config.auth.token_key_file.as_ref()?;
    Some(match preflight::token_key(config) {
        Ok(_) => finding(Weight::Good, "auth.token_key_file: the key can be used"),
        Err(error) => finding(Weight::Bad, advice::with(error, advice::TOKEN_KEY)),
    })
}

/// Checks whether there is room for the log. A node without room would start, but accept nothing.
fn room(dir: &Path) -> Option<Finding> {
    let lacks = room::foretell(dir).ok()??;
    let advice = "make room, or name a directory on another disk";
    let text = advice::with(format!("data_dir: {lacks}"), advice);
    Some(finding(Weight::Bad, text))
}

/// Checks whether a node could listen on its addresses. If one runs in this data directory, it listens there already.
fn listeners(config: &Config) -> Vec<Finding> {
    let all = config.listeners();
    let runs = claim::check_claim(config.data_dir()).is_err();
    let tried = all.filter_map(|(key, address)| {
        let error = std::net::TcpListener::bind(address).err()?;
        if runs && error.kind() == io::ErrorKind::AddrInUse {
            let text = format!("{key}: {address}: the node that runs has it");
            return Some(finding(Weight::Hint, text));
        }
        let advice = advice::no_listener(&address, &error);
        let text = advice::with(format!("{key}: {address}: {error}"), advice);
        Some(finding(Weight::Bad, text))
    });
    tried.collect()
}

/// Says how clients in browsers connect, if they do.
fn web(config: &Config) -> Finding {
    let Web {
        listen,
        url,
        bosh_url,
    } = &config.web;
    if listen.is_empty() {
        let text = "web: no `web.listen`: clients in browsers cannot connect";
        return finding(Weight::Hint, text);
    }
    let at: Vec<_> = listen.iter().map(ToString::to_string).collect();
    let urls = [("WebSocket", url), ("BOSH", bosh_url)];
    let told = urls.map(|(kind, url)| match url {
        Some(url) => format!("of {url} for {kind}"),
        None => format!("nothing for {kind}"),
    });
    let text = format!(
        "web: listens at {} for clients in browsers, which are told {}",
        at.join(", "),
        told.join(" and ")
    );
    finding(Weight::Good, text)
}

/// Checks the admin token. A missing one is made by the first start; with an unusable one a node does not start.
fn token(file: &Path) -> Option<Finding> {
    match Token::read(file) {
        Err(error) if file.exists() => {
            let advice = match error {
                TokenError::Read { .. } => "give it to the user of this process",
                // It says it.
                TokenError::Write { .. } | TokenError::Unusable { .. } => "",
            };
            Some(finding(Weight::Bad, advice::with(error, advice)))
        }
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
        Err(error) => {
            let advice = advice::no_certificate(&error);
            return vec![finding(Weight::Bad, advice::with(error, advice))];
        }
    };
    let (file, current) = (file.display(), certificates.current());
    let verdict = current.verdict();
    let end = verdict.end.as_deref().unwrap_or("unknown");
    let mut findings = vec![finding(
        Weight::Good,
        format!("{file} fits its key and is valid until {end}"),
    )];
    if let Some(fault) = verdict.fatal() {
        let text = advice::with(format!("{file}: {fault}"), advice::fault_of(fault));
        findings = vec![finding(Weight::Bad, text)];
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
        let text = advice::with(format!("{file}: {fault}"), advice::fault_of(fault));
        finding(weight, text)
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
        Err(error) => {
            let text = advice::with(format!("storage.url: {error}"), advice::NO_DATABASE);
            finding(Weight::Bad, text)
        }
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
        Err(error) => {
            let text = format!("redis.url: {address}: {error}");
            finding(Weight::Bad, advice::with(text, advice::NO_REDIS))
        }
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
        Ok(Err(error)) => {
            let advice = advice::no_peer(&error);
            let text = advice::with(format!("{named}: {error}"), advice);
            finding(Weight::Bad, text)
        }
        Err(_) => finding(Weight::Hint, format!("{named} does not answer")),
    }
}

#[cfg(test)]
mod tests;
