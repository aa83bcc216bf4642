//! SCRAM, the client's side: for the demo, the load generator and the tests.
//!
//! It checks the server as strictly as the server checks it: a server that cannot prove that it knows
//! the account is refused (RFC 5802 §9).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{BindingType, Digest, Mechanism};

/// The most rounds that a server may ask for: it makes the client work (T-26 the other way round).
const MAX_ITERATIONS: u32 = 1_000_000;

/// Why a client breaks a login off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// The message breaks the grammar, or asks for too much or too little.
    #[error("the server's SCRAM message is malformed")]
    Malformed,
    /// The server's nonce does not continue ours.
    #[error("the server answered another client's nonce")]
    Nonce,
    /// The offer was changed on its way (XEP-0474).
    #[error("the list of mechanisms was changed on its way")]
    Downgrade,
    /// The server does not know the account's keys.
    #[error("the server cannot prove that it knows the account")]
    Signature,
}

/// One login.
pub struct ScramClient {
    digest: Digest,
    password: Zeroizing<String>,
    header: String,
    binding: Vec<u8>,
    bare: String,
    nonce: String,
    expected_fingerprint: Option<String>,
    server_signature: Vec<u8>,
}

impl ScramClient {
    /// A login with `mechanism`, which must be a SCRAM one (any other is treated as SCRAM-SHA-256). Username and
    /// password are prepared already, `nonce` is random. `binding` is needed for a -PLUS mechanism.
    pub fn new(
        mechanism: Mechanism,
        username: &str,
        password: &str,
        nonce: &str,
        binding: Option<(BindingType, &[u8])>,
    ) -> Self {
        let header = match binding {
            Some((kind, _)) => format!("p={},,", kind.name()),
            None => "n,,".to_owned(),
        };
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Self {
            digest: mechanism.digest().unwrap_or(Digest::Sha256),
            password: Zeroizing::new(password.to_owned()),
            header,
            binding: binding.map(|(_, data)| data.to_vec()).unwrap_or_default(),
            bare: format!("n={username},r={nonce}"),
            nonce: nonce.to_owned(),
            expected_fingerprint: None,
            server_signature: Vec::new(),
        }
    }

    /// Checks that these names are what the server really offered, where it says so (XEP-0474).
    pub fn expecting<'a>(
        mut self,
        mechanisms: impl Iterator<Item = &'a str>,
        bindings: impl Iterator<Item = &'a str>,
    ) -> Self {
        self.expected_fingerprint = Some(super::fingerprint(self.digest, mechanisms, bindings));
        self
    }

    /// The first message.
    pub fn first(&self) -> Vec<u8> {
        format!("{}{}", self.header, self.bare).into_bytes()
    }

    /// The answer to the server's first message.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, Distrust> {
        let text = std::str::from_utf8(challenge).map_err(|_| Distrust::Malformed)?;
        let mut attributes = text.split(',');
        let mut value = |prefix| attributes.next().and_then(|text| text.strip_prefix(prefix));
        let (Some(nonce), Some(salt), Some(iterations)) = (value("r="), value("s="), value("i="))
        else {
            return Err(Distrust::Malformed);
        };
        let salt = STANDARD.decode(salt).map_err(|_| Distrust::Malformed)?;
        let iterations: u32 = iterations.parse().map_err(|_| Distrust::Malformed)?;
        if iterations == 0 || iterations > MAX_ITERATIONS {
            return Err(Distrust::Malformed);
        }
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Distrust::Nonce);
        }
        let offered = attributes.find_map(|text| text.strip_prefix("h="));
        if let (Some(offered), Some(expected)) = (offered, &self.expected_fingerprint)
            && offered != expected
        {
            return Err(Distrust::Downgrade);
        }
        let input = [self.header.as_bytes(), &self.binding].concat();
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(input));
        let auth_message = format!("{},{text},{without_proof}", self.bare);
        let proof = self.prove(auth_message.as_bytes(), &salt, iterations);
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes())
    }

    /// Our proof; remembers what the server's must be.
    fn prove(&mut self, auth_message: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let digest = self.digest;
        let salted = digest.salted_password(&self.password, salt, iterations);
        let client_key = digest.hmac(&salted, b"Client Key");
        let signature = digest.hmac(&digest.hash(&client_key), auth_message);
        self.server_signature = digest.hmac(&digest.hmac(&salted, b"Server Key"), auth_message);
        client_key
            .iter()
            .zip(signature)
            .map(|(k, s)| k ^ s)
            .collect()
    }

    /// Checks the server's final message.
    pub fn finish(&self, message: &[u8]) -> Result<(), Distrust> {
        let signature = message.strip_prefix(b"v=").ok_or(Distrust::Malformed)?;
        let end = signature.iter().position(|byte| *byte == b',');
        let signature = &signature[..end.unwrap_or(signature.len())];
        let signature = STANDARD
            .decode(signature)
            .map_err(|_| Distrust::Malformed)?;
        let proven = !self.server_signature.is_empty()
            && bool::from(signature.ct_eq(&self.server_signature));
        if proven {
            Ok(())
        } else {
            Err(Distrust::Signature)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 5802 §5.
    #[test]
    fn st_46_scram_sha_1_vector() {
        let nonce = "fyko+d2lbbFgONRv9qkxdawL";
        let mut client = ScramClient::new(Mechanism::ScramSha1, "user", "pencil", nonce, None);
        assert_eq!(client.first(), b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        let challenge = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
        let last = client.respond(challenge.as_bytes()).expect("legal");
        assert_eq!(
            String::from_utf8_lossy(&last),
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
        );
        assert_eq!(client.finish(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="), Ok(()));
        assert_eq!(
            client.finish(b"v=rmF9pqV8S7suAoZWja4dJRkFsKR="),
            Err(Distrust::Malformed)
        );
        assert_eq!(client.finish(b"v=AAAA"), Err(Distrust::Signature));
    }

    /// The example of RFC 7677 §3.
    #[test]
    fn st_46_scram_sha_256_vector() {
        let nonce = "rOprNGfwEbeRWgbNEkqO";
        let mut client = ScramClient::new(Mechanism::ScramSha256, "user", "pencil", nonce, None);
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = client.respond(challenge.as_bytes()).expect("legal");
        assert_eq!(
            String::from_utf8_lossy(&last),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let last = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(client.finish(last), Ok(()));
    }

    #[test]
    fn st_59_a_changed_offer_is_noticed() {
        let client = ScramClient::new(Mechanism::ScramSha256, "user", "pencil", "abc", None);
        let mut client = client.expecting(["SCRAM-SHA-256"].into_iter(), [].into_iter());
        let challenge = b"r=abcdef,s=AAAA,i=4096,h=AAAA";
        assert_eq!(client.respond(challenge), Err(Distrust::Downgrade));
        assert_eq!(
            client.respond(b"r=xbcdef,s=AAAA,i=4096"),
            Err(Distrust::Nonce)
        );
        assert_eq!(client.respond(b"r=abc,s=AAAA,i=4096"), Err(Distrust::Nonce));
        assert_eq!(
            client.respond(b"r=abcdef,s=AAAA,i=0"),
            Err(Distrust::Malformed)
        );
    }

    #[test]
    fn a_server_that_says_nothing_proves_nothing() {
        let client = ScramClient::new(Mechanism::ScramSha1, "user", "pencil", "abc", None);
        assert_eq!(client.finish(b"v="), Err(Distrust::Signature));
    }
}
