//! Keys for a mechanism that an account lacks, from a client that knows the password (XEP-0480).
//!
//! The client has just proven by an older mechanism that it knows it. It is told a salt, answers with the salted
//! password, and what is stored comes of that. Only then the login goes on, as if nothing had come in between.
//!
//! # Invariants
//!
//! 1. Only who has proven the password itself is asked: a token is no password.
//! 2. Nothing is asked of whose password has several forms: the one client knows one of them, and others would be locked
//!    out (ST-42).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Stream;
use super::login::{Login, Pending};
use super::state::State;
use super::upgrade::Upgrade;
use crate::ns;
use crate::sasl::{Credentials, Digest, Failure, ScramKeys};
use crate::xml::Element;

/// The most characters of an answer: a hash in Base64 is shorter.
const ANSWER: usize = 256;

impl Stream {
    /// The upgrade that a login by this hash leads to, if the client has asked for it and the account lacks its keys.
    pub(super) fn upgrade_for(&self, digest: Digest, credentials: &Credentials) -> Option<Upgrade> {
        let asked = self.inline.as_ref().is_some_and(|inline| inline.upgrade);
        let upgrade = self.settings.upgrade.filter(|_| asked && self.is_sasl2())?;
        let proven = credentials.own(digest)?;
        let lacks = credentials.real && credentials.own(upgrade.digest).is_none();
        (lacks && proven.others.is_empty()).then_some(upgrade)
    }

    /// The password is proven: the client is asked for new keys before it hears of more.
    pub(super) fn ask_to_upgrade(&mut self, pending: Pending, last: &str) {
        let task = Element::new("task", ns::SASL2).with_text(&pending.upgrade.task());
        let last = Element::new("additional-data", ns::SASL2).with_text(&STANDARD.encode(last));
        let tasks = Element::new("tasks", ns::SASL2).with_child(task);
        let ask = Element::new("continue", ns::SASL2).with_child(last);
        self.write(&ask.with_child(tasks));
        self.login = Login::Upgrade(Box::new(pending));
        self.state = State::Tasked;
    }

    /// `<next/>`
    pub(super) fn begin_task(&mut self, next: &Element) {
        let Login::Upgrade(mut pending) = std::mem::take(&mut self.login) else {
            return self.fail_login(Failure::MalformedRequest, None);
        };
        if next.attr("task") != Some(&*pending.upgrade.task()) {
            return self.fail_login(Failure::MalformedRequest, Some(pending.account));
        }
        pending.salt = (self.entropy)().to_vec();
        let salt = Element::new("salt", ns::SCRAM_UPGRADE)
            .with_attr("iterations", pending.upgrade.iterations.to_string())
            .with_text(&STANDARD.encode(&pending.salt));
        self.write(&Element::new("task-data", ns::SASL2).with_child(salt));
        self.login = Login::Upgrade(pending);
        self.state = State::Salted;
    }

    /// `<task-data/>`
    pub(super) fn end_task(&mut self, data: &Element) {
        let Login::Upgrade(pending) = std::mem::take(&mut self.login) else {
            return self.fail_login(Failure::MalformedRequest, None);
        };
        let Pending {
            mechanism,
            account,
            upgrade,
            salt,
        } = *pending;
        let hash = data.child("hash", ns::SCRAM_UPGRADE).map(Element::text);
        let hash = Zeroizing::new(hash.unwrap_or_default());
        let fits = hash.len() <= ANSWER;
        let salted = fits.then(|| STANDARD.decode(hash.trim()).map(Zeroizing::new));
        let salted = match salted {
            Some(Ok(salted)) if salted.len() == upgrade.digest.bytes() => salted,
            Some(Err(_)) => return self.fail_login(Failure::IncorrectEncoding, Some(account)),
            Some(Ok(_)) | None => {
                return self.fail_login(Failure::MalformedRequest, Some(account));
            }
        };
        let keys = ScramKeys::from_salted(upgrade.digest, &salted, salt, upgrade.iterations);
        if let Some(inline) = &mut self.inline {
            inline.keys = Some((upgrade.digest, keys));
        }
        self.succeed(mechanism, account, None);
    }
}
