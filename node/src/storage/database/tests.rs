//! The two engines at their edges.

use super::*;
use crate::storage::value::MAX_VALUE;

#[test]
fn placeholders_stand_row_by_row_as_each_engine_wants_them() {
    let [numbers, marks] = [Naming::Numbers, Naming::Marks].map(|naming| naming.placeholders(2, 2));
    assert_eq!(numbers, "($1, $2), ($3, $4)");
    assert_eq!(marks, "(?, ?), (?, ?)");
}

#[tokio::test]
async fn t_72_an_oversize_value_does_not_reach_the_driver() {
    let database = Database::sqlite_in_memory().unwrap();
    let error = database
        .rows("SELECT $1", vec!["x".repeat(MAX_VALUE + 1).into()])
        .await
        .err();
    assert!(matches!(error, Some(StorageError::Oversize(_))));
}

#[tokio::test]
async fn an_absent_server_is_unavailable() {
    let error = Database::postgres("postgres://u:p@127.0.0.1:1/d")
        .await
        .err();
    assert!(
        error.is_some_and(|error| error.is_temporary() && error.to_string().contains("refused"))
    );
}

#[tokio::test]
async fn t_33_the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sub/x.db");
    Database::sqlite(&file).await.unwrap();
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
}
