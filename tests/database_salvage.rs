//! What can be read of a damaged file, in a new one: every row of a page that is whole, and none that never was.
//!
//! `STRONGROOM_SALVAGE_ROUNDS` (1 by default) is how often each kind of file is damaged at random; `STRONGROOM_SALVAGE_SEED`
//! begins with another one.
#![cfg(all(feature = "sqlcipher", unix))]

mod common;
#[path = "common/everything.rs"]
mod everything;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use common::{Home, Kind, key, numbers};
use strongroom::database::CheckDepth;
use strongroom::rusqlite::{self, Connection};
use strongroom::sqlcipher::{ReplaceOptions, SalvageOptions, SalvageReport};
use strongroom::{
    AsyncDatabase, DatabaseBuilder, Error, ErrorKind, PassphraseKeySource, Reason, Secret, SqlCipherConnector,
};

const SCHEMA: &str = "
    CREATE TABLE old (a TEXT);
    CREATE TABLE t (id INTEGER PRIMARY KEY, tag TEXT, b BLOB);
    CREATE TABLE w (tag TEXT PRIMARY KEY, v TEXT, n INTEGER) WITHOUT ROWID;
    CREATE TABLE big (tag TEXT, b BLOB);
    CREATE TABLE g (a INTEGER, twice INTEGER AS (a * 2) STORED, thrice AS (a * 3), tag TEXT);
    CREATE INDEX by_b ON t (b);
    CREATE VIEW seen AS SELECT tag FROM t;
    CREATE TRIGGER noted AFTER DELETE ON t BEGIN INSERT INTO g (a) VALUES (0); END;
    CREATE VIRTUAL TABLE texts USING fts5 (body);";

/// Makes a file whose pages of four tables are mixed, with pages that hold nothing any more.
fn fill(connection: &Connection) {
    connection.execute_batch(SCHEMA).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    for part in 0..12 {
        let run = |sql: &str| connection.execute_batch(sql).unwrap();
        let rows = |count: u64| format!("(SELECT i + {part} * {count} AS i FROM ({}))", numbers(count));
        run(&format!("INSERT INTO old SELECT 'old-' || i || hex(zeroblob(60)) FROM {}", rows(60)));
        run(&format!(
            "INSERT INTO t SELECT i, 't-' || i, zeroblob(20) || (i * 7919 % 1009) || '-b-' || i FROM {}",
            rows(90)
        ));
        run(&format!("INSERT INTO w SELECT 'w-' || i, hex(i * 7919 % 1009) || 'v', i FROM {}", rows(60)));
        run(&format!(
            "INSERT INTO big SELECT 'big-' || i, CAST(printf('%.*c', 9000 + i, 'x') AS BLOB) FROM {}",
            rows(2)
        ));
        run(&format!("INSERT INTO g (a, tag) SELECT i, 'g-' || i FROM {}", rows(60)));
        run(&format!("INSERT INTO texts SELECT 'word' || i FROM {}", rows(5)));
    }
    connection.execute_batch("COMMIT; ALTER TABLE t ADD COLUMN later TEXT DEFAULT 'before'; DROP TABLE old").unwrap();
}

/// A kind of file: encrypted or not, with pointers from page to page or without.
#[derive(Clone, Copy, Debug)]
struct Form {
    keyed: bool,
    vacuum: u8,
    page: u32,
}

const FORMS: [Form; 4] = [
    Form { keyed: true, vacuum: 2, page: 4096 },
    Form { keyed: true, vacuum: 0, page: 4096 },
    Form { keyed: false, vacuum: 0, page: 1024 },
    Form { keyed: false, vacuum: 1, page: 2048 },
];

impl Form {
    fn builder(self, path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
        let builder = AsyncDatabase::builder(path).create_if_missing(false);
        if self.keyed { builder.key(key()) } else { builder }
    }

