//! Damage to every kind of page, before opening and while open: it is never read as data, it is called damage, and once
//! the bytes are back the same handle works again.

#![cfg(all(feature = "sqlcipher", unix))]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use strongroom::database::CheckDepth;
use strongroom::pool::{AlwaysHealthy, Ping};
use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, ErrorKind, Reason, Result, Secret};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::keyed;

const PAGE: u64 = 4096;

fn here(path: &Path) -> strongroom::DatabaseBuilder<strongroom::SqlCipherConnector> {
    // A small cache, so that pages are read again and again; and damage is looked for at every checkout.
    let tuning = Tuning::default().cache_kib(64).busy_timeout(Duration::from_millis(200));
    keyed(path, Secret::raw_key([7; 32])).tuning(tuning).health(Ping).pool_max(3)
}

/// A closed database that has pages of every kind.
async fn every_kind(directory: &TempDir) -> (PathBuf, BTreeMap<&'static str, u64>) {
    let path = directory.path().join("a.db");
    let db = here(&path).open().await.unwrap();
    db.execute_script(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, body TEXT); CREATE INDEX by_name ON t (name);
         CREATE TABLE filler (a); CREATE TABLE gone (a)",
    )
    .await
    .unwrap();
    let body = "x".repeat(9000);
    let row = |id: i64| (id, format!("{id:0200}"), if id % 50 == 0 { body.clone() } else { "short".repeat(60) });
    db.execute_many("INSERT INTO t VALUES ($1, $2, $3)", (1..=1500).map(row)).await.unwrap();
    let filler = (0..1500).map(|_| ("y".repeat(3900),));
    db.execute_many("INSERT INTO filler VALUES ($1)", filler).await.unwrap();
    db.execute_script("DROP TABLE filler").await.unwrap();
    let sql = "SELECT name, CASE WHEN path LIKE '%+000001' THEN 'end' ELSE pagetype END, pageno FROM dbstat
               WHERE pageno > 2 ORDER BY name, pageno";
    let kinds: Vec<(String, String, i64)> = db.fetch_all_as(sql, ()).await.unwrap();
    let find = |name: &str, kind: &str| {
        let page = kinds.iter().find(|(of, is, _)| of == name && is == kind);
        u64::try_from(page.unwrap_or_else(|| panic!("no {kind} of {name}")).2).unwrap()
    };
    // The first page of the list of free pages, as page 1 names it.
    let pages = BTreeMap::from([
        ("the schema", 1),
        ("the pointer map", 2),
        ("an inner page of a table", find("t", "internal")),
        ("a leaf of a table", find("t", "leaf")),
        ("an overflow page", find("t", "overflow")),
        ("the last overflow page", find("t", "end")),
        ("an inner page of an index", find("by_name", "internal")),
        ("a leaf of an index", find("by_name", "leaf")),
        ("a free page", u64::try_from(kinds.iter().map(|(_, _, page)| *page).max().unwrap()).unwrap() + 700),
    ]);
    let free: Option<i64> = db.fetch_value("PRAGMA freelist_count", ()).await.unwrap();
    assert!(free.unwrap() > 1100, "more than one page of the free list lists others");
    db.close().await.unwrap();
    (path, pages)
}

/// Everything that can be read, in every way; the answers are known.
async fn read_all(db: &AsyncDatabase) -> Vec<Result<()>> {
    let mut outcomes = Vec::new();
    for (sql, right) in [
        ("SELECT sum(length(body)) FROM t", 30 * 9000 + 1470 * 300),
        ("SELECT count(*) FROM t INDEXED BY by_name WHERE name >= ''", 1500),
        ("SELECT sum(length(name)) FROM t NOT INDEXED", 1500 * 200),
        ("SELECT count(*) FROM t a JOIN t b INDEXED BY by_name ON a.name = b.name WHERE a.id % 7 = 0", 214),
    ] {
        let outcome = db.fetch_value::<i64>(sql, ()).await;
        outcomes.push(outcome.map(|answer| assert_eq!(answer, Some(right), "{sql}: a wrong answer")));
    }
    outcomes
}

