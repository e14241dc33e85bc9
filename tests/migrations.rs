//! Migrations on SQLite: each runs once and whole, and what does not fit is refused by name.
#![cfg(all(feature = "sqlcipher", feature = "migrations"))]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{Home, Kind, Walked, assert_whole, kinds, memory, millis, secs, walk};
use strongroom::database::migrations::{MigrateOptions, Migration, MigrationState, Migrations};
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason, SqlCipherConnector};

type List = Migrations<SqlCipherConnector>;

/// Two tables of which one refers to the other, and rows by a closure between two texts.
fn shop() -> List {
    Migrations::new()
        .sql(1, "customers", "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)")
        .code(2, "first customer", async |tx| {
            tx.execute("INSERT INTO customers VALUES ($1, $2)", (1, "alice")).await?;
            Ok(())
        })
        .sql(
            3,
            "orders",
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers);
             INSERT INTO orders VALUES (1, 1), (2, 1)",
        )
}

const REBUILD: &str = "CREATE TABLE rebuilt (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
     INSERT INTO rebuilt SELECT id, coalesce(name, '') FROM customers;
     DROP TABLE customers;
     ALTER TABLE rebuilt RENAME TO customers";

async fn schema(db: &AsyncDatabase) -> String {
    let sql = "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_schema WHERE name != 'strongroom_migrations' \
               AND name NOT LIKE 'sqlite_%' ORDER BY name)";
    db.fetch_value::<Option<String>>(sql, ()).await.unwrap().flatten().unwrap_or_default()
}

async fn versions(db: &AsyncDatabase) -> Vec<i64> {
    db.fetch_all_as("SELECT version FROM strongroom_migrations ORDER BY version", ()).await.unwrap()
}

