//! Announcements to everybody who is online, and the message of the day (XEP-0133 §4.23 to §4.26).
//!
//! Both are headlines from the domain, for the accounts of that domain. An announcement goes through the shards, which
//! show each once, and to nobody who is not there ([`cluster::session::Relay::Broadcast`]). The message of the day is for
//! those who come as well: each account is told of it once, at once if it is online when it is set, or else when one of
//! its sessions becomes available ([`motd`]).

mod headline;
mod motd;

use std::sync::Arc;

use cluster::ArchiveId;
use cluster::session::{Action, Relay};
use proto::ns;
use proto::payload::form::{Field, Form, FormType};
use proto::stanza::error::{Condition, StanzaError};

pub use self::headline::{MOST_TEXT, announcement};
use self::motd::{Known, Motd};
use crate::hooks::command::{Ask, Done, Outcome, administrators, bad_payload};
use crate::hooks::{Call, Command, Phase, Service, Setup, failure};

/// The service.
pub const SERVICE: Service = Service::new("announcements", &[], register);

const ANNOUNCE: &str = "http://jabber.org/protocol/admin#announce";
const SET: &str = "http://jabber.org/protocol/admin#set-motd";
const EDIT: &str = "http://jabber.org/protocol/admin#edit-motd";
const DELETE: &str = "http://jabber.org/protocol/admin#delete-motd";

fn register(setup: &mut Setup<'_>) {
    let motd = Arc::new(Motd::default());
    setup.stored(&motd::STORED);
    setup.presence(Phase::Follow, motd::Greeter(motd.clone()));
    let all = administrators;
    let name = "Send an announcement to everybody who is online";
    setup.command(Command::new(ANNOUNCE, name, all, announce));
    let (of_set, of_edit) = (motd.clone(), motd.clone());
    let name = "Set the message of the day";
    setup.command(Command::new(SET, name, all, move |call| {
        set(of_set.clone(), call)
    }));
    let name = "Change the message of the day";
    setup.command(Command::new(EDIT, name, all, move |call| {
        edit(of_edit.clone(), call)
    }));
    let name = "Delete the message of the day";
    setup.command(Command::new(DELETE, name, all, move |call| {
        delete(motd.clone(), call)
    }));
}

async fn announce(call: Call) -> Result<Outcome, StanzaError> {
    if call.stage == 0 {
        let words = "Everybody who is online is sent it, and nobody else.";
        return Ok(Outcome::ask(form(
            "Send an announcement",
            words,
            "announcement",
            "",
        )));
    }
    let text = text(&call, "announcement")?;
    tracing::info!(account = %call.account, domain = %call.domain, "an announcement");
    Ok(told_to_all(&call, &text))
}

/// Everybody who is online hears it once the answer is on its way. Whoever submits it again asks for the same
/// announcement.
fn told_to_all(call: &Call, text: &str) -> Outcome {
    let id = ArchiveId::new(call.begun, u128::from(call.number));
    let broadcast = Relay::Broadcast {
        id,
        packet: announcement(&call.domain, id, text),
        after: None,
    };
    Outcome::Done(Done {
        behind: vec![Action::Send(broadcast)],
        ..Done::default()
    })
}

/// A new one: everybody is told of it, those who are online at once (XEP-0133 §4.24).
async fn set(motd: Arc<Motd>, call: Call) -> Result<Outcome, StanzaError> {
    if call.stage == 0 {
        let words =
            "Everybody is sent it once: those who are online at once, others at their next login.";
        return Ok(Outcome::ask(form(
            "Set the message of the day",
            words,
            "motd",
            "",
        )));
    }
    let text = text(&call, "motd")?;
    let (storage, domain) = (&call.edge.storage, call.domain.domain());
    let there = motd::there(&call.edge, domain).await?;
    let set = storage.set_motd(domain, call.begun, &text, &there);
    set.await.map_err(|error| failure(&error))?;
    motd.forget();
    tracing::info!(account = %call.account, domain = %call.domain, "the message of the day is set");
    Ok(told_to_all(&call, &text))
}

/// Other words: who was told of it is not told again.
async fn edit(motd: Arc<Motd>, call: Call) -> Result<Outcome, StanzaError> {
    let (storage, domain) = (&call.edge.storage, call.domain.domain());
    if call.stage == 0 {
        let known = storage.motd(domain).await;
        let known = known.map_err(|error| failure(&error))?;
        let words = "Who has seen it already is not sent it again.";
        let text = known.as_ref().map_or("", |known| &known.text);
        return Ok(Outcome::Ask(Ask {
            form: form("Change the message of the day", words, "motd", text),
            last: true,
            carried: which(known.as_ref()),
        }));
    }
    let text = text(&call, "motd")?;
    let found = storage.motd(domain).await;
    if which(found.map_err(|error| failure(&error))?.as_ref()) != call.carried {
        let text = "meanwhile there is another message of the day";
        return Err(StanzaError::new(Condition::Conflict).with_text(text));
    }
    let edited = storage.edit_motd(domain, call.begun, &text).await;
    edited.map_err(|error| failure(&error))?;
    motd.forget();
    tracing::info!(account = %call.account, domain = %call.domain, "the message of the day is changed");
    Ok(Outcome::done())
}

async fn delete(motd: Arc<Motd>, call: Call) -> Result<Outcome, StanzaError> {
    let deleted = call.edge.storage.delete_motd(call.domain.domain()).await;
    let deleted = deleted.map_err(|error| failure(&error))?;
    motd.forget();
    tracing::info!(account = %call.account, domain = %call.domain, "the message of the day is deleted");
    Ok(Outcome::Done(Done {
        note: (!deleted).then(|| "There was none.".to_owned()),
        ..Done::default()
    }))
}

/// Names a message of the day, or that there is none.
fn which(known: Option<&Known>) -> String {
    known.map_or_else(String::new, |known| known.id.to_string())
}

fn form(title: &str, words: &str, var: &str, text: &str) -> Form {
    let field = Field::new(var, "text-multi", "The text").required();
    let form = Form::new(FormType::Form, ns::ADMIN).titled(title, words);
    form.asking(field.with_values(text.lines()))
}

fn text(call: &Call, var: &str) -> Result<String, StanzaError> {
    let text = call.submitted(ns::ADMIN)?.text(var).unwrap_or_default();
    if text.trim().is_empty() {
        return Err(bad_payload("there is no text"));
    }
    match text.len() <= MOST_TEXT {
        true => Ok(text),
        false => Err(bad_payload(format!("a text has at most {MOST_TEXT} bytes"))),
    }
}

#[cfg(test)]
mod tests;
