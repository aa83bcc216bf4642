//! Sessions as a pure, deterministic state machine: `apply(batch)` returns what follows.
//!
//! No clock, no randomness, no I/O and no unordered iteration. The leader's time and all ids arrive
//! inside commands, so that every replica computes the same, and a simulation runs millions of steps.
//!
//! A session's outbound stanzas have absolute numbers from 1. Numbers below `base` are acknowledged;
//! those below `sent` belong to an owner who may have written them; the rest waits for the next owner.
//! A queue that is full, or that something must be read back for, goes on without numbers behind them.
//!
//! ```text
//!            Bind                     Lost, NodeLost (resumable)
//!   (none) ───────▶ attached ◀──────────────────────────────────▶ hibernated
//!                      │               Resume (next epoch)              │
//!                      │ End, Lost (not resumable), conflict           │ deadline, limit, End
//!                      ▼                                               ▼
//!                    over: unavailable told once, queue disposed of, h kept as an old session
//! ```

mod account;
mod act;
mod action;
mod announced;
mod attachment;
mod audit;
mod barrier;
mod blocking;
mod blocklist;
mod broadcast;
mod carbon;
mod clients;
mod clock;
mod command;
mod cow;
mod deliver;
mod dispatch;
mod dispose;
mod effect;
mod enqueue;
mod event;
mod fan;
mod farewell;
#[cfg(test)]
pub(crate) mod fixture;
mod follow;
mod format;
mod hear;
mod hidden;
mod inherit;
mod interest;
mod lifecycle;
mod limits;
mod load;
mod mend;
mod notice;
mod numbers;
mod old;
mod open;
pub(crate) mod outbox;
mod output;
mod pending;
mod presence;
mod push;
pub mod query;
mod question;
mod queue;
mod quota;
mod rare;
mod read;
mod reason;
mod relay;
mod removal;
mod resources;
mod resume;
mod retired;
mod revision;
#[expect(
    clippy::module_inception,
    reason = "the folder is the core of all sessions, this is one of them"
)]
mod session;
mod settings;
mod shared;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod stage;
mod state;
mod step;
mod timers;
mod totals;
mod unkept;
mod users;
mod view;

pub use action::{Action, PresenceUpdate};
pub use audit::Dissent;
pub use blocklist::BlocklistUpdate;
pub use command::{
    Acknowledge, Batch, Bind, Command, Enable, Inbound, Open, OpenSm, Outcome, Resume,
};
pub use effect::{Among, ArchiveRow, Completed, Effect, Fetched, Pending};
pub use event::{LastEvents, NodeEvent, Recipient};
pub use interest::{MOST_BYTES as MOST_INTEREST_BYTES, MOST_NODES as MOST_INTERESTS};
pub use limits::{Limits, MAX_LIMIT, Override};
pub use mend::Forgotten;
pub use notice::{Notice, SessionEvent};
pub use open::is_of as is_of_client;
pub use output::{Copied, Detached, Direction, Enabled, Event, Item, Output, Resumed, Unheard};
pub use quota::Quota;
pub use reason::EndReason;
pub use relay::{Message, Relay, Traits};
pub use resume::NotResumable;
pub use settings::{OnTimeout, Settings};
pub use state::ShardState;
pub use state::record::{Disorder, Record};
pub use step::Applied;
pub use totals::Totals;
pub use view::SessionView;

pub(crate) use load::Load;
pub(crate) use mend::mend;
pub(crate) use pending::Lane;
pub(crate) use session::{Session, Sm};
#[cfg(test)]
pub(crate) use state::invariant;
