//! `[web]`: where clients in browsers connect.

use std::net::SocketAddr;

use proto::ns;
use serde::Deserialize;

use super::error::{ConfigError, Rule};
use super::value;

/// `[web]`: WebSocket (RFC 7395), BOSH (XEP-0124), and the pages that name them (XEP-0156). Everything that `[c2s]` says about clients
/// and balancers holds here too.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// The addresses where clients connect, with TLS first; none: nowhere.
    #[serde(deserialize_with = "value::one_or_many")]
    pub listen: Vec<SocketAddr>,
    /// What clients are told to connect to, `wss://…`; absent: they are told nothing.
    pub url: Option<String>,
    /// The same for clients that use BOSH, `https://…`; absent: they are told nothing.
    pub bosh_url: Option<String>,
}

impl Web {
    /// The address of a page that the listener has, as browsers reach it.
    pub fn page(&self, path: &str) -> Option<String> {
        let rest = self.url.as_deref()?.strip_prefix("wss://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        Some(format!("https://{host}{path}"))
    }

    /// What clients are told about ways to connect, by kind, the best one first (XEP-0156 §4).
    pub fn links(&self) -> Vec<(&'static str, &str)> {
        let urls = [
            (ns::ALT_WEBSOCKET, &self.url),
            (ns::ALT_BOSH, &self.bosh_url),
        ];
        let links = urls.into_iter();
        links
            .filter_map(|(rel, url)| Some((rel, url.as_deref()?)))
            .collect()
    }

    pub(super) fn settle(&self) -> Result<(), ConfigError> {
        let urls = [
            ("web.url", "wss://", &self.url),
            ("web.bosh_url", "https://", &self.bosh_url),
        ];
        for (key, scheme, url) in urls {
            let Some(url) = url else { continue };
            if !is_secure(url, scheme) {
                let rule = match scheme {
                    "wss://" => Rule::NotAWebSocket(url.clone()),
                    _ => Rule::NotForBosh(url.clone()),
                };
                return Err(rule.broken(key));
            }
            if self.listen.is_empty() {
                return Err(Rule::UrlUntold.broken(key));
            }
        }
        Ok(())
    }
}

/// Whether it names a host that is reached over TLS (WS-4).
fn is_secure(url: &str, scheme: &str) -> bool {
    let rest = url.strip_prefix(scheme).unwrap_or_default();
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
            assert!(is_secure(url, "wss://"), "{url}");
        }
        for url in [
            "",
            "ws://a.example/ws",
            "https://a.example",
            "wss://",
            "wss:///ws",
            "wss://a b/",
        ] {
            assert!(!is_secure(url, "wss://"), "{url}");
        }
        assert!(is_secure("https://a.example/http-bind", "https://"));
        assert!(!is_secure("http://a.example/http-bind", "https://"));
    }
}
