//! Counts what happens to sessions, and writes it to the log.
//!
//! Only the node that leads a session's shard does, so that the sum over all nodes is the cluster's.

use cluster::session::{EndReason, SessionEvent};

use crate::hooks::{Heard, Service, SessionHook, Setup};
use crate::metrics::CountedEvent;

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
        heard.metrics.session_events.inc(event);
        let session = &heard.notice.session;
        tracing::debug!(%session, what = ?heard.notice.what, "a session");
    }
}

fn event(what: SessionEvent) -> Option<CountedEvent> {
    Some(match what {
        SessionEvent::HibernationStart { .. } => CountedEvent::HibernationStart,
        SessionEvent::HibernationEnd { across: false } => CountedEvent::ResumedHere,
        SessionEvent::HibernationEnd { across: true } => CountedEvent::ResumedElsewhere,
        SessionEvent::StanzaQueued { .. } => CountedEvent::StanzaQueued,
        SessionEvent::AckDelayed { .. } => CountedEvent::AckDelayed,
        SessionEvent::MarkerMoved { back: true, .. } => CountedEvent::MarkerBack,
        SessionEvent::MarkerMoved { back: false, .. } => CountedEvent::MarkerForward,
        SessionEvent::Ended(reason) => ended(reason),
        SessionEvent::LimitsSet => return None,
    })
}

fn ended(reason: EndReason) -> CountedEvent {
    match reason {
        EndReason::Closed => CountedEvent::EndedClosed,
        EndReason::Lost => CountedEvent::EndedLost,
        EndReason::Expired => CountedEvent::EndedExpired,
        EndReason::Conflict => CountedEvent::EndedConflict,
        EndReason::Limit => CountedEvent::EndedLimit,
        EndReason::Admin => CountedEvent::EndedAdmin,
        EndReason::Violation => CountedEvent::EndedViolation,
        EndReason::Credentials => CountedEvent::EndedCredentials,
        EndReason::Overflow => CountedEvent::EndedOverflow,
        EndReason::Removed => CountedEvent::EndedRemoved,
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
                what: SessionEvent::Ended(EndReason::Limit),
            };
            registry.heard(&Heard {
                notice: &notice,
                leads,
                metrics: &metrics,
            });
        }
        let text = metrics.counted();
        let line = "holdfast_session_events_total{event=\"ended_limit\"} 1";
        assert!(text.contains(line), "{text}");
    }
}
