//! Types of values that TOML has no type for: durations, sizes, networks, secrets.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use proto::BareJid;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, de::value::SeqAccessDeserializer};

/// A text that must not be printed, e.g. a URL with a password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Marks a text as secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever connects with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A block of addresses, e.g. `10.0.0.0/8`, or a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// The address is in the block. An IPv4 address in IPv6 clothes counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((ours, width), (theirs, other)) = (bits(self.address), bits(address));
        let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
        width == other && (ours ^ theirs) & mask == 0
    }
}

/// The text is neither an address nor a block of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network such as 10.0.0.0/8 or an address")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(width), |prefix| prefix.parse().map_err(|_| NotANetwork))?;
        (prefix <= width)
            .then_some(Self { address, prefix })
            .ok_or(NotANetwork)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| de::Error::custom(format!("{text:?} is {error}")))
    }
}

/// `"300s"`, `"5m"`, `"2h"`, `"365d"`, `"500ms"`, or a number of seconds.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    const UNITS: &[(&str, u64)] = &[
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("", 1_000),
    ];
    let millis = deserializer.deserialize_any(Scaled {
        units: UNITS,
        what: "a duration such as \"300s\" or \"5m\"",
    })?;
    Ok(Duration::from_millis(millis))
}

/// Addresses of accounts, prepared: as texts they are read without a look, which is for what was prepared before.
pub(super) fn accounts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<BareJid>, D::Error> {
    let texts: Vec<String> = one_or_many(deserializer)?;
    let accounts = texts.iter().map(|text| {
        let unfit = |_| de::Error::custom(format!("{text:?} is no address of an account"));
        BareJid::new(text).map_err(unfit)
    });
    accounts.collect()
}

/// Reads a duration as it is written in the configuration, for flags of the command line.
pub fn parse_duration(text: &str) -> Result<Duration, NotADuration> {
    let text: de::value::StrDeserializer<'_, de::value::Error> =
        de::value::StrDeserializer::new(text);
    duration(text).map_err(|_| NotADuration)
}

/// The text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration such as 300s or 5m")]
pub struct NotADuration;

/// A number of bytes, or `"256KiB"`, `"1MiB"`.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    const UNITS: &[(&str, u64)] = &[
        ("", 1),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    let bytes = deserializer.deserialize_any(Scaled {
        units: UNITS,
        what: "a size such as 262144 or \"256KiB\"",
    })?;
    usize::try_from(bytes).map_err(|_| de::Error::custom("too large"))
}

/// A number with one of these units; a bare number counts in the unit without a name.
struct Scaled {
    units: &'static [(&'static str, u64)],
    what: &'static str,
}

impl Scaled {
    fn scale(&self, number: u64, unit: &str) -> Option<u64> {
        let (_, factor) = self.units.iter().find(|(name, _)| *name == unit)?;
        // The bound keeps sums with a clock in milliseconds from overflowing.
        number
            .checked_mul(*factor)
            .filter(|product| *product <= u64::from(u32::MAX) * 86_400)
    }
}

impl Visitor<'_> for Scaled {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        let scaled = u64::try_from(number)
            .ok()
            .and_then(|number| self.scale(number, ""));
        scaled.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let scaled = number
            .parse()
            .ok()
            .and_then(|number| self.scale(number, unit.trim()));
        scaled.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// A list, or one text with its items separated by commas: an environment variable holds no list.
pub(crate) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct OneOrMany<T>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(items))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            items
                .map(|item| T::deserialize(de::value::StrDeserializer::new(item)))
                .collect()
        }
    }

    deserializer.deserialize_any(OneOrMany(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Sample {
        #[serde(default, deserialize_with = "duration")]
        time: Duration,
        #[serde(default, deserialize_with = "size")]
        bytes: usize,
    }

    fn sample(text: &str) -> Option<Sample> {
        toml::from_str(text).ok()
    }

    #[test]
    fn durations_have_units_and_bare_numbers_are_seconds() {
        let cases = [
            ("'300s'", 300),
            ("'5m'", 300),
            ("'2 h'", 7200),
            ("'1d'", 86_400),
            ("'0'", 0),
            ("7", 7),
        ];
        for (text, seconds) in cases {
            assert_eq!(
                sample(&format!("time = {text}")).unwrap().time.as_secs(),
                seconds,
                "{text}"
            );
        }
        for text in [
            "'5 years'",
            "'m'",
            "-1",
            "''",
            "'99999999999999999999s'",
            "'18446744073709551615d'",
        ] {
            assert!(sample(&format!("time = {text}")).is_none(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(sample("bytes = '256KiB'").unwrap().bytes, 262_144);
        assert_eq!(sample("bytes = 5").unwrap().bytes, 5);
        assert!(sample("bytes = '5kb'").is_none());
    }

    #[test]
    fn a_network_contains_its_addresses_only() {
        let ten: Network = "10.0.0.0/8".parse().unwrap();
        assert!(ten.contains("10.9.8.7".parse().unwrap()));
        assert!(ten.contains("::ffff:10.1.1.1".parse().unwrap()));
        assert!(!ten.contains("11.0.0.1".parse().unwrap()));
        assert!(!ten.contains("a00::".parse().unwrap()));
        let all: Network = "::/0".parse().unwrap();
        assert!(
            all.contains("2001:db8::1".parse().unwrap())
                && !all.contains("10.0.0.1".parse().unwrap())
        );
        assert!("10.0.0.0/33".parse::<Network>().is_err() && "x".parse::<Network>().is_err());
    }
}
