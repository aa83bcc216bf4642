//! SCRAM, the server's side (RFC 5802, RFC 7677), with channel binding and XEP-0474.
//!
//! The steps are [`ClientFirst::parse`], [`ClientFirst::binding_input`], [`Exchange::new`] and
//! [`Exchange::verify`]. Each takes the bytes of a message as they came: the proof covers exactly those
//! bytes (ST-46).
//!
//! # Invariants
//!
//! 1. An account that does not exist fails in [`Exchange::verify`], after the same work as one that does.
//! 2. Proofs are compared in constant time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConstantTimeEq as _};

use super::{BindingType, Digest, Failure, Mechanism, Offer, ScramKeys};

/// What the client says about channel binding (RFC 5802 §6).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Flag {
    /// `n`: it cannot.
    Unable,
    /// `y`: it could, but believes that the server cannot.
    NotOffered,
    /// `p=`: it does.
    Bound(String),
}

/// The client's first message.
#[derive(Clone, Debug)]
pub struct ClientFirst {
    flag: Flag,
    header: String,
    bare: String,
    nonce: String,
    authzid: Option<String>,
    username: String,
}

impl ClientFirst {
    /// Reads `gs2-flag,[a=authzid],n=user,r=nonce[,extensions]` (ST-43).
    pub fn parse(message: &[u8]) -> Result<Self, Failure> {
        Self::parse_text(message).ok_or(Failure::MalformedRequest)
    }

    fn parse_text(message: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        let (flag, rest) = text.split_once(',')?;
        let (authzid, bare) = rest.split_once(',')?;
        let header = &text[..text.len() - bare.len()];
        let flag = match flag {
            "n" => Flag::Unable,
            "y" => Flag::NotOffered,
            other => Flag::Bound(binding_name(other.strip_prefix("p=")?)?.to_owned()),
        };
        let authzid = match authzid {
            "" => None,
            other => Some(unescape(other.strip_prefix("a=")?)?),
        };
        let mut attributes = bare.split(',');
        let username = unescape(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = nonce(attributes.next()?.strip_prefix("r=")?)?;
        attributes.all(is_attribute).then(|| Self {
            flag,
            header: header.to_owned(),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
            authzid,
            username,
        })
    }

    /// The user, unescaped and not yet prepared.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Whom the client wants to act as, if it says so.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// What the proof must be bound to: the header and the channel's data. Refuses each combination
    /// of flag, mechanism and offer that a downgrade would show (ST-47).
    pub fn binding_input(&self, mechanism: Mechanism, offer: &Offer) -> Result<Vec<u8>, Failure> {
        let mut input = self.header.clone().into_bytes();
        match &self.flag {
            Flag::Unable if !mechanism.is_bound() => {}
            Flag::NotOffered if !mechanism.is_bound() && !offer.has_bound() => {}
            Flag::Bound(name) if mechanism.is_bound() => {
                let data = BindingType::parse(name).and_then(|kind| offer.binding(kind));
                input.extend_from_slice(data.ok_or(Failure::NotAuthorized)?);
            }
            Flag::Unable | Flag::NotOffered | Flag::Bound(_) => return Err(Failure::NotAuthorized),
        }
        Ok(input)
    }
}

/// An exchange after the server's first message.
#[derive(Debug)]
pub struct Exchange {
    digest: Digest,
    keys: ScramKeys,
    real: bool,
    nonce: String,
    binding_input: String,
    messages: String,
}

impl Exchange {
    /// Answers the client's first message; the text is the server's first message (ST-44).
    ///
    /// `binding_input` comes from [`ClientFirst::binding_input`], `server_nonce` has at least 128 random
    /// bits in printable ASCII without a comma, `fingerprint` from [`Offer::fingerprint`].
    pub fn new(
        first: &ClientFirst,
        digest: Digest,
        (keys, real): (ScramKeys, bool),
        binding_input: &[u8],
        server_nonce: &str,
        fingerprint: &str,
    ) -> (Self, String) {
        let nonce = format!("{}{server_nonce}", first.nonce);
        let salt = STANDARD.encode(&keys.salt);
        let challenge = format!("r={nonce},s={salt},i={},h={fingerprint}", keys.iterations);
        let exchange = Self {
            digest,
            keys,
            real,
            nonce,
            binding_input: STANDARD.encode(binding_input),
            messages: format!("{},{challenge}", first.bare),
        };
        (exchange, challenge)
    }

