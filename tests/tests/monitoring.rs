//! What `k8s/monitoring` asks for is there: metrics, labels and their values, a runbook and a test for each alert.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;
use tests::cluster::Cluster;
use tests::repository::root;
use tests::until;

/// Labels that Prometheus adds, or that the type of a metric brings along.
const ADDED: [&str; 4] = ["namespace", "pod", "job", "le"];

fn monitoring(file: &str) -> String {
    fs::read_to_string(root().join("k8s/monitoring").join(file)).unwrap()
}

/// The alerts by name.
fn alerts() -> Vec<String> {
    let rules = monitoring("prometheus-rule.yaml");
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(names.len() > 20, "{names:?}");
    names
}

/// All that rules, the dashboard and the autoscaler ask Prometheus for.
fn expressions() -> Vec<String> {
    let rules = monitoring("prometheus-rule.yaml");
    let mut found = Vec::new();
    let mut folded = false;
    for line in rules.lines().map(str::trim) {
        match line.strip_prefix("expr: ") {
            Some(">-") => {
                folded = true;
                found.push(String::new());
            }
            Some(expression) => found.push(expression.to_owned()),
            None if folded && line.starts_with("for:") || line.starts_with("labels:") => {
                folded = false
            }
            None if folded => *found.last_mut().unwrap() += line,
            None => {}
        }
    }
    assert_eq!(found.len(), alerts().len());
    let dashboard: Value = serde_json::from_str(&monitoring("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let asked = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    let before = found.len();
    found.extend(asked);
    assert!(found.len() > before + 30);
    let scaler = root().join("k8s/overlays/production/autoscaler.yaml");
    let scaler = fs::read_to_string(scaler).unwrap();
    let names = scaler.split(|c| !is_name(c));
    let names = names.filter(|name| name.starts_with("holdfast_"));
    let before = found.len();
    found.extend(names.map(str::to_owned));
    assert!(found.len() > before, "it scales by something else");
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A label and the values that are asked for.
type Selector = (String, Vec<String>);

/// The metrics of ours in an expression, with the labels that each has to have and their values, if these are named.
fn asked(expression: &str) -> Vec<(String, Vec<Selector>)> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(|c: char| is_name(c)) {
        let (name, behind) =
            rest[at..].split_at(rest[at..].find(|c| !is_name(c)).unwrap_or(rest.len() - at));
        rest = behind;
        if !name.starts_with("holdfast_") && !name.starts_with("process_") {
            // A word of the language, or a label; what is quoted is no name.
            if let Some(value) = rest
                .strip_prefix("=\"")
                .or_else(|| rest.strip_prefix("=~\""))
            {
                rest = value.split_once('"').unwrap().1;
            }
            continue;
        }
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            let (selectors, behind) = inside.split_once('}').unwrap();
            rest = behind;
            for selector in selectors.split(',') {
                let (label, value) = selector.split_once('=').unwrap();
                let value = value.trim_start_matches('~').trim_matches('"');
                labels.push((
                    label.to_owned(),
                    value.split('|').map(str::to_owned).collect(),
                ));
            }
        }
        found.push((name.to_owned(), labels));
    }
    found
}

/// Labels by which an expression groups.
fn grouped(expression: &str) -> BTreeSet<String> {
    let lists = expression.split("by (").skip(1);
    let lists = lists.filter_map(|rest| rest.split_once(')'));
    let labels = lists.flat_map(|(list, _)| list.split(','));
    labels.map(|label| label.trim().to_owned()).collect()
}

/// Each metric of a page with the values of its labels.
type Metrics = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn read(page: &str, into: &mut Metrics) {
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let labels = into.entry(name.to_owned()).or_default();
        let Some((inside, _)) = line
            .split_once('{')
            .and_then(|(_, rest)| rest.rsplit_once('}'))
        else {
            continue;
        };
        for pair in inside.split(',') {
            let (label, value) = pair.split_once('=').unwrap();
            let values = labels.entry(label.to_owned()).or_default();
            values.insert(value.trim_matches('"').to_owned());
        }
    }
}

/// All that three nodes with a Redis tell.
async fn told() -> Metrics {
    let redis = std::env::var("HOLDFAST_TEST_REDIS").expect("tests/run starts one");
    let cluster = Cluster::start(3, &["alice"], &format!("[redis]\nurl = \"{redis}\"\n")).await;
    let mut client = cluster.client(0, "alice").await;
    client.settle().await.unwrap();
    client.wire.cut();
    // Redis is asked when the first session falls asleep.
    until(
        "somebody has asked Redis, and members are known",
        async || {
            cluster.sum("holdfast_redis_up").await > 0 && cluster.sum("holdfast_members").await == 3
        },
    )
    .await;
    let mut metrics = Metrics::new();
    for node in 0..3 {
        read(
            &cluster.get(node, "/metrics").await.unwrap().1,
            &mut metrics,
        );
    }
    metrics
}