/// Everything can be read again, at the latest when every connection that saw the damage has failed once.
async fn heals(db: &AsyncDatabase, connections: usize, what: &str) {
    let mut errors = Vec::new();
    for _ in 0..connections {
        errors = read_all(db).await.into_iter().filter_map(Result::err).collect();
        if errors.is_empty() {
            return;
        }
    }
    panic!("{what}: did not heal: {errors:?}");
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// What a page can suffer.
fn wounds(page: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let flipped = |at: usize| {
        let mut page = page.to_vec();
        page[at] ^= 0x10;
        page
    };
    vec![
        ("a bit at its start", flipped(20)),
        ("a bit in its middle", flipped(2048)),
        ("a bit of its initialisation vector", flipped(4096 - 80)),
        ("a bit of its checksum", flipped(4096 - 64)),
        ("zeroes", vec![0; 4096]),
        ("another page", page.iter().rev().copied().collect()),
    ]
}

#[tokio::test]
async fn damage_to_any_kind_of_page_is_called_damage_and_heals() {
    let directory = TempDir::new().unwrap();
    let (path, pages) = every_kind(&directory).await;
    let whole = std::fs::read(&path).unwrap();
    for (kind, number) in pages {
        let offset = (number - 1) * PAGE;
        let page = &whole[usize::try_from(offset).unwrap()..][..4096];
        for (wound, damaged) in wounds(page) {
            let what = format!("{kind}: {wound}");
            // SQLCipher takes a page of zeroes for one that was never written, and nothing in this one tells otherwise.
            if kind == "the last overflow page" && wound == "zeroes" {
                continue;
            }
            // The salt stands at the start of page 1; without it the key cannot fit.
            let damaged = if number == 1 { [&page[..16], &damaged[16..]].concat() } else { damaged };
            write_at(&path, offset, &damaged);
            let db = here(&path).build();
            let (mut outcomes, mut noticed) = (read_all(&db).await, false);
            // Reads everything that is in use.
            let checked: Result<Option<String>> = db.fetch_value("PRAGMA integrity_check(1)", ()).await;
            noticed |= checked.as_ref().is_ok_and(|said| said.as_deref() != Some("ok"));
            outcomes.push(checked.map(drop));
            for error in outcomes.into_iter().filter_map(Result::err) {
                noticed = true;
                assert_eq!((error.kind(), error.reason()), (ErrorKind::Storage, Reason::Damaged), "{what}: {error}");
                assert!(error.to_string().contains("backup"), "{what}: no way out: {error}");
            }
            assert_eq!(noticed, kind != "a free page", "{what}");

            write_at(&path, offset, page);
            // SQLCipher lets zeroes pass, and they stay in the cache of the connection until it trips over them.
            let patience = if wound == "zeroes" { 3 } else { 1 };
            heals(&db, patience, &what).await;
            db.execute("UPDATE t SET name = name WHERE id = 1", ()).await.unwrap();
            db.close().await.unwrap();
            std::fs::write(&path, &whole).unwrap();
        }
    }
}

/// SQLCipher hands out zeroes for a page that was tampered with, and refuses the next one; of the last page of a value there is
/// none.
#[tokio::test]
async fn the_end_of_a_long_value_is_never_read_as_zeroes() {
    let directory = TempDir::new().unwrap();
    let (path, pages) = every_kind(&directory).await;
    let at = (pages["the last overflow page"] - 1) * PAGE + 1000;
    let byte = std::fs::read(&path).unwrap()[usize::try_from(at).unwrap()];
    let sql = "SELECT body FROM t WHERE id % 50 = 0";
    for way in
        ["a call", "a row", "a transaction that writes", "a stream", "a closure", "only read", "a copy by a write"]
    {
        let db = if way == "only read" { here(&path).read_only() } else { here(&path) }.pool_max(1).build();
        db.fetch_value::<i64>("SELECT 1", ()).await.unwrap();
        write_at(&path, at, &[byte ^ 1]);
        let outcome: Result<()> = match way {
            "a row" => db.fetch_all(sql, ()).await.map(drop),
            "a transaction that writes" => {
                let mut tx = db.begin().await.unwrap();
                tx.execute("INSERT INTO gone VALUES (1)", ()).await.unwrap();
                let read = tx.fetch_all_as::<(String,)>(sql, ()).await.map(drop);
                assert!(tx.commit().await.is_err(), "it is doomed");
                read
            }
            "a stream" => {
                let mut rows = db.fetch_stream(sql, ());
                let mut outcome = Ok(());
                while let Some(row) = rows.next().await {
                    outcome = outcome.and(row.map(drop));
                }
                outcome
            }
            "a closure" => {
                db.interact(|c| c.query_row("SELECT sum(length(body)) FROM t", (), |_| Ok(()))).await.ok();
                // What is hidden from the library is met by whoever comes next, not by data.
                Err(db.fetch_all(sql, ()).await.unwrap_err())
            }
            "a copy by a write" => db.execute("INSERT INTO gone SELECT body FROM t", ()).await.map(drop),
            _ => db.fetch_all_as::<(String,)>(sql, ()).await.map(drop),
        };
        write_at(&path, at, &[byte]);
        let error = outcome.expect_err(way);
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Storage, Reason::Damaged), "{way}: {error}");
        assert_eq!(db.fetch_all(sql, ()).await.unwrap().len(), 30, "{way}: the next connection reads it again");
        db.close().await.unwrap();
    }
}

