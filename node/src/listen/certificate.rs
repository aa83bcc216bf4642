//! Judges whether clients will accept a certificate.
//!
//! `holdfast check`, the start and a reload all ask this code, so that they agree.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::clock;

/// A certificate that expires within this time should have been renewed already.
const SOON: u64 = 14 * DAY;
const DAY: u64 = 24 * 3600 * 1000;

/// Why clients refuse a certificate, or soon will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no certificate.
    #[error("it is not an X.509 certificate")]
    Malformed,
    /// It has expired.
    #[error("it expired at {0}: clients refuse it")]
    Expired(String),
    /// It is not valid yet.
    #[error("it is not valid before {0}: clients refuse it")]
    NotYetValid(String),
    /// It expires soon.
    #[error("it ends in {days} days, at {end}: renew it")]
    EndsSoon {
        /// Full days that are left.
        days: u64,
        /// When it ends.
        end: String,
    },
    /// It is for other names.
    #[error("it does not name {0}: clients refuse it")]
    DoesNotName(String),
}

impl Fault {
    /// Clients refuse it now.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::EndsSoon { .. })
    }
}

/// What was found out about a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// When it ends, as RFC 3339 writes times.
    pub end: Option<String>,
    /// The same in milliseconds since 1970.
    pub ends: Option<u64>,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
}

impl Verdict {
    /// On a certificate in DER form that is to serve these domains, at `now` (milliseconds since 1970).
    pub fn on(leaf: &[u8], domains: &[String], now: u64) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
            let faults = vec![Fault::Malformed];
            return Self {
                faults,
                ..Self::default()
            };
        };
        let validity = certificate.validity();
        // A date before 1970 has passed either way.
        let millis = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
        let (begin, end) = (
            millis(validity.not_before.timestamp()),
            millis(validity.not_after.timestamp()),
        );
        let date = |at| clock::text(at).unwrap_or_else(|| "a date far away".to_owned());
        let mut faults = Vec::new();
        if now < begin {
            faults.push(Fault::NotYetValid(date(begin)));
        } else if now > end {
            faults.push(Fault::Expired(date(end)));
        } else if end - now < SOON {
            let days = (end - now) / DAY;
            let end = date(end);
            faults.push(Fault::EndsSoon { days, end });
        }
        let names = names(&certificate);
        let unnamed = domains
            .iter()
            .filter(|domain| !names.iter().any(|name| covers(name, domain)));
        faults.extend(unnamed.cloned().map(Fault::DoesNotName));
        Self {
            end: Some(date(end)),
            ends: Some(end),
            faults,
        }
    }

    /// The first fault for which clients refuse it.
    pub fn fatal(&self) -> Option<&Fault> {
        self.faults.iter().find(|fault| fault.is_fatal())
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect()
}

/// Whether a certificate's name covers the domain; a star stands for one whole label (RFC 6125 §6.4.3).
fn covers(name: &str, domain: &str) -> bool {
    let wild = || {
        name.strip_prefix("*.")
            .zip(domain.split_once('.').map(|(_, parent)| parent))
    };
    name.eq_ignore_ascii_case(domain)
        || wild().is_some_and(|(name, parent)| name.eq_ignore_ascii_case(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate for these names that is valid from 2000 to 2030.
    fn made(names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[track_caller]
    fn check(domain: &str, date: &str, expect: &[Fault]) {
        let now = date.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let leaf = made(&["a.example", "*.b.example"]);
        let verdict = Verdict::on(&leaf, &[domain.to_owned()], now as u64);
        assert_eq!(verdict.faults, expect);
        assert_eq!(verdict.end.as_deref(), Some("2030-01-01T00:00:00Z"));
    }

    #[test]
    fn a_certificate_has_to_name_the_domain_and_to_be_valid() {
        let (day, end) = ("2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z".to_owned());
        check("a.example", day, &[]);
        check("x.b.example", day, &[]);
        let other = "b.example".to_owned();
        check("b.example", day, &[Fault::DoesNotName(other)]);
        check(
            "a.example",
            "2030-02-01T00:00:00Z",
            &[Fault::Expired(end.clone())],
        );
        let begin = "2000-01-01T00:00:00Z".to_owned();
        check(
            "a.example",
            "1999-01-01T00:00:00Z",
            &[Fault::NotYetValid(begin)],
        );
        let soon = Fault::EndsSoon { days: 2, end };
        assert!(!soon.is_fatal());
        check("a.example", "2029-12-29T12:00:00Z", &[soon]);
        assert_eq!(Verdict::on(b"none", &[], 0).faults, [Fault::Malformed]);
    }
}
