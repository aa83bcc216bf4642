//! The words that an archive is searched for (XEP-0431), and where they are found.
//!
//! Letters are compared without case and without the diacritics of Latin, Greek and Cyrillic (IM-94). Nothing in a
//! search has a meaning of its own: there are no wildcards and no quotes, and no part of it ever reaches the database.

use proto::stanza::{Kind, Stanza};
use proto::{Element, ns};
use unicode_normalization::UnicodeNormalization as _;

use crate::hooks::Content;

/// The bytes of a search (T-59).
const MOST_BYTES: usize = 1024;
/// The words of a search (T-59): each of them is looked for in each message.
const MOST_WORDS: usize = 16;

/// What a message must contain to be found: at least one word, each as letters are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(Vec<String>);

/// A search that is longer than searches may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Words {
    /// What stands between white space. A text without anything else searches for nothing, which is none.
    pub fn new(text: &str) -> Result<Option<Self>, TooLong> {
        if text.len() > MOST_BYTES || text.split_whitespace().nth(MOST_WORDS).is_some() {
            return Err(TooLong);
        }
        let words = text.split_whitespace().map(folded);
        // A word of diacritics alone is in everything.
        let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
        Ok((!words.is_empty()).then_some(Self(words)))
    }

    /// Whether a message says all of it in one of its bodies, also within longer words. What is encrypted says nothing
    /// that could be read here: its body is about that, if it has one.
    pub fn are_in(&self, message: &Stanza) -> bool {
        let Kind::Message(kind) = message.header.kind else {
            return false;
        };
        let mut bodies = message
            .payload
            .iter()
            .filter(|child| child.is("body", ns::CLIENT));
        bodies.any(|body| self.are_in_text(body)) && !Content::of(kind, message).encrypted
    }

    fn are_in_text(&self, body: &Element) -> bool {
        let text = folded(&body.text());
        self.0.iter().all(|word| text.contains(word))
    }
}

/// A text as it is compared.
fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut folded = String::with_capacity(text.len());
    for letter in text.nfkd().filter(|letter| !is_diacritic(*letter)) {
        match letter {
            // What one case has and the other has not.
            'ß' | 'ẞ' => folded.push_str("ss"),
            'ς' => folded.push('σ'),
            letter => folded.extend(letter.to_lowercase()),
        }
    }
    folded
}

/// Marks above and below letters. Those of other scripts, such as the vowels of Devanagari, make other words.
fn is_diacritic(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::stanza::MessageType;

    fn message(children: &str) -> Stanza {
        let xml = format!("<message xmlns='jabber:client' type='chat'>{children}</message>");
        Stanza::parse(Element::parse(xml).unwrap()).unwrap()
    }

    #[track_caller]
    fn check(search: &str, body: &str, expect: bool) {
        let body = Element::new("body", ns::CLIENT).with_text(body);
        let stanza = Stanza::new(Kind::Message(MessageType::Chat)).with_child(body);
        let words = Words::new(search).unwrap().unwrap();
        assert_eq!(words.are_in(&stanza), expect, "{search:?} in {stanza:?}");
    }

    #[test]
    fn im_94_all_words_are_found_in_any_order_also_within_others() {
        check("train", "Trains leave late", true);
        check(" late \t TRAIN\n", "Trains leave late", true);
        check("train early", "Trains leave late", false);
        check("leave late", "leavelate", true);
    }

    #[test]
    fn im_94_neither_case_nor_diacritics_matter() {
        check("ca va", "Ça va?", true);
        check("ÇÀ", "ca", true);
        check("STRASSE", "Straße", true);
        check("Straße", "STRASSE", true);
        check("οδοσ", "ΟΔΌΣ", true);
        check("ΟΔΌΣ", "οδός", true);
        check("istanbul", "İstanbul", true);
        check("Елка", "ёлка", true);
        check("ﬁne", "fine", true);
        check("東京", "私は東京に行く", true);
        check("が", "か", false);
        check("कि", "का", false);
    }

    #[test]
    fn im_94_nothing_in_a_search_has_a_meaning_of_its_own() {
        for pattern in [
            "%", "_", "l%te", "l_te", "\"late\"", "'late'", "*", ".", "l\0te", "-early",
        ] {
            check(pattern, "Trains leave late", false);
            check(pattern, &format!("x{pattern}x"), true);
        }
        check("'; DROP TABLE archive; --", "Trains leave late", false);
    }

    #[test]
    fn im_94_encrypted_messages_say_nothing() {
        let words = Words::new("encrypted").unwrap().unwrap();
        let body = "<body>This is encrypted.</body>";
        assert!(words.are_in(&message(body)));
        for how in [
            "<encrypted xmlns='eu.siacs.conversations.axolotl'/>",
            "<encrypted xmlns='urn:xmpp:omemo:2'/>",
            "<encryption xmlns='urn:xmpp:eme:0' namespace='x'/>",
            "<x xmlns='jabber:x:encrypted'/>",
            "<openpgp xmlns='urn:xmpp:openpgp:0'/>",
        ] {
            assert!(!words.are_in(&message(&format!("{body}{how}"))), "{how}");
        }
    }

    #[test]
    fn im_94_one_body_of_several_has_to_hold_all_words() {
        let two = message("<body>one two</body><body xml:lang='de'>eins zwei</body>");
        let find = |search| Words::new(search).unwrap().unwrap().are_in(&two);
        assert!(find("two one") && find("zwei"));
        assert!(!find("one zwei"));
        assert!(
            !Words::new("one")
                .unwrap()
                .unwrap()
                .are_in(&message("<subject>one</subject>"))
        );
    }

    #[test]
    fn im_94_a_search_for_nothing_is_none() {
        for nothing in ["", " \t\n", "\u{301}"] {
            assert_eq!(Words::new(nothing), Ok(None), "{nothing:?}");
        }
    }

    #[test]
    fn t_59_a_search_has_so_many_bytes_and_words() {
        let long = "x".repeat(MOST_BYTES);
        assert!(Words::new(&long).is_ok());
        assert_eq!(Words::new(&format!("{long}x")), Err(TooLong));
        assert_eq!(Words::new(&"x".repeat(100_000)), Err(TooLong));
        assert!(Words::new(&"x ".repeat(MOST_WORDS)).is_ok());
        assert_eq!(Words::new(&"x ".repeat(MOST_WORDS + 1)), Err(TooLong));
    }
}
