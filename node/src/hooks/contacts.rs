//! What a service that keeps rosters says about accounts that are removed.

use cluster::session::Relay;
use proto::BareJid;

/// Some of those who have yet to hear that an account is gone, and what they hear.
pub struct Farewell {
    /// Who.
    pub contacts: Vec<BareJid>,
    /// What goes out for all of them.
    pub relays: Vec<Relay>,
}
