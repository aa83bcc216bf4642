//! PLAIN (RFC 4616): the password itself, so never without TLS.

use zeroize::Zeroizing;

use super::{Digest, Failure, ScramKeys, password};

/// The one message of PLAIN.
#[derive(Clone)]
pub struct Plain {
    /// Whom the client wants to act as, if it says so.
    pub authzid: Option<String>,
    /// The user, not yet prepared.
    pub authcid: String,
    /// The password, not yet prepared.
    pub password: Zeroizing<String>,
}

impl Plain {
    /// Reads `[authzid] NUL authcid NUL password` (ST-50).
    pub fn parse(message: &[u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
        let mut parts = text.split('\0');
        let (authzid, authcid, password) = (parts.next(), parts.next(), parts.next());
        let (Some(authzid), Some(authcid), Some(password), None) =
            (authzid, authcid, password, parts.next())
        else {
            return Err(Failure::MalformedRequest);
        };
        if authcid.is_empty() || password.is_empty() {
            return Err(Failure::MalformedRequest);
        }
        Ok(Self {
            authzid: (!authzid.is_empty()).then(|| authzid.to_owned()),
            authcid: authcid.to_owned(),
            password: Zeroizing::new(password.to_owned()),
        })
    }

    /// The message that a client sends.
    pub fn message(username: &str, password: &str) -> Vec<u8> {
        format!("\0{username}\0{password}").into_bytes()
    }
}

impl std::fmt::Debug for Plain {
    /// Passwords never reach a log (T-73).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plain(***)")
    }
}

/// Whether a password as received, in whichever form, belongs to these keys. Slow: not for a thread that
/// others wait for.
pub fn verify(digest: Digest, keys: &ScramKeys, password: &str) -> bool {
    let forms = password::forms(password);
    forms.iter().any(|form| keys.matches(digest, form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn st_50_exactly_two_separators_and_a_password() {
        let plain = Plain::parse(b"a@h\0alice\0secret").expect("legal");
        let parts = (plain.authzid.as_deref(), &*plain.authcid, &**plain.password);
        assert_eq!(parts, (Some("a@h"), "alice", "secret"));
        assert_eq!(
            Plain::parse(b"\0alice\0secret").expect("legal").authzid,
            None
        );
        for broken in [
            &b""[..],
            b"alice",
            b"\0alice",
            b"\0alice\0",
            b"\0\0p",
            b"\0a\0p\0",
            b"\0\xff\0p",
        ] {
            let result = Plain::parse(broken).map(|_| ());
            assert_eq!(result, Err(Failure::MalformedRequest), "{broken:?}");
        }
    }

    #[test]
    fn st_42_the_password_is_prepared_before_it_is_checked() {
        let keys = ScramKeys::derive(Digest::Sha256, "p\u{e9}n cil", b"salt", 2);
        assert!(verify(Digest::Sha256, &keys, "pe\u{301}n\u{a0}cil"));
        assert!(!verify(Digest::Sha256, &keys, "pencil"));
        assert!(!verify(Digest::Sha256, &keys, "\u{7}"));
    }
}