    async fn make(self, home: &Home) -> PathBuf {
        let path = home.directory.path().join("app.db");
        let made = Connection::open(&path).unwrap();
        let settings = format!("PRAGMA page_size = {}; PRAGMA auto_vacuum = {}", self.page, self.vacuum);
        made.execute_batch(&settings).unwrap();
        if !self.keyed {
            fill(&made);
        }
        made.execute_batch("CREATE TABLE IF NOT EXISTS seed (a)").unwrap();
        drop(made);
        if self.keyed {
            AsyncDatabase::builder(&path).key(key()).encrypt(ReplaceOptions::new()).await.unwrap();
            let db = self.builder(&path).open().await.unwrap();
            db.interact(|connection| {
                fill(connection);
                Ok(())
            })
            .await
            .unwrap();
            db.close().await.unwrap();
        }
        path
    }
}

const TABLES: [(&str, &str); 4] = [
    ("t", "SELECT tag, id || ' ' || hex(b) || later FROM t ORDER BY id"),
    ("w", "SELECT tag, v || n FROM w ORDER BY tag"),
    ("big", "SELECT tag, rowid || hex(b) FROM big ORDER BY rowid"),
    ("g", "SELECT tag, a || ' ' || twice || ' ' || thrice FROM g ORDER BY rowid"),
];

/// A row, by its tag: the rest of it, and the pages that it stands on.
type Rows = BTreeMap<String, (String, BTreeSet<u32>)>;

/// The rows of a whole file with their pages, as the engine's own `dbstat` says.
fn rows(connection: &Connection) -> Rows {
    let mut found = Rows::new();
    for (table, select) in TABLES {
        let mut pages = connection.prepare("SELECT path, pageno, pagetype, ncell FROM dbstat WHERE name = ?1").unwrap();
        let pages: Vec<(String, u32, String, u32)> = pages
            .query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        // Each cell by the way that leads to it: what is left of it in the tree comes before it.
        let mut cells = BTreeMap::new();
        for (path, page, kind, count) in &pages {
            for cell in (0..*count).filter(|_| kind == "leaf" || (table == "w" && kind == "internal")) {
                // Behind what hangs to the left of the cell of an inner page.
                let order = if kind == "leaf" { format!("{path}{cell:05}") } else { format!("{path}{cell:03x}/~") };
                cells.insert(order, (format!("{path}{cell:03x}"), BTreeSet::from([*page])));
            }
        }
        let mut stands: Vec<(String, BTreeSet<u32>)> = cells.into_values().collect();
        for (path, page, kind, _) in &pages {
            if kind == "overflow" {
                let cell = path.split('+').next().unwrap();
                stands.iter_mut().find(|(name, _)| name == cell).unwrap().1.insert(*page);
            }
        }
        let mut select = connection.prepare(select).unwrap();
        let select = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let values: Vec<(String, String)> = select.collect::<rusqlite::Result<_>>().unwrap();
        assert_eq!(values.len(), stands.len(), "{table}");
        found.extend(values.into_iter().zip(stands).map(|((tag, rest), (_, pages))| (tag, (rest, pages))));
    }
    found
}

/// The rows of a salvaged file: of the tables, and the tags of those without one.
fn salvaged(connection: &Connection, report: &SalvageReport) -> (BTreeMap<String, String>, Vec<String>) {
    let mut found = BTreeMap::new();
    for (table, select) in TABLES {
        if connection.prepare(select).is_err() {
            assert!(
                !report.schema_is_whole || report.not_made.iter().any(|not| not.name == table),
                "{table}: {report:?}"
            );
            continue;
        }
        let mut select = connection.prepare(select).unwrap();
        let select = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        found.extend(select.map(Result::unwrap));
    }
    let Some(name) = &report.lost_and_found else { return (found, Vec::new()) };
    let mut rest = connection.prepare(&format!("SELECT * FROM {name}")).unwrap();
    let columns = rest.column_count();
    let tag = |row: &rusqlite::Row<'_>| {
        let texts = (4..columns).filter_map(|at| row.get_ref(at).unwrap().as_str().ok().map(str::to_owned));
        Ok(texts.into_iter().find(|text| ["t-", "w-", "big-", "g-", "old-"].iter().any(|tag| text.starts_with(tag))))
    };
    let tags = rest.query_map((), tag).unwrap().filter_map(Result::unwrap).collect();
    (found, tags)
}

