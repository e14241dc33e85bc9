//! Time limits: what a late call says, what it leaves behind, and that it takes nobody else with it.
#![cfg(all(feature = "testing", feature = "sqlite"))]

mod common;

use std::time::{Duration, Instant};

use common::{ENDLESS, Home, Kind, assert_whole, count, eventually, kinds, memory, millis, numbers, secs, with_table};
use futures_util::{StreamExt, TryStreamExt};
use strongroom::engine::{Dialect, Phase, TransactionMode};
use strongroom::sqlcipher::Tuning;
use strongroom::testing::{Fault, Faults, FaultyConnector, Point, ScriptedConnector};
use strongroom::{AsyncDatabase, Capabilities, Error, ErrorKind, Reason, Result};
use tokio::time::Instant as Clock;

const PUT: &str = "INSERT INTO t (n) VALUES (1)";
const LATE: (ErrorKind, Reason) = (ErrorKind::Timeout, Reason::RolledBack);
const WAITED: (ErrorKind, Reason) = (ErrorKind::Timeout, Reason::NotStarted);

/// A write that takes minutes.
fn endless_write() -> String {
    format!("INSERT INTO t (n) {ENDLESS}")
}

async fn open(home: &Home) -> AsyncDatabase {
    // What is said of statements that share a commit holds only where they do.
    let db = home.builder().tuning(Tuning::default().group_commit(true)).open().await.unwrap();
    with_table(&db).await;
    db
}

#[tokio::test]
async fn waiting_for_a_connection_names_who_holds_it_and_says_that_nothing_began() {
    let tuning = Tuning::default().group_commit(true);
    let db = AsyncDatabase::builder(":memory:").pool_max(1).tuning(tuning).open().await.unwrap();
    with_table(&db).await;
    let mut holder = db.connection().await.unwrap();
    holder.label("the nightly report");
    let (brief, timeouts) = (db.with_timeout(millis(50)), db.stats().total_timeouts);
    let errors: [Error; 8] = [
        brief.execute(PUT, ()).await.unwrap_err(),
        brief.fetch_all("SELECT 1", ()).await.unwrap_err(),
        brief.execute_script(PUT).await.unwrap_err(),
        brief.execute_many(PUT, [(); 3]).await.unwrap_err(),
        brief.table_exists("t").await.unwrap_err(),
        brief.fetch_stream("SELECT 1", ()).try_next().await.unwrap_err(),
        brief.connection().await.unwrap_err(),
        brief.transaction(async |tx| tx.execute(PUT, ()).await).await.unwrap_err(),
    ];
    for error in &errors {
        assert_eq!((kinds(error), error.phase()), (WAITED, Some(Phase::Acquire)), "{error}");
        let text = error.to_string();
        for part in ["50ms", "database_deadlines.rs", "the nightly report", "nothing had begun"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert!(errors[0].to_string().contains("queued for the writer"), "{}", errors[0]);
    assert_eq!(db.stats().total_timeouts - timeouts, errors.len() as u64);
    drop(holder);
    assert_eq!(count(&db).await, 0, "what had not begun never begins");
    assert_whole(&db, "after many were late").await;
}

#[tokio::test]
async fn a_statement_that_runs_is_stopped_and_says_that_it_was_rolled_back() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let home = Home::new(kind);
        let db = open(&home).await;
        let brief = db.with_timeout(millis(400));
        let (write, returning) = (endless_write(), format!("{} RETURNING n", endless_write()));
        for call in 0..7 {
            // A read is answered at once, while its connection is still being stopped.
            eventually("all is given back", || db.stats().active_connections == 0).await;
            let begin = Instant::now();
            let error = match call {
                0 => brief.fetch_all(ENDLESS, ()).await.unwrap_err(),
                1 => brief.execute(&write, ()).await.unwrap_err(),
                2 => brief.execute_many(&write, [(); 2]).await.unwrap_err(),
                3 => brief.fetch_stream(ENDLESS, ()).try_next().await.unwrap_err(),
                4 => brief.fetch_stream(&returning, ()).try_next().await.unwrap_err(),
                5 => brief.transaction(async |tx| tx.execute(&write, ()).await).await.unwrap_err(),
                _ => brief.connection().await.unwrap().execute(&write, ()).await.unwrap_err(),
            };
            assert_eq!((kinds(&error), error.phase()), (LATE, Some(Phase::Statement)), "{kind:?}, {call}: {error}");
            assert!(error.to_string().contains("400ms"), "{error}");
            assert!(begin.elapsed() < secs(3), "{kind:?}, {call}: stopped soon: {:?}", begin.elapsed());
        }
        eventually("all is given back", || db.stats().active_connections == 0).await;
        let error = brief.execute_script(&format!("{PUT}; {}", endless_write())).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Timeout, Reason::Unspecified), "{error}");
        assert_eq!(count(&db).await, 1, "{kind:?}: only what the script had committed stays");
        assert_whole(&db, "after many were stopped").await;
    }
}

