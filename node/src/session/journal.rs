//! The log's lines about clients: who came, how, from where, and why they went.
//!
//! One line at `info` each, with the same fields everywhere, so that people can search them and programs
//! (fail2ban, say) can act on them. A connection is named by its number in this process: the SM-ID would
//! be a key to the session (T-73).

use std::net::IpAddr;

use cluster::ConnId;
use cluster::session::{Command, EndReason};
use proto::sasl::Mechanism;
use proto::stream::Condition;
use proto::{BareJid, Jid};

/// A login has succeeded.
pub(super) fn logged_in(account: &BareJid, address: IpAddr, mechanism: Mechanism) {
    let mechanism = mechanism.name();
    tracing::info!(%account, %address, mechanism, "logged in");
}

/// A login has failed, or was not tried.
pub(super) fn login_failed(
    account: Option<&BareJid>,
    address: IpAddr,
    mechanism: Option<Mechanism>,
    reason: &str,
) {
    let account = account.map_or_else(|| "unknown".to_owned(), BareJid::to_string);
    let mechanism = mechanism.map_or("none", Mechanism::name);
    tracing::info!(%account, %address, mechanism, reason, "login failed");
}

/// A connection acts for a session from now on, `how`: bound or resumed.
pub(super) fn began(session: &Jid, connection: ConnId, address: IpAddr, how: &str) {
    tracing::info!(%session, connection = connection.0, %address, "{how}");
}

/// A connection that had a session is over.
pub(super) fn ended(session: &Jid, connection: ConnId, address: IpAddr, reason: &str) {
    tracing::info!(%session, connection = connection.0, %address, reason, "disconnected");
}

/// Why a connection whose last word to the shard is `last` is over.
pub(super) fn reason(last: &Command) -> &'static str {
    match last {
        Command::End { reason, .. } => end(*reason),
        _ => "connection lost",
    }
}

/// Why a connection was detached from its session, by what its client was told.
pub(super) fn detached(told: Option<Condition>) -> &'static str {
    told.map_or("no longer the session's owner", Condition::name)
}

fn end(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Closed => "closed by the client",
        EndReason::Lost => "connection lost",
        EndReason::Expired => "expired",
        EndReason::Conflict => "replaced by another connection",
        EndReason::Limit => "too many sessions of the account",
        EndReason::Admin => "ended by an administrator",
        EndReason::Violation => "protocol violation",
        EndReason::Credentials => "the credentials changed",
        EndReason::Overflow => "too much was queued",
    }
}
