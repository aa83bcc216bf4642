//! Which keys clients are asked for whose accounts lack them (XEP-0480), and what that is called.

use crate::ns;
use crate::sasl::{Digest, Mechanism};
use crate::xml::Element;

/// Which keys are asked for, where an account lacks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The hash.
    pub digest: Digest,
    /// How often the password is to be hashed.
    pub iterations: u32,
}

impl Upgrade {
    /// The name of the task.
    pub(super) fn task(self) -> String {
        format!("UPGR-{}", Mechanism::scram(self.digest).name())
    }

    /// What the features say of it.
    pub(super) fn offered(self) -> Element {
        Element::new("upgrade", ns::UPGRADE).with_text(&self.task())
    }

    /// It is what `<upgrade/>` asks for.
    pub(super) fn is_asked(self, upgrade: &Element) -> bool {
        upgrade.text() == self.task()
    }
}
