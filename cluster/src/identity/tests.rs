//! What becomes of the identity of a data directory.

use super::*;

#[test]
fn t_69_a_disk_keeps_its_name_and_an_emptied_one_gets_another() {
    let dir = tempfile::tempdir().expect("makes");
    let first = Identity::open(dir.path(), 2, true).expect("opens");
    first
        .found(ClusterId(7), &BTreeMap::from([(2, first.node())]))
        .expect("writes");
    first.set_voted().expect("writes");
    first.retire(NodeId(9)).expect("writes");
    let again = Identity::open(dir.path(), 2, false).expect("opens");
    assert_eq!(again.incarnation(), first.incarnation());
    assert_ne!(again.boot(), first.boot());
    assert!(again.is_retired(NodeId(9)));
    let other = tempfile::tempdir().expect("makes");
    assert_ne!(
        Identity::open(other.path(), 2, true).expect("opens").node(),
        first.node()
    );
}

#[test]
fn t_69_a_node_that_has_voted_does_not_start_without_its_log() {
    let dir = tempfile::tempdir().expect("makes");
    let identity = Identity::open(dir.path(), 1, true).expect("opens");
    identity.set_voted().expect("writes");
    assert!(matches!(
        Identity::open(dir.path(), 1, true),
        Err(IdentityError::LogMissing { .. })
    ));
    assert!(matches!(
        Identity::open(dir.path(), 3, false),
        Err(IdentityError::OtherSeat { found: 1, .. })
    ));
    fs::remove_file(dir.path().join(FILE)).expect("removes");
    assert!(matches!(
        Identity::open(dir.path(), 1, false),
        Err(IdentityError::LogWithoutIdentity { .. })
    ));
}

#[test]
fn t_69_a_node_that_is_no_longer_a_member_starts_with_nothing() {
    let dir = tempfile::tempdir().expect("makes");
    let first = Identity::open(dir.path(), 2, true).expect("opens");
    first.set_voted().expect("writes");
    fs::create_dir(dir.path().join("log")).expect("makes");
    clear_if_replaced(dir.path()).expect("looks");
    assert!(dir.path().join("log").exists(), "it is a member");
    first.retire(first.node()).expect("writes");
    clear_if_replaced(dir.path()).expect("clears");
    assert!(!dir.path().join("log").exists());
    let again = Identity::open(dir.path(), 2, true).expect("opens");
    assert_ne!(again.node(), first.node());
}

#[test]
fn a_node_joins_one_cluster_only() {
    let dir = tempfile::tempdir().expect("makes");
    let identity = Identity::open(dir.path(), 1, true).expect("opens");
    identity.join(ClusterId(1)).expect("joins");
    identity.join(ClusterId(1)).expect("repeats");
    assert!(matches!(
        identity.join(ClusterId(2)),
        Err(IdentityError::OtherCluster { .. })
    ));
}

#[test]
fn a_damaged_or_cut_file_is_refused_by_line() {
    let mut whole = Incarnation::new(NodeId(5), 1);
    whole.cluster = Some(ClusterId(6));
    let text = whole.text();
    assert_eq!(parse(&text), Ok(whole));
    for end in 0..text.len() - 1 {
        assert!(parse(&text[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(parse(&text.replace("seat 1", "seat x")), Err(3));
    let dir = tempfile::tempdir().expect("makes");
    fs::write(dir.path().join(FILE), b"\xff\0garbage").expect("writes");
    assert!(matches!(
        Identity::open(dir.path(), 1, false),
        Err(IdentityError::Damaged { .. })
    ));
}

#[test]
fn accounts_stay_in_the_shards_that_the_data_directory_was_made_for() {
    let dir = tempfile::tempdir().expect("makes");
    let open =
        |configured| Identity::open(dir.path(), 1, true).and_then(|i| i.agree_on(configured));
    assert_eq!(shards(dir.path()), None);
    open(5).expect("opens");
    assert_eq!(shards(dir.path()), None, "nothing is in any of them");
    let identity = open(1).expect("nothing is decided before it belongs to a cluster");
    identity
        .found(ClusterId(7), &BTreeMap::new())
        .expect("writes");
    open(1).expect("opens");
    assert!(matches!(
        open(3),
        Err(IdentityError::OtherShards { found: 1, .. })
    ));
    let checked = |configured| crate::verify::verify(dir.path(), 1, configured);
    assert!(checked(1).is_ok(), "a check says what a start does");
    assert!(checked(3).is_err());
    assert_eq!(shards(dir.path()), Some(1));
}

#[test]
fn a_data_directory_that_does_not_say_so_was_made_for_as_many_shards_as_there_were() {
    let dir = tempfile::tempdir().expect("makes");
    let identity = Identity::open(dir.path(), 1, true).expect("opens");
    identity.join(ClusterId(7)).expect("writes");
    assert_eq!(shards(dir.path()), Some(3));
    identity.agree_on(4).expect("is what is configured");
    assert_eq!(shards(dir.path()), Some(4));
}