fn assert_refused(error: &Error, reason: Reason, words: &str) {
    assert_eq!(kinds(error), (ErrorKind::Migration, reason), "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.advice().is_some(), "{error}");
}

#[tokio::test]
async fn texts_and_closures_run_once_in_order_and_are_reported() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        let plan = db.migration_plan(&shop()).await.unwrap();
        let names: Vec<_> = plan.pending.iter().map(|step| (step.version, &*step.name)).collect();
        assert_eq!(names, [(1, "customers"), (2, "first customer"), (3, "orders")]);
        assert_eq!((plan.version, schema(&db).await), (None, String::new()), "the plan did something");

        let report = db.migrate(&shop()).await.unwrap();
        assert_eq!(report.ran.iter().map(|run| run.version).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((report.version, report.adopted), (Some(3), 0));
        let again = db.migrate(&shop()).await.unwrap();
        assert_eq!((again.ran.len(), again.version), (0, Some(3)));
        assert_eq!(versions(&db).await, [1, 2, 3]);
        let orders: Option<i64> = db.fetch_value("SELECT count(*) FROM orders", ()).await.unwrap();
        assert_eq!(orders, Some(2));

        let more = shop().sql(7, "city", "ALTER TABLE customers ADD COLUMN city TEXT");
        assert_eq!(db.migrate(&more).await.unwrap().ran.len(), 1);
        assert_whole(&db, &format!("{kind:?}")).await;
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_failure_leaves_its_migration_undone_and_those_before_it_done() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    let broken =
        "CREATE TABLE half (a); INSERT INTO half VALUES (1); INSERT INTO nowhere VALUES (1); CREATE TABLE rest (a)";
    let error = db.migrate(&shop().sql(4, "broken", broken)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query);
    assert!(error.to_string().starts_with("migration 4 (broken): no such table: nowhere"), "{error}");
    assert_eq!(error.object(), Some("migration 4 (broken)"));
    assert_eq!(versions(&db).await, [1, 2, 3]);
    assert!(!db.table_exists("half").await.unwrap());

    let code = shop().code(4, "gives up", async |tx| {
        tx.execute_script("CREATE TABLE half (a)").await?;
        Err(Error::new(ErrorKind::Config, "no"))
    });
    assert_eq!(db.migrate(&code).await.unwrap_err().to_string(), "migration 4 (gives up): no");
    let swallows = shop().code(4, "swallows", async |tx| {
        let _ = tx.execute("INSERT INTO nowhere VALUES (1)", ()).await;
        Ok(())
    });
    assert_eq!(kinds(&db.migrate(&swallows).await.unwrap_err()), (ErrorKind::Transaction, Reason::Doomed));
    assert!(!db.table_exists("half").await.unwrap());
    // Mended, it goes on where it stopped.
    let mended = shop().sql(4, "broken", "CREATE TABLE half (a)");
    assert_eq!(db.migrate(&mended).await.unwrap().ran[0].version, 4);
    assert_whole(&db, "after failures").await;
}

#[tokio::test]
async fn a_closure_that_panics_or_asks_the_database_itself_is_rolled_back() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    let list = shop().code(4, "panics", async |tx| {
        tx.execute_script("CREATE TABLE half (a)").await?;
        panic!("by the test");
    });
    let task = tokio::spawn({
        let db = db.clone();
        async move { db.migrate(&list).await }
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(versions(&db).await, [1, 2, 3]);
    let own = db.clone();
    let list = shop().add(Migration::boxed(4, "asks itself", move |_tx| {
        let own = own.clone();
        Box::pin(async move { own.execute_script("CREATE TABLE half (a)").await })
    }));
    assert_eq!(db.migrate(&list).await.unwrap_err().reason(), Reason::WouldDeadlock);
    assert!(!db.table_exists("half").await.unwrap());
    assert_whole(&db, "after a panic").await;
}

#[tokio::test]
async fn what_does_not_fit_to_the_history_is_refused_by_name() {
    let db = memory().await;
    db.migrate(&shop()).await.unwrap();
    let text = "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)";
    let orders = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers);
             INSERT INTO orders VALUES (1, 1), (2, 1)";
    let first = || Migrations::new().sql(1, "customers", text);
    let second = |list: List| list.code(2, "first customer", async |_tx| Ok(()));

    let changed = second(Migrations::new().sql(1, "customers", "CREATE TABLE customers (id)")).sql(3, "orders", orders);
    let changed = db.migrate(&changed).await.unwrap_err();
    assert_refused(&changed, Reason::MigrationChanged, "the text of migration 1 (customers) has changed since it ran");
    let renamed = first().code(2, "another", async |_tx| Ok(())).sql(3, "orders", orders);
    assert_refused(&db.migrate(&renamed).await.unwrap_err(), Reason::MigrationChanged, "migration 2 (first customer)");
    let text_now = first().sql(2, "first customer", "SELECT 1").sql(3, "orders", orders);
    assert_refused(&db.migrate(&text_now).await.unwrap_err(), Reason::MigrationChanged, "was a closure when it ran");
    let missing = first().sql(3, "orders", orders);
    let missing = db.migrate(&missing).await.unwrap_err();
    assert_refused(&missing, Reason::MigrationMissing, "the database has had migration 2 (first customer)");
    let old = db.migrate(&second(first())).await.unwrap_err();
    assert_refused(&old, Reason::NewerSchema, "migration 3 (orders), which is newer than the program");
    assert_refused(&db.migrate(&Migrations::new()).await.unwrap_err(), Reason::NewerSchema, "no migration at all");
    // The name of a text may change, and so may its line endings.
    let same =
        second(Migrations::new().sql(1, "clients", text)).sql(3, "orders", orders.replace('\n', "\r\n") + "\r\n");
    assert_eq!(db.migrate(&same).await.unwrap().ran.len(), 0);
    // The plan says the same.
    assert_eq!(db.migration_plan(&second(first())).await.unwrap_err().reason(), Reason::NewerSchema);
}

#[tokio::test]
async fn one_that_comes_too_late_is_refused_unless_any_order_will_do() {
    let db = memory().await;
    let branch = Migrations::new().sql(1, "a", "CREATE TABLE a (a)").sql(3, "c", "CREATE TABLE c (a)");
    db.migrate(&branch).await.unwrap();
    let merged = branch.sql(2, "b", "CREATE TABLE b (a)").sql(4, "d", "CREATE TABLE d (a)");
    let error = db.migrate(&merged).await.unwrap_err();
    assert_refused(&error, Reason::MigrationOutOfOrder, "migration 2 (b) comes before migration 3 (c)");
    assert!(!db.table_exists("d").await.unwrap());
    let report = db.migrate_with(&merged, MigrateOptions::new().any_order()).await.unwrap();
    assert_eq!(report.ran.iter().map(|run| run.version).collect::<Vec<_>>(), [2, 4]);
}

#[tokio::test]
async fn a_wrong_list_is_refused_before_anything_runs() {
    let db = memory().await;
    let twice = shop().sql(3, "again", "SELECT 1");
    let error = db.migrate(&twice).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "two migrations have the number 3: orders and again; give the newer one the next free number"
    );
    let negative = Migrations::new().sql(-1, "x", "SELECT 1");
    assert_eq!(db.migrate(&negative).await.unwrap_err().kind(), ErrorKind::Config);
    let outside = List::new().add(Migration::code(1, "x", async |_tx| Ok(())).outside_transaction());
    assert_eq!(db.migrate(&outside).await.unwrap_err().kind(), ErrorKind::Config);
    let nowhere = db.migrate_with(&shop(), MigrateOptions::new().up_to(9)).await.unwrap_err();
    assert_eq!(nowhere.message(), "there is no migration 9 to stop at");
    assert_eq!(schema(&db).await, "");
    assert!(!db.table_exists("strongroom_migrations").await.unwrap());
}

