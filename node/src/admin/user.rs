//! `holdfast user`: accounts, straight in the configured database, whether a node runs or not.

use std::io::{self, BufRead as _, Write};
use std::path::PathBuf;

use clap::Subcommand;
use proto::BareJid;
use proto::jid::JidError;

use super::export::{self, OutputError};
use super::import::{self, ImportError};
use super::invitation::{self, InvitationCommand};
use crate::auth::Rejected;
use crate::auth::change::{self, AccountError};
use crate::auth::invite::InviteError;
use crate::config::Config;
use crate::hooks::{Clash, Registry};
use crate::services;
use crate::storage::{Ends, Storage, StorageError};

/// How many accounts are read at a time for a list.
const PAGE: u32 = 500;
/// The most bytes of a password that are read. A longer input is a mistake, such as a wrong file.
const LONGEST: u64 = 1024;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an account; the password comes from a prompt or standard input
    Add {
        /// The account, e.g. alice@example.org
        jid: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give an account a new password
    Passwd {
        /// The account
        jid: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove an account with its roster, archive and everything else of its own
    Remove {
        /// The account
        jid: String,
        /// Do not ask first
        #[arg(long)]
        yes: bool,
    },
    /// Lock an account: nobody can log in, and its sessions end; nothing of it is lost
    Disable {
        /// The account
        jid: String,
    },
    /// Unlock an account
    Enable {
        /// The account
        jid: String,
    },
    /// List accounts
    List {
        /// Only those of this domain
        domain: Option<String>,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Make the accounts of a file: CSV with lines of `jid,password`, or XEP-0227 with all that is theirs
    Import {
        /// The file; - is standard input
        file: PathBuf,
    },
    /// Write all that is kept of an account, in XEP-0227
    Export {
        /// The account
        jid: String,
        /// Into this new file, which only you may read; by default, or with -, to standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// With the keys that its password was turned into: whoever has them may guess it without asking
        #[arg(long)]
        with_keys: bool,
    },
    /// Invitations.
    #[command(flatten)]
    Invitation(InvitationCommand),
}

/// Why a command about accounts failed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The text is no address of an account.
    #[error("{jid:?} is not an account's address such as alice@example.org: {source}")]
    Address {
        /// The text that was given.
        jid: String,
        /// What is wrong with it.
        source: JidError,
    },
    /// The address has no part before the `@`.
    #[error("{0:?} is a server's address; an account's looks like alice@{0}")]
    NoAccount(String),
    /// Accounts of other domains would be of no use.
    #[error("{domain} is not served here; `domain` in the configuration says {}", served.join(", "))]
    NotServed {
        /// The address's domain.
        domain: String,
        /// The configured ones.
        served: Vec<String>,
    },
    /// There is such an account.
    #[error("{0} exists already; `holdfast user passwd {0}` gives it a new password")]
    Exists(BareJid),
    /// There is no such account.
    #[error("there is no account {0}")]
    Missing(BareJid),
    /// The removal was not confirmed.
    #[error("{0} stays: its address was not typed; --yes removes it without a question")]
    NotConfirmed(BareJid),
    /// The password cannot be one.
    #[error(transparent)]
    Password(#[from] Rejected),
    /// An invitation would be of no use.
    #[error(
        "nobody could use an invitation: `auth.registration` is off; \"invited\" lets those in who have one"
    )]
    RegistrationOff,
    /// The invitation cannot be made.
    #[error(transparent)]
    Invite(InviteError),
    /// There is no such invitation.
    #[error("there is no invitation {0}; `holdfast user invitations` lists those that there are")]
    NoInvitation(String),
    /// The two entries at the prompt differ.
    #[error("the two passwords differ; nothing was changed")]
    Mismatch,
    /// There is no terminal, or standard input ended.
    #[error("cannot read the password: {0}; without a terminal use --password-stdin")]
    Prompt(#[source] io::Error),
    /// The process ends.
    #[error("interrupted")]
    Interrupted,
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[source] io::Error),
    /// The file of accounts.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The file of one account.
    #[error(transparent)]
    Export(#[from] OutputError),
    /// Services do not fit together, which no configuration can cause.
    #[error(transparent)]
    Services(#[from] Clash),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<AccountError> for UserError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Exists(jid) => Self::Exists(jid),
            AccountError::Missing(jid) => Self::Missing(jid),
            AccountError::Password(rejected) => Self::Password(rejected),
            AccountError::Interrupted => Self::Interrupted,
            AccountError::Storage(error) => Self::Storage(error),
        }
    }
}

/// Carries a command out and tells about it on `out`.
pub async fn run(
    config: &Config,
    command: UserCommand,
    now: u64,
    out: &mut (dyn Write + Send),
) -> Result<(), UserError> {
    let storage = Storage::open(config.storage.url(), &services::needs().schema).await?;
    let done = carry_out(config, &storage, command, now, out).await;
    storage.close().await;
    done
}

