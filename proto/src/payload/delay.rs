//! XEP-0203: since when a stanza waits. XEP-0082: how a moment is written.
//!
//! A moment is a count of milliseconds since 1970 in UTC.

use jiff::Timestamp;

use crate::ns;
use crate::xml::Element;

/// A `<delay/>`, stamped by `from`.
pub fn delay(from: &str, stamp: &str) -> Element {
    Element::new("delay", ns::DELAY)
        .with_attr("from", from)
        .with_attr("stamp", stamp)
}

/// The moment that a `<delay/>` names.
pub fn moment(delay: &Element) -> Option<u64> {
    parse_stamp(delay.attr("stamp")?)
}

/// Writes a moment with milliseconds, in UTC. A moment that has no date becomes the last that has one.
pub fn stamp(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    let moment = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
    format!("{moment:.3}")
}

/// Reads a moment; one before 1970 becomes 0.
pub fn parse_stamp(text: &str) -> Option<u64> {
    // The library reads more forms than XEP-0082 has.
    let (date, rest) = text.split_once('T')?;
    let strict = date.len() == 10
        && rest
            .bytes()
            .all(|b| b.is_ascii_digit() || b":.Z+-".contains(&b));
    if !strict {
        return None;
    }
    let moment: Timestamp = text.parse().ok()?;
    Some(u64::try_from(moment.as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xep_0082_moments_are_written_in_utc_with_milliseconds() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(stamp(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
        assert_eq!(stamp(u64::MAX).len(), 24);
    }

    #[test]
    fn xep_0082_moments_are_read_with_any_offset() {
        assert_eq!(
            parse_stamp("2023-11-14T22:13:20.12Z"),
            Some(1_700_000_000_120)
        );
        assert_eq!(
            parse_stamp("2023-11-14T23:13:20+01:00"),
            Some(1_700_000_000_000)
        );
        assert_eq!(parse_stamp("1869-07-01T00:00:00Z"), Some(0));
    }

    #[test]
    fn xep_0082_other_forms_are_refused() {
        for bad in [
            "",
            "2023-11-14",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13:20",
            "20231114T22:13:20",
            "2023-13-14T22:13:20Z",
            "2023-11-14T22:13:20[Europe/Paris]",
        ] {
            assert_eq!(parse_stamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn xep_0203_a_delay_names_its_moment() {
        let element = delay("example.org", &stamp(1234));
        assert_eq!(element.attr("from"), Some("example.org"));
        assert_eq!(moment(&element), Some(1234));
    }
}
