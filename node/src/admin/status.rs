//! `holdfast cluster status` for people: what is wrong first, then few enough columns for a terminal.

use serde_json::{Map, Value};

use super::table;

/// What is shown of each node.
const NODE: [&str; 8] = [
    "seat", "state", "zone", "address", "leads", "votes", "formats", "me",
];
/// What is shown of each shard beside its size and the age of its last entry.
const SHARD: [&str; 8] = [
    "shard",
    "leader",
    "voters",
    "learners",
    "behind",
    "sessions",
    "hibernated",
    "stalled",
];

/// Writes a report. Whatever a node of another version leaves out is left out.
pub(super) fn text(report: &Value) -> String {
    let mut text = String::new();
    for warning in list(report, "warnings") {
        text.push_str(&format!("WARNING: {}\n", table::cell(warning)));
    }
    for (name, title) in [
        ("majority", "majority"),
        ("can_lose", "members that can be lost"),
        ("format", "format"),
    ] {
        if let Some(value) = report.get(name) {
            text.push_str(&format!("{title}: {}\n", table::cell(value)));
        }
    }
    let nodes = list(report, "nodes").iter().map(|node| some(node, &NODE));
    text.push_str(&format!("\nnodes\n{}", table::rows(&nodes.collect())));
    let shards = list(report, "shards").iter().map(shard);
    text.push_str(&format!("\nshards\n{}", table::rows(&shards.collect())));
    let moves = report.get("moves").cloned().unwrap_or_default();
    text.push_str(&format!("\nmoves\n{}", table::rows(&moves)));
    text
}

fn list<'a>(report: &'a Value, name: &str) -> &'a [Value] {
    report[name].as_array().map_or(&[], Vec::as_slice)
}

fn some(of: &Value, names: &[&str]) -> Value {
    let named = names.iter();
    let fields = named.filter_map(|name| Some(((*name).to_owned(), of.get(name)?.clone())));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn shard(of: &Value) -> Value {
    let mut shown = some(of, &SHARD);
    if let Some(age) = of["last_commit_ms"].as_u64() {
        shown["last_commit"] = format!("{:.1} s", age as f64 / 1000.0).into();
    }
    if let Some(bytes) = of["snapshot_bytes"].as_u64() {
        shown["size"] = size(bytes).into();
    }
    shown
}

/// Bytes as people write them.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut shown = format!("{bytes} B");
    for unit in units {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        shown = format!("{amount:.1} {unit}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_comes_first() {
        let report = json!({
            "majority": false,
            "can_lose": 0,
            "warnings": ["no majority for shard 0: nothing can be committed there"],
            "format": 2,
            "nodes": [
                { "seat": 1, "state": "active", "address": "a:1", "up": true, "me": true,
                  "leads": 0, "votes": 1, "formats": "2 to 2", "node": "ff",
                  "zone": "east" },
            ],
            "shards": [
                { "shard": 0, "leader": null, "voters": ["1", "2", "3"], "learners": ["4"],
                  "behind": { "2": 7, "3": null }, "last_commit_ms": 4210, "snapshot_bytes": 1_572_864,
                  "sessions": 3, "hibernated": 1, "stalled": null, "applied": 9 },
            ],
            "moves": [{ "shard": 0, "joins": ["4"], "leaves": ["3"], "lacks": 12, "entries": 100 }],
        });
        let expect = "WARNING: no majority for shard 0: nothing can be committed there\n\
            majority: no\n\
            members that can be lost: 0\n\
            format: 2\n\
            \n\
            nodes\n\
            SEAT  STATE   ZONE  ADDRESS  LEADS  VOTES  FORMATS  ME\n\
            1     active  east  a:1      0      1      2 to 2   yes\n\
            \n\
            shards\n\
            SHARD  LEADER  VOTERS  LEARNERS  BEHIND   LAST_COMMIT  SIZE     SESSIONS  HIBERNATED  STALLED\n\
            0      -       1,2,3   4         2:7,3:-  4.2 s        1.5 MiB  3         1           -\n\
            \n\
            moves\n\
            SHARD  JOINS  LEAVES  LACKS  ENTRIES\n\
            0      4      3       12     100\n";
        assert_eq!(text(&report), expect);
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let sizes = [0, 1023, 1536, 3 << 30].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
    }
}
