//! Versions of policies: loaded, kept, put back, asked in the shadow.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{fs, path::Path, sync::Arc};

use parking_lot::Mutex;
use tempfile::TempDir;
use witan_authorize::{
    Action, BuiltIn, Candidate, Change, Context, Decision, Observer, Policies, PolicyError, Principal, Request,
    Resource, Settings, Sources,
};
use witan_database::{Database, Location};

const ALL: &str = "@id(\"all\") permit (principal, action, resource);";
const NOBODY: &str = "@id(\"nobody\") forbid (principal, action, resource);";

fn who(name: &str) -> Principal {
    Principal { name: name.into(), ..Principal::local() }
}

fn me() -> Principal {
    who("me")
}

struct Place {
    folder: TempDir,
    database: Database,
}

impl Place {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(Location::Sqlite(folder.path().join("witan.db"))).await.unwrap();
        Self { folder, database }
    }

    fn policies(&self) -> std::path::PathBuf {
        self.folder.path().join("policies")
    }

    fn write(&self, text: &str) {
        fs::create_dir_all(self.policies()).unwrap();
        fs::write(self.policies().join("rules.cedar"), text).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings { folder: Some(self.policies()), ..Settings::default() }
    }

    async fn open(&self) -> Policies {
        Policies::open(self.settings(), self.database.clone()).await.unwrap()
    }
}

fn allows(policies: &Policies) -> bool {
    ask(policies).allow
}

fn ask(policies: &Policies) -> Decision {
    let local = Principal::local();
    let request = Request {
        principal: &local,
        action: Action::SystemRead,
        resource: Resource::Host,
        context: Context::default(),
    };
    policies.authorizer().authorize(&request)
}

#[tokio::test]
async fn the_host_s_own_policies_can_be_copied_into_a_file() {
    for own in [BuiltIn::Local, BuiltIn::Roles] {
        let place = Place::sqlite().await;
        place.write(&own.to_copy());
        assert!(allows(&place.open().await));
        place.write(own.text());
        assert!(Policies::open(place.settings(), place.database.clone()).await.is_err(), "their names are the host's");
    }
}

#[tokio::test]
async fn without_a_folder_the_hosts_own_policies_hold() {
    let place = Place::sqlite().await;
    let policies = Policies::open(Settings::default(), place.database.clone()).await.unwrap();
    assert!(allows(&policies));
    assert_eq!(ask(&policies).determining, [Arc::from("witan.local-owner")]);
}

#[tokio::test]
async fn a_reload_is_whole_or_nothing_and_the_same_texts_keep_their_version() {
    let place = Place::sqlite().await;
    place.write(ALL);
    let policies = place.open().await;
    assert_eq!((ask(&policies).version, allows(&policies)), (1, true));
    assert_eq!(policies.reload(&me()).await.unwrap().version, 1);

    place.write("forbid (principal, action, resource)\nwhen { principal.nose };");
    let refused = policies.reload(&me()).await.unwrap_err();
    let PolicyError::Faults(faults) = refused else { panic!("{refused:?}") };
    assert_eq!(faults.0[0].line, Some(2), "{faults}");
    assert_eq!((ask(&policies).version, allows(&policies)), (1, true));

    place.write(NOBODY);
    let view = policies.reload(&me()).await.unwrap();
    assert!(view.active && !view.pinned && view.loaded_by == me().to_string());
    assert_eq!((ask(&policies).version, allows(&policies)), (2, false));
    let kept = policies.version(2).await.unwrap().sources.unwrap();
    assert_eq!(kept.policies["rules.cedar"], NOBODY);
    fs::remove_dir_all(place.policies()).unwrap();
    assert!(matches!(policies.reload(&me()).await, Err(PolicyError::Source(_))));
    assert!(!allows(&policies));
}

#[tokio::test]
async fn a_rollback_needs_no_file_and_stays_until_the_files_are_loaded_again() {
    let place = Place::sqlite().await;
    place.write(ALL);
    let policies = place.open().await;
    assert!(matches!(policies.rollback(None, &me()).await, Err(PolicyError::NothingBefore)));
    place.write(NOBODY);
    policies.reload(&me()).await.unwrap();
    assert!(matches!(policies.rollback(Some(9), &me()).await, Err(PolicyError::NoVersion(9))));
    let view = policies.rollback(None, &me()).await.unwrap();
    assert!(view.active && view.pinned && view.version == 1);
    assert!(allows(&policies));

    let restarted = place.open().await;
    assert_eq!((ask(&restarted).version, allows(&restarted)), (1, true));
    assert_eq!(restarted.reload(&me()).await.unwrap().version, 2);
    assert!(!allows(&restarted));
    let restarted = place.open().await;
    assert_eq!((ask(&restarted).version, allows(&restarted)), (2, false));

    let (versions, more) = restarted.versions(1, None).await.unwrap();
    assert!(more && versions[0].version == 2 && versions[0].active && versions[0].sources.is_none());
    let (versions, more) = restarted.versions(1, Some(2)).await.unwrap();
    assert!(!more && versions[0].version == 1 && !versions[0].active);
}

#[tokio::test]
async fn a_host_whose_policies_are_at_fault_does_not_start() {
    let place = Place::sqlite().await;
    place.write("permit (principal, action);");
    assert!(matches!(Policies::open(place.settings(), place.database.clone()).await, Err(PolicyError::Faults(_))));
    fs::remove_file(place.policies().join("rules.cedar")).unwrap();
    let empty = Policies::open(place.settings(), place.database.clone()).await.unwrap_err();
    assert!(empty.to_string().contains("no file whose name ends in `.cedar`"), "{empty}");
}

