//! The counts of failed logins and resumptions, and of registrations, shared between nodes.
//!
//! Nodes tell each other a few times a second what has failed at them. That is best effort: a node that is cut off
//! counts alone, and one that starts begins at zero.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::Cluster;
use serde::{Deserialize, Serialize};

use super::Throttle;
use super::throttle::Culprit;
use crate::clock;
use crate::config::Limits;
use crate::inquiry::Inquiry;

/// How long failures gather before the others hear of them.
const PAUSE: Duration = Duration::from_millis(200);

/// The counts of failed logins and resumptions, and of registrations.
#[derive(Debug)]
pub struct Failures {
    /// Failed logins (T-26).
    pub logins: Throttle,
    /// Failed resumptions (T-40).
    pub resumes: Throttle,
    /// Tries to make an account (T-31).
    pub registrations: Throttle,
}

/// The failures of which one node tells the others.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Told {
    failed_logins: Vec<(Culprit, u32)>,
    failed_resumes: Vec<(Culprit, u32)>,
    // Nodes of older releases say nothing of them.
    #[serde(default)]
    registrations: Vec<(Culprit, u32)>,
}

impl Failures {
    /// Counts nothing yet; these are the limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            logins: Throttle::new(limits.logins_per_minute),
            resumes: Throttle::new(limits.failed_resumes_per_minute),
            registrations: Throttle::hourly(limits.registrations_per_hour),
        }
    }

    /// Tells the others what fails here, for as long as this node runs.
    pub async fn share(&self, cluster: &Cluster) {
        loop {
            tokio::time::sleep(PAUSE).await;
            if let Some(told) = self.unsent() {
                // There is nothing to answer, and a node that does not hear it counts alone.
                cluster.ask_others(&told).await;
            }
        }
    }

    fn unsent(&self) -> Option<Bytes> {
        let told = Told {
            failed_logins: self.logins.take_unsent(),
            failed_resumes: self.resumes.take_unsent(),
            registrations: self.registrations.take_unsent(),
        };
        let silent = told.failed_logins.is_empty()
            && told.failed_resumes.is_empty()
            && told.registrations.is_empty();
        let written = serde_json::to_vec(&Inquiry::Failed(told)).ok();
        let written = written.filter(|_| !silent);
        written.map(Bytes::from)
    }

    /// Counts what has failed at another node.
    pub fn hear(&self, told: &Told) {
        let now: Instant = clock::instant();
        self.logins.hear(&told.failed_logins, now);
        self.resumes.hear(&told.failed_resumes, now);
        self.registrations.hear(&told.registrations, now);
    }
}
