//! The forms in which clients send one password to SCRAM.
//!
//! RFC 5802 asks for SASLprep (RFC 4013), its successor PRECIS for OpaqueString (RFC 8265 §4), and some
//! clients prepare nothing. Where these differ an account has keys for each of them, so that whoever knows
//! the password gets in with any client.

use zeroize::Zeroizing;

use crate::jid::prepare_password;

/// The most forms that one password can have.
pub const FORMS: usize = 3;

/// The different forms of a password, the one of RFC 5802 first if there is one. Without any it is no
/// password (ST-42).
pub fn forms(text: &str) -> Vec<Zeroizing<String>> {
    let saslprep = stringprep::saslprep(text).ok().map(String::from);
    let mut forms: Vec<Zeroizing<String>> = Vec::with_capacity(FORMS);
    let prepared = [saslprep, prepare_password(text).ok()];
    for form in prepared.into_iter().flatten().map(Zeroizing::new) {
        if !form.is_empty() && !forms.contains(&form) {
            forms.push(form);
        }
    }
    if !forms.is_empty() && forms.iter().all(|form| form.as_str() != text) {
        forms.push(Zeroizing::new(text.to_owned()));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[&str]) {
        let forms = forms(text);
        let forms: Vec<&str> = forms.iter().map(|form| form.as_str()).collect();
        assert_eq!(forms, expect, "{text:?}");
    }

    #[test]
    fn st_42_a_password_has_the_forms_that_clients_send() {
        check("correct horse", &["correct horse"]);
        check("ﬁsh①", &["fish1", "ﬁsh①"]);
        check("m²µª ½pass", &["m2μa 1⁄2pass", "m²µª ½pass"]);
        // The text has a no-break space and a letter that is not composed.
        check("e\u{301}\u{a0}²", &["é 2", "é ²", "e\u{301}\u{a0}²"]);
        // A soft hyphen, which SASLprep drops and PRECIS does not know.
        check("I\u{ad}X", &["IX", "I\u{ad}X"]);
        // This character is newer than SASLprep, which does not know it.
        check("🐟", &["🐟"]);
        for none in ["", "a\u{7}b", "\u{ad}"] {
            check(none, &[]);
        }
    }
}
