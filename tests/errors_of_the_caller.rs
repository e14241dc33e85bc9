//! Errors of the caller's own come out of transactions and closures as they are.
#![cfg(feature = "sqlcipher")]

use std::error::Error as StdError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use strongroom::database::TransactionOptions;
use strongroom::pool::FixedDelay;
use strongroom::{AsyncDatabase, Connection, Connector, Error, ErrorKind, Reason, rusqlite};

type Boxed = Box<dyn StdError + Send + Sync>;

#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error("{0} cents are too little")]
    TooLittle(i64),
    #[error("not a number")]
    Parse(#[from] std::num::ParseIntError),
    #[error(transparent)]
    Database(#[from] Error),
    #[error("rusqlite failed")]
    Sqlite(#[from] rusqlite::Error),
}

async fn accounts() -> strongroom::Result<AsyncDatabase> {
    let db = AsyncDatabase::builder(":memory:").open().await?;
    db.execute_script("CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)").await?;
    db.execute("INSERT INTO accounts VALUES (1, 20)", ()).await?;
    Ok(db)
}

async fn cents<C: Connector<Connection: Connection>>(db: &AsyncDatabase<C>) -> Option<i64> {
    db.fetch_value("SELECT cents FROM accounts WHERE id = 1", ()).await.unwrap()
}

#[tokio::test]
async fn an_enum_of_the_caller_comes_out_of_every_kind_of_transaction_and_rolls_it_back() {
    let db = accounts().await.unwrap();
    let outcome = db
        .try_transaction(async |tx| {
            tx.execute("UPDATE accounts SET cents = cents - 30", ()).await?;
            let _: i64 = "7".parse()?;
            Err::<(), _>(AppError::TooLittle(-10))
        })
        .await;
    assert!(matches!(outcome, Err(AppError::TooLittle(-10))));
    let outcome = db
        .try_transaction_with(TransactionOptions::new(), async |tx| -> Result<(), AppError> {
            tx.execute("UPDATE accounts SET cents = cents - 30", ()).await?;
            Ok("x".parse::<i64>().map(drop)?)
        })
        .await;
    assert!(matches!(outcome, Err(AppError::Parse(_))));
    let outcome = db
        .try_transaction(async |tx| -> Result<i64, AppError> {
            let inner = tx
                .try_transaction(async |nested| -> Result<(), AppError> {
                    nested.execute("UPDATE accounts SET cents = 5", ()).await?;
                    Err(AppError::TooLittle(5))
                })
                .await;
            assert!(matches!(inner, Err(AppError::TooLittle(5))));
            Ok(tx.fetch_value("SELECT cents FROM accounts", ()).await?.unwrap_or(0))
        })
        .await;
    assert_eq!(outcome.unwrap(), 20);
    assert_eq!(cents(&db).await, Some(20));
}

/// Where the closure's error is fixed to ours, one of the caller's travels as its cause.
#[tokio::test]
async fn an_error_of_the_caller_is_the_cause_of_ours_in_the_plain_forms() {
    let db = accounts().await.unwrap();
    let own = || Error::new(ErrorKind::Query, "nothing was paid").caused_by(AppError::TooLittle(-10));
    let is_own = |error: &Error| {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<AppError>());
        matches!(cause, Some(AppError::TooLittle(-10))) && error.message() == "nothing was paid"
    };
    let change = "UPDATE accounts SET cents = 0";
    let outcome = db
        .transaction(async |tx| {
            tx.execute(change, ()).await?;
            Err::<(), _>(own())
        })
        .await;
    assert!(is_own(&outcome.unwrap_err()));
    let options = || TransactionOptions::new().retry(FixedDelay::new(3, Duration::from_millis(1)));
    let runs = AtomicU32::new(0);
    let outcome = db
        .transaction_with(options(), async |tx| {
            runs.fetch_add(1, Ordering::SeqCst);
            tx.execute(change, ()).await?;
            Err::<(), _>(own())
        })
        .await;
    assert!(is_own(&outcome.unwrap_err()));
    assert_eq!(runs.into_inner(), 1, "it would not pass");
    // rusqlite's own error carries one, too.
    let outcome = db
        .interact(|c| {
            c.execute_batch("SELECT 1")?;
            Err::<(), _>(rusqlite::Error::ToSqlConversionFailure(Box::new(AppError::TooLittle(-10))))
        })
        .await;
    let error = outcome.unwrap_err();
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    assert!(causes.any(|cause| matches!(cause.downcast_ref(), Some(AppError::TooLittle(-10)))), "{error:?}");
    assert_eq!(cents(&db).await, Some(20));
}

#[tokio::test]
async fn errors_of_ours_are_turned_into_the_callers() {
    let db = accounts().await.unwrap();
    let failed = db.try_transaction(async |tx| -> Result<(), Boxed> { Ok(tx.execute_script("nonsense").await?) }).await;
    assert_eq!(failed.unwrap_err().downcast::<Error>().unwrap().kind(), ErrorKind::Query);
    let failed = db
        .try_transaction(async |tx| -> anyhow::Result<()> {
            tx.execute("INSERT INTO accounts VALUES (1, 1)", ()).await.ok();
            Ok(()) // the error was swallowed, so the commit refuses
        })
        .await;
    assert_eq!(failed.unwrap_err().downcast::<Error>().unwrap().reason(), Reason::Doomed);
    db.close().await.unwrap();
    let closed = db.try_transaction(async |_| Ok::<_, AppError>(())).await;
    assert!(matches!(closed, Err(AppError::Database(error)) if error.kind() == ErrorKind::Closed));
    let closed = db.try_interact(|_| Ok::<_, AppError>(())).await;
    assert!(matches!(closed, Err(AppError::Database(error)) if error.kind() == ErrorKind::Closed));
}

#[tokio::test]
async fn interact_takes_the_errors_of_the_caller_and_of_rusqlite() {
    let db = accounts().await.unwrap();
    let outcome = db
        .try_interact(|c| -> Result<i64, AppError> {
            let text: String = c.query_row("SELECT 'x'", (), |row| row.get(0))?;
            Ok(text.parse()?)
        })
        .await;
    assert!(matches!(outcome, Err(AppError::Parse(_))));
    let outcome = db.try_interact(|c| -> Result<(), AppError> { Ok(c.execute_batch("nonsense")?) }).await;
    assert!(matches!(outcome, Err(AppError::Sqlite(_))));
    let refused = |error: rusqlite::Error| Error::new(ErrorKind::Query, "no").caused_by(error);
    let ours =
        db.try_interact(move |c| -> strongroom::Result<()> { c.execute_batch("nonsense").map_err(refused) }).await;
    assert_eq!(ours.unwrap_err().message(), "no");
    let mut connection = db.connection().await.unwrap();
    let boxed = connection.try_interact(|_| -> Result<(), Boxed> { Err("no luck".into()) }).await;
    assert_eq!(boxed.unwrap_err().to_string(), "no luck");
    // Without a word about types, as before.
    connection
        .interact(|c| {
            c.execute("UPDATE accounts SET cents = 7", ())?;
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_transaction_with_an_error_of_the_caller_is_run_again_for_the_reason_beneath_it() {
    let db = accounts().await.unwrap();
    let options = TransactionOptions::new().retry(FixedDelay::new(3, Duration::from_millis(100)));
    let runs = AtomicU32::new(0);
    let permanent = db
        .try_transaction_with(options.clone(), async |tx| -> Result<(), AppError> {
            runs.fetch_add(1, Ordering::SeqCst);
            tx.execute("INSERT INTO accounts VALUES (1, 1)", ()).await?;
            Ok(())
        })
        .await;
    assert!(matches!(permanent, Err(AppError::Database(error)) if error.reason() == Reason::Unique));
    let own = db
        .try_transaction_with(options, async |_| {
            runs.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(AppError::TooLittle(1))
        })
        .await;
    assert!(matches!(own, Err(AppError::TooLittle(1))));
    assert_eq!(runs.into_inner(), 2);
}

/// A program as users of `anyhow` write it: one result type, `?` on everything, context on the way.
async fn transfer(db: &AsyncDatabase, cents: &str) -> anyhow::Result<i64> {
    let cents: i64 = cents.parse().context("the amount")?;
    let left = db
        .try_transaction(async |tx| -> anyhow::Result<i64> {
            tx.execute("UPDATE accounts SET cents = cents - $1", (cents,)).await.context("the update")?;
            let left = tx.fetch_value("SELECT cents FROM accounts", ()).await?.unwrap_or(0);
            anyhow::ensure!(left >= 0, "{left} cents would be left");
            Ok(left)
        })
        .await
        .context("the transfer")?;
    db.try_interact(|c| -> anyhow::Result<()> { Ok(c.execute_batch("SELECT 1")?) }).await?;
    Ok(left)
}

#[tokio::test]
async fn a_program_with_anyhow_reads_as_its_users_write_it() {
    let db = accounts().await.unwrap();
    assert_eq!(transfer(&db, "5").await.unwrap(), 15);
    assert_eq!(format!("{:#}", transfer(&db, "50").await.unwrap_err()), "the transfer: -35 cents would be left");
    assert!(transfer(&db, "x").await.unwrap_err().is::<std::num::ParseIntError>());
    db.execute_script("ALTER TABLE accounts RENAME TO others").await.unwrap();
    let missing = transfer(&db, "5").await.unwrap_err();
    let ours = missing.chain().find_map(|error| error.downcast_ref::<Error>()).expect("the cause is kept");
    assert_eq!((ours.kind(), ours.reason()), (ErrorKind::Query, Reason::Syntax));
    assert!(format!("{missing:#}").starts_with("the transfer: the update: no such table: accounts"), "{missing:#}");
}

/// A failure that may pass, however the caller's error type wraps it.
#[cfg(feature = "testing")]
#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_repeated_whatever_error_type_the_closure_has() {
    use strongroom::testing::{Fault, FaultyConnector, Point};
    use strongroom::{SqlCipherConnector, Transaction};

    let connector = FaultyConnector::new(SqlCipherConnector::new(":memory:"));
    let faults = connector.faults();
    let db = AsyncDatabase::with_connector(connector).open().await.unwrap();
    db.execute_script("CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)").await.unwrap();
    let options = TransactionOptions::new().retry(FixedDelay::new(3, Duration::from_millis(100)));

    let runs = AtomicU32::new(0);
    faults.at(Point::Run, Fault::Fail(ErrorKind::Busy));
    faults.at(Point::Run, Fault::Fail(ErrorKind::Serialization));
    db.try_transaction_with(options.clone(), async |tx| -> anyhow::Result<()> {
        runs.fetch_add(1, Ordering::SeqCst);
        tx.execute("INSERT INTO accounts VALUES (1, 20)", ()).await.context("the insert")?;
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!((runs.load(Ordering::SeqCst), cents(&db).await), (3, Some(20)));

    // At the commit too, and with an enum.
    faults.at(Point::Commit, Fault::Fail(ErrorKind::Busy));
    let update = async |tx: &mut Transaction<_>| -> Result<(), AppError> {
        runs.fetch_add(1, Ordering::SeqCst);
        Ok(tx.execute("UPDATE accounts SET cents = cents - 1", ()).await.map(drop)?)
    };
    db.try_transaction_with(options.clone(), update).await.unwrap();
    assert_eq!((runs.load(Ordering::SeqCst), cents(&db).await), (5, Some(19)));

    // When it does not pass, the closure's own error comes out.
    for _ in 0..3 {
        faults.at(Point::Run, Fault::Fail(ErrorKind::Busy));
    }
    let spent = db.try_transaction_with(options, update).await;
    assert!(matches!(spent, Err(AppError::Database(error)) if error.kind() == ErrorKind::Busy));
    assert_eq!((runs.load(Ordering::SeqCst), cents(&db).await), (8, Some(19)));
}

#[tokio::test]
async fn an_error_gives_its_message_its_advice_and_its_object_apart() {
    let db = accounts().await.unwrap();
    let twice = db.execute("INSERT INTO accounts VALUES (1, 1)", ()).await.unwrap_err();
    assert_eq!(twice.object(), Some("accounts.id"));
    assert_eq!(twice.advice(), None);
    let missing = AsyncDatabase::builder("/nowhere/at/all.db").open().await.unwrap_err();
    assert!(missing.object().unwrap().contains("/nowhere/at/all.db"), "{missing:?}");
    assert_eq!(missing.to_string(), format!("{}; {}", missing.message(), missing.advice().unwrap()));
}

#[tokio::test]
async fn a_call_to_rusqlite_that_failed_says_why_and_quotes_no_value() {
    let db = accounts().await.unwrap();
    let none = db.interact(|c| c.query_row("SELECT 1 WHERE 0", (), |row| row.get::<_, i64>(0))).await.unwrap_err();
    assert!(none.message().ends_with("the query answered no row"), "{none}");
    let large = db.interact(|c| c.query_row("SELECT 4711", (), |row| row.get::<_, u8>(0))).await.unwrap_err();
    assert_eq!(large.reason(), Reason::Type);
    assert!(!large.to_string().contains("4711"), "{large}");
    let count = db.interact(|c| c.execute("UPDATE accounts SET cents = ?1", (1, 2))).await.unwrap_err();
    assert_eq!(count.reason(), Reason::Parameters);
    assert!(StdError::source(&none).unwrap().is::<rusqlite::Error>());
}
