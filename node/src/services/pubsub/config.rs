//! How a node is configured (XEP-0060 §8.2), and the forms that say so.

use proto::payload::form::{Field, Form, FormType};

/// What only forms about nodes have.
const CONFIG: &str = "http://jabber.org/protocol/pubsub#node_config";
/// What nodes are to those who discover them.
const META: &str = "http://jabber.org/protocol/pubsub#meta-data";
/// Begins the name of each field.
const PREFIX: &str = "pubsub#";
/// The most bytes of a title, of the name of a group, or of a namespace.
const MAX_TEXT: usize = 512;
/// Groups of a roster that may be let in.
const MAX_GROUPS: usize = 32;

/// Who may read what a node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Who sees the account's presence.
    Presence,
    /// Who is in one of some groups of the account's roster.
    Roster,
    /// Who is on a list.
    Whitelist,
}

/// When somebody is told what was published last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendLast {
    /// Never.
    Never,
    /// When they subscribe.
    OnSub,
    /// Then, and when they become available.
    OnSubAndPresence,
}

/// See the module. The default is that of XEP-0163.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// For people.
    pub title: String,
    /// Who may read.
    pub access: Access,
    /// With [`Access::Roster`], who that is.
    pub groups: Vec<String>,
    /// How many items it holds; without, as many as it may.
    pub max_items: Option<u64>,
    /// Items are kept.
    pub persist: bool,
    /// When somebody is told what was published last.
    pub send_last: SendLast,
    /// Events carry what was published.
    pub payloads: bool,
    /// It is told when an item goes.
    pub notify_retract: bool,
    /// It is told when the node goes.
    pub notify_delete: bool,
    /// It is told when this changes.
    pub notify_config: bool,
    /// The namespace of what is published.
    pub kind: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            title: String::new(),
            access: Access::Presence,
            groups: Vec::new(),
            max_items: Some(1),
            persist: true,
            send_last: SendLast::OnSubAndPresence,
            payloads: true,
            notify_retract: false,
            notify_delete: true,
            notify_config: false,
            kind: String::new(),
        }
    }
}

/// Why a form does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is no such field.
    Unknown,
    /// A node cannot have this value.
    Value,
}

const ACCESS: [(&str, Access); 4] = [
    ("open", Access::Open),
    ("presence", Access::Presence),
    ("roster", Access::Roster),
    ("whitelist", Access::Whitelist),
];

const SEND_LAST: [(&str, SendLast); 3] = [
    ("never", SendLast::Never),
    ("on_sub", SendLast::OnSub),
    ("on_sub_and_presence", SendLast::OnSubAndPresence),
];

/// What cannot be otherwise, and may be said all the same.
const FIXED: [(&str, &[&str]); 7] = [
    ("node_type", &["leaf"]),
    ("publish_model", &["publishers"]),
    ("notification_type", &["headline"]),
    ("item_expire", &["max"]),
    ("purge_offline", &["0", "false"]),
    ("deliver_notifications", &["1", "true"]),
    ("presence_based_delivery", &["0", "1", "false", "true"]),
];

fn named<T: Copy>(all: &[(&str, T)], name: &str) -> Result<T, Unfit> {
    let found = all.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or(Unfit::Value)
}

fn name_of<T: Copy + PartialEq>(all: &[(&'static str, T)], value: T) -> &'static str {
    let found = all.iter().find(|(_, known)| *known == value);
    // Each table has all values of its type.
    found.map_or("", |(name, _)| *name)
}

fn truth(value: &str) -> Result<bool, Unfit> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Unfit::Value),
    }
}

fn text(value: &str) -> Result<String, Unfit> {
    match value.len() <= MAX_TEXT {
        true => Ok(value.to_owned()),
        false => Err(Unfit::Value),
    }
}

impl Config {
    /// What a form makes of it. `most` is what `max` items are.
    pub fn with(&self, form: &Form, most: u64) -> Result<Self, Unfit> {
        let mut config = self.clone();
        for field in form.fields.iter().filter(|field| field.var != "FORM_TYPE") {
            config.set(field, most)?;
        }
        Ok(config)
    }