#[tokio::test]
async fn one_limit_covers_waiting_and_running_together() {
    let home = Home::new(Kind::KeyedFile);
    let db = open(&home).await;
    let guard = db.begin().await.unwrap();
    let begin = Instant::now();
    let late = async {
        let error = db.with_timeout(millis(1500)).execute(&endless_write(), ()).await.unwrap_err();
        (error, begin.elapsed())
    };
    let release = async {
        tokio::time::sleep(millis(1000)).await;
        guard.rollback().await.unwrap();
    };
    let ((error, took), ()) = tokio::join!(late, release);
    assert_eq!(kinds(&error), LATE, "{error}");
    assert!((millis(1500)..millis(3500)).contains(&took), "the wait counts: {took:?}");
    assert_eq!(count(&db).await, 0);
}

/// Queues writes behind a transaction, so that they share a batch, and lets them go.
async fn together(db: &AsyncDatabase, writes: Vec<(Option<Duration>, String)>) -> Vec<(Result<u64>, Instant)> {
    let guard = db.begin().await.unwrap();
    let before = db.stats().waiting;
    let mut tasks = Vec::new();
    for (number, (limit, sql)) in writes.into_iter().enumerate() {
        let handle = limit.map_or_else(|| db.clone(), |limit| db.with_timeout(limit));
        tasks.push(tokio::spawn(async move {
            let outcome = handle.execute(&sql, ()).await.map(|changes| changes.rows_affected);
            (outcome, Instant::now())
        }));
        let waiting = before + u32::try_from(number).unwrap() + 1;
        eventually("queued", || db.stats().waiting == waiting).await;
    }
    guard.rollback().await.unwrap();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_write_in_a_batch_is_rolled_back_and_the_others_are_done_once() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let home = Home::new(kind);
        let db = open(&home).await;
        let mut writes: Vec<_> = (0..20).map(|_| (None, PUT.to_owned())).collect();
        writes.insert(10, (Some(millis(400)), endless_write()));
        writes.insert(5, (Some(secs(30)), PUT.to_owned()));
        let mut outcomes = together(&db, writes).await;
        let error = outcomes.remove(11).0.unwrap_err();
        assert_eq!(kinds(&error), LATE, "{kind:?}: {error}");
        for (outcome, _) in outcomes {
            assert_eq!(outcome.unwrap(), 1);
        }
        assert_eq!(count(&db).await, 21, "{kind:?}: everyone else, once");
        assert_whole(&db, "after a batch was rolled back").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_late_behind_a_long_one_is_answered_soon_and_the_long_one_is_run_to_its_end() {
    let home = Home::new(Kind::KeyedFile);
    let db = open(&home).await;
    let long = format!("INSERT INTO t (n) SELECT count(*) FROM ({})", numbers(8_000_000));
    let writes = vec![(None, long), (Some(millis(300)), PUT.to_owned()), (None, PUT.to_owned())];
    let outcomes = together(&db, writes).await;
    assert_eq!(*outcomes[0].0.as_ref().unwrap(), 1);
    assert!(outcomes[1].1 < outcomes[0].1, "it did not wait for the long one");
    // Short as it is, it may be done while the batch is being stopped, and then it says so.
    let late = match &outcomes[1].0 {
        Ok(_) => 1,
        Err(error) => {
            assert_eq!(kinds(error), LATE, "{error}");
            0
        }
    };
    assert_eq!(*outcomes[2].0.as_ref().unwrap(), 1);
    assert_eq!(count(&db).await, 2 + late);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_nobody_waits_for_any_more_is_stopped() {
    let home = Home::new(Kind::KeyedFile);
    let db = open(&home).await;
    let guard = db.begin().await.unwrap();
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { db.execute(&endless_write(), ()).await.map(drop) })
        })
        .collect();
    eventually("queued", || db.stats().waiting == 2).await;
    guard.rollback().await.unwrap();
    eventually("drained", || db.stats().active_connections == 1).await;
    tokio::time::sleep(millis(100)).await;
    for task in &tasks {
        task.abort();
    }
    let begin = Instant::now();
    db.execute(PUT, ()).await.unwrap();
    assert!(begin.elapsed() < secs(2), "the writer was free at once: {:?}", begin.elapsed());
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn a_transaction_is_late_as_a_whole() {
    let db = memory().await;
    with_table(&db).await;
    let brief = db.with_timeout(millis(200));
    let error = brief
        .transaction(async |tx| {
            tx.execute(PUT, ()).await?;
            std::future::pending::<Result<()>>().await
        })
        .await
        .unwrap_err();
    assert_eq!((kinds(&error), error.phase()), (LATE, Some(Phase::Statement)), "{error}");
    assert!(error.to_string().contains("closure"), "{error}");
    assert_eq!(count(&db).await, 0, "rolled back before the error came");

    let mut guard = brief.begin().await.unwrap();
    guard.execute(PUT, ()).await.unwrap();
    tokio::time::sleep(millis(250)).await;
    let error = guard.execute(PUT, ()).await.unwrap_err();
    assert_eq!(kinds(&error), LATE, "{error}");
    assert_eq!(guard.fetch_all("SELECT 1", ()).await.unwrap_err().reason(), Reason::Doomed);
    assert_eq!(guard.commit().await.unwrap_err().reason(), Reason::Doomed);
    assert_eq!(count(&db).await, 0);

    let mut guard = brief.begin().await.unwrap();
    guard.execute(PUT, ()).await.unwrap();
    tokio::time::sleep(millis(250)).await;
    let error = guard.commit().await.unwrap_err();
    assert_eq!(kinds(&error), LATE, "a commit that is late does not happen: {error}");
    assert_eq!(count(&db).await, 0);

    let mut raw = brief.connection().await.unwrap();
    tokio::time::sleep(millis(250)).await;
    assert_eq!(kinds(&raw.execute(PUT, ()).await.unwrap_err()), WAITED);
    drop(raw);
    let mut reading = brief.begin_with(TransactionMode::READ).await.unwrap();
    let error = reading.fetch_stream(ENDLESS, ()).try_next().await.unwrap_err();
    assert_eq!(kinds(&error), LATE, "{error}");
    drop(reading);
    assert_whole(&db, "after late transactions").await;
}