#[tokio::test]
async fn a_version_that_was_changed_in_the_database_is_not_put_back() {
    let place = Place::sqlite().await;
    place.write(NOBODY);
    let policies = place.open().await;
    place.write(ALL);
    policies.reload(&me()).await.unwrap();
    let mut writer = place.database.write().await.unwrap();
    sqlx::query("UPDATE policy_version SET sources = $1 WHERE version = 1")
        .bind(serde_json::to_string(&Sources::default()).unwrap())
        .execute(&mut *writer)
        .await
        .unwrap();
    writer.commit().await.unwrap();
    assert!(matches!(policies.rollback(Some(1), &me()).await, Err(PolicyError::Damaged(1))));
    assert!(allows(&policies));
}

#[tokio::test]
async fn a_shadow_is_asked_counted_and_never_obeyed() {
    let place = Place::sqlite().await;
    place.write(ALL);
    let policies = place.open().await;
    assert!(policies.authorizer().shadow().is_none());
    let candidate = Sources { policies: [("c.cedar".to_owned(), NOBODY.to_owned())].into(), entities: None };
    policies.begin_shadow(Candidate::Sources(candidate), &me()).await.unwrap();
    for _ in 0..witan_authorize::MOST_DIFFERENCES + 5 {
        assert!(allows(&policies));
    }
    let view = policies.authorizer().shadow().unwrap().view(usize::MAX);
    assert_eq!((view.asked, view.would_deny, view.would_allow), (1_005, 1_005, 0));
    assert_eq!(view.differences.len(), witan_authorize::MOST_DIFFERENCES);
    let newest = &view.differences[0];
    assert_eq!((&newest.by[..], &newest.would_by[..]), (&["all".to_owned()][..], &["nobody".to_owned()][..]));

    // The policies that decide, in their own shadow, differ in nothing.
    policies.begin_shadow(Candidate::Version(1), &me()).await.unwrap();
    assert!(allows(&policies));
    let view = policies.authorizer().shadow().unwrap().view(10);
    assert_eq!((view.asked, view.differences.len()), (1, 0));

    let broken = Sources { policies: [("c.cedar".to_owned(), "permit".to_owned())].into(), entities: None };
    assert!(policies.begin_shadow(Candidate::Sources(broken), &me()).await.is_err());
    assert_eq!(policies.authorizer().shadow().unwrap().view(0).origin, "version 1");
    assert!(policies.end_shadow(&me()).await && !policies.end_shadow(&me()).await);
    assert!(policies.authorizer().shadow().is_none());
}

#[tokio::test]
async fn the_setting_names_a_folder_of_a_candidate() {
    let place = Place::sqlite().await;
    place.write(ALL);
    let shadow = place.folder.path().join("next");
    fs::create_dir(&shadow).unwrap();
    fs::write(shadow.join("n.cedar"), NOBODY).unwrap();
    let settings = Settings { shadow: Some(shadow), ..place.settings() };
    let policies = Policies::open(settings, place.database.clone()).await.unwrap();
    assert!(allows(&policies));
    assert_eq!(policies.authorizer().shadow().unwrap().view(1).would_deny, 1);
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn decided(&self, request: &Request<'_>, decision: &Decision) {
        self.0.lock().push(format!("{} {}", request.action, decision.allow));
    }

    fn changed(&self, change: &Change) {
        self.0.lock().push(format!("{:?} {} by {}", change.kind, change.version, change.by.name));
    }
}

#[tokio::test]
async fn an_observer_is_told_of_decisions_and_changes() {
    let place = Place::sqlite().await;
    place.write(ALL);
    let policies = place.open().await;
    let heard = Arc::new(Heard::default());
    policies.authorizer().observe(heard.clone());
    ask(&policies);
    place.write(NOBODY);
    policies.reload(&who("ann")).await.unwrap();
    ask(&policies);
    policies.rollback(Some(1), &who("bob")).await.unwrap();
    assert_eq!(*heard.0.lock(), ["system.read true", "Reloaded 2 by ann", "system.read false", "RolledBack 1 by bob"]);
}

#[tokio::test]
async fn postgresql_keeps_versions_too() {
    let Some(server) = witan_test_tools::Postgres::or_skip() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = server.url();
    let place = Place { folder, database: Database::open(Location::Postgres(url)).await.unwrap() };
    place.write(ALL);
    let policies = place.open().await;
    place.write(NOBODY);
    policies.reload(&me()).await.unwrap();
    policies.rollback(None, &me()).await.unwrap();
    let restarted = place.open().await;
    assert_eq!((ask(&restarted).version, allows(&restarted)), (1, true));
}

#[test]
fn folders_are_read_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.cedar", "a.cedar", ".hidden.cedar", "note.txt"] {
        fs::write(folder.path().join(name), ALL).unwrap();
    }
    let sources = Sources::read(folder.path(), None).unwrap();
    assert_eq!(sources.policies.keys().collect::<Vec<_>>(), ["a.cedar", "b.cedar"]);
    assert!(Sources::read(Path::new("/nowhere"), None).is_err());
    let large = fs::File::create(folder.path().join("large.cedar")).unwrap();
    large.set_len(witan_authorize::LARGEST as u64 + 1).unwrap();
    assert!(Sources::read(folder.path(), None).unwrap_err().to_string().contains("more than"));
}
