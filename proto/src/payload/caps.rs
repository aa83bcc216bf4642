//! XEP-0115: what a client can do, named by a hash that everybody can verify.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::form::Form;
use crate::ns;
use crate::xml::Element;

/// What a presence says about its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// The function, such as `sha-1`; empty in the legacy format, which has none.
    pub hash: String,
    /// Whose software it is.
    pub node: String,
    /// The hash; in the legacy format a version.
    pub ver: String,
}

impl Caps {
    /// Reads the `<c/>`; `None` for one that names nothing.
    pub fn parse(c: &Element) -> Option<Self> {
        let attr = |name| c.attr(name).unwrap_or_default().to_owned();
        let caps = Self {
            hash: attr("hash"),
            node: attr("node"),
            ver: attr("ver"),
        };
        (c.is("c", ns::CAPS) && !caps.ver.is_empty()).then_some(caps)
    }
}

/// The hash of what an answer to a question for information says (XEP-0115 §5.1). `None` if the answer is ill-formed,
/// so that it must not be believed (§5.4), or the function is not known.
pub fn hash(function: &str, info: &Element) -> Option<String> {
    let text = text(info)?;
    Some(match function {
        "sha-1" => STANDARD.encode(Sha1::digest(&text)),
        "sha-256" => STANDARD.encode(Sha256::digest(&text)),
        "sha-512" => STANDARD.encode(Sha512::digest(&text)),
        _ => return None,
    })
}

/// What is hashed.
fn text(info: &Element) -> Option<String> {
    let mut identities = Vec::new();
    let mut features = Vec::new();
    let mut forms = Vec::new();
    for child in info.elements() {
        let attr = |name| child.attr(name).unwrap_or_default();
        if child.is("identity", ns::DISCO_INFO) {
            let lang = child.attr_ns("lang", ns::XML).unwrap_or_default();
            let parts = [attr("category"), attr("type"), lang, attr("name")];
            identities.push(parts.join("/"));
        } else if child.is("feature", ns::DISCO_INFO) {
            features.push(attr("var").to_owned());
        } else if let Some(form) = Form::parse(child) {
            forms.extend(form_text(&form)?);
        }
    }
    let mut text = String::new();
    for mut part in [identities, features] {
        part.sort_unstable();
        if part.windows(2).any(|two| two[0] == two[1]) {
            return None;
        }
        part.iter().for_each(|one| push(&mut text, one));
    }
    forms.sort_unstable();
    if forms.windows(2).any(|two| two[0].0 == two[1].0) {
        return None;
    }
    forms.iter().for_each(|(_, form)| text.push_str(form));
    Some(text)
}

/// A form with its type, by which forms are sorted; nothing for one without a type, and no answer if it has several.
fn form_text(form: &Form) -> Option<Option<(String, String)>> {
    let (kinds, mut fields): (Vec<_>, Vec<_>) = form
        .fields
        .iter()
        .partition(|field| field.var == "FORM_TYPE");
    let kind = match kinds[..] {
        [] => return Some(None),
        [kind] => kind,
        _ => return None,
    };
    if kind.kind.as_deref() != Some("hidden") {
        return Some(None);
    }
    let name = match &kind.values[..] {
        [name] => name.clone(),
        _ => return None,
    };
    let mut text = String::new();
    push(&mut text, &name);
    fields.sort_unstable_by(|one, other| one.var.cmp(&other.var));
    for field in fields {
        push(&mut text, &field.var);
        let mut values: Vec<&String> = field.values.iter().collect();
        values.sort_unstable();
        values.iter().for_each(|value| push(&mut text, value));
    }
    Some(Some((name, text)))
}

fn push(text: &mut String, part: &str) {
    text.push_str(part);
    text.push('<');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(children: &str) -> Element {
        let query = format!("<query xmlns='{}'>{children}</query>", ns::DISCO_INFO);
        Element::parse(query).unwrap()
    }

    /// The simple example of XEP-0115 §5.2.
    const SIMPLE: &str = "<identity category='client' name='Exodus 0.9.1' type='pc'/>\
        <feature var='http://jabber.org/protocol/caps'/>\
        <feature var='http://jabber.org/protocol/disco#info'/>\
        <feature var='http://jabber.org/protocol/disco#items'/>\
        <feature var='http://jabber.org/protocol/muc'/>";

    /// The complex one of §5.3.
    const COMPLEX: &str = "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
        <identity xml:lang='el' category='client' name='\u{3a8} 0.11' type='pc'/>\
        <feature var='http://jabber.org/protocol/caps'/>\
        <feature var='http://jabber.org/protocol/disco#info'/>\
        <feature var='http://jabber.org/protocol/disco#items'/>\
        <feature var='http://jabber.org/protocol/muc'/>\
        <x xmlns='jabber:x:data' type='result'>\
        <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>\
        <field var='ip_version' type='text-multi'><value>ipv4</value><value>ipv6</value></field>\
        <field var='os'><value>Mac</value></field>\
        <field var='os_version'><value>10.5.1</value></field>\
        <field var='software'><value>Psi</value></field>\
        <field var='software_version'><value>0.11</value></field></x>";

    #[test]
    fn di_3_the_hashes_of_the_standard_s_examples() {
        for (children, expect) in [
            (SIMPLE, "QgayPKawpkPSDYmwT/WM94uAlu0="),
            (COMPLEX, "q07IKJEyjvHSyhy//CH0CxmKi8w="),
            (
                "<identity category='server' type='im' name='Holdfast'/><feature var='urn:xmpp:ping'/>\
                 <feature var='http://jabber.org/protocol/disco#items'/>\
                 <feature var='http://jabber.org/protocol/disco#info'/>",
                "dFiTx46HT2ulsIw18F8x98qQUBA=",
            ),
        ] {
            assert_eq!(hash("sha-1", &info(children)).as_deref(), Some(expect));
        }
        assert_eq!(hash("md5", &info(SIMPLE)), None);
        assert!(hash("sha-256", &info(SIMPLE)).is_some_and(|hash| hash.len() == 44));
    }

    #[test]
    fn di_3_what_is_ill_formed_has_no_hash() {
        let form = "<x xmlns='jabber:x:data' type='result'>\
            <field var='FORM_TYPE' type='hidden'><value>urn:x</value></field></x>";
        let two = "<x xmlns='jabber:x:data' type='result'>\
            <field var='FORM_TYPE' type='hidden'><value>a</value><value>b</value></field></x>";
        let identity = "<identity category='client' type='pc'/>";
        for bad in [
            "<feature var='a'/><feature var='a'/>".to_owned(),
            format!("{identity}{identity}"),
            format!("{form}{form}"),
            two.to_owned(),
        ] {
            assert_eq!(hash("sha-1", &info(&bad)), None, "{bad}");
        }
        // A form that does not say of what kind it is does not count.
        let untyped = form.replace(" type='hidden'", "");
        let without = hash("sha-1", &info(identity));
        assert_eq!(
            hash("sha-1", &info(&format!("{identity}{untyped}"))),
            without
        );
    }

    #[test]
    fn a_client_names_a_hash_or_a_version() {
        let parse = |xml: &str| Caps::parse(&Element::parse(xml).unwrap());
        let caps =
            parse("<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v='/>");
        let caps = caps.unwrap();
        assert_eq!((&*caps.hash, &*caps.node, &*caps.ver), ("sha-1", "n", "v="));
        assert_eq!(
            parse("<c xmlns='http://jabber.org/protocol/caps' node='n'/>"),
            None
        );
        assert_eq!(parse("<c xmlns='urn:x' node='n' ver='v'/>"), None);
    }
}
