//! What an operator may say about invitations that users make.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::auth::invite::{LONGEST, MOST_OF_ONE};
use crate::config::{self, ConfigError, Rule, Table, within};

/// Of `[auth]`: whose invitations lead where, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Invitations {
    /// With whose invitations new accounts are made, where the invited may make any.
    pub invite: Inviters,
    /// For how long an invitation is good.
    #[serde(deserialize_with = "config::duration")]
    pub invitation_lifetime: Duration,
}

impl Default for Invitations {
    fn default() -> Self {
        Self {
            invite: Inviters::default(),
            invitation_lifetime: Duration::from_secs(7 * 86_400),
        }
    }
}

impl Table for Invitations {
    const SECTION: &'static str = "auth";

    fn check(&self) -> Result<(), ConfigError> {
        let fits = Duration::from_secs(1)..=LONGEST;
        match fits.contains(&self.invitation_lifetime) {
            true => Ok(()),
            false => {
                let seconds = Rule::Between(1, LONGEST.as_secs());
                Err(seconds.broken("auth.invitation_lifetime"))
            }
        }
    }
}

/// Who may invite people to make accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inviters {
    /// Only operators, at the command line.
    Nobody,
    /// Administrators as well.
    #[default]
    Admins,
    /// Everybody who has an account.
    Users,
}

impl<'de> Deserialize<'de> for Inviters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match &*String::deserialize(deserializer)? {
            "nobody" => Ok(Self::Nobody),
            "admins" => Ok(Self::Admins),
            "users" => Ok(Self::Users),
            other => Err(serde::de::Error::custom(format!(
                "`{other}` is none of `nobody`, `admins`, `users`"
            ))),
        }
    }
}

/// Of `[quotas]`: how many invitations one user may have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// Those that nobody has used yet, or a contact within the last hour. None: users make none.
    pub invitations: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { invitations: 10 }
    }
}

impl Table for Quotas {
    const SECTION: &'static str = "quotas";

    fn check(&self) -> Result<(), ConfigError> {
        within(&[("quotas.invitations", self.invitations, 0..=MOST_OF_ONE)])
    }
}
