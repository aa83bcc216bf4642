//! Service administration by commands (XEP-0050, XEP-0133): a command that was begun at a node that dies goes on at
//! another one, and what was ordered has been done once.

use proto::ns;
use tests::client::PASSWORD;
use tests::command::{begin, completed, refused, run, stage, values};
use tests::login::can_log_in;
use tests::wire::DOMAIN;

use crate::talk::{Talk, answered, ask, id, iq};

/// The form that makes an account, filled in.
fn new_account(session: &str, jid: &str) -> String {
    let fields = [
        ("FORM_TYPE", ns::ADMIN),
        ("accountjid", jid),
        ("password", PASSWORD),
        ("password-verify", PASSWORD),
    ];
    let fields =
        fields.map(|(name, value)| format!("<field var='{name}'><value>{value}</value></field>"));
    let form = format!(
        "<x xmlns='{}' type='submit'>{}</x>",
        ns::DATA_FORM,
        fields.concat()
    );
    format!(
        "<command xmlns='{}' node='{}#add-user' sessionid='{session}'>{form}</command>",
        ns::COMMANDS,
        ns::ADMIN
    )
}

pub async fn conversation(talk: Talk<'_>) {
    let cluster = talk.cluster();
    let names = ["one", "two"].map(|which| talk.free(&format!("administration-{which}")));
    let jids = names.map(|name| format!("{name}@{DOMAIN}"));
    let mut me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    let forbidden = stage(&mut friend, "get-registered-users-num", "", "").await;
    assert_eq!(refused(&forbidden), "forbidden", "AD-2");
    let [first, second] = [
        begin(&mut me, "add-user").await,
        begin(&mut me, "add-user").await,
    ];
    let of_friend = talk.other();
    let told = run(&mut me, "user-stats", &[("accountjid", &of_friend)]).await;
    assert_eq!(values(&told, "onlineresources"), ["desk"], "AD-2");

    talk.middle().await;
    let submitted = id();
    let filled = new_account(&first.id, &jids[0]);
    me.send(&iq("set", DOMAIN, &submitted, &filled)).await;
    talk.checkpoint(&mut [&mut me]).await;
    let (answer, _) = answered(&mut me, &submitted).await;
    completed(&answer);
    // What is submitted twice has happened once, and is no other wish of the same.
    completed(&ask(&mut me, "set", DOMAIN, &filled).await);
    let other = begin(&mut me, "add-user").await;
    let other = new_account(&other.id, &jids[0]);
    let other = ask(&mut me, "set", DOMAIN, &other).await;
    assert_eq!(refused(&other), "conflict", "AD-1");
    // The other one was begun where nobody is any more.
    let filled = new_account(&second.id, &jids[1]);
    completed(&ask(&mut me, "set", DOMAIN, &filled).await);
    let mut live = cluster.client(talk.away(), names[0]).await;
    live.say(&of_friend, "I am new").await;
    friend.expect(["I am new".to_owned()]).await;

    run(&mut me, "disable-user", &[("accountjids", &jids[0])]).await;
    assert_eq!(live.wire.end().await.condition(), "not-authorized", "AD-2");
    assert!(!can_log_in(cluster, talk.elsewhere(), names[0], PASSWORD).await);
    run(&mut me, "reenable-user", &[("accountjids", &jids[0])]).await;
    assert!(can_log_in(cluster, talk.away(), names[0], PASSWORD).await);
    run(&mut me, "delete-user", &[("accountjids", &jids[1])]).await;
    assert!(!can_log_in(cluster, talk.away(), names[1], PASSWORD).await);
    let told = run(&mut me, "user-stats", &[("accountjid", &of_friend)]).await;
    assert_eq!(values(&told, "onlineresources"), ["desk"], "AD-2");
    me.check_nothing_more().await;
    friend.check_nothing_more().await;
}
