//! XEP-0077 and XEP-0445: what clients ask about accounts, before a login and after it.

use zeroize::Zeroizing;

use super::form::{Field, Form, FormType};
use crate::ns;
use crate::stanza::error::Condition;
use crate::stanza::{IqType, Kind, Stanza};
use crate::xml::Element;

/// The longest token that may be one. Ours are shorter.
const TOKEN_BYTES: usize = 128;

/// The iq is about an account of the sender's own, or one that is to be made.
pub fn is_about_account(iq: &Element) -> bool {
    let query = iq.child("query", ns::REGISTER);
    query.or_else(|| iq.child("preauth", ns::PREAUTH)).is_some()
}

/// A password on its way. It shows itself nowhere (T-73).
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// As it was received.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What a stranger asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// What has to be said to get an account.
    Fields,
    /// An account.
    Account {
        /// Its name as the stranger wrote it, not prepared.
        username: String,
        /// Its password.
        password: Password,
    },
    /// Shows the token of an invitation.
    Preauth(Password),
}

impl Request {
    /// Reads a request that is about an account.
    pub fn read(stanza: &Stanza) -> Result<Self, Condition> {
        let Kind::Iq(kind) = stanza.header.kind else {
            return Err(Condition::BadRequest);
        };
        let query = stanza.child("query", ns::REGISTER);
        match (kind, query, stanza.child("preauth", ns::PREAUTH)) {
            (IqType::Get, Some(_), _) => Ok(Self::Fields),
            (IqType::Set, Some(query), _) => match Change::read(query)? {
                Change::Account {
                    username: Some(username),
                    password: Some(password),
                } => Ok(Self::Account { username, password }),
                Change::Account { .. } => Err(Condition::NotAcceptable),
                // Whoever has not logged in has nothing that could be removed.
                Change::Remove => Err(Condition::RegistrationRequired),
            },
            (IqType::Set, None, Some(preauth)) => {
                let token = preauth.attr("token").unwrap_or_default();
                match token.len() {
                    1..=TOKEN_BYTES => {
                        Ok(Self::Preauth(Password(Zeroizing::new(token.to_owned()))))
                    }
                    0 => Err(Condition::BadRequest),
                    _ => Err(Condition::ItemNotFound),
                }
            }
            _ => Err(Condition::BadRequest),
        }
    }
}

/// What a `<query/>` is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The account goes.
    Remove,
    /// The account has this name and this password.
    Account {
        /// The name, if there is one.
        username: Option<String>,
        /// The password, if there is one.
        password: Option<Password>,
    },
}

impl Change {
    /// Reads the `<query/>` of a set. What takes an account away stands alone (RE-3).
    pub fn read(query: &Element) -> Result<Self, Condition> {
        if query.child("remove", ns::REGISTER).is_some() {
            return match query.elements().count() {
                1 => Ok(Self::Remove),
                _ => Err(Condition::BadRequest),
            };
        }
        let form = query.child("x", ns::DATA_FORM).map(submitted).transpose()?;
        // Who has filled the form in means what it says, whatever stands beside it (XEP-0077 §4).
        let field = |name: &str| {
            let text = match &form {
                Some(form) => form.value(name).map(str::to_owned),
                None => query.child(name, ns::REGISTER).map(Element::text),
            };
            text.filter(|text| !text.is_empty())
        };
        let password = field("password").map(|text| Password(Zeroizing::new(text)));
        Ok(Self::Account {
            username: field("username"),
            password,
        })
    }
}

/// The form as it was filled in.
fn submitted(x: &Element) -> Result<Form, Condition> {
    let form = Form::parse(x).filter(|form| {
        let ours = form.form_type().is_none_or(|kind| kind == ns::REGISTER);
        form.kind == FormType::Submit && ours
    });
    form.ok_or(Condition::BadRequest)
}

/// The form for an account that is to be made, with fields and as a data form (RE-1). An invitation may say how it is
/// called.
pub fn fields(instructions: &str, username: Option<&str>) -> Element {
    let field = |name: &'static str, text: &str| match text {
        "" => Element::new(name, ns::REGISTER),
        text => Element::new(name, ns::REGISTER).with_text(text),
    };
    let name = Field::new("username", "text-single", "Name").required();
    let password = Field::new("password", "text-private", "Password").required();
    let form = Form::new(FormType::Form, ns::REGISTER)
        .titled("A new account", instructions)
        .asking(name.with_values(username))
        .asking(password);
    Element::new("query", ns::REGISTER)
        .with_child(field("instructions", instructions))
        .with_child(field("username", username.unwrap_or_default()))
        .with_child(field("password", ""))
        .with_child(form.to_element())
}

