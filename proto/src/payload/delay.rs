//! XEP-0203: delayed delivery. XEP-0082: the format of date and time.
//!
//! A moment is a count of milliseconds since 1970 in UTC. Every date that can be written is one: what lies
//! before 1970 counts as its beginning, and no moment is later than the last of the year 9999.

use jiff::SignedDuration;
use jiff::civil::{DateTime, date};

use crate::ns;
use crate::xml::Element;

/// The moment 0.
const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

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
    let moment = EPOCH.checked_add(SignedDuration::from_millis(millis));
    format!("{:.3}Z", moment.unwrap_or(DateTime::MAX))
}

/// Reads a moment; one before 1970 becomes 0, and one that is later than all dates the last.
pub fn parse_stamp(text: &str) -> Option<u64> {
    // The library reads more forms than XEP-0082 has.
    let (day, rest) = text.split_once('T')?;
    let zone = rest.find(['Z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone);
    let digits = |text: &str, others: &[u8]| {
        let mut bytes = text.bytes();
        bytes.all(|b| b.is_ascii_digit() || others.contains(&b))
    };
    if day.len() != 10 || !digits(day, b"-") || time.len() < 8 || !digits(time, b":.") {
        return None;
    }
    // The end of a day may be written as its 24th hour.
    let (time, ended) = match time.strip_prefix("24:00:00") {
        Some(rest) if rest.bytes().all(|b| matches!(b, b'.' | b'0')) => ("00:00:00", 24 * 60),
        _ => (time, 0),
    };
    let local: DateTime = format!("{day}T{time}").parse().ok()?;
    let minutes = ended - offset(zone)?;
    let since = local.duration_since(EPOCH) + SignedDuration::from_mins(minutes);
    let last = DateTime::MAX.duration_since(EPOCH);
    Some(u64::try_from(since.min(last).as_millis()).unwrap_or(0))
}

/// Minutes that local time is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let two = |text: &str, most: i64| {
        let is_number = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<i64>().ok().filter(|n| *n <= most);
        number.filter(|_| is_number)
    };
    Some(sign * (two(hours, 23)? * 60 + two(minutes, 59)?))
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
        assert_eq!(
            parse_stamp("2023-11-14T13:13:20-09:00"),
            Some(1_700_000_000_000)
        );
        assert_eq!(parse_stamp("1869-07-01T00:00:00Z"), Some(0));
    }

    #[test]
    fn xep_0082_every_date_is_a_moment() {
        let last = parse_stamp("9999-12-31T23:59:59.999Z");
        assert_eq!(last, Some(253_402_300_799_999));
        assert_eq!(stamp(u64::MAX), "9999-12-31T23:59:59.999Z");
        for (text, moment) in [
            ("0000-01-01T00:00:00+23:59", Some(0)),
            ("9999-12-31T23:59:59Z", last.map(|last| last - 999)),
            ("9999-12-31T23:59:59-14:00", last),
            ("9999-12-31T24:00:00Z", last),
            ("1970-01-01T24:00:00.000Z", Some(86_400_000)),
            (
                "9999-12-31T23:59:59.999+14:00",
                last.map(|last| last - 14 * 3_600_000),
            ),
        ] {
            assert_eq!(parse_stamp(text), moment, "{text}");
        }
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
            "2023-11-14T22:13:20Z[UTC]",
            "2023-11-14T22:13:20ZZ",
            "2023-11-14T22:13:20+1:00",
            "2023-11-14T22:13:20+01:60",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20+",
            "2023-11-14T22:13Z",
            "2023-11-14T24:00:01Z",
            "2023-02-29T00:00:00Z",
            "-023-11-14T22:13:20Z",
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
