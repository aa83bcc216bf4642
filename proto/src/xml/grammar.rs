//! Which characters XML 1.0 (fifth edition) and its namespaces allow where.

/// Whether XML can carry it at all (`Char`).
pub(crate) fn is_char(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        '\u{FFFE}' | '\u{FFFF}' => false,
        c => c >= ' ',
    }
}

/// The white space of XML (`S`).
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The local part and the prefix (empty for none) of a qualified name; `None` if it is not one.
pub(crate) fn qualified(name: &str) -> Option<(&str, &str)> {
    let (prefix, local) = match name.split_once(':') {
        Some((prefix, local)) if is_name(prefix) => (prefix, local),
        Some(_) => return None,
        None => ("", name),
    };
    is_name(local).then_some((local, prefix))
}

/// Whether it is a name without a colon (`NCName`).
fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(starts_name) && chars.all(continues_name)
}

fn starts_name(c: char) -> bool {
    matches!(c,
        'a'..='z' | 'A'..='Z' | '_'
        | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}' | '\u{370}'..='\u{37D}'
        | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' | '\u{2070}'..='\u{218F}'
        | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}'
        | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}')
}

fn continues_name(c: char) -> bool {
    starts_name(c)
        || matches!(c, '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn st_86_a_qualified_name_has_at_most_one_colon_between_two_names() {
        assert_eq!(qualified("a"), Some(("a", "")));
        assert_eq!(qualified("p:a-1.é"), Some(("a-1.é", "p")));
        for bad in [
            "", ":", ":a", "a:", "a:b:c", "1a", "a:1", "-a", "a b", "a/b", "\u{D7}", "p:-",
        ] {
            assert_eq!(qualified(bad), None, "{bad}");
        }
    }
}