#[tokio::test]
async fn a_stream_that_is_read_too_slowly_is_late_too() {
    let home = Home::new(Kind::KeyedFile);
    let db = open(&home).await;
    let mut rows = db.with_timeout(millis(200)).fetch_stream(&numbers(1_000_000), ());
    let mut read = 0;
    let error = loop {
        match rows.next().await {
            Some(Ok(_)) => read += 1,
            Some(Err(error)) => break error,
            None => panic!("the end came first, after {read} rows"),
        }
        if read % 256 == 0 {
            tokio::time::sleep(millis(20)).await;
        }
    };
    assert_eq!(kinds(&error), LATE, "{error}");
    assert!(rows.next().await.is_none(), "and is over");
    assert_whole(&db, "after a late stream").await;
}

type Mocked = AsyncDatabase<FaultyConnector<ScriptedConnector>>;

fn mocked(single_writer: bool) -> (Mocked, Faults) {
    let mut capabilities = Capabilities::new("toy", Dialect::Sqlite);
    capabilities.single_writer = single_writer;
    capabilities.group_commit = single_writer;
    let script = ScriptedConnector::new().capabilities(capabilities).changes(PUT, 1).rows("SELECT 1", ["a"], [[1]]);
    let connector = FaultyConnector::new(script);
    let faults = connector.faults();
    (AsyncDatabase::with_connector(connector).pool_max(1).build(), faults)
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_never_answers_leaves_a_write_unknown_and_nothing_hangs() {
    for single_writer in [false, true] {
        let (db, faults) = mocked(single_writer);
        let brief = db.with_timeout(secs(2));
        for (point, kind, phase) in [
            (Point::Connect, ErrorKind::Timeout, Phase::Acquire),
            (Point::Run, ErrorKind::OutcomeUnknown, Phase::Statement),
        ] {
            faults.at(point, Fault::Hang);
            let begin = Clock::now();
            let error = brief.execute(PUT, ()).await.unwrap_err();
            assert_eq!((error.kind(), error.phase()), (kind, Some(phase)), "{error}");
            assert!(begin.elapsed() <= secs(4), "{:?}", begin.elapsed());
        }
        for (point, kind, phase) in [
            (Point::Begin, ErrorKind::Timeout, Phase::Begin),
            (Point::Run, ErrorKind::Timeout, Phase::Statement),
            (Point::Commit, ErrorKind::OutcomeUnknown, Phase::Commit),
        ] {
            faults.at(point, Fault::Hang);
            let begin = Clock::now();
            let error = brief.transaction(async |tx| tx.execute(PUT, ()).await).await.unwrap_err();
            assert_eq!((error.kind(), error.phase()), (kind, Some(phase)), "{error}");
            assert!(begin.elapsed() <= secs(4), "{:?}", begin.elapsed());
        }
        faults.at(Point::Commit, Fault::Slow(millis(2500)));
        brief.transaction(async |tx| tx.execute(PUT, ()).await).await.expect("it answered within the grace");
        faults.at(Point::Run, Fault::Hang);
        faults.at(Point::Rollback, Fault::Hang);
        let begin = Clock::now();
        let error = brief.transaction(async |tx| tx.execute(PUT, ()).await).await.unwrap_err();
        assert_eq!(kinds(&error), LATE, "{error}");
        assert!(begin.elapsed() <= secs(4), "{:?}", begin.elapsed());
        db.execute(PUT, ()).await.expect("the capacity is back");
        eventually("all is given back", || db.stats().active_connections == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_never_answers_leaves_its_writes_unknown() {
    let (db, faults) = mocked(true);
    let guard = db.begin().await.unwrap();
    let waiting = {
        let brief = db.with_timeout(secs(2));
        tokio::spawn(async move { brief.execute(PUT, ()).await.unwrap_err() })
    };
    while db.stats().waiting == 0 {
        tokio::task::yield_now().await;
    }
    faults.at(Point::RunGroup, Fault::Hang);
    guard.rollback().await.unwrap();
    let begin = Clock::now();
    let error = waiting.await.unwrap();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::OutcomeUnknown, Some(Phase::Statement)), "{error}");
    assert!(begin.elapsed() <= secs(4), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_limit_beyond_all_clocks_is_no_limit_and_zero_is_one() {
    let db = memory().await;
    with_table(&db).await;
    db.with_timeout(Duration::MAX).execute(PUT, ()).await.unwrap();
    db.with_timeout(Duration::MAX).transaction(async |tx| tx.execute(PUT, ()).await).await.unwrap();
    let none = db.with_timeout(Duration::ZERO);
    let error = none.transaction(async |tx| tx.execute(PUT, ()).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let _ = none.execute(PUT, ()).await;
    none.with_timeout(secs(60)).execute(PUT, ()).await.expect("the new limit replaces the old one");
    assert_whole(&db, "after limits of all sizes").await;
}

/// Each write has one chance; what it answers must be what is in the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_late_write_says_is_what_happened_whenever_the_time_is_up() {
    for group_commit in [true, false] {
        let home = Home::new(Kind::KeyedFile);
        let db = home.builder().tuning(Tuning::default().group_commit(group_commit)).open().await.unwrap();
        db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await.unwrap();
        let mut random = fastrand::Rng::with_seed(20);
        let mut said = Vec::new();
        for round in 0..40_u32 {
            let tasks: Vec<_> = (0..12_u32)
                .map(|task| {
                    let (id, limit) = (round * 100 + task, Duration::from_micros(random.u64(0..4000)));
                    let brief = if task % 3 == 0 { db.clone() } else { db.with_timeout(limit) };
                    // Some are long enough to be stopped half-way.
                    let work = numbers(if task % 2 == 0 { 1 } else { random.u64(1..20_000) });
                    let sql = format!("INSERT INTO t SELECT $1, count(*) FROM ({work})");
                    tokio::spawn(async move { (id, brief.execute(&sql, (id,)).await) })
                })
                .collect();
            for task in tasks {
                said.push(task.await.unwrap());
            }
        }
        let ids: Vec<u32> = db.fetch_all_as("SELECT id FROM t ORDER BY id", ()).await.unwrap();
        let mut late = 0;
        for (id, outcome) in &said {
            let found = ids.binary_search(id).is_ok();
            match outcome {
                Ok(_) => assert!(found, "{id} was acknowledged"),
                Err(error) if error.kind() == ErrorKind::Timeout => {
                    late += 1;
                    assert!(!found, "{id} is there, though: {error}");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}"),
            }
        }
        let unlimited = said.iter().filter(|(id, _)| id % 100 % 3 == 0);
        assert!(unlimited.clone().all(|(_, outcome)| outcome.is_ok()), "nobody is stopped for another's limit");
        assert!(late > 20 && said.len() - late > 160, "both happen: {late} of {}", said.len());
        assert_whole(&db, "after many limits").await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_bounds_the_answer_of_a_read_on_an_engine_that_never_answers() {
    for single_writer in [false, true] {
        let (db, faults) = mocked(single_writer);
        db.connect().await.unwrap();
        faults.at(Point::Run, Fault::Hang);
        let began = Clock::now();
        let error = db.with_timeout(millis(300)).fetch_all("SELECT 1", ()).await.unwrap_err();
        assert_eq!((kinds(&error), began.elapsed()), (LATE, millis(300)), "{error}");
        assert!(error.to_string().contains("300ms ran out after 300.0ms of reading"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_asked_to_stop_in_vain_says_how_long_that_was_tried() {
    let (db, faults) = mocked(false);
    faults.at(Point::Run, Fault::Hang);
    let began = Clock::now();
    let error = db.with_timeout(millis(300)).execute(PUT, ()).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::OutcomeUnknown, millis(2300)), "{error}");
    for part in ["300ms ran out after 300.0ms", "no answer within 2s"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_already_runs_when_its_time_to_wait_is_up_is_not_counted_as_a_timeout() {
    let (db, faults) = mocked(true);
    // The pool's limit of 30 s passes while it runs, and that of the handle.
    for (handle, takes) in
        [(db.clone(), secs(40)), (db.with_timeout(secs(2)), secs(3)), (db.with_timeout(secs(60)), secs(31))]
    {
        let guard = db.begin().await.unwrap();
        let waiting = tokio::spawn(async move { handle.execute(PUT, ()).await });
        while db.stats().waiting == 0 {
            tokio::task::yield_now().await;
        }
        faults.at(Point::RunGroup, Fault::Slow(takes));
        guard.rollback().await.unwrap();
        waiting.await.unwrap().expect("it had its turn");
        assert_eq!((db.stats().total_timeouts, db.stats().waiting), (0, 0), "{takes:?}");
    }
    let guard = db.begin().await.unwrap();
    let error = db.execute(PUT, ()).await.unwrap_err();
    assert_eq!((error.kind(), db.stats().total_timeouts), (ErrorKind::PoolExhausted, 1), "one that had no turn is");
    drop(guard);
}
