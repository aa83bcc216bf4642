//! What the server says that it can do is what it can do: the tables of the compliance page, what a node announces, and
//! the tests that the page names are compared. One feature more or less, anywhere, is a failure.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nodes;
mod probes;

use std::collections::{BTreeMap, BTreeSet};

use proto::sasl::Mechanism;
use proto::{Element, ns};
use tests::client::{Client, PASSWORD};
use tests::cluster::Cluster;
use tests::repository::{documents, root};
use tests::sasl2::Device;
use tests::wire::{DOMAIN, Wire};

const PAGE: &str = "node/docs/compliance.md";

/// Specifications of the suite that say what to do and give it no name that could be announced, or one that web clients
/// are told before they have a stream.
const NAMELESS: [&str; 6] = [
    "RFC 7395", "RFC 7590", "XEP-0153", "XEP-0156", "XEP-0206", "XEP-0368",
];

/// Under what others announce that which is not here.
const ABSENT: [(&str, &str); 4] = [
    ("XEP-0045", "http://jabber.org/protocol/muc"),
    ("XEP-0114", "jabber:component:accept"),
    ("XEP-0249", "jabber:x:conference"),
    ("XEP-0363", "urn:xmpp:http:upload:0"),
];

/// Where something is announced, in the words of the page.
const PLACES: [&str; 7] = [
    "starttls", "login", "inline", "bind", "session", "domain", "account",
];

/// What is announced: each namespace with the places.
type Announced = BTreeMap<String, BTreeSet<&'static str>>;

/// A row of the suite.
struct Row {
    name: String,
    specifications: Vec<String>,
    state: String,
    files: Vec<String>,
}

/// A namespace, where it is announced, what it stands for, and what shows it.
struct Feature {
    namespace: String,
    places: BTreeSet<&'static str>,
    specification: String,
    files: Vec<String>,
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    let parts = cell.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

/// The names in a list.
fn listed(cell: &str) -> Vec<String> {
    let names = cell.split(", ").filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// The rows of a table of a document, by the first cell of its head.
fn table(text: &str, first: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_start_matches("| ").trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = text.lines();
    let head = lines.find(|line| line.starts_with(&format!("| {first} |")));
    let width = cells(head.expect("the table")).len();
    let rows = lines.skip(1).take_while(|line| line.starts_with("| "));
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    for row in &rows {
        assert_eq!(row.len(), width, "{row:?}");
    }
    assert!(rows.len() > 20, "the table is elsewhere: {rows:?}");
    rows
}

fn page() -> (Vec<Row>, Vec<Feature>) {
    let text = std::fs::read_to_string(root().join(PAGE)).unwrap();
    let rows = table(&text, "row").into_iter().map(|row| Row {
        name: row[0].clone(),
        specifications: listed(&row[1]),
        state: row[3].clone(),
        files: quoted(&row[4]),
    });
    let place = |name: &String| {
        let known = PLACES.iter().find(|place| *place == name);
        *known.unwrap_or_else(|| panic!("{name} is no place"))
    };
    let features = table(&text, "feature").into_iter().map(|row| Feature {
        namespace: quoted(&row[0]).pop().expect("a namespace"),
        places: listed(&row[1]).iter().map(place).collect(),
        specification: row[2].clone(),
        files: quoted(&row[3]),
    });
    (rows.collect(), features.collect())
}

/// The names of the namespaces in the sources.
fn constants() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("proto/src/ns.rs")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(" = \""));
    let named = lines.map(|(name, uri)| {
        let uri = uri.trim_end_matches(|c| "\";".contains(c));
        (uri.to_owned(), format!("ns::{}", name.trim()))
    });
    named.collect()
}

/// Whether a test speaks of a namespace, by itself or by its constant.
fn speaks_of(text: &str, namespace: &str, constants: &BTreeMap<String, String>) -> bool {
    let literal = ["'", "\"", "`"]
        .iter()
        .any(|quote| text.contains(&format!("{quote}{namespace}{quote}")));
    let by_name = constants.get(namespace).is_some_and(|constant| {
        let mut behind = text.split(constant.as_str()).skip(1);
        behind.any(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    });
    literal || by_name
}

/// What is announced of a specification.
fn announced_of<'a>(
    features: &'a [Feature],
    specification: &'a str,
) -> impl Iterator<Item = &'a Feature> {
    let all = features.iter();
    all.filter(move |feature| feature.specification == specification)
}

fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(root().join(file)).ok()
}

/// What the page says of a row of the suite, and its other table or the repository does not bear out.
fn check_row(row: &Row, features: &[Feature]) -> Vec<String> {
    let (mut wrong, name) = (Vec::new(), &row.name);
    let word = row.state.split([',', ':', ';']).next().unwrap_or_default();
    if !["yes", "partly", "no"].contains(&word) {
        wrong.push(format!("the state of {name} begins with {word:?}"));
    }
    for specification in &row.specifications {
        let named = announced_of(features, specification).next().is_some();
        let nameless = NAMELESS.contains(&specification.as_str());
        if word == "yes" && !named && !nameless {
            wrong.push(format!("{specification} is there and nothing announces it"));
        }
        let absent = ABSENT.iter().any(|(absent, _)| absent == specification);
        if word == "no" && (named || !absent) {
            wrong.push(format!(
                "{specification} is not there: what must not be announced?"
            ));
        }
    }
    if word != "no" && row.files.is_empty() {
        wrong.push(format!("nothing shows {name}"));
    }
    wrong
}

/// The rules whose source is a specification, by their codes.
fn rules_of(specification: &str) -> Vec<String> {
    let mut rules = Vec::new();
    for (_, text) in documents() {
        let lines = text.lines().filter(|line| line.contains(specification));
        let defined = lines.filter_map(|line| line.strip_prefix("- **")?.split_once("** "));
        rules.extend(defined.map(|(code, _)| code.to_owned()));
    }
    rules
}

/// Whether a test cites a rule, in a text or in its name.
fn cites(text: &str, code: &str) -> bool {
    let name = format!("{}_", code.to_lowercase().replace('-', "_"));
    let mut behind = text.split(code).skip(1);
    text.contains(&name) || behind.any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether the file shows a row: it names the specification, what that announces, or a rule that comes of it.
fn shows(file: &str, row: &Row, features: &[Feature]) -> bool {
    let (text, constants) = (read(file), constants());
    text.is_some_and(|text| {
        row.specifications.iter().any(|specification| {
            let mut announced = announced_of(features, specification);
            text.contains(specification)
                || announced.any(|it| speaks_of(&text, &it.namespace, &constants))
                || rules_of(specification).iter().any(|it| cites(&text, it))
        })
    })
}

/// What the page says and the repository does not bear out.
fn check_page(rows: &[Row], features: &[Feature]) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in rows {
        wrong.extend(check_row(row, features));
        let others = row.files.iter().filter(|file| !shows(file, row, features));
        wrong.extend(others.map(|file| format!("{file} does not show {}", row.name)));
    }
    let constants = constants();
    for Feature {
        namespace, files, ..
    } in features
    {
        if files.is_empty() {
            wrong.push(format!("nothing shows {namespace}"));
        }
        let shown =
            |file: &&String| read(file).is_some_and(|text| speaks_of(&text, namespace, &constants));
        let others = files.iter().filter(|file| !shown(file));
        wrong.extend(others.map(|file| format!("{file} does not show {namespace}")));
    }
    wrong
}

/// The features in the answer to `disco#info`.
pub fn disco(answer: &Element) -> Vec<String> {
    let query = answer.child("query", ns::DISCO_INFO);
    let query = query.unwrap_or_else(|| panic!("DI-1: {answer:?}"));
    let features = query.elements().filter(|child| child.local() == "feature");
    let named = features.map(|feature| feature.attr("var").unwrap().to_owned());
    named.collect()
}

/// Asks what an entity can do.
pub async fn ask_info(client: &mut Client, of: &str) -> Element {
    let query = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
    let iq = format!("<iq type='get' id='info-{of}' to='{of}'>{query}</iq>");
    client.request(&iq, &format!("info-{of}")).await.unwrap()
}

/// The namespaces of stream features.
fn offered(features: &Element) -> Vec<String> {
    assert!(features.is("features", ns::STREAM), "{features:?}");
    features.elements().map(|it| it.ns().to_owned()).collect()
}

