//! `holdfast user invite`, `invitations` and `uninvite`: who may make an account although not everybody may.

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use proto::BareJid;

use super::user::{UserError, served};
use crate::auth::invite::{self, InviteError, Wish};
use crate::clock;
use crate::config::{Config, Registration, parse_duration};
use crate::storage::{Invitation, Purpose, Storage};

/// How many are read at a time for a list.
const PAGE: u32 = 500;

/// What to do with invitations.
#[derive(Debug, Subcommand)]
pub enum InvitationCommand {
    /// Invite somebody to make an account: prints what to give to them
    Invite {
        /// The account's name, e.g. alice; nobody else gets it meanwhile
        #[arg(long)]
        name: Option<String>,
        /// For how long, e.g. 12h
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration)]
        ttl: Duration,
        /// Who invites: both become contacts
        #[arg(long, value_name = "JID")]
        contact: Option<String>,
        /// Where the account will be; by default where who invites is, or the first domain
        #[arg(long)]
        domain: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List invitations that nobody has used
    Invitations {
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Take an invitation back
    Uninvite {
        /// Its id, as `invitations` shows it
        id: String,
    },
}

/// Carries a command out.
pub(super) async fn run(
    config: &Config,
    storage: &Storage,
    command: InvitationCommand,
    now: u64,
    out: &mut (dyn Write + Send),
) -> Result<(), UserError> {
    match command {
        InvitationCommand::Invite {
            name,
            ttl,
            contact,
            domain,
            json,
        } => {
            if config.auth.registration == Registration::Off {
                return Err(UserError::RegistrationOff);
            }
            let wish = wish(config, name, contact, domain, ttl)?;
            let page = config.invite_page();
            let issued = invite::invite(storage, page.as_deref(), wish, now).await?;
            let until = clock::text(issued.expires).unwrap_or_default();
            let (id, uri, link) = (&issued.id, &issued.uri, &issued.link);
            if json {
                let line =
                    serde_json::json!({"id": id, "uri": uri, "link": link, "expires": until});
                return writeln!(out, "{line}").map_err(UserError::Output);
            }
            let link = link.iter().map(|link| format!("{link}\n"));
            let text = format!(
                "{uri}\n{}Good for one account, until {until}. `holdfast user uninvite {id}` takes it back.",
                link.collect::<String>()
            );
            writeln!(out, "{text}").map_err(UserError::Output)
        }
        InvitationCommand::Invitations { json } => list(storage, json, now, out).await,
        InvitationCommand::Uninvite { id } => match storage.remove_invitation(&id).await? {
            true => writeln!(out, "{id} is taken back.").map_err(UserError::Output),
            false => Err(UserError::NoInvitation(id)),
        },
    }
}

fn wish(
    config: &Config,
    name: Option<String>,
    contact: Option<String>,
    domain: Option<String>,
    lifetime: Duration,
) -> Result<Wish, UserError> {
    let contact = contact.map(|jid| served(config, &jid)).transpose()?;
    let first = config.domains().first().cloned().unwrap_or_default();
    let of_contact = contact.as_ref().map(|contact| contact.domain().to_owned());
    let domain = domain.or(of_contact).unwrap_or(first);
    // Any account of it will do to see whether it is served here.
    let domain = served(config, &format!("x@{domain}"))?.domain().to_owned();
    let named = |name: String| match name.contains('@') {
        true => served(config, &name),
        false => served(config, &format!("{name}@{domain}")),
    };
    let reserved = name.map(named).transpose()?;
    Ok(Wish {
        domain,
        reserved,
        contact,
        purpose: Purpose::Account,
        inviter: None,
        lifetime,
    })
}

async fn list(
    storage: &Storage,
    json: bool,
    now: u64,
    out: &mut (dyn Write + Send),
) -> Result<(), UserError> {
    let mut after = String::new();
    loop {
        let page = storage.invitations(&after, PAGE, now).await?;
        for invitation in &page {
            let line = line(invitation, json);
            writeln!(out, "{line}").map_err(UserError::Output)?;
        }
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after.clone_from(&last.id),
            _ => return Ok(()),
        }
    }
}