#[tokio::test]
async fn a_target_stops_a_run_and_progress_tells_of_it() {
    let db = memory().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    let options = MigrateOptions::new().up_to(2).on_progress(move |now| {
        let done = matches!(now.state, MigrationState::Done(_));
        tells.lock().unwrap().push((now.version, done, now.number, now.total));
    });
    let report = db.migrate_with(&shop(), options.clone()).await.unwrap();
    assert_eq!((report.ran.len(), report.version), (2, Some(2)));
    let expected = [(1, false, 1, 2), (1, true, 1, 2), (2, false, 2, 2), (2, true, 2, 2)];
    assert_eq!(*told.lock().unwrap(), expected);
    db.migrate(&shop()).await.unwrap();
    // A database that is further stays as it is.
    let report = db.migrate_with(&shop(), options).await.unwrap();
    assert_eq!((report.ran.len(), report.version), (0, Some(3)));
}

#[tokio::test]
async fn a_table_that_others_refer_to_is_rebuilt_and_foreign_keys_are_on_again() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        // Without the mark, dropping the table fails for the rows that refer to it.
        let plain = db.migrate(&shop().sql(4, "rebuild", REBUILD)).await.unwrap_err();
        assert_eq!(kinds(&plain), (ErrorKind::Constraint, Reason::ForeignKey), "{plain}");
        let list = shop()
            .add(Migration::sql(4, "rebuild", REBUILD).without_foreign_keys())
            .sql(5, "after", "CREATE TABLE after (customer INTEGER REFERENCES customers)")
            .code(6, "keys are on", async |tx| {
                let keys: Option<i64> = tx.fetch_value("PRAGMA foreign_keys", ()).await?;
                assert_eq!(keys, Some(1));
                Ok(())
            });
        db.migrate(&list).await.unwrap();
        assert!(schema(&db).await.contains("name TEXT NOT NULL"), "{kind:?}");
        let orphan = db.execute("INSERT INTO orders VALUES (9, 9)", ()).await.unwrap_err();
        assert_eq!(orphan.reason(), Reason::ForeignKey);
        assert_whole(&db, &format!("{kind:?} after a rebuild")).await;
    }
}