    /// The same, without what nodes of ours do not have.
    pub fn with_known(&self, form: &Form, most: u64) -> Result<Self, Unfit> {
        let mut config = self.clone();
        for field in &form.fields {
            match config.set(field, most) {
                Ok(()) | Err(Unfit::Unknown) => {}
                Err(unfit) => return Err(unfit),
            }
        }
        Ok(config)
    }

    fn set(&mut self, field: &Field, most: u64) -> Result<(), Unfit> {
        let name = field.var.strip_prefix(PREFIX).ok_or(Unfit::Unknown)?;
        let value = field.values.first().map_or("", |value| value.trim());
        match name {
            "title" => self.title = text(value)?,
            "type" => self.kind = text(value)?,
            "access_model" => self.access = named(&ACCESS, value)?,
            "roster_groups_allowed" if field.values.len() > MAX_GROUPS => return Err(Unfit::Value),
            "roster_groups_allowed" => {
                self.groups = field
                    .values
                    .iter()
                    .map(|v| text(v))
                    .collect::<Result<_, _>>()?;
            }
            "max_items" => self.max_items = number(value, most)?,
            "persist_items" => self.persist = truth(value)?,
            "send_last_published_item" => self.send_last = named(&SEND_LAST, value)?,
            "deliver_payloads" => self.payloads = truth(value)?,
            "notify_retract" => self.notify_retract = truth(value)?,
            "notify_delete" => self.notify_delete = truth(value)?,
            "notify_config" => self.notify_config = truth(value)?,
            fixed => {
                let known = FIXED.iter().find(|(name, _)| *name == fixed);
                let (_, values) = known.ok_or(Unfit::Unknown)?;
                if !values.contains(&value) {
                    return Err(Unfit::Value);
                }
            }
        }
        Ok(())
    }

    /// What it is, field by field, with what there is to choose from.
    fn fields(&self) -> Vec<Field> {
        let field = |name: &str, kind: &str, label: &str, value: &str| {
            Field::new(&format!("{PREFIX}{name}"), kind, label).with_values([value])
        };
        let flag = |name: &str, label: &str, value: bool| {
            field(name, "boolean", label, if value { "1" } else { "0" })
        };
        let max = self.max_items.map_or("max".to_owned(), |n| n.to_string());
        let (access, send_last) = (
            name_of(&ACCESS, self.access),
            name_of(&SEND_LAST, self.send_last),
        );
        vec![
            field("title", "text-single", "Its title", &self.title),
            field(
                "type",
                "text-single",
                "The namespace of its items",
                &self.kind,
            ),
            field("access_model", "list-single", "Who may read it", access)
                .with_options(ACCESS.map(|(name, _)| name)),
            field("max_items", "text-single", "How many items it keeps", &max),
            flag("persist_items", "Whether it keeps items", self.persist),
            field(
                "send_last_published_item",
                "list-single",
                "When the last item is sent again",
                send_last,
            )
            .with_options(SEND_LAST.map(|(name, _)| name)),
            flag(
                "deliver_payloads",
                "Whether notifications hold the item",
                self.payloads,
            ),
            flag(
                "notify_retract",
                "Whether a retracted item is told",
                self.notify_retract,
            ),
            flag(
                "notify_delete",
                "Whether the node's end is told",
                self.notify_delete,
            ),
            flag(
                "notify_config",
                "Whether a new configuration is told",
                self.notify_config,
            ),
        ]
    }

    /// The form that says what it is.
    pub fn form(&self, kind: FormType) -> Form {
        let var = format!("{PREFIX}roster_groups_allowed");
        let groups = Field::new(&var, "list-multi", "Groups of contacts that may read it")
            .with_values(self.groups.clone())
            .with_options(self.groups.clone());
        let mut fields = self.fields();
        fields.push(groups);
        let form = Form::new(kind, CONFIG);
        fields.into_iter().fold(form, Form::asking)
    }

