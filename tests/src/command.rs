//! A client that runs commands (XEP-0050), with the forms of service administration (XEP-0133).

use proto::{Element, ns};

use crate::client::Client;
use crate::wire::DOMAIN;

/// A command that has been begun.
pub struct Begun {
    name: String,
    /// The session's id.
    pub id: String,
}

/// Sends one stage of a command for administrators; the server's answer.
pub async fn stage(client: &mut Client, name: &str, more: &str, content: &str) -> Element {
    let node = format!("{}#{name}", ns::ADMIN);
    stage_at(client, &node, more, content).await
}

/// Sends one stage of the command of this node; the server's answer.
pub async fn stage_at(client: &mut Client, node: &str, more: &str, content: &str) -> Element {
    let id = format!("{:016x}", rand::random::<u64>());
    let iq = format!(
        "<iq type='set' id='{id}' to='{DOMAIN}'><command xmlns='{}' node='{node}' {more}>{content}</command></iq>",
        ns::COMMANDS
    );
    client.request(&iq, &id).await.expect("an answer")
}

/// Begins a command that asks for a form.
pub async fn begin(client: &mut Client, name: &str) -> Begun {
    let answer = stage(client, name, "action='execute'", "").await;
    let command = answer.child("command", ns::COMMANDS);
    let command = command.unwrap_or_else(|| panic!("{name}: {answer:?}"));
    assert_eq!(command.attr("status"), Some("executing"), "{command:?}");
    Begun {
        name: name.to_owned(),
        id: command.attr("sessionid").expect("AD-1").to_owned(),
    }
}

impl Begun {
    /// Fills the form in; the server's answer.
    pub async fn submit(&self, client: &mut Client, fields: &[(&str, &str)]) -> Element {
        let field = |(var, value): &(&str, &str)| {
            let values = value.lines().map(|line| format!("<value>{line}</value>"));
            format!("<field var='{var}'>{}</field>", values.collect::<String>())
        };
        let kind = ("FORM_TYPE", ns::ADMIN);
        let all = [&[kind], fields].concat();
        let all: String = all.iter().map(field).collect();
        let form = format!("<x xmlns='{}' type='submit'>{all}</x>", ns::DATA_FORM);
        let more = format!("sessionid='{}'", self.id);
        stage(client, &self.name, &more, &form).await
    }
}

/// Runs a command with one form to its end; what it says.
pub async fn run(client: &mut Client, name: &str, fields: &[(&str, &str)]) -> Element {
    let answer = match fields {
        [] => stage(client, name, "", "").await,
        fields => begin(client, name).await.submit(client, fields).await,
    };
    completed(&answer)
}

/// The command of an answer, which is over.
pub fn completed(answer: &Element) -> Element {
    let command = answer.child("command", ns::COMMANDS);
    let command = command.unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(command.attr("status"), Some("completed"), "{answer:?}");
    command.clone()
}

/// The values of a field of what a command says.
pub fn values(command: &Element, var: &str) -> Vec<String> {
    let form = command.child("x", ns::DATA_FORM);
    let form = form.unwrap_or_else(|| panic!("{command:?}"));
    let mut fields = form
        .elements()
        .filter(|field| field.attr("var") == Some(var));
    let field = fields
        .next()
        .unwrap_or_else(|| panic!("{var}: {command:?}"));
    field.elements().map(Element::text).collect()
}

/// The names of an error's conditions.
pub fn refused(answer: &Element) -> String {
    let error = answer.child("error", ns::CLIENT);
    let error = error.unwrap_or_else(|| panic!("{answer:?}"));
    let names = error.elements().filter(|child| child.local() != "text");
    names.map(Element::local).collect::<Vec<_>>().join(" ")
}