/// What an account is told about itself (RE-2).
pub fn registered(username: &str) -> Element {
    let name = Element::new("username", ns::REGISTER).with_text(username);
    Element::new("query", ns::REGISTER)
        .with_child(Element::new("registered", ns::REGISTER))
        .with_child(name)
        .with_child(Element::new("password", ns::REGISTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, payload: &str) -> Result<Request, Condition> {
        let xml = format!("<iq type='{kind}' id='1'>{payload}</iq>");
        let element = Element::parse_in(ns::CLIENT, xml).unwrap().remove(0);
        assert!(is_about_account(&element), "{element:?}");
        Request::read(&Stanza::parse(element).unwrap())
    }

    fn query(kind: &str, fields: &str) -> Result<Request, Condition> {
        read(
            kind,
            &format!("<query xmlns='jabber:iq:register'>{fields}</query>"),
        )
    }

    #[test]
    fn re_1_an_account_needs_a_name_and_a_password() {
        assert_eq!(query("get", ""), Ok(Request::Fields));
        let asked = query("set", "<username>a</username><password>b</password>");
        let expect = Request::Account {
            username: "a".to_owned(),
            password: Password(Zeroizing::new("b".to_owned())),
        };
        assert_eq!(asked, Ok(expect));
        for fields in [
            "",
            "<username>a</username>",
            "<password>b</password>",
            "<username>a</username><password/>",
            "<username/><password>b</password>",
            "<username xmlns='u'>a</username><password>b</password>",
        ] {
            assert_eq!(
                query("set", fields),
                Err(Condition::NotAcceptable),
                "{fields}"
            );
        }
    }

    #[test]
    fn re_1_the_form_may_be_filled_in_instead() {
        let form = |kind: &str, fields: &[(&str, &str)]| {
            let field = |(var, value): &(&str, &str)| {
                format!("<field var='{var}'><value>{value}</value></field>")
            };
            let fields: String = fields.iter().map(field).collect();
            format!("<x xmlns='jabber:x:data' type='{kind}'>{fields}</x>")
        };
        let both = [("username", "a"), ("password", "b")];
        let typed = [&[("FORM_TYPE", ns::REGISTER)], &both[..]].concat();
        let expect = Request::Account {
            username: "a".to_owned(),
            password: Password(Zeroizing::new("b".to_owned())),
        };
        for fields in [&both[..], &typed] {
            let asked = query("set", &form("submit", fields));
            assert_eq!(asked, Ok(expect.clone()));
        }
        let beside = "<username>x</username><password>y</password>";
        let asked = query("set", &format!("{beside}{}", form("submit", &both)));
        assert_eq!(asked, Ok(expect));
        let half = format!("{beside}{}", form("submit", &both[..1]));
        assert_eq!(query("set", &half), Err(Condition::NotAcceptable));
        let other = [("FORM_TYPE", "urn:x"), both[0], both[1]];
        for wrong in [form("cancel", &both), form("submit", &other), form("", &[])] {
            assert_eq!(query("set", &wrong), Err(Condition::BadRequest), "{wrong}");
        }
        let asked = fields("Choose.", Some("alice"));
        let asked = asked.child("x", ns::DATA_FORM).and_then(Form::parse);
        let asked = asked.expect("a form");
        assert_eq!(asked.form_type(), Some(ns::REGISTER));
        assert_eq!(asked.value("username"), Some("alice"));
        assert_eq!(asked.values("password"), Some(&[][..]));
    }

    #[test]
    fn re_3_what_takes_an_account_away_stands_alone() {
        let remove = |fields: &str| {
            let xml = format!("<query xmlns='jabber:iq:register'>{fields}</query>");
            Change::read(&Element::parse(&xml).unwrap())
        };
        assert_eq!(remove("<remove/>"), Ok(Change::Remove));
        let more = "<remove/><username>a</username>";
        assert_eq!(remove(more), Err(Condition::BadRequest));
        let stranger = query("set", "<remove/>");
        assert_eq!(stranger, Err(Condition::RegistrationRequired));
    }

    #[test]
    fn re_4_a_token_is_short_and_shown_by_a_set() {
        let preauth = |kind: &str, token: &str| {
            read(
                kind,
                &format!("<preauth xmlns='urn:xmpp:pars:0' token='{token}'/>"),
            )
        };
        assert!(matches!(preauth("set", "abc"), Ok(Request::Preauth(t)) if t.reveal() == "abc"));
        assert_eq!(preauth("get", "abc"), Err(Condition::BadRequest));
        assert_eq!(preauth("set", ""), Err(Condition::BadRequest));
        let long = "x".repeat(TOKEN_BYTES + 1);
        assert_eq!(preauth("set", &long), Err(Condition::ItemNotFound));
    }

    #[test]
    fn t_73_neither_password_nor_token_is_shown() {
        let asked = query("set", "<username>a</username><password>hush</password>");
        assert!(!format!("{asked:?}").contains("hush"));
    }
}