    /// What those are told who discover the node.
    pub fn meta(&self, items: u64) -> Form {
        let told = ["title", "type", "access_model", "max_items"].map(|n| format!("{PREFIX}{n}"));
        let fields = self.fields().into_iter();
        let form = Form::new(FormType::Result, META);
        fields
            .filter(|field| told.contains(&field.var))
            .fold(form, Form::asking)
            .with("pubsub#num_items", [items.to_string()])
    }

    /// How many items it holds at most.
    pub fn most_items(&self, most: u64) -> u64 {
        self.max_items.unwrap_or(most).min(most)
    }

    /// Whether one item takes the place of another, so that only the last one says anything.
    pub fn is_single(&self) -> bool {
        !self.persist || self.max_items == Some(1)
    }
}

fn number(value: &str, most: u64) -> Result<Option<u64>, Unfit> {
    if value == "max" {
        return Ok(None);
    }
    match value.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
        _ => Err(Unfit::Value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 100;

    fn form(fields: &[(&str, &str)]) -> Form {
        let form = Form::new(FormType::Submit, CONFIG);
        fields.iter().fold(form, |form, (var, value)| {
            form.with(&format!("pubsub#{var}"), [*value])
        })
    }

    #[test]
    fn a_configuration_is_read_from_the_form_that_it_wrote() {
        let config = Config {
            title: "t & u".into(),
            access: Access::Roster,
            groups: vec!["Friends".into(), "Work".into()],
            max_items: None,
            persist: false,
            send_last: SendLast::Never,
            payloads: false,
            notify_retract: true,
            notify_delete: false,
            notify_config: true,
            kind: "urn:x".into(),
        };
        for config in [config, Config::default()] {
            let written = config.form(FormType::Submit).to_element();
            let form = Form::parse(&written).unwrap();
            assert_eq!(Config::default().with(&form, MOST), Ok(config));
        }
    }

    #[test]
    fn pe_4_a_list_has_what_there_is_to_choose_from() {
        let form = Config::default().form(FormType::Form);
        let lists = form.fields.iter().filter(|field| {
            let kind = field.kind.as_deref();
            kind == Some("list-single")
        });
        let lists: Vec<_> = lists.collect();
        assert_eq!(lists.len(), 2);
        for list in lists {
            assert!(list.options.contains(&list.values[0]), "{list:?}");
            for option in &list.options {
                let name = list.var.trim_start_matches(PREFIX);
                let chosen = Form::new(FormType::Submit, CONFIG).with(&list.var, [option.as_str()]);
                let fits = Config::default().with(&chosen, MOST);
                assert!(fits.is_ok(), "{name}: {option}");
            }
        }
    }

    #[test]
    fn pe_4_what_a_node_cannot_be_is_told_from_what_it_is_not() {
        let default = Config::default();
        for (field, value, expect) in [
            ("access_model", "open", None),
            ("access_model", "authorize", Some(Unfit::Value)),
            ("max_items", "max", None),
            ("max_items", "100", None),
            ("max_items", "101", Some(Unfit::Value)),
            ("max_items", "0", Some(Unfit::Value)),
            ("persist_items", "true", None),
            ("persist_items", "yes", Some(Unfit::Value)),
            ("publish_model", "publishers", None),
            ("publish_model", "open", Some(Unfit::Value)),
            ("unheard_of", "1", Some(Unfit::Unknown)),
        ] {
            let unfit = default.with(&form(&[(field, value)]), MOST).err();
            assert_eq!(unfit, expect, "{field} {value}");
        }
        let unknown = form(&[("unheard_of", "1"), ("access_model", "open")]);
        assert_eq!(
            default.with_known(&unknown, MOST).unwrap().access,
            Access::Open
        );
        let long = "x".repeat(MAX_TEXT + 1);
        assert!(default.with(&form(&[("title", &long)]), MOST).is_err());
    }
}
