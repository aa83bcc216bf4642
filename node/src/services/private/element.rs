//! One element of private storage.

use proto::Element;

/// What an element may measure, written.
pub const MAX_BYTES: usize = 64 * 1024;

/// What it is stored under.
pub fn key(element: &Element) -> String {
    format!("{{{}}}{}", element.ns(), element.local())
}