/// An integrity check tells of damage in words, not by an error; SQLCipher has given the connection up all the same, and
/// answers "attempt to write a readonly database" from then on.
#[tokio::test]
async fn the_only_connection_met_damage_in_an_integrity_check_and_is_replaced() {
    for health in [true, false] {
        let directory = TempDir::new().unwrap();
        let (path, pages) = every_kind(&directory).await;
        let whole = std::fs::read(&path).unwrap();
        let leaf = (pages["a leaf of a table"] - 1) * PAGE;
        let byte = usize::try_from(leaf).unwrap() + 100;
        write_at(&path, leaf + 100, &[whole[byte] ^ 1]);
        let builder = here(&path).pool_max(1);
        let db = if health { builder } else { builder.health(AlwaysHealthy) }.open().await.unwrap();
        let said: Option<String> = db.fetch_value("PRAGMA integrity_check(1)", ()).await.unwrap();
        assert_ne!(said.as_deref(), Some("ok"));
        write_at(&path, leaf + 100, &[whole[byte]]);
        let first = db.execute("INSERT INTO gone VALUES (1)", ()).await;
        assert_eq!(first.is_ok(), health, "{first:?}");
        db.execute("INSERT INTO gone VALUES (1)", ()).await.unwrap();
        heals(&db, 1, "the only connection").await;

        let mut conn = db.connection().await.unwrap();
        write_at(&path, leaf + 100, &[whole[byte] ^ 1]);
        conn.interact(|c| c.execute_batch("PRAGMA shrink_memory; PRAGMA integrity_check(1)")).await.unwrap();
        write_at(&path, leaf + 100, &[whole[byte]]);
        drop(conn);
        db.execute("INSERT INTO gone VALUES (1)", ()).await.expect("what met damage inside a closure is replaced, too");

        write_at(&path, leaf + 100, &[whole[byte] ^ 1]);
        assert!(!db.check(CheckDepth::Full).await.unwrap().is_ok());
        write_at(&path, leaf + 100, &[whole[byte]]);
        db.execute("INSERT INTO gone VALUES (1)", ()).await.expect("and what met it in a check");
        assert!(db.check(CheckDepth::Full).await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_file_that_is_cut_off_while_open_is_damaged_and_heals_when_its_end_is_back() {
    let directory = TempDir::new().unwrap();
    let (path, _) = every_kind(&directory).await;
    let whole = std::fs::read(&path).unwrap();
    for len in [whole.len() / 2 / 4096 * 4096, whole.len() / 2 / 4096 * 4096 + 1000, 4096, 100, 0] {
        let db = here(&path).open().await.unwrap();
        let one: Option<i64> = db.fetch_value("SELECT id FROM t WHERE id = 1", ()).await.unwrap();
        assert_eq!(one, Some(1));
        OpenOptions::new().write(true).open(&path).unwrap().set_len(len as u64).unwrap();
        let errors: Vec<_> = read_all(&db).await.into_iter().filter_map(Result::err).collect();
        assert!(!errors.is_empty(), "cut at {len}: nobody noticed");
        for error in errors {
            let named = matches!(
                (error.kind(), error.reason()),
                (ErrorKind::Storage, Reason::Damaged | Reason::NotADatabase | Reason::Io)
                    | (ErrorKind::Encryption, Reason::EmptyFile | Reason::WrongKey)
            );
            assert!(named, "cut at {len}: {error:?}");
        }
        write_at(&path, 0, &whole);
        heals(&db, 3, &format!("cut at {len}")).await;
        db.close().await.unwrap();
        std::fs::write(&path, &whole).unwrap();
    }
}

/// A database as a crash leaves it: its log not folded into the file. Each row was a commit of its own.
async fn with_log(directory: &TempDir) -> PathBuf {
    let db = here(&directory.path().join("live.db")).open().await.unwrap();
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)").await.unwrap();
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)", ()).await.unwrap();
    for id in 1..=40 {
        db.execute("INSERT INTO t VALUES ($1, $2)", (id, "x".repeat(700))).await.unwrap();
    }
    for end in ["", "-wal"] {
        let from = directory.path().join(format!("live.db{end}"));
        std::fs::copy(from, directory.path().join(format!("a.db{end}"))).unwrap();
    }
    db.close().await.unwrap();
    directory.path().join("a.db")
}

/// How many rows there are, which must be the first ones, whole.
async fn prefix(path: &Path, what: &str) -> i64 {
    let db = here(path).open().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let ids: Vec<i64> = db.fetch_all_as("SELECT id FROM t WHERE length(text) = 700 ORDER BY id", ()).await.unwrap();
    assert!(ids.iter().copied().eq(1..=i64::try_from(ids.len()).unwrap()), "{what}: a hole: {ids:?}");
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), i64::try_from(ids.len()).ok());
    let health: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
    assert_eq!(health.as_deref(), Some("ok"), "{what}");
    let pages = db.fetch_all("PRAGMA cipher_integrity_check", ()).await.unwrap();
    assert!(pages.is_empty(), "{what}: {pages:?}");
    db.execute("INSERT INTO t VALUES ($1, $2)", (1000, "after")).await.unwrap();
    db.close().await.unwrap();
    i64::try_from(ids.len()).unwrap()
}