/// Numbers that the same seed gives again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Overwrites a page; the salt stays.
fn ruin(path: &Path, size: u32, page: u32, dice: &mut Dice) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let keep = if page == 1 { 16 } else { 0 };
    let bytes = dice.bytes(size as usize - keep);
    file.write_all_at(&bytes, u64::from(page - 1) * u64::from(size) + keep as u64).unwrap();
}

async fn look<T: Send + 'static>(
    builder: DatabaseBuilder<SqlCipherConnector>,
    work: impl FnOnce(&Connection) -> T + Send + 'static,
) -> T {
    let db = builder.open().await.unwrap();
    let found = db.interact(|connection| Ok(work(connection))).await.unwrap();
    assert!(db.check(CheckDepth::Full).await.unwrap().is_ok());
    db.close().await.unwrap();
    found
}

fn new_file(home: &Home) -> PathBuf {
    home.directory.path().join("new.db")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_of_a_whole_page_is_found_and_none_that_never_was() {
    let (rounds, seed) = (number("STRONGROOM_SALVAGE_ROUNDS", 1), number("STRONGROOM_SALVAGE_SEED", 1));
    for form in FORMS {
        let home = Home::new(Kind::PlainFile);
        let path = form.make(&home).await;
        let whole = std::fs::read(&path).unwrap();
        let all = look(form.builder(&path), rows).await;
        for round in seed..seed + rounds {
            let mut dice = Dice(round);
            std::fs::write(&path, &whole).unwrap();
            let pages = whole.len() as u64 / u64::from(form.page);
            let ruined: BTreeSet<u32> = (0..=dice.below(12))
                .map(|_| if dice.below(20) == 0 { 1 } else { u32::try_from(dice.below(pages)).unwrap() + 1 })
                .collect();
            for page in &ruined {
                ruin(&path, form.page, *page, &mut dice);
            }
            let before = std::fs::read(&path).unwrap();
            let what = format!("{form:?}, seed {round}, {ruined:?}");
            let options = SalvageOptions::new().replace(true).check(CheckDepth::Full);
            let report = form.builder(&path).salvage_to(new_file(&home), options).await;
            let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(std::fs::read(&path).unwrap(), before, "{what}: the damaged file was written");
            if form.keyed {
                assert_eq!(report.lost_pages, ruined.iter().copied().collect::<Vec<_>>(), "{what}");
            }
            let told = report.clone();
            let (found, without) = look(form.builder(&new_file(&home)), move |new| salvaged(new, &told)).await;
            for (tag, rest) in &found {
                assert_eq!(all.get(tag).map(|(rest, _)| rest), Some(rest), "{what}: {tag} never was");
            }
            for tag in &without {
                let once = tag.starts_with("old-") && (ruined.contains(&1) || form.vacuum == 0);
                assert!(once || all.contains_key(tag), "{what}: {tag} never was");
                assert!(!found.contains_key(tag), "{what}: {tag} is there twice");
            }
            for (tag, (_, pages)) in &all {
                let is_found = found.contains_key(tag) || without.contains(tag);
                assert!(is_found || !pages.is_disjoint(&ruined), "{what}: {tag} on {pages:?} is missing; {report:?}");
            }
        }
    }
}

/// Rows of `t` in a file that was made for one of the tests below.
async fn count(builder: DatabaseBuilder<SqlCipherConnector>) -> i64 {
    look(builder, |new| new.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap()).await
}

async fn refused(builder: DatabaseBuilder<SqlCipherConnector>, home: &Home, options: SalvageOptions) -> Error {
    let error = builder.salvage_to(new_file(home), options).await.unwrap_err();
    let names = home.directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("new.db")).collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new(), "{error}");
    error
}

