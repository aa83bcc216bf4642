//! XEP-0133: Service Administration, by the accounts that the configuration names (`admin.jids`).
//!
//! What changes an account is what `holdfast user` does, so that it holds for all nodes: the database knows it at once,
//! and sessions that rest on what was end within seconds, wherever they are. What ends a session is an entry of its shard.
//!
//! Some of the document's commands are not here. A node stops by a signal, and what started it starts it again: to
//! `shutdown` or `restart` a cluster by a stanza would stop what keeps it running. `edit-admin` would change a file of
//! each node. Whether somebody is `active` or `idle` is for no shard to know.

mod accounts;
mod fields;
mod reports;

use crate::hooks::command::administrators;
use crate::hooks::{Command, Service, Setup, Xep};

/// The service.
pub const SERVICE: Service = Service::new("administration", &[Xep(133, "1.3.1")], register);

/// The node of a command (AD-2).
macro_rules! node {
    ($name:literal) => {
        concat!("http://jabber.org/protocol/admin#", $name)
    };
}

fn register(setup: &mut Setup<'_>) {
    for command in of_accounts().into_iter().chain(of_reports()) {
        setup.command(command);
    }
}

fn of_accounts() -> [Command; 6] {
    let all = administrators;
    let disable = |call| accounts::set_disabled(call, true);
    let enable = |call| accounts::set_disabled(call, false);
    let change = "Change a user's password";
    let (set_password, end) = (accounts::change_password, accounts::end_session);
    [
        Command::new(node!("add-user"), "Add a user", all, accounts::add),
        Command::new(node!("delete-user"), "Delete users", all, accounts::delete),
        Command::new(node!("disable-user"), "Disable users", all, disable),
        Command::new(node!("reenable-user"), "Enable users again", all, enable),
        Command::new(node!("change-user-password"), change, all, set_password),
        Command::new(node!("end-user-session"), "End sessions of users", all, end),
    ]
}

fn of_reports() -> [Command; 7] {
    let all = administrators;
    let last = "Show when a user was here last";
    let (count, list) = (reports::count_registered, reports::list_registered);
    let (count_online, list_online) = (reports::count_online, reports::list_online);
    [
        Command::new(
            node!("get-user-roster"),
            "Show a user's roster",
            all,
            reports::roster,
        ),
        Command::new(node!("get-user-lastlogin"), last, all, reports::last_login),
        Command::new(
            node!("user-stats"),
            "Show numbers about a user",
            all,
            reports::statistics,
        ),
        Command::new(
            node!("get-registered-users-num"),
            "Count registered users",
            all,
            count,
        ),
        Command::new(
            node!("get-registered-users-list"),
            "List registered users",
            all,
            list,
        ),
        Command::new(
            node!("get-online-users-num"),
            "Count users who are online",
            all,
            count_online,
        ),
        Command::new(
            node!("get-online-users-list"),
            "List users who are online",
            all,
            list_online,
        ),
    ]
}

#[cfg(test)]
mod tests;
