//! Queries the archive as a client (XEP-0313).

use proto::{Element, ns};

use crate::client::{Client, body};
use crate::wire::End;

/// A message from an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Its archive id.
    pub id: String,
    /// Its text.
    pub body: String,
}

/// A page of an archive.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// What is on it, in the order of its sending.
    pub entries: Vec<Archived>,
    /// The server says that there is no more.
    pub complete: bool,
    /// The server says that the archive may change within the page.
    pub unstable: bool,
}

/// Asks for a page: `fields` of the form as `(name, value)`, and the content of `<set/>`.
pub async fn page(client: &mut Client, fields: &[(&str, &str)], set: &str) -> Result<Page, End> {
    let query = format!("{:016x}", rand::random::<u64>());
    let mut form = String::new();
    for (name, value) in [("FORM_TYPE", ns::MAM)].iter().chain(fields) {
        form += &format!("<field var='{name}'><value>{value}</value></field>");
    }
    let iq = format!(
        "<iq type='set' id='{query}'><query xmlns='{}' queryid='{query}'>\
         <x xmlns='{}' type='submit'>{form}</x><set xmlns='{}'>{set}</set></query></iq>",
        ns::MAM,
        ns::DATA_FORM,
        ns::RSM
    );
    let answer = client.request(&iq, &query).await?;
    let fin = answer.child("fin", ns::MAM);
    let fin = fin.unwrap_or_else(|| panic!("IM-91: {answer:?}"));
    let is_result = |message: &Element| {
        let result = message.child("result", ns::MAM);
        result.is_some_and(|result| result.attr("queryid") == Some(&query))
    };
    let results = client.take_messages(is_result);
    Ok(Page {
        entries: results.iter().map(archived).collect(),
        complete: fin.attr("complete") == Some("true"),
        unstable: fin.attr("stable") == Some("false"),
    })
}

/// All that is in the archive behind this message, or all, page by page.
pub async fn all_behind(client: &mut Client, last: Option<&str>) -> Result<Vec<Archived>, End> {
    let mut all: Vec<Archived> = Vec::new();
    loop {
        let behind = all.last().map(|entry| entry.id.as_str()).or(last);
        let after = behind.map(|id| format!("<after>{id}</after>"));
        let set = format!("<max>50</max>{}", after.unwrap_or_default());
        let page = page(client, &[], &set).await?;
        let ended = page.complete;
        assert!(
            ended || !page.entries.is_empty(),
            "IM-91: an empty page is the last"
        );
        all.extend(page.entries);
        if ended {
            return Ok(all);
        }
    }
}

fn archived(message: &Element) -> Archived {
    let result = message.child("result", ns::MAM).expect("a result");
    let forwarded = result.child("forwarded", ns::FORWARD);
    let inner = forwarded.and_then(|f| f.child("message", ns::CLIENT));
    Archived {
        id: result.attr("id").expect("IM-90: an id").to_owned(),
        body: inner.map(body).unwrap_or_default(),
    }
}

/// The archive id that a message carries, if it carries one in this account's name.
pub fn stanza_id(message: &Element, account: &str) -> Option<String> {
    let ids = message
        .elements()
        .filter(|child| child.is("stanza-id", ns::SID));
    let mut own = ids.filter(|id| id.attr("by") == Some(account));
    own.next()?.attr("id").map(str::to_owned)
}
