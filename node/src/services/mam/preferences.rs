//! XEP-0441: what a user wants archived, asked for and replaced.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use cluster::ArchiveId;
use cluster::session::Action;
use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, Jid, ns};

use super::settings::KeepByDefault;
use super::storage::Preferences;
use crate::hooks::{Payload, Reply, Request, fail, failure};

/// Parties that one list may name.
const MAX_PARTIES: usize = 1000;
/// So long a change waits for the rows of earlier messages.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);
/// They are looked for so often.
const LOOK: Duration = Duration::from_millis(20);

/// Asks for the preferences.
pub struct Asked;

impl Payload for Asked {
    const NS: &'static str = ns::MAM;
    const NAME: &'static str = "prefs";

    fn decode(_: &Element) -> Result<Self, StanzaError> {
        Ok(Self)
    }
}

/// Replaces the preferences.
pub struct Wish(Preferences);

impl Payload for Wish {
    const NS: &'static str = ns::MAM;
    const NAME: &'static str = "prefs";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        stated(element).map(Self)
    }
}

/// Preferences as they are written.
pub fn stated(element: &Element) -> Result<Preferences, StanzaError> {
    let fallback = match element.attr("default") {
        Some("always") => KeepByDefault::Always,
        Some("roster") => KeepByDefault::Roster,
        Some("never") => KeepByDefault::Never,
        _ => return fail(Condition::BadRequest),
    };
    let always = list(element, "always")?;
    let never = list(element, "never")?;
    Ok(Preferences {
        fallback,
        // Who is on both lists is on the second (IM-86).
        always: always.difference(&never).cloned().collect(),
        never,
    })
}

fn list(prefs: &Element, name: &str) -> Result<BTreeSet<Jid>, StanzaError> {
    let mut parties = BTreeSet::new();
    let Some(list) = prefs.child(name, ns::MAM) else {
        return Ok(parties);
    };
    for child in list.elements() {
        if !child.is("jid", ns::MAM) {
            return fail(Condition::BadRequest);
        }
        let party = Jid::new(child.text().trim());
        parties.insert(party.map_err(|_| Condition::JidMalformed)?);
        if parties.len() > MAX_PARTIES {
            return fail(Condition::ResourceConstraint);
        }
    }
    Ok(parties)
}

/// What is in force.
pub async fn read(
    request: Request<Asked>,
    fallback: KeepByDefault,
) -> Result<Element, StanzaError> {
    let (edge, account) = (&request.edge, &request.account);
    let stated = edge.storage.archive_preferences(account).await;
    let stated = stated.map_err(|error| failure(&error))?;
    Ok(element(&stated.unwrap_or(Preferences {
        fallback,
        ..Preferences::default()
    })))
}

/// Answers with what is in force from now on.
///
/// What the shard still has to write is judged when it is written. So a change waits until all that came before
/// it is: else a message that was not to be kept would be, because its user changed their mind afterwards.
pub async fn replace(request: Request<Wish>) -> Result<Reply, StanzaError> {
    let Wish(preferences) = &request.payload;
    let written = tokio::time::timeout(WRITTEN_WITHIN, earlier_rows_are_written(&request));
    if written.await.is_err() {
        return fail(Condition::ResourceConstraint);
    }
    let storage = &request.edge.storage;
    let set = storage.set_archive_preferences(&request.account, preferences);
    set.await.map_err(|error| failure(&error))?;
    // The answer follows once the shard has heard of it.
    Ok(Reply::new(element(preferences)).after(Action::ArchiveStated))
}

async fn earlier_rows_are_written(request: &Request<Wish>) {
    let mut earlier: Option<HashSet<ArchiveId>> = None;
    loop {
        let tail = request.edge.presences.archive_tail(&request.account).await;
        if tail.current {
            let mut left: HashSet<ArchiveId> = tail.archived().map(|row| row.mid).collect();
            if let Some(earlier) = &earlier {
                left.retain(|mid| earlier.contains(mid));
            }
            if left.is_empty() {
                return;
            }
            earlier = Some(left);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Preferences, written.
pub fn element(preferences: &Preferences) -> Element {
    let fallback = match preferences.fallback {
        KeepByDefault::Always => "always",
        KeepByDefault::Roster => "roster",
        KeepByDefault::Never => "never",
    };
    let list = |name, parties: &BTreeSet<Jid>| {
        let mut list = Element::new(name, ns::MAM);
        for party in parties {
            list.push(Element::new("jid", ns::MAM).with_text(party.as_str()));
        }
        list
    };
    Element::new("prefs", ns::MAM)
        .with_attr("default", fallback)
        .with_child(list("always", &preferences.always))
        .with_child(list("never", &preferences.never))
}

#[cfg(test)]
mod tests {
    use crate::router::testing::{edge, says, session};

    async fn prefs(children: &str) -> [String; 2] {
        let alice = session(&edge().await, "alice@example.org/desk");
        let set =
            format!("<iq type='set' id='1'><prefs xmlns='urn:xmpp:mam:2' {children}</prefs></iq>");
        let set = says(&alice, &set).await.concat();
        let get =
            "<iq type='get' id='1' to='alice@example.org'><prefs xmlns='urn:xmpp:mam:2'/></iq>";
        [set, says(&alice, get).await.concat()]
    }

    #[tokio::test]
    async fn im_86_what_is_set_is_answered_and_stored() {
        let wish = "default='roster'><always><jid>B@x</jid><jid>c@x/r</jid></always><never><jid>c@x/r</jid></never>";
        let stored = "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>b@x</jid></always>\
                      <never><jid>c@x/r</jid></never></prefs>";
        for answer in prefs(wish).await {
            assert!(answer.contains(stored), "{answer}");
        }
    }

    #[tokio::test]
    async fn im_86_nonsense_changes_nothing() {
        let default = "<prefs xmlns='urn:xmpp:mam:2' default='always'><always/><never/></prefs>";
        for (wish, condition) in [
            (">", "bad-request"),
            ("default='sometimes'>", "bad-request"),
            ("default='never'><always><x/></always>", "bad-request"),
            (
                "default='never'><never><jid>@</jid></never>",
                "jid-malformed",
            ),
        ] {
            let [refusal, stored] = prefs(wish).await;
            assert!(refusal.contains(condition), "{wish}: {refusal}");
            assert!(stored.contains(default), "{wish}: {stored}");
        }
    }
}