async fn exists(storage: &Storage, jid: &BareJid) -> Result<bool, UserError> {
    let keys = storage.account_keys(jid.local().unwrap_or_default(), jid.domain());
    Ok(keys.await?.is_some())
}

async fn carry_out(
    config: &Config,
    storage: &Storage,
    command: UserCommand,
    now: u64,
    out: &mut (dyn Write + Send),
) -> Result<(), UserError> {
    match command {
        UserCommand::Add {
            jid,
            password_stdin,
        } => {
            let jid = served(config, &jid)?;
            // This is checked before the prompt, so that nobody types a password in vain.
            if exists(storage, &jid).await? {
                return Err(UserError::Exists(jid));
            }
            change::add(storage, &jid, password(&jid, password_stdin)?, now).await?;
            writeln!(out, "{jid} is made.").map_err(UserError::Output)
        }
        UserCommand::Passwd {
            jid,
            password_stdin,
        } => {
            let jid = account(&jid)?;
            if !exists(storage, &jid).await? {
                return Err(UserError::Missing(jid));
            }
            change::set_password(storage, &jid, password(&jid, password_stdin)?, Ends::ALL).await?;
            writeln!(out, "{jid} has a new password.").map_err(UserError::Output)
        }
        UserCommand::Remove { jid, yes } => {
            let jid = account(&jid)?;
            if !yes {
                confirm_removal(storage, &jid).await?;
            }
            change::remove(storage, &jid, now, Ends::ALL).await?;
            writeln!(out, "{jid} is removed.").map_err(UserError::Output)
        }
        UserCommand::Disable { jid } => set_disabled(storage, &jid, true, out).await,
        UserCommand::Enable { jid } => set_disabled(storage, &jid, false, out).await,
        UserCommand::List { domain, json } => list(storage, domain, json, out).await,
        UserCommand::Import { file } => import::run(config, storage, &file, now, out).await,
        UserCommand::Export {
            jid,
            output,
            with_keys,
        } => {
            let registry = Registry::new(services::ALL, config)?;
            let account = (&account(&jid)?, with_keys);
            export::run(&registry, storage, account, output.as_deref(), out).await
        }
        UserCommand::Invitation(command) => {
            invitation::run(config, storage, command, now, out).await
        }
    }
}

async fn set_disabled(
    storage: &Storage,
    jid: &str,
    disabled: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), UserError> {
    let jid = account(jid)?;
    change::set_disabled(storage, &jid, disabled).await?;
    let state = if disabled { "disabled" } else { "enabled" };
    writeln!(out, "{jid} is {state}.").map_err(UserError::Output)
}

/// Has the operator confirm a removal by typing the address, since an archive cannot be brought back.
async fn confirm_removal(storage: &Storage, jid: &BareJid) -> Result<(), UserError> {
    let (local, domain) = (jid.local().unwrap_or_default(), jid.domain());
    if storage.account_keys(local, domain).await?.is_none() {
        return Err(UserError::Missing(jid.clone()));
    }
    let question = format!(
        "This removes {jid} with its roster and its archive, for ever. Type the address to go on: "
    );
    write!(io::stderr(), "{question}").map_err(UserError::Output)?;
    let mut line = String::new();
    let read = io::Read::take(io::stdin().lock(), LONGEST).read_line(&mut line);
    read.map_err(UserError::Prompt)?;
    match BareJid::new(line.trim()).is_ok_and(|typed| typed == *jid) {
        true => Ok(()),
        false => Err(UserError::NotConfirmed(jid.clone())),
    }
}

/// Parses the address of an account.
pub(super) fn account(text: &str) -> Result<BareJid, UserError> {
    let jid = BareJid::new(text).map_err(|source| UserError::Address {
        jid: text.to_owned(),
        source,
    })?;
    if jid.local().is_none() {
        return Err(UserError::NoAccount(jid.to_string()));
    }
    Ok(jid)
}

/// Parses the address of an account of a domain that is served here.
pub(super) fn served(config: &Config, text: &str) -> Result<BareJid, UserError> {
    let jid = account(text)?;
    if config.domains().iter().any(|domain| domain == jid.domain()) {
        return Ok(jid);
    }
    let domain = jid.domain().to_owned();
    Err(UserError::NotServed {
        domain,
        served: config.domains().to_vec(),
    })
}

