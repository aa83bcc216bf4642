//! The page that explains an invitation to whoever opens its link (XEP-0401).
//!
//! It is the same for all invitations: the token is behind the `#` of the address, which browsers send to nobody, so
//! that it reaches no server and no log. A script that is part of the page makes a link for clients of it. Nothing is
//! loaded from anywhere, and nobody may show the page within another one.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::sasl::Digest;

/// Where it is.
pub const PATH: &str = "/invite";

/// The page.
pub const HTML: &str = include_str!("invite.html");

/// Its headers.
pub static HEADERS: LazyLock<String> = LazyLock::new(|| {
    let (script, style) = (source("script"), source("style"));
    format!(
        "content-type: text/html; charset=utf-8\r\n\
         content-security-policy: default-src 'none'; script-src '{script}'; style-src '{style}'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         referrer-policy: no-referrer\r\n\
         x-content-type-options: nosniff\r\n\
         x-frame-options: DENY\r\n\
         cross-origin-opener-policy: same-origin\r\n\
         cache-control: no-store"
    )
});

/// What names a part of the page that may be used: its hash. With any other one it is not.
fn source(tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let part = HTML.split_once(&*open).map_or("", |(_, rest)| rest);
    let part = part.split_once(&*close).map_or("", |(part, _)| part);
    let hash = Digest::Sha256.hash(part.as_bytes());
    format!("sha256-{}", STANDARD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn re_4_the_page_has_one_script_and_one_style_and_loads_nothing() {
        for tag in ["<script", "<style", "<script>", "<style>"] {
            assert_eq!(HTML.matches(tag).count(), 1, "{tag}");
        }
        for loads in [
            "src=", "http:", "https:", "url(", "@import", "onclick", "style=", "<form",
        ] {
            assert!(!HTML.contains(loads), "{loads}");
        }
        let empty = format!("sha256-{}", STANDARD.encode(Digest::Sha256.hash(b"")));
        for tag in ["script", "style"] {
            let source = source(tag);
            assert_ne!(source, empty);
            assert!(
                HEADERS.contains(&format!("{tag}-src '{source}'")),
                "{source}"
            );
        }
    }
}
