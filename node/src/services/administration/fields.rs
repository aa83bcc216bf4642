//! The fields of the forms (XEP-0133 §8.2).

use proto::payload::form::{Field, Form, FormType};
use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Jid, ns};

use crate::hooks::Call;
use crate::hooks::command::bad_payload;

/// Accounts that one command may be about.
const MOST_ACCOUNTS: usize = 100;
/// Bytes of a password: the same as the command line reads.
const MOST_PASSWORD: usize = 1_024;
/// Items of a list, if no number is given or a larger one.
pub const MOST_ITEMS: u32 = 1_000;

/// A form that is to be filled in.
pub fn form(title: &str, instructions: &str) -> Form {
    Form::new(FormType::Form, ns::ADMIN).titled(title, instructions)
}

/// A form with results.
pub fn result() -> Form {
    Form::new(FormType::Result, ns::ADMIN)
}

/// Asks for an account.
pub fn one_account() -> Field {
    Field::new("accountjid", "jid-single", "The address of the account").required()
}

/// Asks for accounts.
pub fn accounts() -> Field {
    Field::new("accountjids", "jid-multi", "The addresses of the accounts").required()
}

/// Asks for a password.
pub fn password(var: &str, label: &str) -> Field {
    Field::new(var, "text-private", label).required()
}

/// Asks how many items there are to be.
pub fn most_items() -> Field {
    let options = ["25", "50", "75", "100", "150", "200", "none"];
    let field = Field::new("max_items", "list-single", "How many to show at most");
    field.with_options(options).with_values(["100"])
}

/// The addresses that were filled in, full or bare, each once.
pub fn read_sessions(call: &Call, form: &Form) -> Result<Vec<Jid>, StanzaError> {
    let mut jids: Vec<Jid> = Vec::new();
    // Some clients fill in the one for the other.
    let values = ["accountjids", "accountjid"].map(|var| form.values(var).unwrap_or_default());
    // A list may be given as lines of one value.
    let lines = values.concat();
    let lines = lines.iter().flat_map(|value| value.lines()).map(str::trim);
    for line in lines.filter(|line| !line.is_empty()) {
        let jid = Jid::new(line).map_err(|error| bad_payload(format!("{line:?}: {error}")))?;
        if jid.local().is_none() || !call.edge.serves(jid.domain()) {
            return Err(bad_payload(format!(
                "{jid} is not an account of this server"
            )));
        }
        if !jids.contains(&jid) {
            jids.push(jid);
        }
        if jids.len() > MOST_ACCOUNTS {
            return Err(bad_payload(format!("at most {MOST_ACCOUNTS} at a time")));
        }
    }
    match jids.is_empty() {
        true => Err(bad_payload("name an account")),
        false => Ok(jids),
    }
}

/// The accounts that were filled in.
pub fn read_accounts(call: &Call, form: &Form) -> Result<Vec<BareJid>, StanzaError> {
    let jids = read_sessions(call, form)?;
    match jids.iter().find(|jid| !jid.is_bare()) {
        Some(jid) => Err(bad_payload(format!("{jid} is a session, not an account"))),
        None => Ok(jids.iter().map(Jid::bare).collect()),
    }
}

/// The one account that was filled in.
pub fn read_account(call: &Call, form: &Form) -> Result<BareJid, StanzaError> {
    let mut jids = read_accounts(call, form)?.into_iter();
    match (jids.next(), jids.next()) {
        (Some(jid), None) => Ok(jid),
        _ => Err(bad_payload("one account at a time")),
    }
}

/// The password that was filled in, twice the same if it is asked for twice.
pub fn read_password(form: &Form) -> Result<String, StanzaError> {
    let password = form.value("password").unwrap_or_default();
    if form
        .value("password-verify")
        .is_some_and(|again| again != password)
    {
        return Err(bad_payload("the two passwords differ"));
    }
    match password.len() <= MOST_PASSWORD {
        true => Ok(password.to_owned()),
        false => Err(bad_payload("the password is too long")),
    }
}

/// How many items there are to be.
pub fn read_most(form: &Form) -> Result<u32, StanzaError> {
    match form.value("max_items") {
        None | Some("" | "none") => Ok(MOST_ITEMS),
        Some(number) => match number.parse() {
            Ok(number @ 1..) => Ok(MOST_ITEMS.min(number)),
            Ok(0) | Err(_) => Err(bad_payload("max_items is not a number of items")),
        },
    }
}

/// There is no such account.
pub fn not_there(jids: &[String]) -> StanzaError {
    let text = format!("there is no account {}", jids.join(", "));
    StanzaError::new(Condition::ItemNotFound).with_text(text)
}