/// What may be asked for along with a login.
fn inline(features: &Element) -> (Vec<String>, Vec<String>) {
    let authentication = features.child("authentication", ns::SASL2);
    let inline = authentication.and_then(|it| it.child("inline", ns::SASL2));
    let inline = inline.unwrap_or_else(|| panic!("SA-1: {features:?}"));
    let names = inline.elements().map(|it| it.ns().to_owned());
    let bind = inline.child("bind", ns::BIND2);
    let within = bind.and_then(|bind| bind.child("inline", ns::BIND2));
    let vars = within.into_iter().flat_map(Element::elements);
    let vars = vars.map(|it| it.attr("var").unwrap().to_owned());
    (names.collect(), vars.collect())
}

/// Everything that a node announces.
async fn announced(cluster: &Cluster) -> Announced {
    let mut all = Announced::new();
    let mut note = |place: &'static str, names: Vec<String>| {
        for name in names {
            let known = all.entry(name.clone()).or_default().insert(place);
            assert!(known, "{name} is announced twice at {place}");
        }
    };
    let mut plain = Wire::plain(cluster.starttls(0)).await.unwrap();
    note("starttls", offered(&plain.open().await.unwrap()));
    let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
    let mut wire = wire.unwrap();
    let before = wire.open().await.unwrap();
    note("login", offered(&before));
    let (names, vars) = inline(&before);
    note("inline", names);
    note("bind", vars);
    let outcome = wire.authenticate("alice", PASSWORD).await.unwrap();
    assert!(outcome.is("success", ns::SASL), "{outcome:?}");
    let session = offered(&wire.open().await.unwrap());
    note("session", session.clone());
    drop(wire);
    let mut client = cluster.client(0, "alice").await;
    note("domain", disco(&ask_info(&mut client, DOMAIN).await));
    let own = disco(&ask_info(&mut client, "alice@localhost").await);
    note("account", own.clone());

    // To whoever binds along with the login the same is offered, but for what is done.
    let done = [ns::BIND, ns::SESSION, ns::SM];
    let left: Vec<_> = session
        .into_iter()
        .filter(|name| !done.contains(&name.as_str()))
        .collect();
    assert_eq!(after_bind2(cluster).await, left, "SA-7");
    // What an account can do its friends hear too.
    let mut friend = cluster.client(0, "bob").await;
    tests::contact::befriend(&mut client, &mut friend).await;
    let shown = disco(&ask_info(&mut friend, "alice@localhost").await);
    assert_eq!(shown, own, "DI-1");
    all
}

async fn after_bind2(cluster: &Cluster) -> Vec<String> {
    let device = Device {
        user: "alice",
        id: "9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11",
    };
    let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
    let mut wire = wire.unwrap();
    wire.send(&device.header()).await.unwrap();
    wire.next().await.unwrap();
    let bind = "<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3'/></bind>";
    let success = device.authenticate(&mut wire, Mechanism::ScramSha256, PASSWORD, bind);
    let success = success.await.unwrap();
    assert!(success.child("bound", ns::BIND2).is_some(), "{success:?}");
    offered(&wire.next().await.unwrap())
}

#[tokio::test]
async fn the_page_names_what_is_announced_and_what_shows_it() {
    let (rows, features) = page();
    let mut wrong = check_page(&rows, &features);
    // What is announced once there is some of it.
    let stun = "[[external.service]]\ntype = \"stun\"\nhost = \"stun.localhost\"\n";
    let cluster = Cluster::start(1, &["alice", "bob"], stun).await;
    let found = announced(&cluster).await;
    let mut told = Announced::new();
    for feature in &features {
        let twice = told.insert(feature.namespace.clone(), feature.places.clone());
        if twice.is_some() {
            wrong.push(format!("{} has two rows", feature.namespace));
        }
    }
    for name in found.keys().chain(told.keys()).collect::<BTreeSet<_>>() {
        let (told, found) = (told.get(name), found.get(name));
        if told != found {
            wrong.push(format!(
                "{name}: the page says {told:?}, the node {found:?}"
            ));
        }
    }
    for (specification, namespace) in ABSENT {
        if found.contains_key(namespace) {
            wrong.push(format!("{namespace} ({specification}) is announced"));
        }
    }
    assert_eq!(wrong, [""; 0], "{wrong:#?}");
}
