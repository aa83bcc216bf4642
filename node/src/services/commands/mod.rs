//! XEP-0050: Ad-Hoc Commands. Which ones there are, services say ([`crate::hooks::Command`]); here they are run.
//!
//! There are no commands under way on a node: each stage begins with what the session's id says ([`session`]). Nothing
//! remembers either which of them are over. Whoever submits the last form again runs its stage again, as after a resume
//! that has lost the answer, and the command sees to it that nothing happens twice.

mod session;

use std::sync::Arc;

use proto::payload::form::Form;
use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, ns};
use tokio::sync::OnceCell;

use self::session::{LIFETIME, Owner, Session};
use crate::hooks::command::{Ask, Done, MOST_CARRIED, Outcome, bad_request};
use crate::hooks::{
    Call, Command, Edge, Payload, Reply, Request, Scope, Service, Setup, Xep, fail, failure,
};

/// The service.
pub const SERVICE: Service =
    Service::new("commands", &[Xep(4, "2.13.1"), Xep(50, "1.3.0")], register);

/// What commands say, they say in this language.
const LANGUAGE: &str = "en";

fn register(setup: &mut Setup<'_>) {
    let key = Arc::new(Key::default());
    setup.iq_set(&[Scope::Host], move |request| execute(key.clone(), request));
}

/// Authenticates the ids of sessions: the same on all nodes.
#[derive(Default)]
struct Key(OnceCell<Vec<u8>>);

impl Key {
    async fn of(&self, edge: &Edge) -> Result<&[u8], StanzaError> {
        let made = || async {
            let halves = [(edge.random)().to_be_bytes(), (edge.random)().to_be_bytes()];
            let mut proposed = [0; 32];
            proposed[..16].copy_from_slice(&halves[0]);
            proposed[16..].copy_from_slice(&halves[1]);
            edge.storage.shared_secret("commands", proposed).await
        };
        let key = self.0.get_or_try_init(made).await;
        key.map(Vec::as_slice).map_err(|error| failure(&error))
    }
}

async fn execute(key: Arc<Key>, request: Request<Execute>) -> Result<Reply, StanzaError> {
    let asked = &request.payload;
    let Some(command) = request.commands.of(&asked.node) else {
        return fail(Condition::ItemNotFound);
    };
    if !command.permits(&request.edge, &request.account) {
        return fail(Condition::Forbidden);
    }
    if !asked.lang.as_deref().is_none_or(is_language) {
        return Err(bad_request("bad-locale"));
    }
    let key = key.of(&request.edge).await?;
    let owner = Owner {
        session: &request.session,
        domain: &request.target,
        node: command.node,
    };
    let session = match (&asked.id, asked.action) {
        (None, Action::Execute) => begin(&request.edge),
        (None, Action::Cancel) => return Err(bad_request("bad-sessionid")),
        (None, _) => return Err(bad_request("bad-action")),
        (Some(id), action) => {
            let session = Session::open(key, owner, id);
            let session = session.ok_or_else(|| bad_request("bad-sessionid"))?;
            go_on(&request.edge, session, action)?
        }
    };
    let id = asked.id.clone();
    let answer = |status| answer(command, status);
    if asked.action == Action::Cancel {
        let canceled = answer("canceled").with_attr("sessionid", id.unwrap_or_default());
        return Ok(Reply::new(canceled));
    }
    let outcome = command.run(call(&request, &session)).await?;
    let (begun, number, stage) = (session.begun, session.number, session.stage);
    match outcome {
        Outcome::Ask(ask) => {
            if ask.carried.len() > MOST_CARRIED {
                return fail(Condition::ResourceConstraint);
            }
            let next = Session {
                begun,
                number,
                stage,
                last: ask.last,
                carried: ask.carried.clone(),
            };
            let executing = answer("executing").with_attr("sessionid", next.seal(key, owner));
            Ok(Reply::new(asking(executing, &ask)))
        }
        Outcome::Done(done) => {
            let account = &request.account;
            tracing::info!(%account, command = command.node, "a command was run");
            // One that is over at once had no session, and is given the id that it would have had.
            let id = id.unwrap_or_else(|| session.seal(key, owner));
            let completed = answer("completed").with_attr("sessionid", id);
            Ok(told(completed, done))
        }
    }
}

