//! What text and attribute values mean: references, line ends, white space.

use super::error::ReadError;
use super::grammar::is_char;

/// The longest reference between `&` and `;` that can be valid, with leading zeros tolerated within it.
const REFERENCE_BYTES: usize = 32;

/// The content of a run of text.
pub(super) fn text(raw: &str) -> Result<String, ReadError> {
    if raw.contains("]]>") {
        return Err(ReadError::NotWellFormed);
    }
    expand(raw, false)
}

/// The content of a CDATA section.
pub(super) fn cdata(raw: &str) -> Result<String, ReadError> {
    let mut out = String::with_capacity(raw.len());
    literal(raw, false, &mut out)?;
    Ok(out)
}

/// The value of an attribute: each literal white space character becomes a space (XML 1.0 §3.3.3).
pub(super) fn value(raw: &str) -> Result<String, ReadError> {
    expand(raw, true)
}

fn expand(raw: &str, in_attribute: bool) -> Result<String, ReadError> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('&') {
        literal(&rest[..at], in_attribute, &mut out)?;
        let (c, length) = reference(&rest[at + 1..])?;
        out.push(c);
        rest = &rest[at + 1 + length..];
    }
    literal(rest, in_attribute, &mut out)?;
    Ok(out)
}

/// Appends text without references, with line ends as XML wants them (§2.11).
fn literal(raw: &str, in_attribute: bool, out: &mut String) -> Result<(), ReadError> {
    let mut plain = 0;
    for (at, c) in raw.char_indices() {
        let changed = match c {
            '\r' => true,
            '\n' | '\t' => in_attribute,
            c if is_char(c) => false,
            _ => return Err(ReadError::NotWellFormed),
        };
        if changed {
            out.push_str(&raw[plain..at]);
            plain = at + 1;
            let pair = c == '\r' && raw[plain..].starts_with('\n');
            match in_attribute {
                // The second half of a pair of line ends makes the space.
                _ if pair => {}
                true => out.push(' '),
                false => out.push('\n'),
            }
        }
    }
    out.push_str(&raw[plain..]);
    Ok(())
}

/// The character of a reference behind its `&`, and the bytes up to its `;`.
fn reference(rest: &str) -> Result<(char, usize), ReadError> {
    let window = rest.as_bytes();
    let window = &window[..window.len().min(REFERENCE_BYTES)];
    let end = window.iter().position(|b| *b == b';');
    let name = &rest[..end.ok_or(ReadError::NotWellFormed)?];
    let c = match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "apos" => '\'',
        "quot" => '"',
        _ => match name.strip_prefix('#') {
            Some(number) => numbered(number).ok_or(ReadError::NotWellFormed)?,
            None if super::grammar::qualified(name).is_some() => {
                return Err(ReadError::RestrictedXml);
            }
            None => return Err(ReadError::NotWellFormed),
        },
    };
    Ok((c, name.len() + 1))
}

fn numbered(number: &str) -> Option<char> {
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    // Rust would take a sign.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let code = u32::from_str_radix(digits, radix).ok()?;
    char::from_u32(code).filter(|c| is_char(*c))
}
