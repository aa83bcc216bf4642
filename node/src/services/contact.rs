//! XEP-0157: whom to write to about this server. XEP-0455: where programs read of outages.

use proto::ns;
use proto::payload::form::{Form, FormType};
use serde::Deserialize;

use crate::config::{ConfigError, Rule, Table, one_or_many};
use crate::hooks::{Scope, Service, Setup, Xep};

/// The service.
pub const SERVICE: Service = Service::new(
    "contact",
    &[Xep(128, "1.0.1"), Xep(157, "1.1.1"), Xep(455, "0.3.0")],
    register,
);

/// The most addresses of one kind, and bytes of one: everybody who asks is sent all of them.
const MOST: usize = 16;
const MOST_BYTES: usize = 1_024;

/// `[contact]`: addresses, each a URI.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Contact {
    /// For reports of abuse.
    #[serde(deserialize_with = "one_or_many")]
    abuse: Vec<String>,
    /// Those who run the server.
    #[serde(deserialize_with = "one_or_many")]
    admin: Vec<String>,
    /// For what users think of it.
    #[serde(deserialize_with = "one_or_many")]
    feedback: Vec<String>,
    /// For customers.
    #[serde(deserialize_with = "one_or_many")]
    sales: Vec<String>,
    /// For reports of vulnerabilities.
    #[serde(deserialize_with = "one_or_many")]
    security: Vec<String>,
    /// Where people see how the server is.
    #[serde(deserialize_with = "one_or_many")]
    status: Vec<String>,
    /// For those who need help.
    #[serde(deserialize_with = "one_or_many")]
    support: Vec<String>,
    /// Where programs read of outages (XEP-0455).
    #[serde(deserialize_with = "one_or_many")]
    outage: Vec<String>,
}

impl Contact {
    /// Each kind with its key, and the field that shows it.
    fn kinds(&self) -> [(&'static str, &'static str, &[String]); 7] {
        [
            ("contact.abuse", "abuse-addresses", &self.abuse),
            ("contact.admin", "admin-addresses", &self.admin),
            ("contact.feedback", "feedback-addresses", &self.feedback),
            ("contact.sales", "sales-addresses", &self.sales),
            ("contact.security", "security-addresses", &self.security),
            ("contact.status", "status-addresses", &self.status),
            ("contact.support", "support-addresses", &self.support),
        ]
    }

    fn form(&self) -> Option<Form> {
        let known = self.kinds().into_iter();
        let known: Vec<_> = known
            .filter(|(_, _, addresses)| !addresses.is_empty())
            .collect();
        let form = Form::new(FormType::Result, ns::SERVER_INFO);
        let with = |form: Form, (_, var, addresses): (_, &str, &[String])| {
            form.with_typed(var, "list-multi", addresses.to_vec())
        };
        (!known.is_empty()).then(|| known.into_iter().fold(form, with))
    }

    fn outages(&self) -> Option<Form> {
        let form = Form::new(FormType::Result, ns::OUTAGE);
        let var = "external-status-addresses";
        (!self.outage.is_empty()).then(|| form.with_typed(var, "list-multi", self.outage.clone()))
    }
}

impl Table for Contact {
    const SECTION: &'static str = "contact";

    fn check(&self) -> Result<(), ConfigError> {
        for (key, _, addresses) in self.kinds() {
            fit(key, addresses, "mailto:abuse@example.org", |_| true)?;
        }
        let web = |scheme: &str| matches!(scheme, "https" | "http");
        let example = "https://status.example.org/xmpp.json";
        fit("contact.outage", &self.outage, example, web)
    }
}

fn fit(
    key: &'static str,
    addresses: &[String],
    example: &'static str,
    scheme: fn(&str) -> bool,
) -> Result<(), ConfigError> {
    let is_uri = |address: &&String| {
        let (name, rest) = address.split_once(':').unwrap_or_default();
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let whole = !rest.is_empty() && address.bytes().all(|b| b.is_ascii_graphic());
        named && whole && scheme(name) && address.len() <= MOST_BYTES
    };
    if let Some(other) = addresses.iter().find(|address| !is_uri(address)) {
        return Err(Rule::NotAUri(other.clone(), example).broken(key));
    }
    match addresses.len() <= MOST {
        true => Ok(()),
        false => Err(Rule::Between(0, MOST as u64).broken(key)),
    }
}

fn register(setup: &mut Setup<'_>) {
    let contact: Contact = setup.config();
    for form in contact.form().into_iter().chain(contact.outages()) {
        setup.form(Scope::Host, form);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::testing::{edge, edge_with, says, session};

    const INFO: &str = "<iq type='get' id='1' to='example.org'>\
                        <query xmlns='http://jabber.org/protocol/disco#info'/></iq>";

    #[tokio::test]
    async fn di_6_the_server_names_those_who_answer_for_it() {
        let sets = [
            "contact.abuse=mailto:abuse@example.org, xmpp:abuse@example.org",
            "contact.outage=https://status.example.org/xmpp.json",
        ];
        let ctx = session(&edge_with(&sets).await, "alice@example.org/desk");
        let said = says(&ctx, INFO).await.concat();
        for form in [
            "<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>\
             <field var='abuse-addresses' type='list-multi'><value>mailto:abuse@example.org</value>\
             <value>xmpp:abuse@example.org</value></field></x>",
            "<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:sos:0</value></field>\
             <field var='external-status-addresses' type='list-multi'>\
             <value>https://status.example.org/xmpp.json</value></field></x>",
        ] {
            assert!(said.contains(form), "{said}");
        }
        let ctx = session(&edge().await, "alice@example.org/desk");
        assert!(!says(&ctx, INFO).await.concat().contains("<x "));
    }

    #[test]
    fn only_addresses_are_taken() {
        let of = |abuse: &str, outage: &str| {
            let all = |text: &str| text.split_whitespace().map(str::to_owned).collect();
            let contact = Contact {
                abuse: all(abuse),
                outage: all(outage),
                ..Contact::default()
            };
            contact.check().map_err(|error| error.to_string())
        };
        assert_eq!(
            of("mailto:a@b tel:+49 https://a.example", "https://a.example"),
            Ok(())
        );
        for wrong in ["a@b", "mailto:", ":x", "1a:x"] {
            let error = of(wrong, "").unwrap_err();
            assert!(
                error.starts_with("`contact.abuse`: ") && error.contains("mailto:"),
                "{error}"
            );
        }
        let error = of("", "mailto:a@b").unwrap_err();
        assert!(
            error.starts_with("`contact.outage`: ") && error.contains("https:"),
            "{error}"
        );
        assert!(of(&"a:b ".repeat(17), "").is_err());
    }
}
