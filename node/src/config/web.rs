//! `[web]`: where clients in browsers connect.

use std::net::SocketAddr;

use serde::Deserialize;

use super::error::{ConfigError, Rule};
use super::value;

/// `[web]`: WebSocket (RFC 7395), and the pages that name it (XEP-0156). Everything that `[c2s]` says about clients
/// and balancers holds here too.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// The addresses where clients connect, with TLS first; none: nowhere.
    #[serde(deserialize_with = "value::one_or_many")]
    pub listen: Vec<SocketAddr>,
    /// What clients are told to connect to, `wss://…`; absent: they are told nothing.
    pub url: Option<String>,
}

impl Web {
    /// The address of a page that the listener has, as browsers reach it.
    pub fn page(&self, path: &str) -> Option<String> {
        let rest = self.url.as_deref()?.strip_prefix("wss://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        Some(format!("https://{host}{path}"))
    }

    pub(super) fn settle(&self) -> Result<(), ConfigError> {
        let Some(url) = &self.url else { return Ok(()) };
        if !is_secure(url) {
            return Err(Rule::NotAWebSocket(url.clone()).broken("web.url"));
        }
        match self.listen.is_empty() {
            true => Err(Rule::UrlUntold.broken("web.url")),
            false => Ok(()),
        }
    }
}

/// Whether it names a host that is reached by WebSocket over TLS (WS-4).
fn is_secure(url: &str) -> bool {
    let rest = url.strip_prefix("wss://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !host.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ws_4_only_an_address_with_tls_is_told() {
        for url in [
            "wss://a.example/ws",
            "wss://a.example:5443",
            "wss://[::1]:1/x?y",
        ] {
            assert!(is_secure(url), "{url}");
        }
        for url in [
            "",
            "ws://a.example/ws",
            "https://a.example",
            "wss://",
            "wss:///ws",
            "wss://a b/",
        ] {
            assert!(!is_secure(url), "{url}");
        }
    }
}