#[tokio::test]
async fn a_rebuild_that_breaks_a_foreign_key_is_undone_and_names_the_tables() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    let loses = REBUILD.replace("FROM customers", "FROM customers WHERE id > 1");
    let list = shop().add(Migration::sql(4, "rebuild", loses).without_foreign_keys());
    let error = db.migrate(&list).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Constraint, Reason::ForeignKey));
    assert!(
        error
            .to_string()
            .contains("migration 4 (rebuild): rows refer to rows that are not there: 2 of orders to customers"),
        "{error}"
    );
    assert!(!schema(&db).await.contains("NOT NULL)"));
    assert_eq!(versions(&db).await, [1, 2, 3]);
    assert_whole(&db, "after a rebuild that failed").await;
}

#[tokio::test]
async fn keys_that_a_hook_has_switched_off_are_off_again_afterwards() {
    let home = Home::new(Kind::PlainFile);
    let off = async |connection: &mut strongroom::sqlcipher::SqlCipherConnection| {
        connection.interact(|c| c.pragma_update(None, "foreign_keys", false)).await
    };
    let db = home.builder().set_up(off).open().await.unwrap();
    let list = shop().add(Migration::sql(4, "rebuild", REBUILD).without_foreign_keys()).code(5, "off", async |tx| {
        let keys: Option<i64> = tx.fetch_value("PRAGMA foreign_keys", ()).await?;
        assert_eq!(keys, Some(0));
        Ok(())
    });
    assert_eq!(db.migrate(&list).await.unwrap().ran.len(), 5);
}

#[tokio::test]
async fn what_ends_the_transaction_or_alters_the_session_is_refused_with_the_way_out() {
    let db = memory().await;
    for text in [
        "BEGIN; CREATE TABLE a (a); COMMIT",
        "PRAGMA foreign_keys = OFF; CREATE TABLE a (a)",
        "CREATE TABLE a (a); VACUUM",
    ] {
        let error = db.migrate(&List::new().sql(1, "x", text)).await.unwrap_err();
        assert!(!db.table_exists("a").await.unwrap(), "{text}");
        assert!(error.to_string().contains("migration 1 (x)"), "{error}");
        assert!(error.advice().unwrap_or_default().contains("outside_transaction"), "{text}: {error}");
    }
}

#[tokio::test]
async fn what_cannot_run_in_a_transaction_runs_outside_and_is_told_when_it_did_not_finish() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    let list = shop().add(Migration::sql(4, "compact", "VACUUM").outside_transaction());
    let plan = db.migration_plan(&list).await.unwrap();
    assert!(plan.pending[2].in_transaction && !plan.pending[3].in_transaction);
    assert_eq!(db.migrate(&list).await.unwrap().version, Some(4));
    assert_eq!(db.migrate(&list).await.unwrap().ran.len(), 0);

    let halves = "CREATE TABLE one (a); CREATE TABLE two (a); INSERT INTO nowhere VALUES (1)";
    let list = list.add(Migration::sql(5, "halves", halves).outside_transaction());
    let failed = db.migrate(&list).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Query);
    let stopped = db.migrate(&list).await.unwrap_err();
    assert_refused(&stopped, Reason::MigrationUnfinished, "migration 5 (halves) began outside of a transaction");
    assert_eq!(db.migration_plan(&list).await.unwrap_err().reason(), Reason::MigrationUnfinished);
    let again = db.migrate_with(&list, MigrateOptions::new().run_again(5)).await.unwrap_err();
    assert!(again.to_string().contains("table one already exists"), "{again}");
    let report = db.migrate_with(&list, MigrateOptions::new().take_as_done(5)).await.unwrap();
    assert_eq!((report.ran.len(), report.version), (0, Some(5)));
    assert_eq!(db.migrate(&list).await.unwrap().version, Some(5));

    let repeatable = "CREATE TABLE IF NOT EXISTS three (a); INSERT INTO nowhere VALUES (1)";
    let list = list.add(Migration::sql(6, "again", repeatable).outside_transaction().repeatable());
    assert_eq!(db.migrate(&list).await.unwrap_err().kind(), ErrorKind::Query);
    db.execute_script("CREATE TABLE nowhere (a)").await.unwrap();
    assert_eq!(db.migrate(&list).await.unwrap().version, Some(6));
    assert_whole(&db, "after migrations outside of transactions").await;
}

