//! HT: a login with a token that the server gave out earlier, in one message (XEP-0484).
//!
//! The token is the key of an HMAC, so that it never travels again. Both sides prove that they know it, and which
//! channel they mean. There is nothing slow in it: a token is random, and cannot be guessed as a password can.

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{BindingType, Digest, Failure, Mechanism, Offer};

/// How a token is proven. The names are never among those of [`super::Mechanism`]: they are offered elsewhere (FA-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenMechanism {
    /// Bound to keying material of the TLS connection.
    Exporter,
    /// Bound to the server's certificate.
    EndPoint,
    /// Bound to nothing.
    Unbound,
}

impl TokenMechanism {
    /// Every mechanism, preferred ones first.
    pub const ALL: [Self; 3] = [Self::Exporter, Self::EndPoint, Self::Unbound];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exporter => "HT-SHA-256-EXPR",
            Self::EndPoint => "HT-SHA-256-ENDP",
            Self::Unbound => "HT-SHA-256-NONE",
        }
    }

    /// The mechanism of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// What proofs are bound to on a stream; `None` if it does not offer the mechanism.
    pub fn binding(self, offer: &Offer) -> Option<&[u8]> {
        match self {
            Self::Exporter => offer.binding(BindingType::Exporter),
            Self::EndPoint => offer.binding(BindingType::EndPoint),
            Self::Unbound => Some(&[]),
        }
    }
}

/// What a client proved itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The password.
    Password(Mechanism),
    /// A token that it was given.
    Token {
        /// How it was proven.
        mechanism: TokenMechanism,
        /// Which of those that were found: its place among them.
        index: usize,
    },
}

impl Method {
    /// The name of the mechanism.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password(mechanism) => mechanism.name(),
            Self::Token { mechanism, .. } => mechanism.name(),
        }
    }
}

/// The client's only message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiator {
    /// The user, not yet prepared.
    pub authcid: String,
    proof: Vec<u8>,
}

impl Initiator {
    /// Reads `authcid NUL proof` (FA-9).
    pub fn parse(message: &[u8]) -> Result<Self, Failure> {
        let end = message.iter().position(|byte| *byte == 0);
        let end = end.ok_or(Failure::MalformedRequest)?;
        let (authcid, proof) = (&message[..end], &message[end + 1..]);
        let authcid = std::str::from_utf8(authcid).map_err(|_| Failure::MalformedRequest)?;
        if authcid.is_empty() || proof.len() != Digest::Sha256.bytes() {
            return Err(Failure::MalformedRequest);
        }
        Ok(Self {
            authcid: authcid.to_owned(),
            proof: proof.to_vec(),
        })
    }

    /// The message that a client sends.
    pub fn message(authcid: &str, token: &str, binding: &[u8]) -> Vec<u8> {
        let proof = prove(token, b"Initiator", binding);
        [authcid.as_bytes(), b"\0", &proof].concat()
    }

    /// Which of the tokens was meant. Each of them is tried, so that the time says nothing.
    pub fn find(&self, tokens: &[Token], binding: &[u8]) -> Option<usize> {
        let mut found = None;
        for (index, token) in tokens.iter().enumerate() {
            let proof = prove(&token.secret, b"Initiator", binding);
            if bool::from(proof.ct_eq(&self.proof)) && found.is_none() {
                found = Some(index);
            }
        }
        found
    }
}

/// The server's proof that it knows the token as well.
pub fn responder(token: &str, binding: &[u8]) -> Vec<u8> {
    prove(token, b"Responder", binding)
}

fn prove(token: &str, role: &[u8], binding: &[u8]) -> Vec<u8> {
    Digest::Sha256.hmac(token.as_bytes(), &[role, binding].concat())
}

/// A token that a login may be made with.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub secret: Zeroizing<String>,
    /// Its time is over: who has it hears that, and asks for the password (FA-6).
    pub is_expired: bool,
}

impl Token {
    /// A token.
    pub fn new(secret: String, is_expired: bool) -> Self {
        Self {
            secret: Zeroizing::new(secret),
            is_expired,
        }
    }
}

impl std::fmt::Debug for Token {
    /// Tokens never reach a log (T-73).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn fa_9_vectors() {
        let message = Initiator::message("alice", "tok-abc", &[]);
        let (name, proof) = message.split_at(6);
        assert_eq!(name, b"alice\0");
        assert_eq!(
            hex(proof),
            "69dc01302df4326f5ab4791ff89e2c92a8ebcf59cf1c09369146684feb1e2c2a"
        );
        assert_eq!(
            hex(&responder("tok-abc", &[])),
            "9a401601cd24ca1afbed524e2ca43c9b2577ba82aaa52399a80dcfa8935ce564"
        );
        assert_eq!(Initiator::parse(&message).expect("legal").authcid, "alice");
    }

    #[test]
    fn fa_9_a_message_has_a_name_and_a_whole_proof() {
        let proof = [1; 32];
        for broken in [
            &b""[..],
            b"alice",
            b"alice\0",
            &[&b"alice\0"[..], &proof[1..]].concat(),
            &[&b"alice\0"[..], &proof, b"x"].concat(),
            &[&b"\0"[..], &proof].concat(),
            &[&b"\xff\0"[..], &proof].concat(),
        ] {
            assert_eq!(Initiator::parse(broken), Err(Failure::MalformedRequest));
        }
        // Only the first NUL separates: the proof may have more of them.
        let zeros = [&b"a\0"[..], &[0; 32]].concat();
        assert!(Initiator::parse(&zeros).is_ok());
    }

    #[test]
    fn fa_9_a_proof_names_the_token_the_role_and_the_channel() {
        let tokens = ["one", "two"].map(|token| Token::new(token.to_owned(), false));
        let find = |token, made, seen| {
            let message = Initiator::message("a", token, made);
            Initiator::parse(&message)
                .expect("legal")
                .find(&tokens, seen)
        };
        assert_eq!(find("one", &[7], &[7]), Some(0));
        assert_eq!(find("two", &[7], &[7]), Some(1));
        assert_eq!(find("two", &[7], &[8]), None);
        assert_eq!(find("two", &[7], &[]), None);
        assert_eq!(find("three", &[7], &[7]), None);
        let reflected = [&b"a\0"[..], &responder("one", &[7])].concat();
        let reflected = Initiator::parse(&reflected).expect("legal");
        assert_eq!(reflected.find(&tokens, &[7]), None);
        assert_eq!(format!("{:?}", tokens[0]), "Token(***)");
    }
}