    /// Checks the client's final message; the text is the server's final message (ST-45).
    pub fn verify(&self, message: &[u8]) -> Result<String, Failure> {
        let (without_proof, proof) = self.parse_final(message).ok_or(Failure::MalformedRequest)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|c| c.strip_prefix("c="));
        let nonce = attributes.next().and_then(|r| r.strip_prefix("r="));
        let (Some(binding), Some(nonce)) = (binding, nonce) else {
            return Err(Failure::MalformedRequest);
        };
        if attributes.next().is_some_and(|next| next.starts_with("m="))
            || !without_proof.split(',').all(is_attribute)
        {
            return Err(Failure::MalformedRequest);
        }
        let auth_message = format!("{},{without_proof}", self.messages);
        if proof.len() != self.digest.bytes() {
            return Err(Failure::MalformedRequest);
        }
        let (mut proven, mut proof_of_ours) = (Choice::from(0), None);
        for (stored_key, server_key) in self.keys.tries() {
            let signature = self.digest.hmac(stored_key, auth_message.as_bytes());
            let client_key: Vec<u8> = signature.iter().zip(&proof).map(|(s, p)| s ^ p).collect();
            let right = self.digest.hash(&client_key).ct_eq(stored_key);
            proven |= right;
            if right.into() {
                proof_of_ours = Some(server_key);
            }
        }
        let bound = binding.as_bytes().ct_eq(self.binding_input.as_bytes());
        let fresh = nonce.as_bytes().ct_eq(self.nonce.as_bytes());
        // One decision at the end: which part was wrong cannot be told from outside (ST-37).
        let accepted = bool::from(proven & bound & fresh) && self.real;
        let Some(server_key) = proof_of_ours.filter(|_| accepted) else {
            return Err(Failure::NotAuthorized);
        };
        let signature = self.digest.hmac(server_key, auth_message.as_bytes());
        Ok(format!("v={}", STANDARD.encode(signature)))
    }

    /// Splits the proof off. Base64 has no comma, so the last `,p=` is the right one.
    fn parse_final<'a>(&self, message: &'a [u8]) -> Option<(&'a str, Vec<u8>)> {
        let text = std::str::from_utf8(message).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        Some((without_proof, STANDARD.decode(proof).ok()?))
    }
}

/// Undoes the escapes of a name; any other `=`, or an empty name, is an error (ST-42).
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (character, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (None, Some(rest)) => ('=', rest),
            (None, None) => return None,
        };
        out.push(character);
        out.push_str(rest);
    }
    (!out.is_empty() && !out.contains('\0')).then_some(out)
}

/// A channel-binding name: letters, digits, `.` and `-`.
fn binding_name(name: &str) -> Option<&str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    (!name.is_empty() && name.bytes().all(legal)).then_some(name)
}

/// A nonce: printable ASCII; the comma is gone already.
fn nonce(nonce: &str) -> Option<&str> {
    (!nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic())).then_some(nonce)
}

