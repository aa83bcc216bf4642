//! Counts what happens to sessions, and writes it to the log.
//!
//! Only the node that leads a session's shard does, so that the sum over all nodes is the cluster's.

use cluster::session::{EndReason, Occasion};

use crate::hooks::{Heard, Service, SessionHook, Setup};
use crate::metrics::SessionEvent;

/// The service.
pub const SERVICE: Service = Service::new("events", &[], register);

fn register(setup: &mut Setup<'_>) {
    setup.session(Events);
}

struct Events;

impl SessionHook for Events {
    fn notice(&self, heard: &Heard<'_>) {
        let Some(event) = event(heard.notice.what).filter(|_| heard.leads) else {
            return;
        };
        heard.metrics.session_event(event);
        let session = &heard.notice.session;
        tracing::debug!(%session, what = ?heard.notice.what, "a session");
    }
}

fn event(what: Occasion) -> Option<SessionEvent> {
    Some(match what {
        Occasion::HibernationStart { .. } => SessionEvent::HibernationStart,
        Occasion::HibernationEnd { across: false } => SessionEvent::ResumedHere,
        Occasion::HibernationEnd { across: true } => SessionEvent::ResumedElsewhere,
        Occasion::StanzaQueued { .. } => SessionEvent::StanzaQueued,
        Occasion::AckDelayed { .. } => SessionEvent::AckDelayed,
        Occasion::MarkerMoved { back: true, .. } => SessionEvent::MarkerBack,
        Occasion::MarkerMoved { back: false, .. } => SessionEvent::MarkerForward,
        Occasion::Ended(reason) => ended(reason),
        Occasion::LimitsSet => return None,
    })
}

fn ended(reason: EndReason) -> SessionEvent {
    match reason {
        EndReason::Closed => SessionEvent::EndedClosed,
        EndReason::Lost => SessionEvent::EndedLost,
        EndReason::Expired => SessionEvent::EndedExpired,
        EndReason::Conflict => SessionEvent::EndedConflict,
        EndReason::Limit => SessionEvent::EndedLimit,
        EndReason::Admin => SessionEvent::EndedAdmin,
        EndReason::Violation => SessionEvent::EndedViolation,
        EndReason::Credentials => SessionEvent::EndedCredentials,
        EndReason::Overflow => SessionEvent::EndedOverflow,
        EndReason::Removed => SessionEvent::EndedRemoved,
    }
}

#[cfg(test)]
mod tests {
    use cluster::session::Notice;

    use super::*;
    use crate::config::Config;
    use crate::hooks::Registry;
    use crate::metrics::Metrics;

    #[test]
    fn what_happens_is_counted_by_the_node_that_leads() {
        let registry = Registry::new(&[SERVICE], &Config::default()).unwrap();
        let metrics = Metrics::default();
        for leads in [true, false] {
            let notice = Notice {
                session: proto::Jid::new("a@x/r").unwrap(),
                smid: None,
                at: 1,
                what: Occasion::Ended(EndReason::Limit),
            };
            registry.heard(&Heard {
                notice: &notice,
                leads,
                metrics: &metrics,
            });
        }
        let text = metrics.text();
        let line = "holdfast_session_events_total{event=\"EndedLimit\"} 1";
        assert!(text.contains(line), "{text}");
    }
}
