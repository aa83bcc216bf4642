//! Commands that clients run at the server (XEP-0050), as the service that offers one sees them.
//!
//! A [`Command`] is a node, a name, who may run it, and a function. That function is called with a [`Call`] for each
//! stage: the first has no form, each later one has what the client has filled in. It answers with a form that is to be
//! filled in next, or with what has come of it. Between two stages nothing is remembered here: where the command stands
//! is in the session's id, which only the servers of the cluster can make, so that the next stage may come to any node.
//!
//! # Invariants
//!
//! 1. A command is run for those only who may run it, and listed to nobody else.
//! 2. What is submitted may be submitted again, by a client that does not know whether it arrived or by a node that takes
//!    the place of another one. [`Call::begun`] and [`Call::number`] are the same then.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::session::Action;
use futures_util::future::BoxFuture;
use proto::payload::disco::{Identity, Item};
use proto::payload::form::{Form, FormType};
use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element, ns};

use super::edge::Edge;

/// The most bytes of a form that is filled in, names and values together.
const MOST_SUBMITTED: usize = 64 << 10;
/// The most bytes that a command may carry from stage to stage.
pub const MOST_CARRIED: usize = 2_048;

/// A command.
pub struct Command {
    /// Its node, by which it is run.
    pub node: &'static str,
    /// What people are told it does.
    pub name: &'static str,
    permits: Permits,
    run: Run,
}

type Permits = fn(&Edge, &BareJid) -> bool;
type Ran = BoxFuture<'static, Result<Outcome, StanzaError>>;
type Run = Box<dyn Fn(Call) -> Ran + Send + Sync>;

impl Command {
    /// A command for those whom `permits` lets run it.
    pub fn new<H, F>(node: &'static str, name: &'static str, permits: Permits, handler: H) -> Self
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Outcome, StanzaError>> + Send + 'static,
    {
        Self {
            node,
            name,
            permits,
            run: Box::new(move |call| -> Ran { Box::pin(handler(call)) }),
        }
    }

    /// This account may run it.
    pub fn permits(&self, edge: &Edge, account: &BareJid) -> bool {
        (self.permits)(edge, account)
    }

    /// Runs one stage of it.
    pub fn run(&self, call: Call) -> BoxFuture<'static, Result<Outcome, StanzaError>> {
        (self.run)(call)
    }
}

/// Those who administer the server may.
pub fn administrators(edge: &Edge, account: &BareJid) -> bool {
    edge.administrators.contains(account)
}

/// One stage of a command that is run.
pub struct Call {
    /// What the node's sessions share.
    pub edge: Arc<Edge>,
    /// The account that runs it.
    pub account: BareJid,
    /// The domain that it was asked of.
    pub domain: BareJid,
    /// How many forms have been filled in, this one included.
    pub stage: u8,
    /// What has been filled in.
    pub form: Option<Form>,
    /// What the stage before has carried on. The client may have read it, and cannot have changed it.
    pub carried: String,
    /// When the command was begun, in milliseconds since 1970.
    pub begun: u64,
    /// A random number, the same for all stages.
    pub number: u64,
}

impl Call {
    /// What has been filled in, if it is a form of this type.
    pub fn submitted(&self, form_type: &str) -> Result<&Form, StanzaError> {
        let Some(form) = &self.form else {
            return Err(bad_payload("a form is needed"));
        };
        let submitted = matches!(form.kind, FormType::Submit | FormType::Cancel);
        if !submitted || form.form_type().is_some_and(|kind| kind != form_type) {
            return Err(bad_payload(
                "it is another form than the one that is to be filled in",
            ));
        }
        let sizes = form.fields.iter().map(|field| {
            field.var.len()
                + field
                    .values
                    .iter()
                    .map(|value| 1 + value.len())
                    .sum::<usize>()
        });
        match sizes.sum::<usize>() <= MOST_SUBMITTED {
            true => Ok(form),
            false => Err(StanzaError::new(Condition::PolicyViolation)),
        }
    }
}

/// What a stage comes to.
pub enum Outcome {
    /// A form is to be filled in.
    Ask(Ask),
    /// It is over.
    Done(Done),
}

impl Outcome {
    /// A form that is to be filled in, and then it is over.
    pub fn ask(form: Form) -> Self {
        Self::Ask(Ask {
            form,
            last: true,
            carried: String::new(),
        })
    }

    /// It is over, and there is no more to say.
    pub fn done() -> Self {
        Self::Done(Done::default())
    }
}

/// A form that is to be filled in.
pub struct Ask {
    /// The form.
    pub form: Form,
    /// With it the command is over; otherwise more is asked.
    pub last: bool,
    /// What the next stage is to know: at most [`MOST_CARRIED`] bytes, and no secrets.
    pub carried: String,
}

/// What has come of a command.
#[derive(Default)]
pub struct Done {
    /// An answer, such as a form.
    pub payload: Option<Element>,
    /// What people are told.
    pub note: Option<String>,
    /// What happens once the result is on its way.
    pub behind: Vec<Action>,
}

/// All commands, by their nodes.
#[derive(Default)]
pub struct Commands(BTreeMap<&'static str, Command>);

impl Commands {
    /// One more; `false` if there is one of its node.
    pub(super) fn add(&mut self, command: Command) -> bool {
        self.0.insert(command.node, command).is_none()
    }

    /// The command of a node.
    pub fn of(&self, node: &str) -> Option<&Command> {
        self.0.get(node)
    }

    /// Those that the account may run, as items of the domain.
    pub fn items(&self, edge: &Edge, account: &BareJid, domain: &BareJid) -> Vec<Item> {
        let all = self.0.values();
        let permitted = all.filter(|command| command.permits(edge, account));
        let item = |command: &Command| Item {
            jid: domain.to_string(),
            node: Some(command.node.to_owned()),
            name: Some(command.name.to_owned()),
        };
        permitted.map(item).collect()
    }

    /// What a node is for the account, if it is a command that it may run, or the list of them.
    pub fn identity(&self, edge: &Edge, account: &BareJid, node: &str) -> Option<Identity> {
        if node == ns::COMMANDS {
            return Some(Identity::new("automation", "command-list", "Commands"));
        }
        let command = self.of(node).filter(|it| it.permits(edge, account))?;
        Some(Identity::new("automation", "command-node", command.name))
    }
}

/// What was filled in does not fit, for this reason (AD-1).
pub fn bad_payload(why: impl Into<std::borrow::Cow<'static, str>>) -> StanzaError {
    bad_request("bad-payload").with_text(why)
}

/// A request to run a command that cannot be right (AD-1).
pub fn bad_request(detail: &'static str) -> StanzaError {
    let detail = Element::new(detail, ns::COMMANDS);
    StanzaError::new(Condition::BadRequest).with_application(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::registry::Claim;
    use crate::hooks::{Registry, Service, Setup};

    fn register(setup: &mut Setup<'_>) {
        setup.command(Command::new("urn:x", "x", |_, _| true, run));
    }

    async fn run(_: Call) -> Result<Outcome, StanzaError> {
        Ok(Outcome::done())
    }

    #[test]
    fn a_second_command_of_a_node_stops_the_start() {
        let twice = [
            Service::new("one", &[], register),
            Service::new("two", &[], register),
        ];
        let clash = Registry::new(&twice, &crate::config::Config::default());
        let claim = clash.err().map(|clash| clash.claim);
        assert_eq!(claim, Some(Claim::Command { node: "urn:x" }));
    }
}