/// Whether this has the shape of an attribute: a letter, `=`, a value.
fn is_attribute(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|letter| letter.is_ascii_alphabetic())
        && bytes.next() == Some(b'=')
        && bytes.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER_NONCE: &str = "servernonce0001";

    fn bindings() -> Vec<(BindingType, Vec<u8>)> {
        vec![
            (BindingType::Exporter, (0..32).collect()),
            (BindingType::EndPoint, vec![9; 32]),
        ]
    }

    fn start(first: &str, mechanism: Mechanism, offer: &Offer) -> Result<Vec<u8>, Failure> {
        ClientFirst::parse(first.as_bytes())?.binding_input(mechanism, offer)
    }

    #[test]
    fn st_46_scram_sha_256_plus_vector() {
        let mut mechanisms = Mechanism::ALL.to_vec();
        mechanisms.retain(|mechanism| mechanism.digest() != Some(Digest::Sha512));
        let offer = Offer::new(&mechanisms, bindings());
        let first = ClientFirst::parse(b"p=tls-exporter,,n=alice,r=clientnonce0001");
        let first = first.expect("legal");
        let salt: Vec<u8> = (0..16).collect();
        let keys = ScramKeys::derive(Digest::Sha256, "correct horse", &salt, 10_000);
        let input = first
            .binding_input(Mechanism::ScramSha256Plus, &offer)
            .expect("offered");
        let fingerprint = offer.fingerprint(Digest::Sha256);
        let (exchange, challenge) = Exchange::new(
            &first,
            Digest::Sha256,
            (keys, true),
            &input,
            SERVER_NONCE,
            &fingerprint,
        );
        // The first answer (ST-44), and what is checked at last (ST-45).
        assert_eq!(
            challenge,
            "r=clientnonce0001servernonce0001,s=AAECAwQFBgcICQoLDA0ODw==,i=10000,\
             h=HsVT3zgfiif56i/w96g+XTr+Rx/Yfkw1VkxOAdVb9Wk="
        );
        let last = "c=cD10bHMtZXhwb3J0ZXIsLAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f,\
                    r=clientnonce0001servernonce0001,p=uTMbeLAP8iWG6M8li4UiV3OcrGJ3NLF5R3ODrVgzW8w=";
        assert_eq!(
            exchange.verify(last.as_bytes()).as_deref(),
            Ok("v=XM9Pvt8FY79uMmG80J01bWgGR9NFVAefSE9AugVIsMQ=")
        );
        let forged = last.replace("p=uT", "p=uU");
        assert_eq!(
            exchange.verify(forged.as_bytes()),
            Err(Failure::NotAuthorized)
        );
        for broken in [
            &last[..last.len() - 1],
            "c=biws,r=x",
            "r=x,c=biws,p=AAAA",
            "p=AAAA",
            "",
        ] {
            let result = exchange.verify(broken.as_bytes());
            assert_eq!(result, Err(Failure::MalformedRequest), "{broken}");
        }
    }

    #[test]
    fn st_47_flag_mechanism_and_offer_must_agree() {
        let with = Offer::new(&Mechanism::ALL, bindings());
        let without = Offer::new(&Mechanism::ALL, Vec::new());
        let (plus, plain) = (Mechanism::ScramSha256Plus, Mechanism::ScramSha256);
        let refused = Err(Failure::NotAuthorized);
        let rest = "n=u,r=x";
        // Not every client can bind a channel (ST-48).
        assert_eq!(
            start(&format!("n,,{rest}"), plain, &with),
            Ok(b"n,,".to_vec())
        );
        assert_eq!(
            start(&format!("n,,{rest}"), plain, &without),
            Ok(b"n,,".to_vec())
        );
        assert_eq!(
            start(&format!("y,,{rest}"), plain, &without),
            Ok(b"y,,".to_vec())
        );
        assert_eq!(start(&format!("y,,{rest}"), plain, &with), refused);
        assert_eq!(start(&format!("y,,{rest}"), plus, &with), refused);
        assert_eq!(start(&format!("n,,{rest}"), plus, &with), refused);
        assert_eq!(
            start(&format!("p=tls-exporter,,{rest}"), plain, &with),
            refused
        );
        assert_eq!(
            start(&format!("p=tls-unique,,{rest}"), plus, &with),
            refused
        );
        let expect: Vec<u8> = [&b"p=tls-server-end-point,a=u@h,"[..], &[9; 32]].concat();
        let first = format!("p=tls-server-end-point,a=u@h,{rest}");
        assert_eq!(start(&first, plus, &with), Ok(expect));
    }

    #[test]
    fn st_43_a_first_message_out_of_order_is_malformed() {
        for broken in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=u",
            "n,,r=x,n=u",
            "n,,n=,r=x",
            "n,,n=u,r=",
            "n,,m=1,n=u,r=x",
            "x,,n=u,r=x",
            "p=,,n=u,r=x",
            "p=a b,,n=u,r=x",
            "n,b=c,n=u,r=x",
            "n,,n=u=41,r=x",
            "n,,n=u=,r=x",
            "n,,n=u,r=x,",
            "n,,n=u,r=x,ab",
            "n,,n=u,r=a b",
            "n,a=,n=u,r=x",
        ] {
            let result = ClientFirst::parse(broken.as_bytes());
            assert_eq!(
                result.map(|_| ()),
                Err(Failure::MalformedRequest),
                "{broken:?}"
            );
        }
        assert!(ClientFirst::parse(b"n,,n=\xff,r=x").is_err());
    }

    #[test]
    fn st_42_names_are_unescaped() {
        let first = ClientFirst::parse(b"n,a=x=3Dy,n=a=2Cb=3D2C,r=x,z=1").expect("legal");
        assert_eq!((first.username(), first.authzid()), ("a,b=2C", Some("x=y")));
    }

    #[test]
    fn st_49_an_unknown_account_fails_at_the_proof() {
        let offer = Offer::new(&[Mechanism::ScramSha1], Vec::new());
        let keys = ScramKeys::derive(Digest::Sha1, "pencil", b"0123456789abcdef", 4096);
        let mut client = crate::sasl::client::ScramClient::new(
            Mechanism::ScramSha1,
            "user",
            "pencil",
            "abc",
            None,
        );
        let first = ClientFirst::parse(&client.first()).expect("legal");
        let input = first
            .binding_input(Mechanism::ScramSha1, &offer)
            .expect("legal");
        let (exchange, challenge) =
            Exchange::new(&first, Digest::Sha1, (keys, false), &input, "def", "h");
        let last = client.respond(challenge.as_bytes()).expect("legal");
        assert_eq!(exchange.verify(&last), Err(Failure::NotAuthorized));
    }

    #[test]
    fn st_39_scram_sha_512_is_proven_and_answered() {
        let offer = Offer::new(&Mechanism::ALL, bindings());
        let mechanism = Mechanism::ScramSha512Plus;
        let exporter: Vec<u8> = (0..32).collect();
        let binding = Some((BindingType::Exporter, &*exporter));
        for (password, right) in [("pencil", true), ("pen", false)] {
            let mut client =
                crate::sasl::client::ScramClient::new(mechanism, "user", password, "abc", binding);
            let digest = Digest::Sha512;
            let keys = ScramKeys::derive(digest, "pencil", b"0123456789abcdef", 16);
            assert_eq!((keys.stored_key.len(), keys.server_key.len()), (64, 64));
            let first = ClientFirst::parse(&client.first()).expect("legal");
            let input = first.binding_input(mechanism, &offer).expect("offered");
            let (exchange, challenge) =
                Exchange::new(&first, digest, (keys, true), &input, "def", "h");
            let last = client.respond(challenge.as_bytes()).expect("legal");
            let answer = exchange.verify(&last);
            assert_eq!(answer.is_ok(), right);
            if let Ok(answer) = answer {
                client.finish(answer.as_bytes()).expect("the right keys");
            }
        }
    }

    #[test]
    fn st_42_each_form_of_a_password_is_accepted_and_answered_with_its_own_keys() {
        let offer = Offer::new(&[Mechanism::ScramSha256], Vec::new());
        let digest = Digest::Sha256;
        let keys = ScramKeys::derive(digest, "fish1", b"0123456789abcdef", 2);
        let keys = keys.with_form(digest, "ﬁsh①");
        for (password, right) in [("fish1", true), ("ﬁsh①", true), ("fish", false)] {
            let mechanism = Mechanism::ScramSha256;
            let mut client =
                crate::sasl::client::ScramClient::new(mechanism, "user", password, "abc", None);
            let first = ClientFirst::parse(&client.first()).expect("legal");
            let input = first.binding_input(mechanism, &offer).expect("legal");
            let (exchange, challenge) =
                Exchange::new(&first, digest, (keys.clone(), true), &input, "def", "h");
            let last = client.respond(challenge.as_bytes()).expect("legal");
            let answer = exchange.verify(&last);
            assert_eq!(answer.is_ok(), right, "{password}");
            if let Ok(answer) = answer {
                client.finish(answer.as_bytes()).expect("the right keys");
            }
            assert_eq!(keys.matches(digest, password), right);
        }
    }
}
