//! XEP-0401: users invite people, with commands (XEP-0050). What is made is what `holdfast user invite` makes, and what it
//! leads to is elsewhere: an account at its registration, a contact at a subscription request (XEP-0379).
//!
//! # Invariants
//!
//! 1. Without registration, and without leave of the operator, an invitation leads to no account.
//! 2. Of one user there are a bounded number of them at a time.

mod settings;

use std::time::Duration;

use proto::BareJid;
use proto::payload::form::{Field, Form, FormType};
use proto::stanza::error::{Condition, ErrorType, StanzaError};

use self::settings::{Invitations, Inviters, Quotas};
use crate::auth::invite::{self, InviteError, Inviter, Issued, MOST_OF_ONE, Wish};
use crate::clock;
use crate::config::Registration;
use crate::hooks::command::{Done, Outcome, administrators, bad_payload};
use crate::hooks::{Call, Command, Edge, Service, Setup, Xep, failure};
use crate::storage::Purpose;

/// The service.
pub const SERVICE: Service = Service::new(
    "invitations",
    &[Xep(379, "0.3.3"), Xep(401, "0.6.0")],
    register,
);

const INVITE: &str = "urn:xmpp:invite#invite";
const CREATE: &str = "urn:xmpp:invite#create-account";
/// The type of the form that has an invitation.
const INVITATION: &str = "urn:xmpp:invite#invitation";

/// What is configured.
#[derive(Clone, Debug)]
struct Policy {
    registration: Registration,
    inviters: Inviters,
    lifetime: Duration,
    most: u64,
    page: Option<String>,
}

fn register(setup: &mut Setup<'_>) {
    let invitations: Invitations = setup.config();
    let quotas: Quotas = setup.config();
    let (registration, page) = setup.registration();
    let policy = Policy {
        registration,
        inviters: invitations.invite,
        lifetime: invitations.invitation_lifetime,
        most: quotas.invitations,
        page,
    };
    let of_invite = policy.clone();
    let name = "Invite somebody to be a contact";
    let permits = match policy.most {
        0 => administrators,
        _ => everybody,
    };
    setup.command(Command::new(INVITE, name, permits, move |call| {
        invite(of_invite.clone(), call)
    }));
    let permits = match (policy.registration, policy.inviters) {
        (Registration::Off, _) | (_, Inviters::Nobody) => return,
        (_, Inviters::Users) => permits,
        (_, Inviters::Admins) => administrators,
    };
    let name = "Invite somebody to make an account";
    setup.command(Command::new(CREATE, name, permits, move |call| {
        create(policy.clone(), call)
    }));
}

fn everybody(_: &Edge, _: &BareJid) -> bool {
    true
}

impl Policy {
    /// Whether an invitation of this account leads to another one. Where anybody may register it is known as well who
    /// was invited.
    fn leads_to_account(&self, call: &Call) -> bool {
        match (self.registration, self.inviters) {
            (Registration::Off, _) => false,
            (Registration::Open, _) | (Registration::Invited, Inviters::Users) => true,
            (Registration::Invited, Inviters::Admins) => administrators(&call.edge, &call.account),
            (Registration::Invited, Inviters::Nobody) => false,
        }
    }

    /// Who asks. Administrators may have as many as there may be of anybody.
    fn inviter(&self, call: &Call) -> Inviter {
        let most = match administrators(&call.edge, &call.account) {
            true => MOST_OF_ONE,
            false => self.most,
        };
        Inviter {
            account: call.account.clone(),
            most,
            number: call.number,
        }
    }
}

/// An invitation to be a contact, and perhaps to make an account first, at the same domain (RE-5).
async fn invite(policy: Policy, call: Call) -> Result<Outcome, StanzaError> {
    let purpose = match policy.leads_to_account(&call) {
        true => Purpose::Either,
        false => Purpose::Contact,
    };
    let wish = Wish {
        domain: call.account.domain().to_owned(),
        reserved: None,
        contact: Some(call.account.clone()),
        purpose,
        inviter: Some(policy.inviter(&call)),
        lifetime: policy.lifetime,
    };
    issue(&policy, &call, wish).await
}

