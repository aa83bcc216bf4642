//! Where a command stands between two of its stages.
//!
//! It is in the session's id, so that no node has to remember it, however many commands are begun and never ended, and
//! the next stage may come to another node than the one before. What is in it can be read by the client, and is
//! authenticated: it is good for one session of one account, one domain and one command, and for a while. Its length
//! has a bound, as what a command may carry has one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::sasl::Digest;
use proto::{BareJid, Jid};
use subtle::ConstantTimeEq as _;

use crate::hooks::command::MOST_CARRIED;

/// How long a command may take from its beginning to its last stage, in milliseconds.
pub const LIFETIME: u64 = 15 * 60_000;

/// How the id is made up. Another way gets another number.
const VERSION: u8 = 1;
/// Bytes of the code that authenticates it.
const CODE: usize = 16;
/// Bytes in front of what is carried: the version, two numbers, the stage, and whether it is the last.
const HEAD: usize = 1 + 8 + 8 + 1 + 1;

/// Whose session it is.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    /// Who runs the command.
    pub session: &'a Jid,
    /// Of which domain.
    pub domain: &'a BareJid,
    /// Which command.
    pub node: &'a str,
}

/// Where a command stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// When it was begun, in milliseconds since 1970.
    pub begun: u64,
    /// Its own number.
    pub number: u64,
    /// How many forms are filled in already.
    pub stage: u8,
    /// With the one that is being filled in it is over.
    pub last: bool,
    /// What the command wants to know then.
    pub carried: String,
}

impl Session {
    /// The id.
    pub fn seal(&self, key: &[u8], owner: Owner<'_>) -> String {
        let mut bytes = Vec::with_capacity(HEAD + self.carried.len() + CODE);
        bytes.push(VERSION);
        bytes.extend(self.begun.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.extend([self.stage, u8::from(self.last)]);
        bytes.extend(self.carried.as_bytes());
        let code = code(key, owner, &bytes);
        bytes.extend(code);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The session of an id that was made with this key for this owner.
    pub fn open(key: &[u8], owner: Owner<'_>, id: &str) -> Option<Self> {
        // Four characters are three bytes.
        if id.len() > (HEAD + MOST_CARRIED + CODE).div_ceil(3) * 4 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(id).ok()?;
        let (bytes, given) = bytes.split_at_checked(bytes.len().checked_sub(CODE)?)?;
        if !bool::from(code(key, owner, bytes).ct_eq(given)) {
            return None;
        }
        let (&version, rest) = bytes.split_first()?;
        let (begun, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (&[stage, last], carried) = rest.split_first_chunk()?;
        (version == VERSION).then_some(Self {
            begun: u64::from_be_bytes(*begun),
            number: u64::from_be_bytes(*number),
            stage,
            last: last != 0,
            carried: String::from_utf8(carried.to_vec()).ok()?,
        })
    }
}

/// Addresses and nodes hold no zero bytes, so that none of them can be taken for a part of another one.
fn code(key: &[u8], owner: Owner<'_>, bytes: &[u8]) -> Vec<u8> {
    let names = [owner.session.as_str(), owner.domain.as_str(), owner.node];
    let mut input = names.join("\0").into_bytes();
    input.push(0);
    input.extend(bytes);
    let mut code = Digest::Sha256.hmac(key, &input);
    code.truncate(CODE);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> Jid {
        Jid::new(text).unwrap()
    }

    fn session(carried: &str) -> Session {
        Session {
            begun: 1_700_000_000_000,
            number: u64::MAX,
            stage: 3,
            last: true,
            carried: carried.to_owned(),
        }
    }

    #[test]
    fn ad_1_an_id_is_good_for_its_owner_alone_and_cannot_be_changed() {
        let (alice, domain) = (jid("alice@a.example/x"), jid("a.example").bare());
        let owner = Owner {
            session: &alice,
            domain: &domain,
            node: "urn:x",
        };
        for carried in ["", "what was said"] {
            let known = session(carried);
            let id = known.seal(b"key", owner);
            assert_eq!(Session::open(b"key", owner, &id), Some(known));
            assert_eq!(Session::open(b"other", owner, &id), None);
            let (other, elsewhere) = (jid("alice@a.example/y"), jid("b.example").bare());
            for wrong in [
                Owner {
                    session: &other,
                    ..owner
                },
                Owner {
                    domain: &elsewhere,
                    ..owner
                },
                Owner {
                    node: "urn:y",
                    ..owner
                },
            ] {
                assert_eq!(Session::open(b"key", wrong, &id), None);
            }
            for at in 0..id.len() {
                let mut changed = id.clone().into_bytes();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(Session::open(b"key", owner, &changed), None, "{at}");
            }
        }
    }

    #[test]
    fn ad_1_what_is_no_id_is_none() {
        let (alice, domain) = (jid("alice@a.example/x"), jid("a.example").bare());
        let owner = Owner {
            session: &alice,
            domain: &domain,
            node: "urn:x",
        };
        let long = "A".repeat(1 << 20);
        for id in [
            "",
            "A",
            "?",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            &long,
        ] {
            assert_eq!(Session::open(b"key", owner, id), None, "{}", id.len());
        }
        let most = session(&"x".repeat(MOST_CARRIED));
        let id = most.seal(b"key", owner);
        assert_eq!(Session::open(b"key", owner, &id), Some(most));
        let id = session(&"x".repeat(MOST_CARRIED + 3)).seal(b"key", owner);
        assert_eq!(Session::open(b"key", owner, &id), None);
    }
}
