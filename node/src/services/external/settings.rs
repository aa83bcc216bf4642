//! What an operator says about services beside the server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config::{ConfigError, Rule, Table, duration};

/// The most services, and bytes of a word: everybody who asks is sent all of them.
const MOST: usize = 32;
const MOST_BYTES: usize = 253;
/// How long credentials may be good for, in seconds.
const LIFETIMES: (u64, u64) = (60, 7 * 86_400);

/// `[external]`: services beside the server.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct External {
    /// Each of them: `[[external.service]]`.
    pub service: Vec<ExternalService>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalService {
    /// What it is, such as `stun` or `turn`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is: a name or an address.
    pub host: String,
    /// At which port.
    pub port: Option<u16>,
    /// Over what, such as `udp` or `tcp`.
    pub transport: Option<String>,
    /// What people are told it is.
    pub name: Option<String>,
    /// A file with the secret that it shares with this server. Absent: it is for everybody.
    pub secret_file: Option<PathBuf>,
    /// How long credentials are good for.
    #[serde(default = "six_hours", deserialize_with = "duration")]
    pub lifetime: Duration,
}

fn six_hours() -> Duration {
    Duration::from_secs(6 * 3_600)
}

impl Table for External {
    const SECTION: &'static str = "external";

    fn check(&self) -> Result<(), ConfigError> {
        const KEY: &str = "external.service";
        if self.service.len() > MOST {
            return Err(Rule::Between(0, MOST as u64).broken(KEY));
        }
        for service in &self.service {
            let words = [&service.kind, &service.host].into_iter();
            for word in words.chain(&service.transport) {
                let one = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
                if !one || word.len() > MOST_BYTES {
                    return Err(Rule::NotAWord(word.clone()).broken(KEY));
                }
            }
            if matches!(&*service.kind, "turn" | "turns") && service.secret_file.is_none() {
                return Err(Rule::NoRelaySecret(service.host.clone()).broken(KEY));
            }
            let (least, most) = LIFETIMES;
            if !(least..=most).contains(&service.lifetime.as_secs()) {
                return Err(Rule::Between(least, most).broken("external.service.lifetime"));
            }
        }
        Ok(())
    }

    fn secrets(&self) -> Vec<&Path> {
        let files = self
            .service
            .iter()
            .filter_map(|one| one.secret_file.as_deref());
        files.collect()
    }

    fn secrets_mut(&mut self) -> Vec<&mut PathBuf> {
        let files = self
            .service
            .iter_mut()
            .filter_map(|one| one.secret_file.as_mut());
        files.collect()
    }
}
