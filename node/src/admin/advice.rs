//! What to do about what `holdfast check` finds, for what does not say that by itself.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};

use cluster::tls::AuthError;
use proto::BareJid;
use proto::jid::ascii_name;

use crate::listen::certificate::Fault;
use crate::listen::tls::TlsError;

/// What went wrong, and behind it what helps.
pub fn with(what: impl Display, advice: &str) -> String {
    match advice {
        "" => what.to_string(),
        advice => format!("{what}; {advice}"),
    }
}

/// A key of the tokens that a start refuses.
pub const TOKEN_KEY: &str = "make one, e.g. `openssl rand -out FILE 32`, the same for all nodes, for the user of this process only";

/// A directory in which nothing can be made.
pub fn unwritable(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "give it to the user of this process, or name another one"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room, or name one on another disk"
        }
        _ => "name one in which the user of this process can make files",
    }
}

/// An address on which a node could not listen.
pub fn no_listener(address: &SocketAddr, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has this port: stop that one, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "choose an address that this machine has, or all of them: [::]"
        }
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "choose a port from 1024 on, or let this process have lower ones (CAP_NET_BIND_SERVICE)"
        }
        _ => "choose another address",
    }
}

/// A certificate that a start refuses.
pub fn no_certificate(error: &TlsError) -> &'static str {
    match error {
        TlsError::Read(..) => {
            "`tls.certificate` and `tls.key` name PEM files that the user of this process can read"
        }
        TlsError::Unusable(..) => {
            "name the key with which this certificate was made, and the certificate of the domain first in its file"
        }
        TlsError::Unfit(_, fault) => fault_of(fault),
        // They say it.
        TlsError::NotConfigured(_)
        | TlsError::Encrypted(_)
        | TlsError::Write(..)
        | TlsError::Generate(_) => "",
    }
}

/// A certificate that clients refuse.
pub fn fault_of(fault: &Fault) -> &'static str {
    match fault {
        Fault::Malformed => {
            "name a file with the domain's certificate, and those of its issuers behind it"
        }
        Fault::Expired(_) => "renew it: running nodes read the new files by themselves",
        Fault::NotYetValid(_) => "wait, or set this machine's clock",
        Fault::DoesNotName(_) => "have one issued for all domains that are served",
        Fault::EndsSoon { .. } => "",
    }
}

/// A database that does not answer.
pub const NO_DATABASE: &str =
    "see that it is started, and that host, port, name, user and password in `storage.url` fit";
/// The same for Redis.
pub const NO_REDIS: &str = "see that it is started and no replica, and that `redis.url` fits; without the key limits are \
                            held by the nodes themselves";

/// Another node that refuses this one.
pub fn no_peer(error: &AuthError) -> &'static str {
    match error {
        AuthError::WrongProof => "give all nodes one line of it in common",
        AuthError::WrongName(_) => "name the node in its certificate as `cluster.peers` does",
        AuthError::Tls(_) | AuthError::Io(_) => {
            "see that a node of this cluster listens there, and that all have the same means to know each other"
        }
        AuthError::Address(_) => "write host and port, such as node2.example.org:7400",
        AuthError::Unproved => "",
    }
}

/// The name of a host as SRV records have it.
///
/// # Errors
///
/// The text is none; what is wanted.
pub fn host_name(text: &str) -> Result<String, String> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    let is_address = bare.parse::<IpAddr>().is_ok() || bare.starts_with('[');
    let name = BareJid::new(bare).ok().filter(|jid| jid.local().is_none());
    let name = name.and_then(|jid| ascii_name(jid.domain()));
    match name {
        Some(name) if !is_address => Ok(name),
        _ => Err(
            "expected the name of a host, such as xmpp.example.org: records of services name no addresses"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wd_2_records_name_hosts() {
        for (text, expect) in [
            ("xmpp.example.org", "xmpp.example.org"),
            ("Localhost.", "localhost"),
            ("bücher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(host_name(text).as_deref(), Ok(expect), "{text}");
        }
        for text in [
            "",
            ".",
            "192.0.2.1",
            "[2001:db8::1]",
            "2001:db8::1",
            "a b",
            "alice@example.org",
            "example.org:5222",
            "a..b",
            "a\nb",
            "https://example.org",
            "example.org/x",
        ] {
            assert!(host_name(text).is_err(), "{text}");
        }
    }
}