/// A failure outside of transactions leaves the line of a run that began, with the text that was wrong.
#[tokio::test]
async fn a_wrong_text_outside_of_transactions_is_mended_and_runs_again_or_is_taken_as_done() {
    let begun = |db: AsyncDatabase, repeatable: bool| async move {
        let wrong = Migration::sql(4, "copy", "CREATE TABLE copy AS SELECT * FROM custmers").outside_transaction();
        let list = shop().add(if repeatable { wrong.repeatable() } else { wrong });
        assert_eq!(db.migrate(&list).await.unwrap_err().kind(), ErrorKind::Query);
        db
    };
    let text = "CREATE TABLE copy AS SELECT * FROM customers";
    let right = || Migration::sql(4, "a copy", text).outside_transaction();

    let db = begun(memory().await, true).await;
    let list = shop().add(right().repeatable());
    assert_eq!(db.migrate(&list).await.unwrap().version, Some(4));
    assert_eq!(db.migrate(&list).await.unwrap().ran.len(), 0);

    let db = begun(memory().await, false).await;
    let list = shop().add(right());
    assert_refused(&db.migrate(&list).await.unwrap_err(), Reason::MigrationUnfinished, "migration 4 (a copy) began");
    assert_eq!(db.migrate_with(&list, MigrateOptions::new().run_again(4)).await.unwrap().version, Some(4));
    assert_eq!(db.migrate(&list).await.unwrap().ran.len(), 0);

    let db = begun(memory().await, false).await;
    db.execute_script(text).await.unwrap();
    assert_eq!(db.migrate_with(&list, MigrateOptions::new().take_as_done(4)).await.unwrap().ran.len(), 0);
    assert_eq!(db.migrate(&list).await.unwrap().version, Some(4));
    // From here on, its text is what ran.
    let changed = shop().add(Migration::sql(4, "a copy", "SELECT 1").outside_transaction());
    assert_refused(&db.migrate(&changed).await.unwrap_err(), Reason::MigrationChanged, "the text of migration 4");

    // What was wrong with it may be that it ran outside.
    let db = begun(memory().await, false).await;
    let list = shop().sql(4, "a copy", text);
    assert_eq!(db.migrate_with(&list, MigrateOptions::new().run_again(4)).await.unwrap().version, Some(4));
    assert_eq!((versions(&db).await, db.migrate(&list).await.unwrap().ran.len()), (vec![1, 2, 3, 4], 0));
}

#[tokio::test]
async fn options_that_name_a_migration_which_is_not_in_the_list_are_refused() {
    let db = memory().await;
    for (options, words) in [
        (MigrateOptions::new().up_to(99), "there is no migration 99 to stop at"),
        (MigrateOptions::new().run_again(99), "there is no migration 99 to run again"),
        (MigrateOptions::new().take_as_done(2).take_as_done(99), "there is no migration 99 to take as done"),
    ] {
        let error = db.migrate_with(&shop(), options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().starts_with(words), "{error}");
    }
    assert!(!db.table_exists("customers").await.unwrap());
}

