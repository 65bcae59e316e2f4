//! Tasks in a database, from one host to the next. A host that is killed is one that is dropped with all it runs.

use std::path::Path;

use tokio::runtime::Runtime;
use witan_database::{Database, Location};
use witan_tasks::{Priority, Retention, Store, TaskView};

use super::*;

/// What a runtime runs ends with it, at any point.
struct Host {
    runtime: Option<Runtime>,
    world: World,
}

fn host(folder: &Path, settings: Settings) -> Host {
    let runtime = Runtime::new().unwrap();
    let store = runtime.block_on(async {
        let database = Database::open(Location::Sqlite(folder.join("rows.db"))).await.unwrap();
        Store::open(database, folder.join("tasks")).await.unwrap()
    });
    let mut world = world(settings.clone(), |_, _, work, _| match &work.input {
        WorkInput::Text(text) => Ok(outcome(text)),
        WorkInput::Documents(documents) => Ok(outcome(&documents[0].data.len().to_string())),
        WorkInput::Files(files) => Ok(outcome(&files[0].name)),
    });
    let handler = Scripted {
        permits: world.permits.clone(),
        running: world.running.clone(),
        action: Box::new(|_, _, work, _| match &work.input {
            WorkInput::Text(text) => Ok(outcome(text)),
            WorkInput::Documents(documents) => Ok(outcome(&documents[0].data.len().to_string())),
            WorkInput::Files(files) => Ok(outcome(&files[0].name)),
        }),
    };
    let handlers = BTreeMap::from([("summarize".to_owned(), Arc::new(handler) as Arc<dyn Handler>)]);
    let sees = world.seen.clone();
    let observer = Arc::new(move |transition: &witan_tasks::Transition<'_>| {
        sees.lock().unwrap().extend(transition.envelope.map(|envelope| envelope.status));
    });
    world.tasks = Tasks::stored(settings, handlers, Arc::new(Account::open), observer, store);
    Host { runtime: Some(runtime), world }
}

impl Host {
    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    fn submit(&self, request: TaskRequest, edge: &Edge) -> uuid::Uuid {
        self.run(self.world.tasks.submit(request, edge)).unwrap().id()
    }

    fn view(&self, id: uuid::Uuid) -> TaskView {
        self.run(self.world.tasks.get("local", id)).unwrap().unwrap().view()
    }

    fn finished(&self, id: uuid::Uuid) -> Arc<witan_tasks::Envelope> {
        self.run(async { self.world.tasks.get("local", id).await.unwrap().unwrap().finished().await })
    }

    fn until(&self, id: uuid::Uuid, state: State) {
        self.run(async {
            let task = self.world.tasks.get("local", id).await.unwrap().unwrap();
            let mut after = 0;
            while task.state() != state {
                after = task.event_after(after).await.unwrap().sequence;
            }
        });
    }

    fn recover(&self, paths: &Paths) -> usize {
        self.run(self.world.tasks.recover(paths)).unwrap()
    }

    fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

fn one_at_once() -> Settings {
    Settings { concurrency: 1, ..Settings::default() }
}

#[test]
fn what_waits_runs_and_what_has_ended_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let first = host(folder.path(), one_at_once());
    first.world.permits.add_permits(1);
    let done = first.submit(request(), &edge());
    let envelope = first.finished(done);
    let runs = first.submit(request(), &edge());
    first.until(runs, State::Working);
    let waits = first.submit(TaskRequest { priority: Priority::High, ..request() }, &edge());
    let document = witan_tasks::Document { name: "a".into(), media_type: None, data: vec![7; 300_000] };
    let large = first.submit(TaskRequest::new("summarize", Input::Documents(vec![document])), &edge());
    let paused = first.submit(request(), &edge());
    first.run(async {
        let task = first.world.tasks.get("local", paused).await.unwrap().unwrap();
        first.world.tasks.pause(&task, &CallContext::local()).await.unwrap();
    });
    first.kill();

    let second = host(folder.path(), one_at_once());
    assert_eq!(second.recover(&Paths::Under(Vec::new())), 4);
    assert_eq!(*second.finished(done), *envelope);
    let interrupted = second.finished(runs);
    let error = interrupted.error.as_ref().unwrap();
    assert_eq!((error.code, error.retryable), (Code::Interrupted, true));
    assert_eq!(second.view(runs).state, State::Failed);
    second.world.permits.add_permits(9);
    assert_eq!(second.finished(waits).result.as_ref().unwrap().text, "text");
    assert_eq!((second.view(waits).priority, second.view(waits).attempt), (Priority::High, 1));
    assert_eq!(second.finished(large).result.as_ref().unwrap().text, "300000");
    assert_eq!(second.view(paused).state, State::Paused);
    second.run(async {
        let task = second.world.tasks.get("local", paused).await.unwrap().unwrap();
        second.world.tasks.resume(&task, &CallContext::local()).await.unwrap();
        assert_eq!(task.finished().await.status, Status::Ok);
        // What has ended is neither held nor resumed.
        assert_eq!(second.world.tasks.pause(&task, &CallContext::local()).await.unwrap_err().code, Code::Conflict);
        // One that has failed is tried again, as another; one that was done is not.
        let failed = second.world.tasks.get("local", runs).await.unwrap().unwrap();
        let again = second.world.tasks.request_again(&failed).await.unwrap();
        let again = second.world.tasks.submit(again, &edge()).await.unwrap();
        assert_eq!(again.finished().await.status, Status::Ok);
        assert_eq!(second.world.tasks.request_again(&task).await.unwrap_err().code, Code::Conflict);
    });
    let (views, _) = second.run(second.world.tasks.list("local", &Filter::default(), 9, None)).unwrap();
    assert_eq!(views.len(), 6);
}

