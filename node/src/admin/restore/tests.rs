//! Accounts that leave a server and come back, by both of its databases.

use super::*;
use crate::admin::export;
use crate::services;
use crate::storage::{Ends, testing};

/// An account with something of everything.
const ALICE: &str = "<?xml version='1.0' encoding='UTF-8'?>
<server-data xmlns='urn:xmpp:pie:0'><host jid='example.org'><user name='alice'>
<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><iter-count>4096</iter-count>\
<salt>QSXCR+Q6sek8bf92</salt><server-key>D+CSWLOshSulAsxiupA+qs2/fTE=</server-key>\
<stored-key>6dlGYMOdZcOPutkcNY8U2g7vK9Y=</stored-key></scram-credentials>
<query xmlns='jabber:iq:roster'><item jid='bob@example.org' subscription='both' name='B'><group>A&amp;B</group></item>\
<item jid='carol@example.org' subscription='none' ask='subscribe'/></query>
<presence xmlns='jabber:client' type='subscribe' from='dave@example.org/x'><nick>D</nick></presence>
<vCard xmlns='vcard-temp'><FN>Alice</FN></vCard>
<query xmlns='jabber:iq:private'><exodus xmlns='exodus:prefs'><nick>A</nick></exodus></query>
<blocklist xmlns='urn:xmpp:blocking'><item jid='eve@example.org'/></blocklist>
<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>bob@example.org</jid></always><never/></prefs>
<last-activity xmlns='urn:x-holdfast:export' stamp='2026-01-01T00:00:00.000Z'>gone</last-activity>
<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='n'><x xmlns='jabber:x:data' type='form'>\
<field var='pubsub#access_model'><value>whitelist</value></field>\
<field var='pubsub#max_items'><value>max</value></field></x></configure>\
<affiliations node='n'><affiliation jid='bob@example.org' affiliation='member'/></affiliations>\
<subscriptions node='n'><subscription jid='bob@example.org' subscription='subscribed'/></subscriptions></pubsub>
<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'><item id='2'><a xmlns='u'/></item>\
<item id='1'><b xmlns='u'/></item></items></pubsub>
<archive xmlns='urn:xmpp:pie:0#mam'>\
<result xmlns='urn:xmpp:mam:2' id='0129be9de2287000800000000000000a'><forwarded xmlns='urn:xmpp:forward:0'>\
<delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/><message xmlns='jabber:client' \
to='alice@example.org/r' from='bob@example.org/r' type='chat'><body>one</body></message></forwarded></result>\
<result xmlns='urn:xmpp:mam:2' id='elsewhere'><forwarded xmlns='urn:xmpp:forward:0'>\
<delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:09:25Z'/><message xmlns='jabber:client' \
to='bob@example.org/r' from='alice@example.org/r' type='chat'><body>two</body></message></forwarded></result>\
<result xmlns='urn:xmpp:mam:2' id='0192000000007000800000000000000b'><forwarded xmlns='urn:xmpp:forward:0'>\
<delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:10:25Z'/><message xmlns='jabber:client' \
to='bob@example.org/r' from='alice@example.org/r' type='chat'><body>three</body></message></forwarded></result></archive>
<enable xmlns='urn:xmpp:push:0'/>
</user></host></server-data>
";

struct Server {
    config: Config,
    registry: Registry,
    storage: Storage,
}

impl Server {
    fn over(storage: Storage) -> Self {
        let set = ["domain=example.org".to_owned()];
        let config = Config::load(&services::needs().tables, None, &set, []).unwrap();
        let registry = Registry::new(services::ALL, &config).unwrap();
        Self {
            config,
            registry,
            storage,
        }
    }

    /// What is said of a file, and whether all of it was kept.
    async fn import(&self, xml: &str) -> (String, bool) {
        let mut out = Vec::new();
        let parts = (&self.config, &self.registry, &self.storage);
        // Its pieces are smaller than its elements.
        let mut input = std::io::BufReader::with_capacity(100, xml.as_bytes());
        let done = run(parts, &mut input, 7, &mut out).await;
        let mut said = String::from_utf8(out).unwrap();
        if let Err(error) = &done {
            said += &error.to_string();
        }
        (said, done.is_ok())
    }

    async fn export(&self, with_keys: bool) -> String {
        let mut out = Vec::new();
        let account = (&alice(), with_keys);
        let done = export::run(&self.registry, &self.storage, account, None, &mut out);
        done.await.unwrap();
        String::from_utf8(out).unwrap()
    }