/// A database of one table, made by a builder for the path, closed.
async fn with_rows(builder: DatabaseBuilder<SqlCipherConnector>) {
    let db = builder.open().await.unwrap();
    let rows = format!("CREATE TABLE t AS SELECT i, 'row ' || i || hex(zeroblob(40)) AS a FROM ({})", numbers(1000));
    db.execute_script(&rows).await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_whole_is_salvaged_without_a_loss() {
    for (vacuum, page, encoding) in [(2, 4096, "UTF-8"), (0, 1024, "UTF-16le"), (1, 512, "UTF-16be")] {
        for keyed in [false, true] {
            let what = format!("auto_vacuum {vacuum}, {page} bytes, {encoding}, keyed {keyed}");
            let home = Home::new(if keyed { Kind::KeyedFile } else { Kind::PlainFile });
            let made = Connection::open(home.path()).unwrap();
            let settings =
                format!("PRAGMA page_size = {page}; PRAGMA auto_vacuum = {vacuum}; PRAGMA encoding = '{encoding}'");
            made.execute_batch(&settings).unwrap();
            made.execute_batch(everything::SCHEMA).unwrap();
            drop(made);
            if keyed {
                AsyncDatabase::builder(home.path()).key(key()).encrypt(ReplaceOptions::new()).await.unwrap();
            }
            let db = home.builder().read_only().open().await.unwrap();
            let before = everything::read(&db).await;
            db.close().await.unwrap();
            let options = SalvageOptions::new().check(CheckDepth::Full);
            let report = home.builder().salvage_to(new_file(&home), options).await.unwrap();
            assert!(report.is_complete(), "{what}: {report:?}");
            assert_eq!(report.encrypted, keyed, "{what}");
            let new = AsyncDatabase::builder(new_file(&home));
            let new = if keyed { new.key(key()) } else { new }.open().await.unwrap();
            assert_eq!(everything::read(&new).await, before, "{what}");
            everything::assert_works(&new, &what).await;
            new.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_new_file_has_the_key_that_was_asked_for() {
    let home = Home::new(Kind::KeyedFile);
    with_rows(home.builder()).await;
    let other = || PassphraseKeySource::new(Secret::raw_key([8; 32]));
    let options = SalvageOptions::new().key(other());
    assert!(home.builder().salvage_to(new_file(&home), options).await.unwrap().encrypted);
    assert_eq!(count(AsyncDatabase::builder(new_file(&home)).key(other())).await, 1000);
    let options = SalvageOptions::new().plaintext().replace(true);
    assert!(!home.builder().salvage_to(new_file(&home), options).await.unwrap().encrypted);
    assert_eq!(count(AsyncDatabase::builder(new_file(&home))).await, 1000);
    let offered = strongroom::keys::CandidateKeySource::new(other()).or(key());
    let builder = AsyncDatabase::builder(home.path()).key(offered);
    builder.salvage_to(new_file(&home), SalvageOptions::new().replace(true)).await.unwrap();
    assert_eq!(count(AsyncDatabase::builder(new_file(&home)).key(key())).await, 1000);
}

#[tokio::test]
async fn files_of_other_formats_are_salvaged() {
    let forms: [fn(DatabaseBuilder<SqlCipherConnector>) -> DatabaseBuilder<SqlCipherConnector>; 6] = [
        |builder| builder.cipher_compatibility(1),
        |builder| builder.cipher_compatibility(2),
        |builder| builder.cipher_compatibility(3),
        |builder| builder.cipher_page_size(16_384),
        |builder| builder.cipher_page_size(1024),
        |builder| builder.plaintext_header_with([9; 16]),
    ];
    for (number, form) in forms.into_iter().enumerate() {
        let home = Home::new(Kind::PlainFile);
        let builder =
            || form(AsyncDatabase::builder(home.path()).cipher_kdf_iter(1000).key(PassphraseKeySource::new("typed")));
        with_rows(builder()).await;
        // A page in the middle, of those that hold rows.
        let length = home.path().metadata().unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(home.path()).unwrap();
        file.write_all_at(&Dice(7).bytes(16), length / 2).unwrap();
        let report = builder().salvage_to(new_file(&home), SalvageOptions::new()).await;
        let report = report.unwrap_or_else(|error| panic!("{number}: {error}"));
        let new =
            form(AsyncDatabase::builder(new_file(&home)).cipher_kdf_iter(1000).key(PassphraseKeySource::new("typed")));
        let found = count(new).await;
        assert!((800..1000).contains(&found) || number == 0 && found > 800, "{number}: {found} {report:?}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_from_damage() {
    let home = Home::new(Kind::PlainFile);
    let builder =
        |text: &str| AsyncDatabase::builder(home.path()).cipher_kdf_iter(10).key(PassphraseKeySource::new(text));
    with_rows(builder("right")).await;
    let whole = std::fs::read(home.path()).unwrap();
    let error = refused(builder("wrong"), &home, SalvageOptions::new()).await;
    assert_eq!(common::kinds(&error), (ErrorKind::Encryption, Reason::WrongKey), "{error}");
    let error = refused(AsyncDatabase::builder(home.path()), &home, SalvageOptions::new()).await;
    assert_eq!(common::kinds(&error), (ErrorKind::Encryption, Reason::KeyMissing), "{error}");

    // Without its salt no key opens it; a copy has the same.
    let mut damaged = whole.clone();
    damaged[..16].fill(0xaa);
    damaged[5000..5010].fill(0);
    std::fs::write(home.path(), &damaged).unwrap();
    let error = refused(builder("right"), &home, SalvageOptions::new()).await;
    assert_eq!(error.reason(), Reason::WrongKey, "{error}");
    assert!(error.advice().unwrap().contains("salt"), "{error}");
    let salt = whole[..16].try_into().unwrap();
    let report = builder("right").salvage_to(new_file(&home), SalvageOptions::new().salt(salt)).await.unwrap();
    assert_eq!(report.lost_pages, [2]);
    std::fs::remove_file(new_file(&home)).unwrap();

    // The first page is lost, and the key is right.
    std::fs::write(home.path(), &whole).unwrap();
    ruin(&home.path(), 4096, 1, &mut Dice(3));
    let report = builder("right").salvage_to(new_file(&home), SalvageOptions::new()).await.unwrap();
    assert_eq!((report.lost_pages, report.lost_and_found_rows), (vec![1], 1000));
    std::fs::remove_file(new_file(&home)).unwrap();

    std::fs::write(home.path(), Dice(5).bytes(20_000)).unwrap();
    let error = refused(AsyncDatabase::builder(home.path()), &home, SalvageOptions::new()).await;
    assert!(matches!(error.reason(), Reason::KeyMissing | Reason::NotADatabase), "{error}");
    std::fs::remove_file(home.path()).unwrap();
    with_rows(AsyncDatabase::builder(home.path())).await;
    let error = refused(AsyncDatabase::builder(home.path()).key(key()), &home, SalvageOptions::new()).await;
    assert_eq!(error.reason(), Reason::NotEncrypted, "{error}");
}

#[tokio::test]
async fn a_file_without_its_end_gives_what_is_left() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        with_rows(home.builder()).await;
        let length = home.path().metadata().unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(home.path()).unwrap();
        file.set_len(length / 2 + 100).unwrap();
        let report = home.builder().salvage_to(new_file(&home), SalvageOptions::new()).await.unwrap();
        assert_eq!(u64::from(report.missing_pages), length / 4096 - length / 2 / 4096, "{report:?}");
        let builder = AsyncDatabase::builder(new_file(&home));
        let found = count(if kind.is_keyed() { builder.key(key()) } else { builder }).await;
        assert!((300..600).contains(&found), "{found}");
    }
}

#[tokio::test]
async fn what_was_committed_to_the_log_counts_up_to_its_damage() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        with_rows(home.builder()).await;
        let db = home.open().await;
        for row in 0..20 {
            db.execute("INSERT INTO t VALUES ($1, 'of the log')", (5000 + row,)).await.unwrap();
        }
        let log = |path: &Path| path.with_file_name("app.db-wal");
        let [file, logged] = [home.path(), log(&home.path())].map(|path| std::fs::read(path).unwrap());
        db.close().await.unwrap();
        std::fs::write(home.path(), &file).unwrap();
        let salvaged = async |bytes: &[u8]| {
            std::fs::write(log(&home.path()), bytes).unwrap();
            let options = SalvageOptions::new().replace(true);
            let report = home.builder().salvage_to(new_file(&home), options).await.unwrap();
            assert_eq!(std::fs::read(log(&home.path())).unwrap(), bytes);
            assert_eq!(std::fs::read(home.path()).unwrap(), file);
            let builder = AsyncDatabase::builder(new_file(&home));
            (report, count(if kind.is_keyed() { builder.key(key()) } else { builder }).await)
        };
        assert_eq!(salvaged(&logged).await.1, 1020);
        let mut damaged = logged.clone();
        let middle = 32 + (24 + 4096) * 5 + 1000;
        damaged[middle..middle + 8].fill(0x55);
        let (report, found) = salvaged(&damaged).await;
        assert!((1001..1020).contains(&found) && report.log_pages > 0, "{found} {report:?}");
        damaged[10] ^= 1;
        let (report, found) = salvaged(&damaged).await;
        assert_eq!((found, report.log_pages), (1000, 0));
    }
}

#[tokio::test]
async fn a_transaction_that_was_cut_off_is_rolled_back() {
    let home = Home::new(Kind::PlainFile);
    let made = Connection::open(home.path()).unwrap();
    made.execute_batch(&format!("CREATE TABLE t AS SELECT i, hex(zeroblob(50)) a FROM ({})", numbers(2000))).unwrap();
    made.execute_batch(
        "PRAGMA cache_size = 2; BEGIN; UPDATE t SET a = 'not committed' || i; DELETE FROM t WHERE i > 500",
    )
    .unwrap();
    let journal = home.path().with_file_name("app.db-journal");
    let [file, pages] = [&home.path(), &journal].map(|path| std::fs::read(path).unwrap());
    made.execute_batch("ROLLBACK").unwrap();
    drop(made);
    assert!(file.windows(13).any(|part| part == b"not committed"));
    std::fs::write(home.path(), &file).unwrap();
    std::fs::write(&journal, &pages).unwrap();
    let report = home.builder().salvage_to(new_file(&home), SalvageOptions::new()).await.unwrap();
    assert!(report.is_complete() && report.log_pages > 0, "{report:?}");
    assert_eq!(count(AsyncDatabase::builder(new_file(&home))).await, 2000);
    assert_eq!(std::fs::read(&journal).unwrap(), pages);
}

#[tokio::test]
async fn a_full_text_index_that_has_lost_a_page_is_built_anew() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script("CREATE VIRTUAL TABLE texts USING fts5 (body)").await.unwrap();
    db.execute_script(&format!("INSERT INTO texts SELECT 'word' || i FROM ({})", numbers(3000))).await.unwrap();
    let pages = "SELECT pageno FROM dbstat WHERE name = 'texts_data' AND pagetype = 'overflow'";
    let page: i64 = db.fetch_value(pages, ()).await.unwrap().unwrap();
    db.close().await.unwrap();
    ruin(&home.path(), 4096, u32::try_from(page).unwrap(), &mut Dice(1));
    let options = SalvageOptions::new().check(CheckDepth::Full);
    let report = home.builder().salvage_to(new_file(&home), options).await.unwrap();
    assert_eq!(report.rebuilt, ["texts"], "{report:?}");
    let found = "SELECT rowid FROM texts WHERE texts MATCH 'word2718'";
    let found: i64 = look(AsyncDatabase::builder(new_file(&home)).key(key()), |new| {
        new.query_row(found, (), |row| row.get(0)).unwrap()
    })
    .await;
    assert_eq!(found, 2718);
}

#[tokio::test]
async fn a_virtual_table_is_left_alone_whatever_a_table_with_a_similar_name_has_lost() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    // Neither can be built anew from itself.
    db.execute_script(
        "CREATE VIRTUAL TABLE texts USING fts5 (body, content = ''); INSERT INTO texts (rowid, body) VALUES (7, 'kept');
         CREATE VIRTUAL TABLE texts_old USING fts5 (body, content = ''); CREATE TABLE texts_archive (a);
         CREATE TABLE texts_old_data_copy (a)",
    )
    .await
    .unwrap();
    for name in ["texts_archive", "texts_old_data_copy"] {
        db.execute(&format!("INSERT INTO {name} SELECT hex(zeroblob(500)) FROM ({})", numbers(100)), ()).await.unwrap();
    }
    let mut ruined = Vec::new();
    for name in ["texts_archive", "texts_old_data_copy"] {
        let page = "SELECT max(pageno) FROM dbstat WHERE name = $1 AND pagetype = 'leaf'";
        let page: i64 = db.fetch_value(page, (name,)).await.unwrap().unwrap();
        ruined.push(u32::try_from(page).unwrap());
    }
    db.close().await.unwrap();
    for page in ruined {
        ruin(&home.path(), 4096, page, &mut Dice(1));
    }
    let report = home.builder().salvage_to(new_file(&home), SalvageOptions::new()).await.unwrap();
    assert!(!report.is_complete() && report.rebuilt.is_empty() && report.not_made.is_empty(), "{report:?}");
    let found = "SELECT rowid FROM texts WHERE texts MATCH 'kept'";
    let found: i64 = look(AsyncDatabase::builder(new_file(&home)).key(key()), |new| {
        new.query_row(found, (), |row| row.get(0)).unwrap()
    })
    .await;
    assert_eq!(found, 7);
}

