//! The collections against those of the standard library, beside copies that live on.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;
use crate::codec;

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u8),
    Rise(u16),
    Remove(u8),
    Change(u8, u8),
    Copy,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => any::<(u8, u8)>().prop_map(|(k, v)| Step::Insert(k, v)),
        4 => any::<u16>().prop_map(Step::Rise),
        8 => any::<u8>().prop_map(Step::Remove),
        2 => any::<(u8, u8)>().prop_map(|(k, v)| Step::Change(k, v)),
        1 => Just(Step::Copy),
    ];
    prop::collection::vec(step, 1..1200)
}

/// The same steps on a map and on a standard one.
fn take(map: &mut Map<u64, u8>, model: &mut BTreeMap<u64, u8>, n: usize, step: &Step) {
    match *step {
        Step::Insert(k, v) => {
            assert_eq!(map.insert(k.into(), v), model.insert(k.into(), v));
        }
        Step::Rise(v) => {
            let key = 1000 + n as u64;
            assert_eq!(map.insert(key, v as u8), model.insert(key, v as u8));
        }
        Step::Remove(k) => {
            // Some of those that rise, too.
            let key = if k % 2 == 0 {
                u64::from(k)
            } else {
                1000 + u64::from(k)
            };
            assert_eq!(map.remove(&key), model.remove(&key));
        }
        Step::Change(k, v) => {
            *map.or_default(k.into()) = v;
            *model.entry(k.into()).or_default() = v;
        }
        Step::Copy => {}
    }
}

fn check(map: &Map<u64, u8>, model: &BTreeMap<u64, u8>) {
    assert_eq!(map.len(), model.len());
    assert!(map.iter().eq(model.iter()), "{map:?} is not {model:?}");
    assert!(
        map.chunks
            .iter()
            .all(|(_, c)| !c.is_empty() && c.len() <= MOST)
    );
    let most = 2 * model.len() / FEW + 1;
    assert!(
        map.chunks.len() <= most,
        "{} chunks of {most}",
        map.chunks.len()
    );
    for key in [0, 100, 255, 1000, 1100, 5000] {
        assert_eq!(map.get(&key), model.get(&key));
        let range = (Bound::Excluded(key), Bound::Unbounded);
        assert!(map.after(Some(&key)).eq(model.range(range)), "after {key}");
    }
    assert!(map.after(None).eq(model.iter()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_map_is_a_sorted_map_and_its_copies_stay_as_they_were(steps in steps()) {
        let (mut map, mut model) = (Map::default(), BTreeMap::new());
        let mut copies = Vec::new();
        for (n, step) in steps.iter().enumerate() {
            take(&mut map, &mut model, n, step);
            if matches!(step, Step::Copy) {
                copies.push((map.clone(), model.clone()));
            }
        }
        check(&map, &model);
        for (map, model) in copies {
            check(&map, &model);
        }
        // Its chunks lie otherwise, and it is the same, to the byte.
        let same: Map<u64, u8> = codec::decode(&codec::encode(&model)).expect("decodes");
        prop_assert_eq!(codec::encode(&map), codec::encode(&model));
        prop_assert_eq!(map, same);
    }

    #[test]
    fn a_queue_is_a_queue_and_its_copies_stay_as_they_were(steps in prop::collection::vec(0..10u8, 1..600)) {
        let (mut queue, mut model) = (Queue::default(), VecDeque::new());
        let mut copies = Vec::new();
        for (n, step) in steps.iter().enumerate() {
            match step {
                0..6 => {
                    queue.push_back(n);
                    model.push_back(n);
                }
                6..9 => prop_assert_eq!(queue.pop_front(), model.pop_front()),
                _ => copies.push((queue.clone(), model.clone())),
            }
        }
        copies.push((queue, model));
        for (queue, model) in copies {
            prop_assert_eq!(queue.len(), model.len());
            for skip in [0, 1, 63, 64, 65, 1000] {
                prop_assert!(queue.from(skip).eq(model.iter().skip(skip)), "from {skip}");
            }
            prop_assert_eq!(codec::encode(&queue), codec::encode(&model));
            let same: Queue<usize> = codec::decode(&codec::encode(&model)).expect("decodes");
            prop_assert_eq!(queue, same);
        }
    }
}