    async fn remove(&self) {
        let alice = alice();
        let removed = self.storage.remove_account(&alice, 7, Ends::ALL);
        assert!(removed.await.unwrap());
    }
}

fn alice() -> BareJid {
    BareJid::new("alice@example.org").unwrap()
}

#[tokio::test]
async fn an_account_that_leaves_comes_back_as_it_was() {
    testing::each(async |storage| {
        let server = Server::over(storage);
        let (said, kept) = server.import(ALICE).await;
        assert!(kept, "{said}");
        assert!(said.contains("nothing here reads enable (urn:xmpp:push:0)"), "{said}");
        assert!(said.contains("1 accounts made, 0 existed"), "{said}");
        let first = server.export(true).await;
        for part in [
            "mechanism='SCRAM-SHA-1'",
            "<stored-key>6dlGYMOdZcOPutkcNY8U2g7vK9Y=</stored-key>",
            "<item jid='bob@example.org' subscription='both' name='B'><group>A&amp;B</group></item>",
            "<item jid='carol@example.org' subscription='none' ask='subscribe'/>",
            "from='dave@example.org/x'",
            "<FN>Alice</FN>",
            "<exodus xmlns='exodus:prefs'><nick>A</nick></exodus>",
            "<item jid='eve@example.org'/>",
            "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>bob@example.org</jid></always><never/></prefs>",
            "stamp='2026-01-01T00:00:00.000Z'>gone</last-activity>",
            "<value>whitelist</value>",
            "<affiliation jid='bob@example.org' affiliation='member'/>",
            "<subscription jid='bob@example.org' subscription='subscribed'/>",
            "id='0129be9de2287000800000000000000a'",
            "stamp='2010-07-10T23:09:25.000Z'",
            "<body>two</body>",
        ] {
            assert!(first.contains(part), "{first} lacks {part}");
        }
        let late = "0192000000007000800000000000000b";
        assert!(!first.contains(late), "an id from long after its message would outlive what is kept");
        let at = |text: &str| first.find(text).unwrap();
        assert!(at("<a xmlns='u'/>") < at("<b xmlns='u'/>"), "in the order of publication");
        assert!(at("<body>one") < at("<body>two"), "in the order of the archive");
        server.remove().await;
        let (said, kept) = server.import(&first).await;
        assert!(kept, "{said}");
        assert_eq!(server.export(true).await, first);
    })
    .await;
}

#[tokio::test]
async fn t_33_keys_leave_only_if_they_are_asked_for() {
    testing::each(async |storage| {
        let server = Server::over(storage);
        server.import(ALICE).await;
        let without = server.export(false).await;
        assert!(
            !without.contains("scram") && !without.contains("6dlG"),
            "{without}"
        );
        server.remove().await;
        let (said, kept) = server.import(&without).await;
        assert!(
            kept && said.contains("alice@example.org has no password"),
            "{said}"
        );
        // A password that others write in clear becomes keys.
        server.remove().await;
        let clear = without.replace("name='alice'", "name='alice' password='secret'");
        let (said, kept) = server.import(&clear).await;
        assert!(kept && !said.contains("password"), "{said}");
        let all = server.export(true).await;
        assert!(all.contains("SCRAM-SHA-512") && !all.contains("secret"));
    })
    .await;
}

#[tokio::test]
async fn a_locked_account_comes_back_locked() {
    let server = Server::over(testing::in_memory().await);
    server.import(ALICE).await;
    let alice = alice();
    let lock = server.storage.set_account_disabled(&alice, true);
    assert!(lock.await.unwrap());
    let file = server.export(false).await;
    server.remove().await;
    server.import(&file).await;
    assert!(!server.storage.account_exists(&alice).await.unwrap());
    assert_eq!(server.export(false).await, file);
}

#[tokio::test]
async fn what_exists_stays_and_what_is_not_served_is_refused() {
    let server = Server::over(testing::in_memory().await);
    server.import(ALICE).await;
    let before = server.export(true).await;
    let (said, kept) = server.import(&ALICE.replace(">Alice<", ">Mallory<")).await;
    assert!(
        kept && said.contains("0 accounts made, 1 existed already"),
        "{said}"
    );
    assert_eq!(server.export(true).await, before);
    let (said, kept) = server
        .import(&ALICE.replace("example.org", "example.net"))
        .await;
    assert!(
        !kept && said.contains("example.net is not served"),
        "{said}"
    );
    assert!(said.contains("1 accounts were refused"), "{said}");
}

