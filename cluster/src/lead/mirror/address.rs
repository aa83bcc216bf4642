//! The address of a Redis, as one URL.
//!
//! | URL | Redis |
//! |---|---|
//! | `redis://[USER:PASSWORD@]HOST[:PORT][/DB]` | one server |
//! | `redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/NAME[/DB]` | the master that the Sentinels name |
//! | `redis+cluster://[USER:PASSWORD@]HOST[:PORT],…` | a cluster, found through any of its nodes |
//!
//! `rediss` instead of `redis` means TLS; `-` may stand for `+`; `redis://…?cluster=true` is a cluster too.
//! A server beyond this machine must be protected by a password or TLS (T-71).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// A Redis that may be connected to.
#[derive(Clone)]
pub struct Address(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    /// One server.
    Server(ConnectionInfo),
    /// The server that these Sentinels call `name`.
    Sentinels {
        /// Where they are.
        sentinels: Vec<ConnectionAddr>,
        /// What they call it.
        name: String,
        /// Its TLS, password and database.
        server: ConnectionInfo,
    },
    /// Several servers that share the keys.
    Cluster(Vec<ConnectionInfo>),
}

/// It leaves the password out (T-73).
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Server(server) => write!(f, "Address({})", server.addr()),
            Kind::Sentinels { name, .. } => write!(f, "Address(sentinel {name})"),
            Kind::Cluster(nodes) => write!(f, "Address(cluster of {})", nodes.len()),
        }
    }
}

/// Names the address for people, without the password (T-73).
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: Vec<String>| addresses.join(", ");
        match &self.0 {
            Kind::Server(server) => write!(f, "{}", server.addr()),
            Kind::Sentinels {
                sentinels, name, ..
            } => {
                let all = sentinels.iter().map(ConnectionAddr::to_string).collect();
                write!(f, "{name} of the Sentinels {}", list(all))
            }
            Kind::Cluster(nodes) => {
                let all = nodes.iter().map(|node| node.addr().to_string()).collect();
                write!(f, "the cluster of {}", list(all))
            }
        }
    }
}

/// The text names no Redis that can be used. It is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or not a URL.
    #[error(
        "expected redis://HOST:PORT, rediss://…, redis+sentinel://HOST:PORT,…/NAME or redis+cluster://HOST:PORT,…"
    )]
    NotRedis,
    /// Sentinels know servers by name.
    #[error("redis+sentinel:// needs the master's name as path: redis+sentinel://HOST:PORT/NAME")]
    NoName,
    /// Without a password or TLS, everybody on the network could read and write the counts.
    #[error("a Redis on another machine needs a password or TLS (rediss://)")]
    Unprotected,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::NotRedis)?;
        if matches!(scheme, "unix" | "redis+unix") {
            return Ok(Self(Kind::Server(server(text)?)));
        }
        let (base, way) = match scheme.split_once(['+', '-']) {
            Some((base, way)) => (base, way),
            None => (scheme, ""),
        };
        if !matches!(base, "redis" | "rediss") {
            return Err(AddressError::NotRedis);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let hosts: Vec<&str> = hosts.split(',').collect();
        let open = |host: &str, path: &str| server(&format!("{base}://{user}{host}/{path}"));
        let kind = match (way, query, &*hosts) {
            ("", "", [host]) => Kind::Server(open(host, path)?),
            ("cluster", "", hosts) | ("", "cluster=true", hosts) if path.is_empty() => {
                let nodes: Result<_, _> = hosts.iter().map(|host| open(host, "")).collect();
                Kind::Cluster(nodes?)
            }
            ("sentinel", "", hosts) => {
                let (name, db) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err(AddressError::NoName);
                }
                let sentinel = |host: &&str| {
                    let bare = if has_port(host) {
                        format!("{base}://{host}/")
                    } else {
                        format!("{base}://{host}:26379/")
                    };
                    server(&bare).map(|info| info.addr().clone())
                };
                let sentinels: Result<_, _> = hosts.iter().map(sentinel).collect();
                Kind::Sentinels {
                    sentinels: sentinels?,
                    name: name.to_owned(),
                    server: open(hosts[0], db)?,
                }
            }
            _ => return Err(AddressError::NotRedis),
        };
        let address = Self(kind);
        if address.is_protected() {
            Ok(address)
        } else {
            Err(AddressError::Unprotected)
        }
    }
}

impl Address {
    fn is_protected(&self) -> bool {
        let safe = |info: &ConnectionInfo| {
            info.redis_settings().password().is_some() || is_near_or_encrypted(info.addr())
        };
        match &self.0 {
            Kind::Server(server) => safe(server),
            Kind::Cluster(nodes) => nodes.iter().all(safe),
            Kind::Sentinels {
                sentinels, server, ..
            } => {
                server.redis_settings().password().is_some()
                    || sentinels.iter().all(is_near_or_encrypted)
            }
        }
    }
}

fn server(url: &str) -> Result<ConnectionInfo, AddressError> {
    url.into_connection_info()
        .map_err(|_| AddressError::NotRedis)
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok() && !host.ends_with(']'))
}

fn is_near_or_encrypted(address: &ConnectionAddr) -> bool {
    match address {
        ConnectionAddr::Tcp(host, _) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Kind, AddressError> {
        text.parse().map(|Address(kind)| kind)
    }

    #[test]
    fn each_kind_of_redis_has_its_scheme() {
        for url in [
            "redis://127.0.0.1",
            "redis://localhost:1/2",
            "rediss://far.example:6380",
            "redis://:pw@far.example",
            "redis+unix:///run/redis.sock",
        ] {
            assert!(matches!(parse(url), Ok(Kind::Server(_))), "{url}");
        }
        for url in [
            "redis+cluster://localhost:1,127.0.0.1:2,[::1]:3",
            "rediss-cluster://a,b",
            "redis://localhost:1,localhost:2?cluster=true",
        ] {
            assert!(matches!(parse(url), Ok(Kind::Cluster(_))), "{url}");
        }
        let url = "redis+sentinel://u:p%40ss@a.example:1,b.example,[::1]/main/3";
        let Ok(Kind::Sentinels {
            sentinels,
            name,
            server,
        }) = parse(url)
        else {
            panic!("not Sentinels");
        };
        let places: Vec<_> = sentinels.iter().map(ToString::to_string).collect();
        assert_eq!(places[..2], ["a.example:1", "b.example:26379"]);
        assert!(places[2].ends_with(":26379"), "{places:?}");
        let settings = server.redis_settings();
        assert_eq!((&*name, settings.db()), ("main", 3));
        assert_eq!(settings.password(), Some("p@ss"));
    }

    #[test]
    fn what_is_no_redis_is_refused() {
        for url in [
            "",
            "redis",
            "http://h",
            "redis+ring://h",
            "redis://localhost,localhost",
            "redis://localhost?x=1",
            "redis+cluster://localhost/1",
            "redis://localhost/no",
        ] {
            assert_eq!(parse(url).err(), Some(AddressError::NotRedis), "{url}");
        }
        let nameless = parse("redis+sentinel://localhost");
        assert_eq!(nameless.err(), Some(AddressError::NoName));
    }

    #[test]
    fn t_71_a_redis_elsewhere_needs_a_password_or_tls() {
        for url in [
            "redis://10.0.0.1",
            "redis+cluster://localhost,far.example",
            "redis+sentinel://far.example/main",
        ] {
            assert_eq!(parse(url).err(), Some(AddressError::Unprotected), "{url}");
        }
    }
}
