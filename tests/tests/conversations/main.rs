//! Scripted conversations, one for each group of rules. Each is written once and held three times: on one node, on three,
//! and on three of which the one dies (`kill -9`) in the middle of all conversations that leads the shard of their
//! accounts and has their clients. What a client has been told until then holds afterwards, and what was under way comes
//! to its end once.
//!
//! `HOLDFAST_CONVERSATION` names a group that is held alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accounts;
mod administration;
mod archive;
mod blocking;
mod inactive;
mod invitations;
mod life;
mod login;
mod messages;
mod nodes;
mod private;
mod push;
mod removal;
mod search;
mod services;
mod stream;
mod talk;
mod web;

use futures_util::future::{FutureExt as _, LocalBoxFuture, join_all};
use tests::bosh::Bosh;
use tests::web::Web;
use tokio::sync::Mutex;

use self::talk::{Stage, Talk, Way};

type Conversation = for<'a> fn(Talk<'a>) -> LocalBoxFuture<'a, ()>;

/// All conversations.
const GROUPS: [(&str, Conversation); 23] = [
    ("stream", |talk| stream::conversation(talk).boxed_local()),
    ("im", |talk| messages::conversation(talk).boxed_local()),
    ("carbons", |talk| messages::copies(talk).boxed_local()),
    ("blocking", |talk| {
        blocking::conversation(talk).boxed_local()
    }),
    ("pep", |talk| nodes::conversation(talk).boxed_local()),
    ("caps", |talk| nodes::capabilities(talk).boxed_local()),
    ("login", |talk| login::conversation(talk).boxed_local()),
    ("inactive", |talk| {
        inactive::conversation(talk).boxed_local()
    }),
    ("archive", |talk| archive::conversation(talk).boxed_local()),
    ("private", |talk| private::conversation(talk).boxed_local()),
    ("avatar", |talk| private::avatar(talk).boxed_local()),
    ("push", |talk| push::conversation(talk).boxed_local()),
    ("web", |talk| web::conversation::<Web>(talk).boxed_local()),
    ("bosh", |talk| web::conversation::<Bosh>(talk).boxed_local()),
    ("search", |talk| search::conversation(talk).boxed_local()),
    ("life", |talk| life::conversation(talk).boxed_local()),
    ("offline", |talk| life::waiting(talk).boxed_local()),
    ("accounts", |talk| {
        accounts::conversation(talk).boxed_local()
    }),
    ("removal", |talk| removal::conversation(talk).boxed_local()),
    ("invitations", |talk| {
        invitations::conversation(talk).boxed_local()
    }),
    (talk::ADMINISTRATION, |talk| {
        administration::conversation(talk).boxed_local()
    }),
    ("services", |talk| {
        services::conversation(talk).boxed_local()
    }),
    ("bookmarks", |talk| private::bookmarks(talk).boxed_local()),
];

/// Seven nodes at a time would be too slow for each other's patience on a small machine.
static ONE_WAY_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn hold(way: Way) {
    let _turn = ONE_WAY_AT_A_TIME.lock().await;
    let alone = std::env::var("HOLDFAST_CONVERSATION").ok();
    let mut groups = GROUPS.to_vec();
    groups.retain(|(name, _)| alone.as_ref().is_none_or(|alone| alone == name));
    let names: Vec<&str> = groups.iter().map(|(name, _)| *name).collect();
    let stage = Stage::set(way, &names).await;
    let held = groups
        .iter()
        .map(|(name, conversation)| conversation(stage.talk(name)));
    join_all(held).await;
    stage.check_killed();
}

#[tokio::test]
async fn conversations_on_one_node() {
    hold(Way::OneNode).await;
}

#[tokio::test]
async fn conversations_on_three_nodes() {
    hold(Way::ThreeNodes).await;
}

#[tokio::test]
async fn p1_p2_conversations_while_the_leader_of_their_accounts_shard_is_killed() {
    hold(Way::LeaderKilled).await;
}
