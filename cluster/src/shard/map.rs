//! Maps a bare JID to its slot, and a slot to its shard.

use proto::BareJid;
use xxhash_rust::xxh3::xxh3_64;

use crate::id::ShardId;

/// How many slots the bare JIDs are hashed to. There are more than any cluster has shards, so that one could move
/// alone.
pub const SLOTS: u64 = 4096;

/// The shard that owns an account, in a cluster born with `shards` shards. Stable for ever.
pub fn shard_of(account: &BareJid, shards: u16) -> ShardId {
    let slot = xxh3_64(account.as_str().as_bytes()) % SLOTS;
    // The cast is safe, as the remainder is less than a u16.
    ShardId((slot % u64::from(shards.max(1))) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_stay_where_they_are_and_spread_over_all_shards() {
        let account = |n: u32| BareJid::new(&format!("user{n}@example.org")).expect("valid");
        assert_eq!(shard_of(&account(1), 3), shard_of(&account(1), 3));
        for shard in 0..3 {
            let count = (0..3000)
                .filter(|n| shard_of(&account(*n), 3) == ShardId(shard))
                .count();
            assert!((800..1200).contains(&count), "shard {shard} has {count}");
        }
    }
}