fn line(invitation: &Invitation, json: bool) -> String {
    let until = clock::text(invitation.expires).unwrap_or_default();
    let name = |jid: &Option<BareJid>| jid.as_ref().map(|jid| jid.as_str().to_owned());
    let (reserved, contact) = (name(&invitation.reserved), name(&invitation.contact));
    let inviter = name(&invitation.inviter);
    let (id, domain) = (&invitation.id, &invitation.domain);
    if json {
        let made = clock::text(invitation.created);
        return serde_json::json!({
            "id": id, "domain": domain, "name": reserved, "contact": contact, "inviter": inviter,
            "created": made, "expires": until
        })
        .to_string();
    }
    let somebody = match invitation.purpose {
        Purpose::Account => format!("somebody at {domain}"),
        Purpose::Contact | Purpose::Either => "a contact".to_owned(),
    };
    let whom = reserved.unwrap_or(somebody);
    let by = inviter.or(contact).map(|contact| format!(" by {contact}"));
    format!("{id} {whom}{}, until {until}", by.unwrap_or_default())
}

impl From<InviteError> for UserError {
    fn from(error: InviteError) -> Self {
        match error {
            InviteError::Storage(error) => Self::Storage(error),
            error => Self::Invite(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services;
    use crate::storage::{AccountKeys, testing};

    fn config(sets: &[&str]) -> Config {
        let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
        Config::load(&services::needs().tables, None, &sets, []).unwrap()
    }

    fn invited() -> Config {
        config(&[
            "domains=example.org,example.net",
            "auth.registration=invited",
            "web.listen=127.0.0.1:0",
            "web.url=wss://chat.example.org:5443/ws",
        ])
    }

    fn invite(name: Option<&str>, contact: Option<&str>, json: bool) -> InvitationCommand {
        InvitationCommand::Invite {
            name: name.map(str::to_owned),
            ttl: Duration::from_secs(7 * 86_400),
            contact: contact.map(str::to_owned),
            domain: None,
            json,
        }
    }

    async fn run_on(
        config: &Config,
        storage: &Storage,
        command: InvitationCommand,
    ) -> Result<String, UserError> {
        let mut out = Vec::new();
        run(config, storage, command, 1_000, &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn re_4_an_invitation_is_made_listed_and_taken_back() {
        let storage = testing::in_memory().await;
        let carol = BareJid::new("carol@example.net").unwrap();
        let keys = AccountKeys::default();
        storage.create_account(&carol, &keys, 0).await.unwrap();
        let config = invited();
        let by_carol = invite(Some("alice"), Some("carol@example.net"), true);
        let made = run_on(&config, &storage, by_carol).await.unwrap();
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let uri = made["uri"].as_str().unwrap();
        assert!(
            uri.starts_with("xmpp:alice@example.net?register;preauth="),
            "{uri}"
        );
        let link = made["link"].as_str().unwrap();
        let page = "https://chat.example.org:5443/invite#alice@example.net/";
        assert!(link.starts_with(page), "{link}");
        let id = made["id"].as_str().unwrap().to_owned();
        let list = || InvitationCommand::Invitations { json: false };
        let listed = run_on(&config, &storage, list()).await.unwrap();
        let until = "1970-01-08T00:00:01Z";
        let expect = format!("{id} alice@example.net by carol@example.net, until {until}\n");
        assert_eq!(listed, expect);
        let back = || InvitationCommand::Uninvite { id: id.clone() };
        let text = run_on(&config, &storage, back()).await.unwrap();
        assert_eq!(text, format!("{id} is taken back.\n"));
        let again = run_on(&config, &storage, back()).await;
        assert!(matches!(again, Err(UserError::NoInvitation(_))));
        assert_eq!(run_on(&config, &storage, list()).await.unwrap(), "");
    }

    #[tokio::test]
    async fn re_4_an_invitation_without_a_name_is_for_the_first_domain() {
        let storage = testing::in_memory().await;
        let text = run_on(&invited(), &storage, invite(None, None, false)).await;
        let text = text.unwrap();
        let mut lines = text.lines();
        let (uri, link) = (lines.next().unwrap(), lines.next().unwrap());
        assert!(
            uri.starts_with("xmpp:example.org?register;preauth="),
            "{uri}"
        );
        assert!(link.contains("/invite#example.org/"), "{link}");
        assert!(lines.next().unwrap().contains("holdfast user uninvite "));
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused() {
        let storage = testing::in_memory().await;
        let off = run_on(&config(&[]), &storage, invite(None, None, false)).await;
        assert!(matches!(off, Err(UserError::RegistrationOff)));
        for (name, contact) in [
            (Some("a b"), None),
            (Some("alice@example.com"), None),
            (None, Some("nobody@example.org")),
            (None, Some("example.org")),
        ] {
            let refused = run_on(&invited(), &storage, invite(name, contact, false)).await;
            assert!(refused.is_err(), "{name:?} {contact:?}");
        }
    }
}