/// SQLite takes the first frame of the log that does not add up for its end. What stood behind it is lost without a
/// word, as no library on top of it can tell; but what is left is whole, and nothing is made up.
#[tokio::test]
async fn a_damaged_log_ends_where_the_damage_is_and_what_is_before_it_is_whole() {
    let directory = TempDir::new().unwrap();
    let path = with_log(&directory).await;
    let log = directory.path().join("a.db-wal");
    let (file, frames) = (std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap());
    let mut found = Vec::new();
    for part in [1, 3, 6, 9, 11] {
        let at = frames.len() * part / 12;
        let mut flipped = frames.clone();
        flipped[at] ^= 4;
        for (what, log_now) in [("flipped", &flipped[..]), ("cut", &frames[..at]), ("zeroed", &frames[..at])] {
            std::fs::write(&path, &file).unwrap();
            std::fs::write(&log, log_now).unwrap();
            if what == "zeroed" {
                OpenOptions::new().write(true).open(&log).unwrap().set_len(frames.len() as u64).unwrap();
            }
            found.push(prefix(&path, &format!("{what} at {at}")).await);
        }
    }
    assert!(found.windows(2).all(|pair| pair[0] <= pair[1]), "a later damage loses more: {found:?}");
    assert!(found[0] < 15 && *found.last().unwrap() > 30, "{found:?}");
    for (what, log_now) in [("whole", &frames[..]), ("of something else", &[0xAB; 10_000]), ("empty", &[])] {
        std::fs::write(&path, &file).unwrap();
        std::fs::write(&log, log_now).unwrap();
        let rows = prefix(&path, what).await;
        assert_eq!(rows, if what == "whole" { 40 } else { 0 }, "{what}");
    }
}

/// The index of the log is made anew by whoever opens first.
#[tokio::test]
async fn a_damaged_index_of_the_log_costs_nothing() {
    for garbage in [vec![0xCD; 32 * 1024], vec![1; 100], vec![]] {
        let directory = TempDir::new().unwrap();
        let path = with_log(&directory).await;
        std::fs::write(directory.path().join("a.db-shm"), &garbage).unwrap();
        assert_eq!(prefix(&path, "a damaged index").await, 40);
    }
}