fn begin(edge: &Edge) -> Session {
    Session {
        begun: (edge.now)(),
        number: (edge.random)() as u64,
        stage: 0,
        last: false,
        carried: String::new(),
    }
}

/// One stage further, if it may be (AD-1). There is no way back: a command that is to be filled in otherwise is begun
/// anew.
fn go_on(edge: &Edge, session: Session, action: Action) -> Result<Session, StanzaError> {
    if (edge.now)().saturating_sub(session.begun) > LIFETIME {
        let expired = Element::new("session-expired", ns::COMMANDS);
        return Err(StanzaError::new(Condition::NotAllowed).with_application(expired));
    }
    match action {
        Action::Execute | Action::Cancel => {}
        Action::Next if !session.last => {}
        Action::Complete if session.last => {}
        Action::Next | Action::Complete | Action::Prev => return Err(bad_request("bad-action")),
    }
    let stage = session.stage.checked_add(1);
    let stage = stage.ok_or_else(|| bad_request("bad-sessionid"))?;
    Ok(Session { stage, ..session })
}

fn call(request: &Request<Execute>, session: &Session) -> Call {
    Call {
        edge: request.edge.clone(),
        account: request.account.clone(),
        domain: request.target.clone(),
        stage: session.stage,
        form: request.payload.form.clone(),
        carried: session.carried.clone(),
        begun: session.begun,
        number: session.number,
    }
}

fn answer(command: &Command, status: &'static str) -> Element {
    let mut answer = Element::new("command", ns::COMMANDS)
        .with_attr("node", command.node)
        .with_attr("status", status);
    answer.set_attr_ns("lang", ns::XML, LANGUAGE);
    answer
}

fn asking(answer: Element, ask: &Ask) -> Element {
    let next = if ask.last { "complete" } else { "next" };
    let actions = Element::new("actions", ns::COMMANDS).with_attr("execute", next);
    let actions = actions.with_child(Element::new(next, ns::COMMANDS));
    answer.with_child(actions).with_child(ask.form.to_element())
}

fn told(mut answer: Element, done: Done) -> Reply {
    if let Some(note) = &done.note {
        let info = Element::new("note", ns::COMMANDS).with_attr("type", "info");
        answer.push(info.with_text(note));
    }
    if let Some(payload) = done.payload {
        answer.push(payload);
    }
    Reply::new(answer).then_all(done.behind)
}

/// What a client may want of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It begins, or goes on in the way that it offers.
    Execute,
    /// It is given up.
    Cancel,
    /// A stage back.
    Prev,
    /// A stage further.
    Next,
    /// The last stage.
    Complete,
}

/// A command is to be run.
pub struct Execute {
    node: String,
    action: Action,
    id: Option<String>,
    lang: Option<String>,
    form: Option<Form>,
}

impl Payload for Execute {
    const NS: &'static str = ns::COMMANDS;
    const NAME: &'static str = "command";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        let Some(node) = element.attr("node").filter(|node| !node.is_empty()) else {
            return fail(Condition::BadRequest);
        };
        let action = match element.attr("action") {
            None | Some("execute") => Action::Execute,
            Some("cancel") => Action::Cancel,
            Some("prev") => Action::Prev,
            Some("next") => Action::Next,
            Some("complete") => Action::Complete,
            Some(_) => return Err(bad_request("malformed-action")),
        };
        let form = element.child("x", ns::DATA_FORM);
        let read = |x| Form::parse(x).ok_or_else(|| bad_request("bad-payload"));
        Ok(Self {
            node: node.to_owned(),
            action,
            id: element.attr("sessionid").map(str::to_owned),
            lang: element.attr_ns("lang", ns::XML).map(str::to_owned),
            form: form.map(read).transpose()?,
        })
    }
}

/// It names a language as RFC 5646 does. Which one, does not matter: there is only one in which is answered.
fn is_language(lang: &str) -> bool {
    let is_part = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    lang.is_empty() || lang.split('-').all(is_part)
}

#[cfg(test)]
mod tests;
