//! XEP-0377: reports of spam and abuse, which go to the operator's log and nowhere else (IM-73).

use proto::{BareJid, Element, Jid, ns};

/// So many characters of a reason, and so many of a text, are worth a line.
const MOST_REASON: usize = 80;
const MOST_TEXT: usize = 500;
/// So many messages may be named in evidence.
const MOST_IDS: usize = 8;
/// So many reports of one request are written down.
const MOST_REPORTS: usize = 16;

/// What a user says about somebody.
#[derive(Debug, PartialEq)]
pub struct Report {
    jid: Jid,
    reason: String,
    text: String,
    messages: Vec<String>,
}

impl Report {
    /// The report in an item about this address, if there is one.
    pub fn of(item: &Element, jid: &Jid) -> Option<Self> {
        let report = item.child("report", ns::REPORTING)?;
        let text = report.child("text", ns::REPORTING).map(Element::text);
        let ids = report.elements().filter(|id| id.is("stanza-id", ns::SID));
        let ids = ids.filter_map(|id| id.attr("id")).take(MOST_IDS);
        Some(Self {
            jid: jid.clone(),
            reason: first(report.attr("reason").unwrap_or_default(), MOST_REASON),
            text: first(&text.unwrap_or_default(), MOST_TEXT),
            messages: ids.map(|id| first(id, MOST_REASON)).collect(),
        })
    }
}

fn first(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// Tells the operator. What users wrote is quoted, so that it looks like nothing else in the log.
pub fn log(account: &BareJid, reports: &[Report]) {
    for report in &reports[..reports.len().min(MOST_REPORTS)] {
        let Report {
            jid,
            reason,
            text,
            messages,
        } = report;
        tracing::info!(%account, about = ?jid, ?reason, ?text, ?messages, "a user reports somebody");
    }
    let more = reports.len().saturating_sub(MOST_REPORTS);
    if more > 0 {
        tracing::info!(%account, more, "a user reports more than are written down");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn im_73_a_report_is_cut_to_what_a_line_holds() {
        let long = "x".repeat(5_000);
        let ids = "<stanza-id xmlns='urn:xmpp:sid:0' by='a@b' id='1'/>".repeat(50);
        let item = format!(
            "<item xmlns='urn:xmpp:blocking' jid='eve@example.net'><report xmlns='urn:xmpp:reporting:1' \
             reason='{long}'>{ids}<text>{long}</text></report></item>"
        );
        let item = Element::parse(item).unwrap();
        let report = Report::of(&item, &Jid::new("eve@example.net").unwrap()).unwrap();
        let sizes = [
            report.reason.len(),
            report.text.len(),
            report.messages.len(),
        ];
        assert_eq!(sizes, [MOST_REASON, MOST_TEXT, MOST_IDS]);
    }
}