/// Either alone would win in silence: a rebuild with foreign keys on deletes the rows that refer to the table.
#[tokio::test]
async fn outside_of_transactions_and_without_foreign_keys_at_once_is_a_contradiction() {
    let db = memory().await;
    let rebuild = || Migration::sql(4, "rebuild", REBUILD);
    let files = |top: &str| {
        let text = format!("{top}\n{REBUILD}");
        List::from_files([("4_rebuild.sql", text)]).map(drop)
    };
    for refused in [
        db.migrate(&shop().add(rebuild().without_foreign_keys().outside_transaction())).await.map(drop),
        db.migrate(&shop().add(rebuild().outside_transaction().repeatable().without_foreign_keys())).await.map(drop),
        files("-- strongroom: without-foreign-keys, outside-transaction"),
        files("-- no-transaction\n-- strongroom: without-foreign-keys"),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().starts_with("migration 4 (rebuild) asks to run outside"), "{error}");
    }
    files("-- no-transaction\n-- strongroom: outside-transaction").unwrap();
    assert!(!db.table_exists("customers").await.unwrap());
}

#[tokio::test]
async fn what_an_outside_migration_leaves_in_its_session_ends_with_it() {
    for home in [Home::new(Kind::KeyedFile), Home::new(Kind::KeyedMemory)] {
        let db = home.builder().pool_max(1).open().await.unwrap();
        let off = "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; CREATE TEMP TABLE left_over (a)";
        let orphan = "INSERT INTO orders VALUES (9, 77)";
        let list = shop().add(Migration::sql(4, "off", off).outside_transaction()).sql(5, "orphan", orphan);
        let error = db.migrate(&list).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Constraint, Reason::ForeignKey), "{error}");
        let list = shop().add(Migration::sql(4, "off", off).outside_transaction()).code(5, "look", async |tx| {
            let kept: Option<i64> = tx.fetch_value("PRAGMA ignore_check_constraints", ()).await?;
            assert_eq!((kept, tx.table_exists("left_over").await?), (Some(0), false));
            Ok(())
        });
        assert_eq!(db.migrate(&list).await.unwrap().version, Some(5));
    }
}

#[tokio::test]
async fn a_run_that_is_dropped_at_any_moment_leaves_each_migration_done_or_not_begun() {
    let list = || {
        shop()
            .add(Migration::sql(4, "rebuild", REBUILD).without_foreign_keys())
            .add(Migration::sql(5, "compact", "VACUUM").outside_transaction().repeatable())
            .sql(6, "after", "CREATE TABLE after (a)")
    };
    let tables = ["", "customers", "customers", "orders", "orders", "orders", "after"];
    for kind in [Kind::KeyedFile, Kind::PlainMemory] {
        let (mut polls, mut done) = (0, false);
        while !done {
            let home = Home::new(kind);
            let db = home.open().await;
            let list = list();
            done = match walk(db.migrate(&list), polls).await {
                Walked::Done(report) => report.unwrap().version == Some(6),
                Walked::Dropped => false,
            };
            // A commit that was under way goes on; it ends before the writer can be had.
            drop(db.connection().await.unwrap());
            let had =
                if db.table_exists("strongroom_migrations").await.unwrap() { versions(&db).await } else { Vec::new() };
            let what = format!("{kind:?} after {polls} polls, {had:?}");
            let last = had.len();
            if last > 0 {
                assert!(db.table_exists(tables[last]).await.unwrap(), "{what}");
            }
            if last < 6 {
                assert!(!db.table_exists("after").await.unwrap(), "{what}");
            }
            assert!(!schema(&db).await.contains("rebuilt"), "{what}");
            assert_eq!(schema(&db).await.contains("NOT NULL)"), last >= 4, "{what}");
            assert_whole(&db, &what).await;
            assert_eq!(db.migrate(&list).await.expect(&what).version, Some(6), "{what}");
            polls += if polls < 12 { 1 } else { 5 };
        }
        // How often it waits depends on how soon threads answer.
        assert!(polls > 2, "it was never dropped on the way");
    }
}