#[tokio::test]
async fn it_takes_the_place_of_nothing_that_it_may_not() {
    let home = Home::new(Kind::KeyedFile);
    with_rows(home.builder()).await;
    std::fs::write(new_file(&home), "something").unwrap();
    let error = home.builder().salvage_to(new_file(&home), SalvageOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(std::fs::read(new_file(&home)).unwrap(), b"something");
    let error = home.builder().salvage_to(home.path(), SalvageOptions::new().replace(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let link = home.directory.path().join("link.db");
    std::os::unix::fs::symlink(home.path(), &link).unwrap();
    let error = home.builder().salvage_to(link, SalvageOptions::new().replace(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let memory =
        AsyncDatabase::builder(":memory:").salvage_to(home.directory.path().join("m.db"), SalvageOptions::new());
    assert_eq!(memory.await.unwrap_err().kind(), ErrorKind::Config);
    let missing = AsyncDatabase::builder(home.directory.path().join("missing.db"));
    let error = missing.salvage_to(home.directory.path().join("m.db"), SalvageOptions::new()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NotFound, "{error}");
}

#[tokio::test]
async fn rows_below_a_lost_root_go_back_to_their_table_and_deleted_ones_stay_away() {
    for form in FORMS {
        let home = Home::new(Kind::PlainFile);
        let path = form.make(&home).await;
        let roots = look(form.builder(&path), |whole| {
            let root = "SELECT rootpage FROM sqlite_schema WHERE name = 't'";
            whole.query_row(root, (), |row| row.get::<_, u32>(0)).unwrap()
        });
        ruin(&path, form.page, roots.await, &mut Dice(11));
        let report = form.builder(&path).salvage_to(new_file(&home), SalvageOptions::new()).await.unwrap();
        assert_eq!(report.lost_and_found_rows, 0, "{form:?}: {report:?}");
        assert_eq!(count(form.builder(&new_file(&home))).await, 1080, "{form:?}: {report:?}");
    }
}
