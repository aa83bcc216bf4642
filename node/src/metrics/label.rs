//! The labels of this node's own counters, with all their values.

use cluster::metrics::Label;

/// Makes an enum whose values are shown under a label.
macro_rules! labels {
    ($(
        $(#[$doc:meta])*
        $name:ident($label:literal) {
            $($(#[$about:meta])* $variant:ident = $value:literal,)+
        }
    )+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$about])* $variant,)+
        }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn value(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }
    )+};
}

labels! {
    /// How an attempt to resume ended.
    ResumeResult("result") {
        /// The session went on.
        Resumed = "resumed",
        /// The session is unknown or over.
        NotFound = "not_found",
        /// The client claimed more than it was sent.
        CountTooHigh = "count_too_high",
        /// The account has tried too often.
        Throttled = "throttled",
        /// The cluster could not decide in time.
        Unavailable = "unavailable",
    }

    /// Where a session was before it was resumed here.
    Distance("from") {
        /// It was here before.
        SameNode = "same_node",
        /// It was on another node.
        OtherNode = "other_node",
    }

    /// Which way a stanza went.
    Direction("direction") {
        /// From a client.
        In = "in",
        /// To a client.
        Out = "out",
    }

    /// How a login ended.
    LoginResult("result") {
        /// Authenticated.
        Ok = "ok",
        /// Wrong credentials.
        Failed = "failed",
        /// Too many failures before it.
        Throttled = "throttled",
        /// The accounts could not be read.
        Unavailable = "unavailable",
    }

    /// What became of somebody's wish for an account.
    RegistrationResult("result") {
        /// It is made.
        Made = "made",
        /// The name is somebody's, or kept for somebody.
        Conflict = "conflict",
        /// Something that was said cannot be, or there is no invitation.
        Refused = "refused",
        /// Too many come from there.
        Throttled = "throttled",
        /// The database did not do its part.
        Unavailable = "unavailable",
    }

    /// Why a connection was refused, or closed before it had a session.
    Refused("reason") {
        /// Its address has its share of connections without a session.
        Address = "address",
        /// There are no descriptors left for clients.
        Descriptors = "descriptors",
        /// A balancer did not say for whom it connects.
        ProxyHeader = "proxy_header",
        /// It was the oldest one without a session when others needed the place.
        Shed = "shed",
    }

    /// Why a client had to wait, or was told to try later.
    Throttled("reason") {
        /// It sends faster than `limits` allows.
        ClientRate = "client_rate",
        /// It reads more slowly than it is written to.
        SlowReader = "slow_reader",
        /// Its sessions take a resource from each other too often.
        Takeover = "takeover",
        /// It logs in after too many failures.
        Login = "login",
        /// It resumes too often.
        Resume = "resume",
        /// It makes too many accounts.
        Registration = "registration",
    }

    /// An event of a session, counted by the node that leads its shard.
    CountedEvent("event") {
        /// It has lost its connection and waits for its client.
        HibernationStart = "hibernation_start",
        /// It was resumed where it was.
        ResumedHere = "resumed_here",
        /// It was resumed on another node.
        ResumedElsewhere = "resumed_elsewhere",
        /// Something was queued while it hibernated.
        StanzaQueued = "stanza_queued",
        /// Its client has not acknowledged for long.
        AckDelayed = "ack_delayed",
        /// What it did not take waits for the next session.
        MarkerBack = "marker_back",
        /// What had waited was taken.
        MarkerForward = "marker_forward",
        /// Its client has closed it.
        EndedClosed = "ended_closed",
        /// Its connection was lost and it may not be resumed.
        EndedLost = "ended_lost",
        /// Nobody has resumed it in time.
        EndedExpired = "ended_expired",
        /// Another session has taken its resource.
        EndedConflict = "ended_conflict",
        /// Its account has more sessions than it may have.
        EndedLimit = "ended_limit",
        /// An operator has ended it.
        EndedAdmin = "ended_admin",
        /// Its client has broken the protocol.
        EndedViolation = "ended_violation",
        /// What it logged in with is not valid any more.
        EndedCredentials = "ended_credentials",
        /// More waited for it than may.
        EndedOverflow = "ended_overflow",
        /// Its account was removed.
        EndedRemoved = "ended_removed",
    }

    /// Who decided that a session may hibernate.
    DecidedBy("source") {
        /// The shard, with Redis' answer.
        Redis = "redis",
        /// The shard alone.
        Shard = "shard",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<L: Label>() {
        let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
        for label in L::ALL {
            assert!(label.value().chars().all(is_part), "{}", label.value());
        }
    }

    #[test]
    fn values_are_written_in_small_letters() {
        check::<ResumeResult>();
        check::<Distance>();
        check::<Direction>();
        check::<LoginResult>();
        check::<RegistrationResult>();
        check::<Refused>();
        check::<Throttled>();
        check::<CountedEvent>();
        check::<DecidedBy>();
    }
}
