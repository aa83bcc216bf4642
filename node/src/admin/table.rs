//! Formats JSON for people, as columns or with a line for each field.

use serde_json::{Map, Value};

/// Columns that come first, in this order; the others follow by name.
const FIRST: &[&str] = &[
    "seat",
    "shard",
    "id",
    "jid",
    "state",
    "node",
    "zone",
    "address",
    "up",
    "leader",
    "voters",
    "term",
    "learners",
    "behind",
    "last_commit",
    "size",
    "sessions",
    "hibernated",
    "stalled",
    "leads",
    "votes",
    "formats",
    "joins",
    "leaves",
    "lacks",
];

/// Formats an object: each list as a table under its name, everything else as a line above.
pub(super) fn sections(value: &Value) -> String {
    let Value::Object(fields) = value else {
        return format!("{value}\n");
    };
    let mut lines = String::new();
    let mut tables = String::new();
    for (name, value) in fields {
        match value {
            Value::Array(list) if list.iter().any(Value::is_object) => {
                tables.push_str(&format!("\n{name}\n{}", rows(value)));
            }
            other => lines.push_str(&format!("{name}: {}\n", cell(other))),
        }
    }
    format!("{lines}{tables}").trim_start().to_owned()
}

/// Formats a list of objects as a table.
pub(super) fn rows(value: &Value) -> String {
    let objects: Vec<_> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .collect();
    if objects.is_empty() {
        return "none\n".to_owned();
    }
    let names = names(&objects);
    let title = names.iter().map(|name| name.to_uppercase()).collect();
    let mut lines: Vec<Vec<String>> = vec![title];
    for object in objects {
        let value = |name: &&str| object.get(*name).map_or_else(String::new, cell);
        lines.push(names.iter().map(value).collect());
    }
    let width = |column: usize| {
        lines
            .iter()
            .map(|line: &Vec<String>| line[column].chars().count())
            .max()
    };
    let widths: Vec<_> = (0..names.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in &lines {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Formats a list of objects with a line for each field.
pub(super) fn records(value: &Value) -> String {
    let objects: Vec<_> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .collect();
    let names = names(&objects);
    let record = |object: &&Map<String, Value>| {
        let line = |name: &&str| {
            let value = object.get(*name).map_or_else(String::new, cell);
            format!("{name:<18} {value}").trim_end().to_owned() + "\n"
        };
        names.iter().map(line).collect::<String>()
    };
    objects.iter().map(record).collect::<Vec<_>>().join("\n")
}

fn names<'a>(objects: &[&'a Map<String, Value>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for name in objects.iter().flat_map(|object| object.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let place = |name: &&str| FIRST.iter().position(|first| first == name);
    names.sort_by_key(|name| (place(name).unwrap_or(FIRST.len()), *name));
    names
}

/// A value as a cell of a table.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| format!("{name}:{}", cell(value)));
            fields.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let value = json!([
            { "jid": "alice@x/1", "queue": 3, "state": "connected" },
            { "jid": "b@x/1", "queue": null, "state": "hibernated" },
        ]);
        let expect = "JID        STATE       QUEUE\n\
                      alice@x/1  connected   3\n\
                      b@x/1      hibernated  -\n";
        assert_eq!(rows(&value), expect);
    }

    #[test]
    fn lists_become_tables_and_the_rest_lines() {
        let value = json!({ "ready": true, "shards": [{ "id": 0, "voters": [1, 2] }] });
        assert_eq!(
            sections(&value),
            "ready: yes\n\nshards\nID  VOTERS\n0   1,2\n"
        );
        assert_eq!(rows(&json!([])), "none\n");
    }
}
