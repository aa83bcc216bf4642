//! What an operator may say about archives.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{self, Config, Table};

/// `[archive]`: what is kept of messages.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Archive {
    /// For accounts that did not say what they prefer.
    pub default: KeepByDefault,
    /// How long messages are kept; zero is for ever.
    #[serde(deserialize_with = "config::duration")]
    pub retention: Duration,
    /// How many messages are kept per account; zero is any number.
    pub quota_messages: u64,
}

impl Table for Archive {
    const SECTION: &'static str = "archive";
}

/// Whether archives keep anything of accounts that have not said what theirs is to keep.
pub fn archives_by_default(config: &Config) -> bool {
    config.table::<Archive>().default != KeepByDefault::Never
}

/// Which messages an account's archive keeps that did not say what it prefers (XEP-0441).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepByDefault {
    /// All messages.
    #[default]
    Always,
    /// Messages to and from contacts.
    Roster,
    /// None. Undelivered messages are still kept, but hidden, until they are delivered.
    Never,
}
