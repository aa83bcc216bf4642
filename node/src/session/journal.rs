//! The log's lines about clients: who came, how, from where, and why they went.
//!
//! One line at `info` each, with the same fields everywhere, so that people can search them and programs
//! (fail2ban, say) can act on them. A connection is named by its number in this process: the SM-ID would
//! be a key to the session (T-73). What needs no password has a ration (T-74).

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use cluster::ConnId;
use cluster::connection::Reason;
use cluster::session::EndReason;
use proto::sasl::ht::Method;
use proto::stream::{Condition, StreamError};
use proto::{BareJid, Jid};

use super::ration::Ration;
use super::resume::Undecided;
use crate::listen::proxy::ProxyError;

/// For how long a ration lasts.
pub const MINUTE: Duration = Duration::from_secs(60);

/// The lines that strangers may cause.
#[derive(Debug, Default)]
pub struct Journal {
    failures: Ration,
    registrations: Ration,
    ends: Ration,
    openings: Ration,
    headers: Ration,
}

impl Journal {
    /// A login has failed, or was not tried.
    pub(super) fn login_failed(
        &self,
        account: Option<&BareJid>,
        address: IpAddr,
        mechanism: Option<Method>,
        reason: &str,
    ) {
        if self.failures.admits(address) {
            let account = account.map_or_else(|| "unknown".to_owned(), BareJid::to_string);
            let mechanism = mechanism.map_or("none", Method::name);
            tracing::info!(%account, %address, mechanism, reason, "login failed");
        }
    }

    /// A stranger gets no account.
    pub(super) fn registration_failed(&self, address: IpAddr, reason: &str) {
        if self.registrations.admits(address) {
            tracing::info!(%address, reason, "registration failed");
        }
    }

    /// A connection is over that had no session. Balancers and scanners say nothing at all, all day long, and a page
    /// that was asked for is nothing to tell.
    pub(super) fn ended_early(&self, account: Option<&BareJid>, address: IpAddr, reason: &Ending) {
        if matches!(reason, Ending::Silent | Ending::Answered) {
            return tracing::debug!(%address, %reason, "disconnected before it had a session");
        }
        if self.ends.admits(address) {
            let account = account.map_or_else(|| "none".to_owned(), BareJid::to_string);
            let reason = reason.to_string();
            tracing::info!(%account, %address, reason, "disconnected before it had a session");
        }
    }

    /// The cluster could not decide about a session.
    pub(super) fn not_opened(
        &self,
        account: Option<&BareJid>,
        address: IpAddr,
        reason: &Undecided,
    ) {
        if self.openings.admits(address) {
            let account = account.map_or_else(|| "unknown".to_owned(), BareJid::to_string);
            let reason = reason.to_string();
            tracing::warn!(%account, %address, reason, "a session could not be opened");
        }
    }

    /// A balancer did not say for whom it connects.
    pub fn no_header(&self, balancer: IpAddr, error: ProxyError) {
        if self.headers.admits(balancer) {
            let hint = "c2s.trusted_proxies names this address, so each of its connections must begin with a PROXY header";
            tracing::warn!(address = %balancer, reason = %error, hint, "a connection was refused");
        }
    }

    /// A minute is over: tells how many lines there would have been.
    pub fn turn(&self) {
        let all = [
            ("login failed", &self.failures),
            ("registration failed", &self.registrations),
            ("disconnected before it had a session", &self.ends),
            ("a session could not be opened", &self.openings),
            ("no PROXY header", &self.headers),
        ];
        for (line, ration) in all {
            let left_out = ration.turn();
            if left_out > 0 {
                tracing::warn!(
                    line,
                    left_out,
                    "there were more such lines in the last minute"
                );
            }
        }
    }
}

/// Why a connection is over that had no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    /// Not a byte came.
    #[error("nothing was said")]
    Silent,
    /// A request of HTTP had its answer.
    #[error("a request was answered")]
    Answered,
    /// The stream was closed.
    #[error("closed by the client")]
    Closed,
    /// The connection ended in the middle of the stream.
    #[error("connection lost")]
    Lost,
    /// The handshake failed.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// Something came in the clear that was meant to be protected (T-19).
    #[error("the client spoke before TLS was there")]
    Early,
    /// Out of time.
    #[error("the client took too long")]
    Late,
    /// Somebody else got its place.
    #[error("others needed the place")]
    Shed,
    /// The server ended the stream.
    #[error("{error}{}", .error.text.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Failed {
        /// What the client was told.
        error: StreamError,
    },
}

impl Ending {
    /// A handshake that did not even begin is silence.
    pub(super) fn of_tls(error: io::Error) -> Self {
        use io::ErrorKind::{ConnectionReset, UnexpectedEof};
        match error.kind() {
            UnexpectedEof | ConnectionReset => Self::Silent,
            _ => Self::Tls(error),
        }
    }
}

/// A login has succeeded.
pub(super) fn logged_in(account: &BareJid, address: IpAddr, mechanism: Method) {
    let mechanism = mechanism.name();
    tracing::info!(%account, %address, mechanism, "logged in");
}

/// A connection acts for a session from now on, `how`: bound or resumed.
pub(super) fn began(session: &Jid, connection: ConnId, address: IpAddr, how: &str) {
    tracing::info!(%session, connection = connection.0, %address, "{how}");
}

/// A connection that had a session is over.
pub(super) fn ended(session: &Jid, connection: ConnId, address: IpAddr, reason: Reason) {
    let reason = why(reason);
    tracing::info!(%session, connection = connection.0, %address, reason, "disconnected");
}

/// Why a connection that had a session is over.
fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Leaving => "the node stops",
        Reason::Lost => "connection lost",
        Reason::Ended(reason) => end(reason),
        Reason::Detached(told) => told.map_or("no longer the session's owner", Condition::name),
    }
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
        EndReason::Removed => "the account was removed",
    }
}
