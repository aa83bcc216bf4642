//! A service that nobody has written yet attaches itself through the door, and needs nothing else: it is one file and
//! one line, with its own table of the configuration, its own table of the database and a turn with each message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::session::Traits;
use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element};
use serde::Deserialize;

use super::testing::{says, session, with_service};
use crate::config::{Config, ConfigError, Table, within};
use crate::empty_payload;
use crate::hooks::{
    Content, Hook, Message, Phase, Presence, Registry, Request, Scope, Sender, Service, Setup,
    Turn, at_once, fail, failure, later,
};
use crate::storage::{Ends, Step, Storage, StorageError, Stored};

const NS: &str = "urn:example:postage";
/// The line of the list.
const SERVICE: Service = Service::new("postage", &[], register);

/// `[postage]`: messages cost a stamp; headlines are free.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
struct Postage {
    /// How many stamps there are.
    stamps: u64,
}

impl Default for Postage {
    fn default() -> Self {
        Self { stamps: 100 }
    }
}

impl Table for Postage {
    const SECTION: &'static str = "postage";

    fn check(&self) -> Result<(), ConfigError> {
        within(&[("postage.stamps", self.stamps, 1..=1_000)])
    }
}

/// How many stamps each account has used.
const STORED: Stored = Stored {
    steps: &[Step::new(
        6,
        "CREATE TABLE postage (account TEXT NOT NULL PRIMARY KEY, used BIGINT NOT NULL);",
    )],
    removals: &["DELETE FROM postage WHERE account = $1"],
};

impl Storage {
    async fn stamps_used(&self, account: &BareJid) -> Result<u64, StorageError> {
        let sql = "SELECT used FROM postage WHERE account = $1";
        let row = self.database.row(sql, vec![account.as_str().into()]);
        row.await?.map_or(Ok(0), |row| row.count(0))
    }

    async fn use_stamp(&self, account: &BareJid) -> Result<(), StorageError> {
        let sql = "INSERT INTO postage (account, used) VALUES ($1, 1) \
                   ON CONFLICT (account) DO UPDATE SET used = postage.used + 1";
        let used = self.database.execute(sql, vec![account.as_str().into()]);
        used.await.map(drop)
    }
}

fn register(setup: &mut Setup<'_>) {
    let postage: Postage = setup.config();
    let seen = Arc::new(AtomicU64::default());
    setup.stored(&STORED);
    setup.message(
        Phase::Limit,
        Counter {
            stamps: postage.stamps,
            seen: seen.clone(),
        },
    );
    setup.iq_get(&[Scope::Account], move |request| {
        count(seen.clone(), request)
    });
    setup.forged(|child| child.is("postmark", NS));
    setup.classify(classify);
    setup.presence(Phase::Follow, greet);
}

empty_payload! {
    /// How many stamps are used, and how many messages has this node seen?
    Count, NS, "count"
}

async fn count(seen: Arc<AtomicU64>, request: Request<Count>) -> Result<Element, StanzaError> {
    let used = request.edge.storage.stamps_used(&request.account).await;
    let used = used.map_err(|error| failure(&error))?.to_string();
    let seen = seen.load(Ordering::Relaxed).to_string();
    let count = Element::new("count", NS).with_attr("seen", seen);
    Ok(count.with_text(&used))
}

struct Counter {
    stamps: u64,
    seen: Arc<AtomicU64>,
}

impl Counter {
    async fn stamp(&self, sender: Sender<'_>) -> Result<(), StanzaError> {
        let (storage, account) = (&sender.edge.storage, sender.account);
        let used = storage.stamps_used(account).await;
        if used.map_err(|error| failure(&error))? >= self.stamps {
            return fail(Condition::PolicyViolation);
        }
        let stamped = storage.use_stamp(account).await;
        stamped.map_err(|error| failure(&error))
    }
}

impl Hook<Message> for Counter {
    fn turn<'a>(
        &'a self,
        sender: Sender<'a>,
        message: &'a mut Message,
    ) -> Turn<'a, Result<(), StanzaError>> {
        self.seen.fetch_add(1, Ordering::Relaxed);
        match message.traits.important {
            true => later(self.stamp(sender)),
            false => at_once(Ok(())),
        }
    }
}

fn classify(content: Content, traits: &mut Traits) {
    traits.important |= content.chat_state;
}

fn greet<'a>(_: Sender<'a>, presence: &'a mut Presence) -> Turn<'a, Result<(), StanzaError>> {
    presence.stanza.payload.push(Element::new("greeting", NS));
    at_once(Ok(()))
}

const MESSAGE: &str = "<message to='bob@example.org' type='chat' id='1'>\
                       <postmark xmlns='urn:example:postage'/>\
                       <active xmlns='http://jabber.org/protocol/chatstates'/></message>";
const COUNT: &str = "<iq type='get' id='2'><count xmlns='urn:example:postage'/></iq>";

#[tokio::test]
async fn a_new_service_has_its_say_about_messages_presence_and_requests() {
    let node = with_service(SERVICE, &["postage.stamps=2"]).await;
    let alice = session(&node, "alice@example.org/desk");
    for fits in [true, true, false] {
        let said = says(&alice, MESSAGE).await.concat();
        assert_eq!(said.starts_with("message "), fits, "{said}");
        assert!(!said.contains("postmark"), "{said}");
    }
    let said = says(&alice, COUNT).await.concat();
    assert!(said.contains("seen='3'>2</count>"), "{said}");
    let said = says(&alice, "<presence/>").await.concat();
    assert!(said.contains("<greeting "), "{said}");
    assert!(
        node.services
            .features()
            .of(Scope::Account)
            .any(|feature| feature == NS)
    );
}

#[tokio::test]
async fn what_a_new_service_keeps_of_an_account_goes_with_it() {
    let node = with_service(SERVICE, &[]).await;
    let alice = session(&node, "alice@example.org/desk");
    says(&alice, MESSAGE).await;
    let used = async || node.storage.stamps_used(&alice.account).await.unwrap();
    assert_eq!(used().await, 1);
    assert!(
        node.storage
            .remove_account(&alice.account, 7, Ends::ALL)
            .await
            .unwrap()
    );
    assert_eq!(used().await, 0);
}

#[test]
fn what_a_new_service_may_be_told_is_known_and_everything_else_is_not() {
    let needs = Registry::needs(&[SERVICE]);
    let load = |set: &str, name: &str| {
        let variables = [(name.to_owned(), "7".to_owned())];
        let config = Config::load(&needs.tables, None, &[set.to_owned()], variables);
        config.map_err(|error| error.to_string())
    };
    let variable = "HOLDFAST_POSTAGE__STAMPS";
    let config = load("domain=example.org", variable).unwrap();
    assert_eq!(config.table::<Postage>().stamps, 7);
    for (set, name, expect) in [
        ("postage.stamp=1", variable, "did you mean `stamps`"),
        ("postage.stamps=many", variable, "--set: `postage.stamps`"),
        ("postage.stamps=0", variable, "between 1 and 1000"),
        ("domain=example.org", "HOLDFAST_POSTAGE_STAMPS", variable),
    ] {
        let refused = load(set, name).unwrap_err();
        assert!(refused.contains(expect), "{refused}");
    }
    // Without the service there is no such table.
    let refused = Config::load(
        &Registry::needs(&[]).tables,
        None,
        &["postage.stamps=1".to_owned()],
        [],
    );
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("unknown key `postage`")
    );
}
