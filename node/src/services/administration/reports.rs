//! Commands that tell about accounts.

use proto::payload::form::{Field, Form};
use proto::stanza::error::StanzaError;
use proto::{BareJid, Element, ns};

use super::fields;
use crate::clock;
use crate::hooks::command::{Done, Outcome};
use crate::hooks::{Call, failure};

/// A user's roster.
pub async fn roster(call: Call) -> Result<Outcome, StanzaError> {
    let Some(jid) = about_one(&call).await? else {
        return asked("Show a user's roster", fields::accounts());
    };
    let edge = &call.edge;
    let roster = edge.visibility.roster(&edge.storage, &jid).await;
    let roster = roster.map_err(|error| failure(&error))?;
    let form = fields::result().with("accountjids", [jid.as_str()]);
    Ok(told(form.to_element().with_child(roster), None))
}

/// When a user was logged in last: now, if there is a session.
pub async fn last_login(call: Call) -> Result<Outcome, StanzaError> {
    let title = "Show when a user was here last";
    let Some(jid) = about_one(&call).await? else {
        return asked(title, fields::accounts());
    };
    let edge = &call.edge;
    let form = fields::result().with("accountjids", [jid.as_str()]);
    let last = match edge.presences.sessions(&jid).await.is_empty() {
        false => Some((edge.now)()),
        true => {
            let stored = edge.storage.last_activity(&jid).await;
            let stored = stored.map_err(|error| failure(&error))?;
            stored.map(|last| last.stamp)
        }
    };
    Ok(match last.and_then(clock::text) {
        Some(stamp) => told(form.with("lastlogin", [stamp]).to_element(), None),
        None => told(
            form.to_element(),
            Some("Never, as far as is known.".to_owned()),
        ),
    })
}

/// How large a user's roster is, and which resources are there.
pub async fn statistics(call: Call) -> Result<Outcome, StanzaError> {
    let title = "Show numbers about a user";
    let Some(jid) = about_one(&call).await? else {
        return asked(title, fields::one_account());
    };
    let edge = &call.edge;
    let roster = edge.visibility.roster(&edge.storage, &jid).await;
    let contacts = roster.map_err(|error| failure(&error))?;
    let sessions = edge.presences.sessions(&jid).await;
    let resources = sessions.iter().filter_map(|session| session.resource());
    let form = fields::result()
        .with("accountjid", [jid.as_str()])
        .with("rostersize", [contacts.elements().count().to_string()])
        .with("onlineresources", resources);
    Ok(told(form.to_element(), None))
}

/// How many accounts the domain has.
pub async fn count_registered(call: Call) -> Result<Outcome, StanzaError> {
    let count = call.edge.storage.count_accounts(call.domain.domain()).await;
    let count = count.map_err(|error| failure(&error))?;
    Ok(number("registeredusersnum", count))
}

/// Which accounts the domain has.
pub async fn list_registered(call: Call) -> Result<Outcome, StanzaError> {
    if call.stage == 0 {
        return asked("List registered users", fields::most_items());
    }
    let most = fields::read_most(call.submitted(ns::ADMIN)?)?;
    let domain = call.domain.domain();
    let accounts = call.edge.storage.accounts(domain, "", most).await;
    let accounts = accounts.map_err(|error| failure(&error))?;
    let count = call.edge.storage.count_accounts(domain).await;
    let count = count.map_err(|error| failure(&error))?;
    let jids: Vec<BareJid> = accounts.into_iter().map(|account| account.jid).collect();
    Ok(list("registereduserjids", &jids, count))
}

/// How many accounts of the domain have sessions.
pub async fn count_online(call: Call) -> Result<Outcome, StanzaError> {
    let online = call.edge.presences.online(call.domain.domain(), 0).await?;
    Ok(number("onlineusersnum", online.count as u64))
}

/// Which accounts of the domain have sessions.
pub async fn list_online(call: Call) -> Result<Outcome, StanzaError> {
    if call.stage == 0 {
        return asked("List users who are online", fields::most_items());
    }
    let most = fields::read_most(call.submitted(ns::ADMIN)?)? as usize;
    let online = call.edge.presences.online(call.domain.domain(), most);
    let online = online.await?;
    Ok(list("onlineuserjids", &online.first, online.count as u64))
}

/// The account that a report is about, which exists; nothing yet in the first stage.
async fn about_one(call: &Call) -> Result<Option<BareJid>, StanzaError> {
    if call.stage == 0 {
        return Ok(None);
    }
    let jid = fields::read_account(call, call.submitted(ns::ADMIN)?)?;
    let found = call.edge.storage.find_account(&jid).await;
    match found.map_err(|error| failure(&error))? {
        Some(_) => Ok(Some(jid)),
        None => Err(fields::not_there(&[jid.to_string()])),
    }
}

fn asked(title: &str, field: Field) -> Result<Outcome, StanzaError> {
    Ok(Outcome::ask(fields::form(title, "").asking(field)))
}

fn told(payload: Element, note: Option<String>) -> Outcome {
    Outcome::Done(Done {
        payload: Some(payload),
        note,
        ..Done::default()
    })
}

fn number(var: &str, number: u64) -> Outcome {
    told(
        fields::result()
            .with(var, [number.to_string()])
            .to_element(),
        None,
    )
}

fn list(var: &str, jids: &[BareJid], all: u64) -> Outcome {
    let shown = jids.len() as u64;
    let note = (shown < all).then(|| format!("These are {shown} of {all}."));
    let form: Form = fields::result().with(var, jids.iter().map(|jid| jid.as_str()));
    told(form.to_element(), note)
}
