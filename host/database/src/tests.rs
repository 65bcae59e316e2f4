//! Statements, migrations, backups and owners, on SQLite and on PostgreSQL.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sqlx::Row as _;
use witan_test_tools::Postgres;

use crate::{Claimant, Database, DatabaseError, Location, claim::Times};

const FIRST: &[&str] = &["CREATE TABLE thing (name TEXT NOT NULL PRIMARY KEY, bytes BLOB NOT NULL)"];
const SECOND: &[&str] = &["ALTER TABLE thing ADD COLUMN size BIGINT NOT NULL DEFAULT 7"];
const WRONG: &[&str] = &["CREATE TABLE other (name TEXT NOT NULL PRIMARY KEY)", "no statement"];

async fn sqlite(folder: &Path) -> Database {
    Database::open(Location::Sqlite(folder.join("rows.db"))).await.unwrap()
}

async fn put(database: &Database, name: &str) {
    let mut writer = database.write().await.unwrap();
    let insert = sqlx::query("INSERT INTO thing (name, bytes) VALUES ($1, $2)").bind(name).bind(&[0_u8, 255][..]);
    insert.execute(&mut *writer).await.unwrap();
    writer.commit().await.unwrap();
}

async fn names(database: &Database) -> Vec<String> {
    let rows = sqlx::query("SELECT name FROM thing ORDER BY name").fetch_all(database.pool()).await.unwrap();
    rows.iter().map(|row| row.get("name")).collect()
}

async fn goes_forwards_and_never_back(database: &Database) {
    database.migrate("things", &[FIRST]).await.unwrap();
    for name in ["b", "B", "_"] {
        put(database, name).await;
    }
    assert_eq!(names(database).await, ["B", "_", "b"]);
    // A step that fails leaves nothing of itself.
    let failed = database.migrate("things", &[FIRST, WRONG]).await.unwrap_err();
    assert!(matches!(failed, DatabaseError::Sql(_)));
    database.migrate("things", &[FIRST, SECOND]).await.unwrap();
    database.migrate("things", &[FIRST, SECOND]).await.unwrap();
    let row = sqlx::query("SELECT bytes, size FROM thing WHERE name = 'b'").fetch_one(database.pool()).await.unwrap();
    assert_eq!((row.get::<Vec<u8>, _>("bytes"), row.get::<i64, _>("size")), (vec![0, 255], 7));
    assert!(sqlx::query("SELECT name FROM other").fetch_all(database.pool()).await.is_err());
    // Another part has versions of its own; an older program refuses.
    database.migrate("others", &[&["CREATE TABLE other (name TEXT NOT NULL PRIMARY KEY)"]]).await.unwrap();
    let newer = database.migrate("things", &[FIRST]).await.unwrap_err();
    assert!(matches!(newer, DatabaseError::Newer { part: "things", found: 2, known: 1 }), "{newer}");
}

#[tokio::test]
async fn tables_go_forwards_and_never_back() {
    let folder = tempfile::tempdir().unwrap();
    goes_forwards_and_never_back(&sqlite(folder.path()).await).await;
}

#[tokio::test]
async fn tables_go_forwards_and_never_back_in_postgresql() {
    let Some(postgres) = Postgres::or_skip() else { return };
    let database = Database::open(Location::Postgres(postgres.url())).await.unwrap();
    goes_forwards_and_never_back(&database).await;
    let folder = tempfile::tempdir().unwrap();
    let refused = database.back_up(&folder.path().join("copy.db")).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::NotAFile));
}

#[tokio::test]
async fn what_is_not_committed_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let database = sqlite(folder.path()).await;
    database.migrate("things", &[FIRST]).await.unwrap();
    let mut writer = database.write().await.unwrap();
    sqlx::query("INSERT INTO thing (name, bytes) VALUES ('a', x'00')").execute(&mut *writer).await.unwrap();
    drop(writer);
    assert!(names(&database).await.is_empty());
}