fn password(jid: &BareJid, from_stdin: bool) -> Result<String, UserError> {
    if from_stdin {
        let mut line = String::new();
        let mut input = io::Read::take(io::stdin().lock(), LONGEST);
        input.read_line(&mut line).map_err(UserError::Prompt)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let first =
        rpassword::prompt_password(format!("Password for {jid}: ")).map_err(UserError::Prompt)?;
    let again = rpassword::prompt_password("Once more: ").map_err(UserError::Prompt)?;
    if first == again {
        Ok(first)
    } else {
        Err(UserError::Mismatch)
    }
}

async fn list(
    storage: &Storage,
    domain: Option<String>,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), UserError> {
    let domains = match domain {
        Some(domain) => vec![domain],
        None => storage.account_domains().await?,
    };
    for domain in domains {
        let mut after = String::new();
        loop {
            let page = storage.accounts(&domain, &after, PAGE).await?;
            for account in &page {
                let line = if json {
                    let (jid, created) = (account.jid.as_str(), account.created);
                    serde_json::json!({"jid": jid, "created": created, "disabled": account.disabled}).to_string()
                } else if account.disabled {
                    format!("{} (disabled)", account.jid)
                } else {
                    account.jid.to_string()
                };
                writeln!(out, "{line}").map_err(UserError::Output)?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => {
                    after = last.jid.local().unwrap_or_default().to_owned();
                }
                _ => break,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::derive_keys;
    use crate::storage::testing;

    async fn run_on(storage: &Storage, command: UserCommand) -> Result<String, UserError> {
        let config = Config::load(
            &services::needs().tables,
            None,
            &["domain=example.org".to_owned()],
            [],
        )
        .unwrap();
        let mut out = Vec::new();
        carry_out(&config, storage, command, 7, &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    async fn storage() -> Storage {
        let storage = testing::in_memory().await;
        let keys = derive_keys("secret").unwrap();
        for name in ["alice@example.org", "bob@example.org", "eve@example.net"] {
            storage
                .create_account(&BareJid::new(name).unwrap(), &keys, 7)
                .await
                .unwrap();
        }
        storage
    }

    #[tokio::test]
    async fn a_list_shows_every_account_of_a_domain_or_of_all() {
        let storage = storage().await;
        let list = |domain: Option<&str>, json| UserCommand::List {
            domain: domain.map(str::to_owned),
            json,
        };
        let all = run_on(&storage, list(None, false)).await.unwrap();
        assert_eq!(all, "eve@example.net\nalice@example.org\nbob@example.org\n");
        let one = run_on(&storage, list(Some("example.net"), true))
            .await
            .unwrap();
        assert_eq!(
            one,
            "{\"created\":7,\"disabled\":false,\"jid\":\"eve@example.net\"}\n"
        );
    }

    #[tokio::test]
    async fn a_disabled_account_is_listed_as_such_until_it_is_enabled() {
        let storage = storage().await;
        let jid = || "eve@example.net".to_owned();
        let list = || UserCommand::List {
            domain: Some("example.net".to_owned()),
            json: false,
        };
        let disable = UserCommand::Disable { jid: jid() };
        assert_eq!(
            run_on(&storage, disable).await.unwrap(),
            "eve@example.net is disabled.\n"
        );
        let listed = run_on(&storage, list()).await.unwrap();
        assert_eq!(listed, "eve@example.net (disabled)\n");
        let enable = UserCommand::Enable { jid: jid() };
        run_on(&storage, enable).await.unwrap();
        assert_eq!(run_on(&storage, list()).await.unwrap(), "eve@example.net\n");
        let missing = UserCommand::Disable {
            jid: "mallory@example.org".to_owned(),
        };
        let refused = run_on(&storage, missing).await;
        assert!(matches!(refused, Err(UserError::Missing(_))));
    }

    #[tokio::test]
    async fn what_does_not_exist_is_not_removed() {
        let storage = storage().await;
        let remove = |jid: &str| UserCommand::Remove {
            jid: jid.to_owned(),
            yes: true,
        };
        assert!(run_on(&storage, remove("alice@example.org")).await.is_ok());
        let again = run_on(&storage, remove("alice@example.org")).await;
        assert!(matches!(again, Err(UserError::Missing(_))));
    }

    #[tokio::test]
    async fn an_account_that_exists_is_refused_before_the_prompt() {
        let add = UserCommand::Add {
            jid: "Alice@example.org".to_owned(),
            password_stdin: false,
        };
        assert!(matches!(
            run_on(&storage().await, add).await,
            Err(UserError::Exists(_))
        ));
    }

    #[test]
    fn an_address_must_be_an_account_of_a_served_domain() {
        let config = Config::load(
            &services::needs().tables,
            None,
            &["domains=a.example,b.example".to_owned()],
            [],
        )
        .unwrap();
        assert_eq!(
            served(&config, "Me@B.example").unwrap().as_str(),
            "me@b.example"
        );
        assert!(matches!(
            served(&config, "me@c.example"),
            Err(UserError::NotServed { .. })
        ));
        assert!(matches!(
            served(&config, "b.example"),
            Err(UserError::NoAccount(_))
        ));
        assert!(matches!(
            served(&config, "me@b.example/x"),
            Err(UserError::Address { .. })
        ));
    }
}