#[tokio::test]
async fn a_run_has_the_time_limit_of_its_handle() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    let endless = shop().sql(4, "endless", format!("CREATE TABLE half (a); {}", common::ENDLESS));
    let late = db.with_timeout(millis(300)).migrate(&endless).await.unwrap_err();
    assert_eq!(kinds(&late), (ErrorKind::Timeout, Reason::RolledBack), "{late}");
    assert!(!db.table_exists("half").await.unwrap());
    assert_whole(&db, "after a late run").await;
}

#[tokio::test]
async fn tasks_and_handles_that_start_at_once_run_each_migration_once() {
    let home = Home::new(Kind::KeyedFile);
    let ran = Arc::new(AtomicUsize::new(0));
    let list = {
        let ran = Arc::clone(&ran);
        Arc::new(shop().add(Migration::boxed(4, "counts", move |_tx| {
            ran.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(()) })
        })))
    };
    let (one, other) = (home.open().await, home.open().await);
    let runs: Vec<_> = (0..8)
        .map(|number| {
            let (db, list) = (if number % 2 == 0 { one.clone() } else { other.clone() }, Arc::clone(&list));
            tokio::spawn(async move { db.migrate(&list).await.unwrap() })
        })
        .collect();
    let mut total = 0;
    for run in runs {
        let report = tokio::time::timeout(secs(30), run).await.unwrap().unwrap();
        total += report.ran.len();
        assert_eq!(report.version, Some(4));
    }
    assert_eq!((total, ran.load(Ordering::SeqCst)), (4, 1));
}

#[tokio::test]
async fn nothing_to_do_is_one_read_and_no_write() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.migrate(&shop()).await.unwrap();
    let holder = db.connection().await.unwrap();
    let before = db.stats().total_acquired;
    // The writer is lent to somebody else, and is not needed.
    let report = tokio::time::timeout(secs(5), db.migrate(&shop())).await.unwrap().unwrap();
    assert_eq!(report.version, Some(3));
    assert_eq!(db.stats().total_acquired, before + 1);
    drop(holder);
}

#[test]
fn a_folder_is_read_in_the_order_of_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("10_last.sql", "SELECT 10");
    write("2_first.sql", "SELECT 2");
    write("README.md", "words");
    write("2_first.down.sql", "SELECT 0");
    std::fs::create_dir(folder.path().join("old.sql")).unwrap();
    let list = List::from_folder(folder.path()).unwrap();
    let mut versions: Vec<_> = list.iter().map(Migration::version).collect();
    versions.sort_unstable();
    assert_eq!(versions, [2, 10]);

    write("users.sql", "SELECT 1");
    let error = List::from_folder(folder.path()).unwrap_err();
    assert!(error.to_string().contains("the file name users.sql is not that of a migration"), "{error}");
    std::fs::remove_file(folder.path().join("users.sql")).unwrap();
    write("0002_again.sql", "SELECT 1");
    let error = List::from_folder(folder.path()).unwrap_err();
    assert!(error.to_string().contains("two migrations have the number 2"), "{error}");

    let empty = tempfile::tempdir().unwrap();
    let error = List::from_folder(empty.path()).unwrap_err();
    assert!(error.to_string().contains("there are no migrations among the files"), "{error}");
    let nowhere = List::from_folder(empty.path().join("nowhere")).unwrap_err();
    assert_eq!(kinds(&nowhere), (ErrorKind::Config, Reason::NotFound));
}

#[tokio::test]
async fn files_are_taken_into_the_program() {
    let list: List = strongroom::database::migrations::include_files![
        "data/migrations/0001_customers.sql",
        "data/migrations/0002_compact.sql"
    ]
    .unwrap();
    let db = memory().await;
    let plan = db.migration_plan(&list).await.unwrap();
    assert_eq!((plan.pending.len(), plan.pending[1].in_transaction), (2, false));
    db.migrate(&list).await.unwrap();
    assert!(db.table_exists("customers").await.unwrap());
}