/// An invitation to make an account, perhaps of this name, and perhaps to be a contact then (RE-5).
async fn create(policy: Policy, call: Call) -> Result<Outcome, StanzaError> {
    if call.stage == 0 {
        return Ok(Outcome::ask(asked()));
    }
    let form = call.submitted(CREATE)?;
    let domain = call.domain.domain();
    // Who is a user of one domain has no say in the names of another.
    if domain != call.account.domain() && !administrators(&call.edge, &call.account) {
        let text = "accounts of another domain are for administrators to make";
        return Err(StanzaError::new(Condition::Forbidden).with_text(text));
    }
    let subscribes = matches!(form.value("roster-subscription"), Some("1" | "true"));
    let wish = Wish {
        domain: domain.to_owned(),
        reserved: reserved(form, domain)?,
        contact: subscribes.then(|| call.account.clone()),
        purpose: Purpose::Account,
        inviter: Some(policy.inviter(&call)),
        lifetime: policy.lifetime,
    };
    issue(&policy, &call, wish).await
}

fn asked() -> Form {
    let words = "Without a name whoever is invited chooses one. Who submits this again gets another invitation, and the \
                 first is void.";
    let name = Field::new("username", "text-single", "The name of the account");
    let label = "The account and yours become contacts";
    let contact = Field::new("roster-subscription", "boolean", label).with_values(["0"]);
    let form =
        Form::new(FormType::Form, CREATE).titled("Invite somebody to make an account", words);
    form.asking(name).asking(contact)
}

fn reserved(form: &Form, domain: &str) -> Result<Option<BareJid>, StanzaError> {
    let name = form.value("username").unwrap_or_default().trim();
    if name.is_empty() {
        return Ok(None);
    }
    let local = proto::jid::prepare_local(name);
    let local = local.map_err(|_| bad_payload("this cannot be a name"))?;
    let jid = BareJid::from_parts(Some(&local), domain);
    Ok(Some(jid.map_err(|_| bad_payload("this cannot be a name"))?))
}

async fn issue(policy: &Policy, call: &Call, wish: Wish) -> Result<Outcome, StanzaError> {
    let (edge, page) = (&call.edge, policy.page.as_deref());
    let issued = invite::invite(&edge.storage, page, wish, (edge.now)()).await;
    let issued = issued.map_err(|error| refusal(&error))?;
    tracing::info!(account = %call.account, id = issued.id, "an invitation was made");
    Ok(Outcome::Done(Done {
        payload: Some(told(&issued).to_element()),
        ..Done::default()
    }))
}

fn told(issued: &Issued) -> Form {
    let text = |form: Form, var: &str, text: &str| form.with_typed(var, "text-single", [text]);
    let mut form = text(Form::new(FormType::Result, INVITATION), "uri", &issued.uri);
    if let Some(link) = &issued.link {
        form = text(form, "landing-url", link);
    }
    let until = clock::text(issued.expires);
    until
        .iter()
        .fold(form, |form, until| text(form, "expire", until))
}

fn refusal(error: &InviteError) -> StanzaError {
    let with = |condition| StanzaError::new(condition).with_text(error.to_string());
    match error {
        InviteError::NameTaken(_) => with(Condition::Conflict),
        InviteError::TooMany => with(Condition::ResourceConstraint).with_type(ErrorType::Wait),
        InviteError::OtherDomain { .. } | InviteError::Lifetime => bad_payload(error.to_string()),
        // It is being removed, or was locked.
        InviteError::NoContact(_) => with(Condition::NotAllowed),
        InviteError::Storage(error) => failure(error),
    }
}

#[cfg(test)]
mod tests;