#[tokio::test]
async fn a_backup_is_a_database_and_writes_over_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = sqlite(folder.path()).await;
    database.migrate("things", &[FIRST]).await.unwrap();
    put(&database, "a").await;
    let copy = folder.path().join("copy.db");
    let writing = database.write().await.unwrap();
    database.back_up(&copy).await.unwrap();
    drop(writing);
    put(&database, "b").await;
    assert!(matches!(database.back_up(&copy).await.unwrap_err(), DatabaseError::Exists(_)));
    let restored = Database::open(Location::Sqlite(copy)).await.unwrap();
    restored.migrate("things", &[FIRST]).await.unwrap();
    assert_eq!(names(&restored).await, ["a"]);
}

#[tokio::test]
async fn the_file_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let database = sqlite(folder.path()).await;
    database.migrate("things", &[FIRST]).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

fn claimant(run: &str, place: &str) -> Claimant {
    Claimant { run: run.to_owned(), place: place.to_owned(), who: format!("{run} in {place}") }
}

const SOON: Times = Times {
    start: Duration::from_millis(200),
    look: Duration::from_millis(10),
    answer: Duration::from_secs(30),
    patience: Duration::from_secs(30),
    grace: Duration::from_millis(300),
};

/// Ends the connection that holds the lock of the one host, as a server does that takes it for dead.
async fn cut(database: &Database) {
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND \
               ((classid::bigint << 32) | objid::bigint) = 8602190417206";
    sqlx::query(cut).fetch_one(database.pool()).await.unwrap();
}

#[tokio::test]
async fn a_postgresql_database_has_one_owner() {
    let Some(postgres) = Postgres::or_skip() else { return };
    let open = || Database::open(Location::Postgres(postgres.url()));
    let (first, second) = (open().await.unwrap(), open().await.unwrap());
    first.migrate("things", &[FIRST]).await.unwrap();
    let mut claim = first.claim_in(claimant("1", "a"), SOON).await.unwrap();
    put(&first, "a").await;
    let refused = second.claim_in(claimant("2", "b"), SOON).await.unwrap_err();
    assert!(matches!(&refused, DatabaseError::Taken(who) if who == "1 in a"), "{refused}");
    // What the server takes for dead is taken again, and nobody else gets it on the way.
    cut(&second).await;
    let lost = tokio::time::timeout(Duration::from_millis(500), claim.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    put(&first, "b").await;
    assert!(matches!(second.claim_in(claimant("2", "b"), SOON).await, Err(DatabaseError::Taken(_))));
    // One that ends in order is followed at once.
    claim.release().await.unwrap();
    let began = Instant::now();
    let mut claim = second.claim_in(claimant("2", "b"), SOON).await.unwrap();
    assert!(began.elapsed() < SOON.grace, "it waited for nobody");
    // The former may not write any more.
    assert!(first.write().await.is_err());
    // One that did not say so, elsewhere, is waited for; it learns that it has lost, and cannot write.
    cut(&first).await;
    let third = open().await.unwrap();
    let began = Instant::now();
    let taken = third.claim_in(claimant("3", "c"), SOON).await.unwrap();
    assert!(began.elapsed() >= SOON.grace);
    assert!(second.write().await.is_err());
    drop(taken);
    let lost = claim.lost().await;
    assert!(matches!(&lost, DatabaseError::TakenOver(who) if who == "3 in c"), "{lost}");
    // In the same place, the one before is known to be dead.
    drop(third);
    drop(claim);
    let began = Instant::now();
    let slow = Times { grace: Duration::from_secs(3600), start: Duration::from_secs(30), ..SOON };
    let _again = open().await.unwrap().claim_in(claimant("4", "c"), slow).await.unwrap();
    assert!(began.elapsed() < slow.grace);
}

#[tokio::test]
async fn a_file_is_owned_by_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let database = sqlite(folder.path()).await;
    let mut claim = database.claim(claimant("1", "a")).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), claim.lost()).await.is_err());
    database.migrate("things", &[FIRST]).await.unwrap();
    put(&database, "a").await;
    claim.release().await.unwrap();
}