#[tokio::test]
async fn what_does_not_fit_is_named_and_does_not_take_the_rest_with_it() {
    let server = Server::over(testing::in_memory().await);
    let spoiled = ALICE
        .replace("jid='carol@example.org'", "jid='@'")
        .replace("stamp='2010-07-10T23:08:25Z'", "stamp='once'")
        .replace("<items node='n'>", "<items node='unconfigured'>")
        .replace(
            "<FN>",
            &format!("<PHOTO>{}</PHOTO><FN>", "x".repeat(200 << 10)),
        )
        .replace("4096", "1");
    let (said, kept) = server.import(&spoiled).await;
    assert!(!kept);
    for part in [
        "left out: a contact has no address",
        "left out: an archived message cannot be read",
        "left out: an item of unconfigured",
        "left out: a vCard takes at most 131072 bytes",
        "left out: keys of a password that was hashed 1 times; it must be 4096 to 1000000 times",
        "0 accounts were refused and 6 parts left out",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    let file = server.export(true).await;
    for part in [
        "bob@example.org",
        "<body>two",
        "exodus:prefs",
        "eve@example.org",
    ] {
        assert!(file.contains(part), "{file} lacks {part}");
    }
    assert!(
        !file.contains("<body>one") && !file.contains("node='unconfigured'"),
        "{file}"
    );
}

#[tokio::test]
async fn what_is_no_such_file_is_refused() {
    let server = Server::over(testing::in_memory().await);
    for (file, expect) in [
        ("<a xmlns='u'/>", "has to begin with <server-data/>"),
        (&ALICE[..1000], "is not complete"),
        (
            "<server-data xmlns='urn:xmpp:pie:0'>text</server-data>",
            "not well-formed",
        ),
        (
            "<!DOCTYPE a [<!ENTITY b 'c'>]><server-data xmlns='urn:xmpp:pie:0'/>",
            "not well-formed",
        ),
    ] {
        let (said, kept) = server.import(file).await;
        assert!(!kept && said.contains(expect), "{said} lacks {expect}");
    }
    let included = "<server-data xmlns='urn:xmpp:pie:0'>\
                    <include xmlns='http://www.w3.org/2001/XInclude' href='x.xml'/></server-data>";
    let (said, kept) = server.import(included).await;
    assert!(
        !kept && said.contains("include (http://www.w3.org/2001/XInclude) is no account"),
        "{said}"
    );
}

#[tokio::test]
async fn keys_that_protect_nothing_or_cost_too_much_are_left_out() {
    for (from, to, expect) in [
        (">4096<", ">4095<", "hashed 4095 times"),
        (">4096<", ">4000000000<", "hashed 4000000000 times"),
        (">4096<", ">many<", "keys cannot be read"),
        ("QSXCR+Q6sek8bf92", "", "keys cannot be read"),
        (
            "6dlGYMOdZcOPutkcNY8U2g7vK9Y=",
            "6dlG",
            "keys cannot be read",
        ),
        ("SCRAM-SHA-1'", "SCRAM-MD5'", "keys cannot be read"),
    ] {
        let server = Server::over(testing::in_memory().await);
        let (said, kept) = server.import(&ALICE.replace(from, to)).await;
        assert!(!kept && said.contains(expect), "{said}");
        assert!(said.contains("alice@example.org has no password"), "{said}");
    }
}

#[tokio::test]
async fn what_an_import_has_not_finished_is_no_account_and_the_next_one_makes_it() {
    testing::each(async |storage| {
        let server = Server::over(storage);
        server.import(ALICE).await;
        let whole = server.export(true).await;
        server.remove().await;
        let alice = alice();
        let exists = async || server.storage.account_exists(&alice).await.unwrap();
        // It ends at every kind of place.
        for end in ["<vCard", "<blocklist", "<archive", "</user>"] {
            let place = whole.find(end).unwrap();
            let (said, kept) = server.import(&whole[..place]).await;
            assert!(!kept && said.contains("it ends is none yet"), "{said}");
            assert!(!exists().await, "{end}");
        }
        let (said, kept) = server.import(&whole).await;
        assert!(
            kept && said.contains("1 accounts made, 0 existed"),
            "{said}"
        );
        assert_eq!(server.export(true).await, whole);
        assert!(exists().await);
    })
    .await;
}

#[tokio::test]
async fn of_what_is_left_out_a_part_is_named() {
    let server = Server::over(testing::in_memory().await);
    let foreign = "<a xmlns='u'/>".repeat(5000);
    let xml = format!("<server-data xmlns='{PIE}'>{foreign}</server-data>");
    let (said, kept) = server.import(&xml).await;
    assert!(!kept && said.contains("5000 parts left out"), "{said}");
    assert!(said.lines().count() < 1010);
}