#[test]
fn an_intent_that_may_be_done_twice_is_run_again_until_it_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let again = Settings { run_again: ["summarize".to_owned()].into(), ..Settings::default() };
    let first = host(folder.path(), again.clone());
    let id = first.submit(request(), &edge());
    let paused = first.submit(request(), &edge());
    first.until(id, State::Working);
    first.until(paused, State::Working);
    first.kill();
    for attempt in 2..=3 {
        let next = host(folder.path(), again.clone());
        assert_eq!(next.recover(&Paths::Under(Vec::new())), 2);
        next.until(id, State::Working);
        next.until(paused, State::Working);
        assert_eq!(next.view(id).attempt, attempt);
        next.kill();
    }
    let last = host(folder.path(), again);
    last.recover(&Paths::Under(Vec::new()));
    assert_eq!(last.finished(id).error.as_ref().unwrap().code, Code::Interrupted);
}

#[test]
fn a_path_is_judged_again_and_a_deadline_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.md"), "a").unwrap();
    let rooted = Paths::Under(vec![folder.path().to_owned()]);
    let named = || TaskRequest::new("summarize", Input::Paths(vec!["a.md".to_owned()]));
    let first = host(folder.path(), one_at_once());
    let blocks = first.submit(request(), &edge());
    first.until(blocks, State::Working);
    let path = first.submit(named(), &Edge { paths: rooted.clone(), ..edge() });
    let late = first.submit(TaskRequest { deadline_ms: Some(1), ..request() }, &edge());
    first.kill();
    let again = Settings { run_again: ["summarize".to_owned()].into(), ..one_at_once() };
    let second = host(folder.path(), again.clone());
    // The account of these tests ends at nothing; that of the engine ends at its deadline.
    assert_eq!(second.recover(&rooted), 3);
    second.world.permits.add_permits(9);
    assert_eq!(second.finished(path).result.as_ref().unwrap().text, "a.md");
    second.finished(late);
    let other = second.submit(named(), &Edge { paths: rooted, ..edge() });
    second.finished(other);
    second.kill();

    let third = host(folder.path(), again.clone());
    let blocks = third.submit(request(), &edge());
    third.until(blocks, State::Working);
    let path = third.submit(named(), &Edge { paths: Paths::Under(vec![folder.path().to_owned()]), ..edge() });
    third.kill();
    let fourth = host(folder.path(), again);
    fourth.recover(&Paths::Under(Vec::new()));
    assert_eq!(fourth.finished(path).error.as_ref().unwrap().code, Code::PathRefused);
}

#[test]
fn a_host_that_stops_leaves_what_it_has_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let first = host(folder.path(), one_at_once());
    let runs = first.submit(request(), &edge());
    first.until(runs, State::Working);
    let waits = first.submit(request(), &edge());
    first.run(first.world.tasks.drain(Duration::ZERO));
    assert_eq!(first.run(first.world.tasks.submit(request(), &edge())).unwrap_err().code, Code::Overloaded);
    assert_eq!(first.world.running.load(Ordering::SeqCst), 0);
    assert!(first.world.seen.lock().unwrap().is_empty(), "nothing was cancelled");
    first.kill();
    let second = host(folder.path(), one_at_once());
    second.recover(&Paths::Under(Vec::new()));
    second.world.permits.add_permits(1);
    assert_eq!(second.finished(waits).status, Status::Ok);
    assert_eq!(second.finished(runs).error.as_ref().unwrap().code, Code::Interrupted);
}

#[test]
fn events_of_a_task_that_has_ended_are_replayed_and_what_is_old_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let first = host(folder.path(), Settings::default());
    first.world.permits.add_permits(1);
    let id = first.submit(request(), &edge());
    first.finished(id);
    first.kill();
    let second = host(folder.path(), Settings::default());
    second.run(async {
        let task = second.world.tasks.get("local", id).await.unwrap().unwrap();
        let mut names = Vec::new();
        let mut after = 0;
        while let Some(event) = task.event_after(after).await {
            assert_eq!(event.sequence, after + 1);
            after = event.sequence;
            names.push(event.happened.name());
        }
        assert_eq!(names, ["state", "state", "state"]);
        task.cancel();
        assert_eq!(task.finished().await.status, Status::Ok);
        assert!(second.world.tasks.get("other", id).await.unwrap().is_none());
        let none = Retention { time: Duration::ZERO, number: 0 };
        assert_eq!(second.world.tasks.sweep(&none).await.unwrap(), 1);
        assert!(second.world.tasks.get("local", id).await.unwrap().is_none());
    });
}