#[tokio::test]
async fn what_alerts_and_the_dashboard_ask_for_is_in_the_metrics() {
    let told = told().await;
    let mut wrong = Vec::new();
    let mut count = 0;
    for expression in expressions() {
        let asked = asked(&expression);
        let mut labels = BTreeSet::new();
        for (metric, selectors) in &asked {
            count += 1;
            let Some(known) = told.get(metric) else {
                wrong.push(format!("there is no {metric}"));
                continue;
            };
            labels.extend(known.keys().cloned());
            for (label, values) in selectors {
                let there = known.get(label);
                let missing = values
                    .iter()
                    .filter(|value| there.is_none_or(|there| !there.contains(*value)));
                let missing: Vec<_> = missing.collect();
                if !ADDED.contains(&label.as_str()) && !missing.is_empty() {
                    wrong.push(format!("{metric} has no {label} {missing:?}"));
                }
            }
        }
        let unknown = grouped(&expression).into_iter().filter(|label| {
            !asked.is_empty() && !labels.contains(label) && !ADDED.contains(&label.as_str())
        });
        wrong.extend(unknown.map(|label| format!("nothing has a {label} in {expression}")));
    }
    assert!(count > 60, "{count}");
    assert_eq!(wrong, [""; 0]);
}

/// Every metric that the documentation names is there, and the other way round.
#[tokio::test]
async fn the_documentation_names_all_metrics() {
    let told = told().await;
    let page = fs::read_to_string(root().join("node/docs/operations.md")).unwrap();
    let words = page.split(|c| !is_name(c));
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("holdfast_")).collect();
    let plain = |name: &str| {
        let parts = ["_bucket", "_sum", "_count"];
        let part = parts.iter().find_map(|part| name.strip_suffix(part));
        part.unwrap_or(name).to_owned()
    };
    let there: BTreeSet<String> = told.keys().map(|name| plain(name)).collect();
    let there: BTreeSet<&str> = there
        .iter()
        .map(String::as_str)
        .filter(|name| name.starts_with("holdfast_"))
        .collect();
    assert_eq!(named, there);
}

#[test]
fn every_alert_has_a_runbook_and_tests() {
    let runbook = fs::read_to_string(root().join("node/docs/alerts.md")).unwrap();
    let headings = runbook.lines().filter_map(|line| line.strip_prefix("### "));
    let headings: BTreeSet<&str> = headings.collect();
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().map(String::as_str).collect();
    assert_eq!(headings, names);
    let rules = monitoring("prometheus-rule.yaml");
    let files = fs::read_dir(root().join("k8s/monitoring/tests")).unwrap();
    let files = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let files: String = files.collect();
    let cases: Vec<&str> = files.split("alertname: ").skip(1).collect();
    for alert in names {
        let link = format!("runbook: node/docs/alerts.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} has no link to its runbook");
        let of = cases
            .iter()
            .filter(|case| case.lines().next() == Some(alert));
        let (quiet, fires): (Vec<&str>, Vec<&str>) =
            of.partition(|case| case.contains("exp_alerts: []"));
        assert!(!fires.is_empty(), "no test shows that {alert} fires");
        assert!(!quiet.is_empty(), "no test shows that {alert} can be quiet");
    }
}

#[test]
fn the_alerts_do_what_their_tests_say() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!(
            "promtool is not installed: the tests of the alerts in k8s/monitoring/tests are not run"
        );
        return;
    }
    let run = Command::new(root().join("k8s/monitoring/tests/run")).output();
    let run = run.unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(
        run.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[test]
fn expressions_are_taken_apart() {
    let expression = "sum by (namespace, state) (rate(holdfast_a_total{job=\"holdfast\",state=~\"away|overdue\"}[5m])) / process_b > 2 * time()";
    let found = asked(expression);
    let text = |text: &str| text.to_owned();
    let states = (text("state"), vec![text("away"), text("overdue")]);
    let job = (text("job"), vec![text("holdfast")]);
    let expect = [
        (text("holdfast_a_total"), vec![job, states]),
        (text("process_b"), Vec::new()),
    ];
    assert_eq!(found, expect);
    let by: Vec<String> = grouped(expression).into_iter().collect();
    assert_eq!(by, ["namespace", "state"]);
}
