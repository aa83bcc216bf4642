//! Version 1: what entries and snapshots held before they named their version. Frozen.

mod command;
mod relay;
mod session;
mod settings;
mod stanza;
mod state;

use serde::Deserialize;

use self::command::Command;
use self::settings::Settings;
use super::upgrade::Upgrade;
use crate::session as today;

pub(in crate::session) use self::state::ShardState;

/// An entry: it carried the settings of the leader.
#[derive(Debug, Deserialize)]
pub(in crate::session) struct Batch {
    now: u64,
    settings: Settings,
    commands: Vec<Command>,
}

impl From<Batch> for today::Batch {
    fn from(old: Batch) -> Self {
        let settings = today::Command::Settings(old.settings.upgrade());
        let commands: Vec<today::Command> = old.commands.upgrade();
        Self {
            now: old.now,
            commands: std::iter::once(settings).chain(commands).collect(),
        }
    }
}

impl From<ShardState> for today::ShardState {
    fn from(old: ShardState) -> Self {
        old.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state as the build that wrote it would show it, line by line.
    #[test]
    fn a_state_of_version_1_is_read_to_the_last_field() {
        let snapshot = include_bytes!("../../../format/golden/v1/shard-0.snapshot");
        let shown = include_str!("../../../format/golden/v1/state.txt");
        let meta = u32::from_le_bytes(snapshot[8..12].try_into().expect("four")) as usize;
        let value = &snapshot[12 + meta..snapshot.len() - 4];
        let state: ShardState = crate::codec::decode(value).expect("reads");
        let read = format!("{state:#?}");
        for (read, shown) in read.lines().zip(shown.lines()) {
            assert_eq!(read.trim_start(), shown);
        }
        assert_eq!(read.lines().count(), shown.lines().count());
    }
}
