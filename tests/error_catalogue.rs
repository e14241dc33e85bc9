//! `docs/errors.md` is made here, from errors that are really provoked; this test fails when the page is not what comes
//! out, and writes it when `STRONGROOM_BLESS` is set.

#![cfg(all(
    feature = "sqlcipher",
    feature = "sops",
    feature = "keyring",
    feature = "testing",
    feature = "migrations",
    feature = "postgres",
    target_os = "linux"
))]

mod common;

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{ENDLESS, memory, numbers, secs};
use strongroom::database::migrations::{Adopt, MigrateOptions, Migration, Migrations};
use strongroom::database::{BackupOptions, BackupStage, CopyRows, RekeyOptions};
use strongroom::engine::TransactionMode;
use strongroom::keys::KeyringKeySource;
use strongroom::pool::{NoRetry, Ping, SuspendOptions};
use strongroom::sqlcipher::{SalvageOptions, Tuning};
use strongroom::testing::{Fault, FaultyConnector, Point};
use strongroom::{
    AsyncDatabase, DatabaseBuilder, DatabaseConfig, EnvKeySource, Error, ErrorKind, FileKeySource, KeySource, Reason,
    Secret, SopsKeySource, SqlCipherConnector, apply_cipher_key, rusqlite,
};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/damage.rs"]
mod damage;
#[path = "common/postgres.rs"]
mod postgres;

use cipher::{create, keyed, plain, refusal};
use damage::{cut, filled, flip};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");

const INTRODUCTION: &str = "\
# Errors

What this crate says, when, and what helps. The page is made by `tests/error_catalogue.rs`, which provokes every error it
shows.

An error has a *kind*, one of a few classes to `match` on (`error.kind()`); a *reason*, the finer cause
(`error.reason()`); sometimes a *phase*, what was being done (`error.phase()`); and a sentence for people: what went wrong
and, after a semicolon, the way out. **May pass** marks those for which `error.is_transient()` is true: the same call may
succeed later. For all others, trying again only repeats the answer, or has been done already, as the retry policy says.
Keys never stand in an error, and bound values do not either: where SQLite quotes one (`bad JSON path: '..'`, a syntax
error of FTS5), its placeholder stands instead (`$1`), or `...` for a part of it. What is written into the SQL text itself
can be quoted, and so can stored values that a trigger of your own puts into `RAISE`. What PostgreSQL quotes as a value is cut
out (`value … is out of range for type integer`); it does quote a value that asks for something by its name
(`cast($1 AS regclass)`).

Three words of SQLCipher: the *key* (or the passphrase it is made from) opens the file; the *salt* is the file's first 16
bytes, stored unencrypted, and part of the key; *pages* are the blocks, 4096 bytes as a rule, of which the file consists,
each encrypted and signed by itself. The *log* (`app.db-wal`) holds the latest writes until they are folded into the
file: the two belong together.

The sentence also comes in its parts: `error.message()` is what went wrong, to show to the users of a program;
`error.advice()` is the way out, which is for its programmers and operators; `error.object()` names the one thing that it
is about, where there is one: the file, the variable, the columns of the constraint.

See [troubleshooting] for what to do about the commonest ones, step by step.
";

/// The page as it grows.
struct Catalogue {
    text: String,
    directory: TempDir,
    bare: Vec<String>,
}

impl Catalogue {
    fn section(&mut self, title: &str, words: &str) {
        write!(
            self.text,
            "\n## {title}\n\n{words}\n\n| when | kind, reason | it says | the way out |\n|---|---|---|---|\n"
        )
        .unwrap();
    }

    /// A section as it stands on the page.
    fn keep(&mut self, title: &str) {
        let page = std::fs::read_to_string(PAGE).unwrap_or_default();
        let begin = page.find(&format!("\n## {title}\n")).expect("it was provoked once");
        let rest = &page[begin + 1..];
        self.text += &page[begin..rest.find("\n## ").map_or(page.len(), |end| begin + 1 + end)];
    }

    fn row(&mut self, situation: &str, error: &Error) {
        let what_is_wrong_is_the_way_out = error.kind() == ErrorKind::Constraint
            || matches!(error.reason(), Reason::Syntax | Reason::Type)
            || error.to_string().contains(": expected ");
        let passes = if error.is_transient() { " **may pass**" } else { "" };
        self.told(situation, &(names(error) + passes), &error.to_string(), what_is_wrong_is_the_way_out);
    }

    fn told(&mut self, situation: &str, names: &str, text: &str, may_be_bare: bool) {
        let text = self.plain(text).replace('|', "\\|");
        let (says, way_out) = text.split_once("; ").unwrap_or((&text, ""));
        if way_out.is_empty() && !may_be_bare {
            self.bare.push(text.clone());
        }
        writeln!(self.text, "| {situation} | {names} | {says} | {way_out} |").unwrap();
    }

    /// As somebody would read it whose files stand in the working directory and whose code in `src/main.rs`.
    fn plain(&self, text: &str) -> String {
        let mut text = text.replace(&format!("{}/", self.directory.path().display()), "");
        text = text.replace(&self.directory.path().display().to_string(), ".");
        while let Some(start) = text.find(file!()) {
            let length = text[start..].find(' ').unwrap();
            text.replace_range(start..start + length, "src/main.rs:12:24");
        }
        // How long it took this time is nobody's business.
        let words = text.split(' ').map(|word| match word.trim_end_matches([',', ')', ':', ';']) {
            time if time.ends_with('s') && time.starts_with(|c: char| c.is_ascii_digit()) => word.replace(time, "1s"),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn names(error: &Error) -> String {
    match error.reason() {
        Reason::Unspecified => format!("`{:?}`", error.kind()),
        reason => format!("`{:?}`, `{reason:?}`", error.kind()),
    }
}

fn raw(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    let tuning = Tuning::default().busy_timeout(Duration::from_millis(20)).cache_kib(64);
    keyed(path, Secret::raw_key([7; 32])).tuning(tuning).health(Ping)
}

fn written_elsewhere(path: &Path, settings: &str) {
    let connection = rusqlite::Connection::open(path).unwrap();
    apply_cipher_key(&connection, &Secret::new("right")).unwrap();
    connection.execute_batch(&format!("{settings}; CREATE TABLE t (a); INSERT INTO t VALUES ('row')")).unwrap();
}

async fn opening(page: &mut Catalogue) {
    page.section(
        "Opening a database",
        "SQLite has one sentence for most of these, \"file is not a database\". They are told apart by looking at the size,\n\
         the first bytes and a few pages. A failed open changes nothing on the disk.",
    );
    let path = page.at("app.db");
    create(keyed(&path, "right")).await;
    page.row("the key is not the one of the file", &refusal(keyed(&path, "wrong")).await);
    let one = |name| strongroom::PassphraseKeySource::new(Secret::new(name));
    let several = strongroom::keys::CandidateKeySource::new(one("wrong")).or(one("wrong too"));
    let none = AsyncDatabase::builder(&path).key(several).retry(NoRetry);
    page.row("several keys were offered, and none is the one of the file", &refusal(none).await);
    page.row("the file is encrypted, and no key was given", &refusal(plain(&path)).await);
    let plain_path = page.at("plain.db");
    create(plain(&plain_path)).await;
    page.row("a key was given, and the file is not encrypted", &refusal(keyed(&plain_path, "right")).await);
    let older = refusal(keyed(&path, "right").cipher_compatibility(3)).await;
    page.row("another version of SQLCipher wrote the file", &older);
    written_elsewhere(&page.at("other.db"), "PRAGMA kdf_iter = 1000");
    page.row("it was written with settings of no version", &refusal(keyed(&page.at("other.db"), "right")).await);
    written_elsewhere(&page.at("header.db"), "PRAGMA cipher_plaintext_header_size = 32");
    page.row(
        "its header was left unencrypted, as for some phones",
        &refusal(keyed(&page.at("header.db"), "right")).await,
    );

    for (name, len) in [("first.db", 0), ("salt.db", 0), ("head.db", 100), ("middle.db", 40_000), ("end.db", 40_960)] {
        filled(raw(&page.at(name))).await;
        if len > 0 {
            cut(&page.at(name), len);
        }
    }
    flip(&page.at("first.db"), 100);
    page.row("page 1 is damaged", &refusal(raw(&page.at("first.db"))).await);
    flip(&page.at("salt.db"), 3);
    page.row("the salt is damaged", &refusal(raw(&page.at("salt.db"))).await);
    page.row("the file was cut off within page 1", &refusal(raw(&page.at("head.db"))).await);
    page.row("it was cut off within a page", &refusal(raw(&page.at("middle.db"))).await);
    page.row("it was cut off between two pages", &refusal(raw(&page.at("end.db"))).await);
    std::fs::write(page.at("empty.db"), "").unwrap();
    page.row("the file is empty", &refusal(raw(&page.at("empty.db"))).await);
    std::fs::write(page.at("notes.txt"), "id,name\n1,alice\n".repeat(64)).unwrap();
    page.row("it is something else", &refusal(raw(&page.at("notes.txt"))).await);

    page.row("there is no such directory", &refusal(raw(&page.at("missing/app.db"))).await);
    let missing = refusal(raw(&page.at("missing.db")).create_if_missing(false)).await;
    page.row("there is no such file, and none may be created", &missing);
    page.row("the path is a directory", &refusal(raw(page.directory.path())).await);
    denied(page).await;

    let other = rusqlite::Connection::open(&plain_path).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES (1)").unwrap();
    let brief = Tuning::default().busy_timeout(Duration::from_millis(20));
    page.row("another process has the file for itself", &refusal(plain(&plain_path).tuning(brief)).await);
    page.row("the path is a URI", &refusal(raw(Path::new("file:app.db?key=secret"))).await);
    let level = refusal(raw(&page.at("new.db")).cipher_compatibility(5)).await;
    page.row("there is no such level of compatibility", &level);
    let stuck = FaultyConnector::new(SqlCipherConnector::new(":memory:"));
    stuck.faults().at(Point::Connect, Fault::Panic);
    let panicked = AsyncDatabase::with_connector(stuck).retry(NoRetry).open().await.unwrap_err();
    page.row("a connector of your own panics", &panicked);
    let hook = AsyncDatabase::builder(":memory:")
        .on_connect(|connection| Box::pin(connection.interact(|c| c.execute_batch("BEGIN"))));
    page.row("a hook leaves a transaction open", &hook.open().await.unwrap_err());
}

/// What `.read_only()`, `.immutable()`, `.exclusive()` and the settings of other programs' files can fail with.
async fn other_ways(page: &mut Catalogue) {
    page.section(
        "Other ways to open",
        "Settings of the builder that do not fit each other or the file, and what a database that is only read refuses.",
    );
    let (path, header) = (page.at("app.db"), page.at("header.db"));
    let memory = plain(Path::new(":memory:")).read_only();
    let brief = Tuning::default().busy_timeout(Duration::from_millis(20));
    let shared = page.at("shared.db");
    create(plain(&shared)).await;
    let other = rusqlite::Connection::open(&shared).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    let hot = page.at("hot.db");
    create(plain(&hot)).await;
    let cut_off = rusqlite::Connection::open(&hot).unwrap();
    cut_off.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 2; BEGIN; CREATE TABLE u (a)").unwrap();
    cut_off.execute(&format!("INSERT INTO u SELECT zeroblob(500) FROM ({})", numbers(2000)), ()).unwrap();
    let two_salts = keyed(&header, Secret::raw_key_with_salt([7; 32], [1; 16])).plaintext_header_with([2; 16]);
    for (situation, builder) in [
        ("two ways were asked for", raw(&path).read_only().exclusive()),
        ("what is only read was to be created", raw(&path).immutable().create_if_missing(true)),
        ("a database in memory was to be only read", memory),
        ("what is only to be read is not there", raw(&page.at("missing.db")).read_only()),
        ("what is only to be read has a transaction that was cut off", plain(&hot).immutable()),
        ("somebody else has the file that was to be had exclusively", plain(&shared).exclusive().tuning(brief)),
        ("there are no such pages", raw(&path).cipher_page_size(1000)),
        ("nobody makes a key in so many rounds", raw(&path).cipher_kdf_iter(0)),
        ("the settings are of a cipher, and there is no key", plain(&shared).cipher_kdf_iter(4000)),
        (
            "the header is not encrypted, and the salt or the key is another one",
            raw(&header).plaintext_header_with([0; 16]),
        ),
        ("the header is not encrypted, and the key brings no salt", raw(&header).plaintext_header()),
        ("the header is not encrypted, and there are two salts", two_salts),
        ("the header was said to be unencrypted", keyed(&path, "right").plaintext_header_with([0; 16])),
    ] {
        page.row(situation, &refusal(builder).await);
    }
    drop((other, cut_off));
    for builder in [plain(&shared).read_only(), plain(&shared).immutable()] {
        let db = builder.open().await.unwrap();
        page.row("a statement would write", &db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err());
    }
    let db = plain(&shared).read_only().open().await.unwrap();
    let mut tx = db.begin_with(TransactionMode::READ).await.unwrap();
    tx.fetch_all("SELECT a FROM t", ()).await.unwrap();
    let other = rusqlite::Connection::open(&shared).unwrap();
    other.execute("INSERT INTO t VALUES (1)", ()).unwrap();
    let error = tx.fetch_all("SELECT a FROM t", ()).await.unwrap_err();
    page.row("somebody began to write in the middle of a read", &error);
}

async fn maintenance(page: &mut Catalogue) {
    use strongroom::Connection as _;

    page.section("Maintenance", "What an engine, or a database opened like this, does not do.");
    let db = memory().await;
    page.row("a checkpoint in memory", &db.checkpoint().await.unwrap_err());
    let mut conn = db.connection().await.unwrap();
    conn.execute_script("BEGIN").await.unwrap();
    let inside = conn.maintain(strongroom::engine::Maintenance::Vacuum).await.unwrap_err();
    page.row("maintenance inside a transaction", &inside);
    drop(conn);
    let external = Tuning::default().checkpoints(strongroom::sqlcipher::Checkpoints::External);
    create(plain(&page.at("external.db"))).await;
    let db = plain(&page.at("external.db")).tuning(external).open().await.unwrap();
    page.row("a checkpoint where others copy the log", &db.checkpoint().await.unwrap_err());
    rusqlite::Connection::open(page.at("foreign.db")).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let db = plain(&page.at("foreign.db")).open().await.unwrap();
    page.row("a file of another program, with free pages", &db.vacuum_free(None, |_| {}).await.unwrap_err());
    let db = AsyncDatabase::with_connector(strongroom::testing::ScriptedConnector::new()).open().await.unwrap();
    page.row("an engine without checkpoints", &db.checkpoint().await.unwrap_err());
    page.row("an engine without a vacuum", &db.vacuum().await.unwrap_err());
    page.row("an engine without such statistics", &db.optimize().await.unwrap_err());
    page.row("an engine that tells no sizes", &db.sizes().await.unwrap_err());
}

async fn observing(page: &mut Catalogue) {
    page.section("Observing", "From `changes()` and `watch()`.");
    let db = memory().await;
    let writes = db.watch("CREATE TABLE t (a)", ()).next().await.unwrap().unwrap_err();
    page.row("the watched statement writes", &writes);
    let db = AsyncDatabase::with_connector(strongroom::testing::ScriptedConnector::new()).open().await.unwrap();
    page.row("the engine does not tell what it commits", &db.changes().await.unwrap_err());
}

/// What a server says is provoked where there is one; elsewhere the page keeps it as it is.
async fn observing_on_postgresql(page: &mut Catalogue) {
    const TITLE: &str = "Observing on PostgreSQL";
    let Some(server) = postgres::server() else { return page.keep(TITLE) };
    page.section(TITLE, "From `install_change_feed()`, `changes()` and `watch()`.");
    let db = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    let schema = "CREATE TABLE orders (id bigint PRIMARY KEY, title text); CREATE TABLE plain (n bigint);
        CREATE VIEW titles AS SELECT title FROM orders; CREATE MATERIALIZED VIEW kept AS SELECT 1 AS n;
        CREATE ROLE guest LOGIN PASSWORD 'correct horse battery'; GRANT SELECT, INSERT ON orders TO guest";
    db.execute_script(schema).await.unwrap();
    page.row("no table has triggers that tell", &db.changes().await.unwrap_err());
    let refused = async |table: &str| db.install_change_feed([table]).await.unwrap_err();
    page.row("the feed is to be installed for a view", &refused("titles").await);
    page.row("for a materialized view", &refused("kept").await);
    page.row("for a table that there is not", &refused("no_such").await);
    let guest = AsyncDatabase::with_connector(server.connector().user("guest")).open().await.unwrap();
    page.row("by a role that may not", &guest.install_change_feed(["orders"]).await.unwrap_err());
    db.install_change_feed(["orders"]).await.unwrap();
    let watched = async |sql: &str| db.watch(sql, ()).next().await.unwrap().unwrap_err();
    page.row("the watched statement reads a table without triggers", &watched("SELECT n FROM plain").await);
    page.row("it reads a materialized view", &watched("SELECT n FROM kept").await);
    page.row("it reads a catalog of the system", &watched("SELECT relname FROM pg_class").await);
    page.row("it writes", &watched("DELETE FROM orders").await);
}

const CHILD: &str = "STRONGROOM_TEST_DENIED";

/// What only a process without privileges is denied.
async fn copies(page: &mut Catalogue) {
    use strongroom::Connection as _;

    page.section(
        "Copies",
        "Nothing is left where the copy was to stand, and what stood there is as before. What keeps a database from being opened\n\
         keeps a copy from being made, too.",
    );
    let (path, target) = (page.at("copied.db"), page.at("copy.db"));
    let rows = format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(4000));
    create(keyed(&path, Secret::raw_key([7; 32]))).await;
    let db = raw(&path).open().await.unwrap();
    db.execute_script(&rows.replace("TABLE t", "TABLE rows")).await.unwrap();
    std::fs::write(&target, "something else").unwrap();
    page.row("a file is there already", &db.backup_to(&target).await.unwrap_err());
    std::fs::remove_file(&target).unwrap();
    page.row("a directory is there", &db.backup_to(page.directory.path()).await.unwrap_err());
    page.row("there is no such directory", &db.backup_to(page.at("missing/copy.db")).await.unwrap_err());
    std::fs::write(page.at("copy.db-wal"), "left over").unwrap();
    page.row("the log of another database is there", &db.backup_to(&target).await.unwrap_err());
    std::fs::remove_file(page.at("copy.db-wal")).unwrap();
    let replacing = || BackupOptions::new().replace(true);
    db.backup_to(&target).await.unwrap();
    let used = raw(&target).open().await.unwrap();
    used.checkpoint().await.unwrap();
    page.row(
        "it is to be replaced, and somebody has it open",
        &db.backup_with(&target, replacing()).await.unwrap_err(),
    );
    used.close().await.unwrap();
    let slow = |_| std::thread::sleep(Duration::from_millis(2));
    let brief = replacing().step_pages(1).hold_log_at_most(Duration::from_millis(1)).on_progress(slow);
    page.row("it took longer than the log may be held", &db.backup_with(&target, brief).await.unwrap_err());
    let directory = page.directory.path().to_owned();
    let spoil = replacing().on_progress(move |now| {
        if (now.stage, now.done) == (BackupStage::Check, 0) {
            let names = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
            names.filter(|path| path.to_string_lossy().contains("-copy-")).for_each(|draft| flip(&draft, 3 * 4096));
        }
    });
    page.row("the disk did not keep what was written", &db.backup_with(&target, spoil).await.unwrap_err());
    let mut conn = db.connection().await.unwrap();
    conn.execute_script("BEGIN").await.unwrap();
    page.row(
        "a transaction is open",
        &conn.back_up(strongroom::engine::Backup::new(page.at("another.db"))).await.unwrap_err(),
    );
    drop(conn);
    db.close().await.unwrap();
    flip(&path, 5 * 4096);
    let db = raw(&path).open().await.unwrap();
    page.row("a page of the original is damaged", &db.backup_to(page.at("another.db")).await.unwrap_err());
    let options = strongroom::sqlcipher::ReplaceOptions::new;
    let used = raw(&target).open().await.unwrap();
    page.row(
        "a database is to be replaced, and somebody has it open",
        &raw(&target).decrypt(options()).await.unwrap_err(),
    );
    used.close().await.unwrap();
    page.row("a file is to be encrypted and is already", &raw(&target).encrypt(options()).await.unwrap_err());
    page.row("a file is to be encrypted, and there is no key", &plain(&target).encrypt(options()).await.unwrap_err());
    page.row("a file is to be decrypted, and there is no key", &plain(&target).decrypt(options()).await.unwrap_err());
    let sized = raw(&target).cipher_page_size(8192);
    page.row("a file is to be encrypted with settings of its own", &sized.encrypt(options()).await.unwrap_err());
    let in_memory = plain(Path::new(":memory:")).restore_from(&target, options()).await.unwrap_err();
    page.row("a database in memory is to be restored", &in_memory);
    let kept = raw(&target).decrypt(options().keep(&path)).await.unwrap_err();
    page.row("what stands there cannot be kept", &kept);
    let mut conn = raw(&target).open().await.unwrap().connection().await.unwrap();
    let mut backup = strongroom::engine::Backup::new(page.at("another.db"));
    backup.replace = strongroom::engine::Replace::Original(None);
    page.row("an original is to be replaced that others may have open", &conn.back_up(backup).await.unwrap_err());
    drop(conn);
    let (from, to) = (memory().await, memory().await);
    from.execute_script("CREATE TABLE users (id, name); INSERT INTO users VALUES (1, 'alice')").await.unwrap();
    to.execute_script("CREATE TABLE users (id)").await.unwrap();
    let users = || CopyRows::of(["users"]);
    page.row("rows are copied, and the target lacks a column", &from.copy_rows(&to, users()).await.unwrap_err());
    let upper = "ALTER TABLE users ADD name; \
                 CREATE TRIGGER upper AFTER INSERT ON users BEGIN UPDATE users SET name = upper(name); END";
    to.execute_script(upper).await.unwrap();
    page.row("rows are copied, and the target changes them", &from.copy_rows(&to, users()).await.unwrap_err());
    let other = AsyncDatabase::with_connector(strongroom::testing::ScriptedConnector::new()).open().await.unwrap();
    page.row("an engine without copies, as PostgreSQL", &other.backup_to(page.at("another.db")).await.unwrap_err());
}

async fn salvaging(page: &mut Catalogue) {
    page.section(
        "Salvage of a damaged file",
        "The damaged file is not written, whatever comes of it. What keeps a copy from being made stands above.",
    );
    let (path, target, options) = (page.at("damaged.db"), page.at("salvaged.db"), SalvageOptions::new);
    create(keyed(&path, Secret::raw_key([7; 32]))).await;
    let wrong = keyed(&path, Secret::raw_key([8; 32])).salvage_to(&target, options()).await.unwrap_err();
    page.row("the key is another one, or the salt is damaged", &wrong);
    page.row("no key is given", &plain(&path).salvage_to(&target, options()).await.unwrap_err());
    let itself = raw(&path).salvage_to(&path, options().replace(true)).await.unwrap_err();
    page.row("the new file would take the place of the damaged one", &itself);
    let written = path.clone();
    let growing = options().on_progress(move |_| {
        let file = File::options().append(true).open(&written).unwrap();
        std::io::Write::write_all(&mut &file, &[0; 4096]).unwrap();
    });
    page.row("somebody writes meanwhile", &raw(&path).salvage_to(&target, growing).await.unwrap_err());
    let in_memory = plain(Path::new(":memory:")).salvage_to(&target, options()).await.unwrap_err();
    page.row("a database in memory is to be salvaged", &in_memory);
}

async fn rekeying(page: &mut Catalogue) {
    page.section(
        "A change of key",
        "The old key stays in use, and everybody works on. What a source answers stands under its own heading.",
    );
    let (path, new) = (page.at("rekeyed.db"), || Secret::raw_key([8; 32]));
    create(keyed(&path, Secret::raw_key([7; 32]))).await;
    let (db, other) = (raw(&path).open().await.unwrap(), raw(&path).open().await.unwrap());
    let holder = db.connection().await.unwrap();
    let brief = RekeyOptions::new().limit(Duration::from_millis(20));
    page.row("somebody works for longer than the limit", &db.rekey_with(new(), brief).await.unwrap_err());
    drop(holder);
    other.table_exists("t").await.unwrap();
    page.row("another process has the file open", &db.rekey(new()).await.unwrap_err());
    other.suspend().await.unwrap();
    let salted = Secret::raw_key_with_salt([8; 32], [9; 16]);
    page.row("the new key brings a salt of its own", &db.rekey(salted).await.unwrap_err());
    db.rekey(new()).await.unwrap();
    page.row("somebody has changed the key while the database slept", &other.rekey(new()).await.unwrap_err());
    let file = page.at("rekeyed.key");
    std::fs::write(&file, "07".repeat(32)).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    db.suspend().await.unwrap();
    let (back, source) = (Secret::raw_key([7; 32]), FileKeySource::new(&file).raw_key());
    let late = AsyncDatabase::builder(&path).key(source).retry(NoRetry).build();
    db.rekey(back).await.unwrap();
    db.suspend().await.unwrap();
    late.connect().await.unwrap();
    late.suspend().await.unwrap();
    db.rekey(new()).await.unwrap();
    let told = late.table_exists("t").await.unwrap_err();
    page.row("somebody has changed the key, and the source has the old one still", &told);
    late.close().await.unwrap();
    let open = page.at("open.db");
    create(keyed(&open, Secret::raw_key([7; 32]))).await;
    let held = raw(&open).open().await.unwrap();
    held.table_exists("t").await.unwrap();
    let program = rusqlite::Connection::open(&open).unwrap();
    apply_cipher_key(&program, &Secret::raw_key([7; 32])).unwrap();
    let salt: String = program.query_row("PRAGMA cipher_salt", (), |row| row.get(0)).unwrap();
    program.execute_batch(&format!("PRAGMA rekey = \"x'{}{salt}'\"", "08".repeat(32))).unwrap();
    let told = held.fetch_all("SELECT * FROM t", ()).await.unwrap_err();
    page.row("another program has changed the key though the file was open", &told);
    db.suspend_with(SuspendOptions::new().until_resumed()).await.unwrap();
    page.row("the database sleeps until it is woken", &db.rekey(new()).await.unwrap_err());
    db.close().await.unwrap();
    let plain = plain(&page.at("not.db")).open().await.unwrap();
    page.row("it is not encrypted", &plain.rekey(new()).await.unwrap_err());
    page.row("it is in memory", &memory().await.rekey(new()).await.unwrap_err());
    let db = keyed(&path, new()).read_only().open().await.unwrap();
    page.row("it is only read", &db.rekey(new()).await.unwrap_err());
    let other = AsyncDatabase::with_connector(strongroom::testing::ScriptedConnector::new()).open().await.unwrap();
    let db = keyed(&path, new()).open().await.unwrap();
    page.row("the source cannot make a key", &db.rekey_fresh(new()).await.unwrap_err());
    db.close().await.unwrap();
    page.row("an engine without keys, as PostgreSQL", &other.rekey(new()).await.unwrap_err());
}

async fn denied(page: &mut Catalogue) {
    let home = page.at("denied");
    std::fs::create_dir(&home).unwrap();
    for (name, mode) in [("hidden.db", 0o000), ("fixed.db", 0o444)] {
        create(raw(&home.join(name))).await;
        std::fs::set_permissions(home.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::set_permissions(page.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(["--exact", "a_process_without_privileges", "--nocapture"]).env(CHILD, &home).current_dir("/");
    if rustix::process::getuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let told: Vec<_> = said.lines().filter_map(|line| line.split_once("told: ")?.1.split_once(" says ")).collect();
    assert_eq!(told.len(), 3, "{said}{}", String::from_utf8_lossy(&output.stderr));
    for (situation, (names, text)) in [
        "the process may not read the file",
        "the process may not write, and the directory has no log of it",
        "the process may create nothing in the directory",
    ]
    .into_iter()
    .zip(told)
    {
        page.told(situation, names, &text.replace("denied/", ""), false);
    }
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Does nothing unless started by `denied`.
#[tokio::test]
async fn a_process_without_privileges() {
    let Some(home) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    for name in ["hidden.db", "fixed.db", "new.db"] {
        let error = refusal(raw(&home.join(name))).await;
        println!("told: {} says {error}", names(&error));
    }
}

const SESSIONLESS: &str = "STRONGROOM_TEST_SESSIONLESS";

impl Catalogue {
    /// What is said where nobody has a session.
    fn sessionless(&mut self) {
        let mut command = std::process::Command::new("/proc/self/exe");
        command.args(["--exact", "a_process_without_a_session", "--nocapture"]).env(SESSIONLESS, "1");
        let output = command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let told = said.lines().find_map(|line| line.split_once("told: ")?.1.split_once(" says "));
        let (names, text) = told.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
        self.told("there is no keyring, as on a server", names, text, false);
    }
}

/// Does nothing unless started by `sessionless`.
#[tokio::test]
async fn a_process_without_a_session() {
    if std::env::var_os(SESSIONLESS).is_some() {
        let error = KeyringKeySource::new("com.example.shop", "database").resolve().await.unwrap_err();
        println!("told: {} says {error}", names(&error));
    }
}

async fn keys(page: &mut Catalogue) {
    page.section(
        "Getting the key",
        "From the sources, before the file is touched. Details of SOPS files stand in [the page about them].",
    );
    let open = async |source: Box<dyn KeySource>| source.resolve().await.unwrap_err();
    page.row("the variable is not set", &open(Box::new(EnvKeySource::new("APP_DB_KEY_MISSING"))).await);
    page.row("the key file is missing", &open(Box::new(FileKeySource::new(page.at("app.key")))).await);
    std::fs::write(page.at("empty.key"), "\n").unwrap();
    std::fs::set_permissions(page.at("empty.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    page.row("the key file is empty", &open(Box::new(FileKeySource::new(page.at("empty.key")))).await);
    std::fs::write(page.at("open.key"), "secret\n").unwrap();
    std::fs::set_permissions(page.at("open.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    page.row("others may read the key file", &open(Box::new(FileKeySource::new(page.at("open.key")))).await);
    let command = strongroom::CommandKeySource::new("no-such-program");
    page.row("the program that prints the key is missing", &open(Box::new(command)).await);
    page.sessionless();
    let making = || FileKeySource::new(page.at("made.key")).create_if_missing(true);
    std::fs::write(page.at("made.key"), "of another database\n").unwrap();
    let error = refusal(AsyncDatabase::builder(page.at("made.db")).key(making()).retry(NoRetry)).await;
    page.row("a new database should get a new key, and one is there", &error);
    let nowhere = FileKeySource::new(page.at("none/made.key")).create_if_missing(true);
    let error = refusal(AsyncDatabase::builder(page.at("made.db")).key(nowhere).retry(NoRetry)).await;
    page.row("it cannot be stored", &error);
    let nobody = SopsKeySource::at(page.at("made.yaml")).create_if_missing(true);
    let error = refusal(AsyncDatabase::builder(page.at("made.db")).key(nobody).retry(NoRetry)).await;
    page.row("a SOPS file should be made, and nobody could open it", &error);
    page.row("the SOPS file is missing", &open(Box::new(SopsKeySource::at(page.at("secrets.yaml")))).await);
    page.row("the passphrase is empty", &refusal(keyed(&page.at("k.db"), "")).await);
    let hex = format!("x'{}'", "ab".repeat(32));
    page.row("the passphrase looks like a raw key", &refusal(keyed(&page.at("k.db"), hex)).await);
}

async fn while_open(page: &mut Catalogue) {
    page.section(
        "While the database is open",
        "A connection that met one of these is closed instead of lent again. Once the cause is gone, the same handle works.",
    );
    let put = "INSERT INTO t VALUES (1)";
    let path = page.at("live.db");
    create(raw(&path)).await;
    let db = raw(&path).open().await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    apply_cipher_key(&other, &Secret::raw_key([7; 32])).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    page.row("another process writes for longer than we wait", &db.execute(put, ()).await.unwrap_err());
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);

    std::fs::rename(&path, page.at("aside.db")).unwrap();
    page.row("the file was moved or deleted", &db.execute(put, ()).await.unwrap_err());
    std::fs::rename(page.at("aside.db"), &path).unwrap();
    let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).take(100_000).collect();
    let error = db.read_connection().await.unwrap_err();
    drop(hoard);
    page.row("the process has too many files open", &error);
    let mut conn = db.connection().await.unwrap();
    conn.execute_script("PRAGMA max_page_count = 20").await.unwrap();
    let full = conn.execute("INSERT INTO t VALUES (zeroblob(1000000))", ()).await.unwrap_err();
    page.row("the disk is full", &full);
    drop(conn);
    let mut reader = db.read_connection().await.unwrap();
    page.row("the file, or this connection, is for reading only", &reader.execute(put, ()).await.unwrap_err());
    drop(reader);
    db.close().await.unwrap();

    filled(raw(&page.at("page.db"))).await;
    flip(&page.at("page.db"), 30 * 4096 + 100);
    let db = raw(&page.at("page.db")).open().await.unwrap();
    let damaged = db.fetch_value::<i64>("SELECT sum(length(a)) FROM t", ()).await.unwrap_err();
    page.row("a page of the file is damaged", &damaged);
    cut(&page.at("page.db"), 0);
    page.row("the file was emptied", &db.fetch_all("SELECT * FROM t", ()).await.unwrap_err());
    create(keyed(&page.at("mine.db"), Secret::raw_key([7; 32]))).await;
    let db = raw(&page.at("mine.db")).open().await.unwrap();
    create(keyed(&page.at("theirs.db"), Secret::raw_key([8; 32]))).await;
    std::fs::rename(page.at("theirs.db"), page.at("mine.db")).unwrap();
    page.row("another database was put in its place", &db.read_connection().await.unwrap_err());
}

async fn waiting(page: &mut Catalogue) {
    page.section("Waiting for a connection", "The sentence names the lines of code that hold the connections.");
    let db = AsyncDatabase::builder(":memory:").pool_timeout(secs(1)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a)").await.unwrap();
    let holder = db.connection().await.unwrap();
    tokio::time::pause();
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { db.connection().await.unwrap_err() }
    });
    page.row("all stay in use", &waiting.await.unwrap());
    tokio::time::resume();
    drop(holder);
    let nested = db.transaction(async |_| db.execute("INSERT INTO t VALUES (1)", ()).await).await.unwrap_err();
    page.row("a transaction waits for a second connection that only itself could give back", &nested);
    suspending(page, &db).await;
    let stuck = FaultyConnector::new(SqlCipherConnector::new(":memory:"));
    stuck.faults().at(Point::Connect, Fault::Hang);
    let hung = AsyncDatabase::with_connector(stuck).pool_timeout(secs(1)).retry(NoRetry).open().await.unwrap_err();
    page.row("connecting takes too long", &hung);
    db.close().await.unwrap();
    page.row("the database was closed", &db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err());
}

async fn suspending(page: &mut Catalogue, db: &AsyncDatabase) {
    let brief = SuspendOptions::new().limit(Duration::from_millis(20)).until_resumed();
    let holder = db.connection().await.unwrap();
    page.row("the database is to sleep, and somebody works", &db.suspend_with(brief).await.unwrap_err());
    let asleep = tokio::spawn({
        let db = db.clone();
        async move { db.suspend_with(brief.limit(secs(10))).await.unwrap_err() }
    });
    tokio::task::yield_now().await;
    db.resume();
    page.row("the database is to sleep, and is resumed before it does", &asleep.await.unwrap());
    drop(holder);
    db.suspend_with(brief).await.unwrap();
    let waited = db.with_timeout(Duration::from_millis(20)).fetch_all("SELECT 1", ()).await.unwrap_err();
    page.row("the database sleeps until resumed, and the call has a limit", &waited);
    db.resume();
}

async fn limits(page: &mut Catalogue) {
    page.section("Time limits", "Of handles made by `with_timeout`; the sentence says what the time was spent on.");
    let db = raw(&page.at("limits.db")).pool_timeout(secs(20)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a)").await.unwrap();
    let brief = db.with_timeout(Duration::from_millis(50));
    page.row("a read takes too long", &brief.fetch_all(ENDLESS, ()).await.unwrap_err());
    let endless = format!("INSERT INTO t {}", numbers(1_000_000_000));
    page.row("a write takes too long", &brief.execute(&endless, ()).await.unwrap_err());
    let _holder = db.begin().await.unwrap();
    page.row("waiting for the writer takes too long", &brief.execute("DELETE FROM t", ()).await.unwrap_err());
}

async fn statements(page: &mut Catalogue) {
    page.section("Statements", "Nothing has been changed by a statement that failed, but for `OutcomeUnknown`: the disk failed while it was committed. An error of `Phase::Answer` is about the rows of one that was done.");
    let db = memory().await;
    db.execute_script(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, age INTEGER CHECK (age >= 0));
         CREATE TABLE orders (user_id INTEGER REFERENCES users (id)); INSERT INTO users VALUES (1, 'alice', 30)",
    )
    .await
    .unwrap();
    for (situation, sql) in [
        ("the engine does not understand it", "SELCT 1"),
        ("there is no such table", "SELECT * FROM customers"),
        ("a value must be unique and is there already", "INSERT INTO users VALUES (1, 'bob', 20)"),
        ("a value is missing", "INSERT INTO users VALUES (2, NULL, 20)"),
        ("a value breaks a rule of the table", "INSERT INTO users VALUES (2, 'bob', -1)"),
        ("a value refers to a row that is not there", "INSERT INTO orders VALUES (7)"),
        ("it was done, but its rows are not UTF-8", "INSERT INTO orders VALUES (1) RETURNING CAST(x'ff' AS TEXT)"),
        ("it begins or ends a transaction, or alters the session", "BEGIN"),
        ("it asks what its connection did last, and others use that too", "SELECT last_insert_rowid()"),
        ("it sets what lasts until the end of a transaction, outside of one", "PRAGMA defer_foreign_keys = ON"),
        ("it sets something for the whole process", "PRAGMA soft_heap_limit = 1000000"),
        ("it is more than one statement", "SELECT 1; SELECT 2"),
        ("parameters are missing", "SELECT $1"),
    ] {
        page.row(situation, &db.execute(sql, ()).await.unwrap_err());
    }
    page.row("placeholders of two styles are mixed", &db.execute("SELECT $1, ?", (1, 2)).await.unwrap_err());
    let row = db.fetch_one("SELECT id, name, age FROM users", ()).await.unwrap().unwrap();
    page.row("a column does not have the type asked for", &row.get::<i64>("name").unwrap_err());
    page.row("there is no such column", &row.get::<i64>("email").unwrap_err());
    let keyed = raw(&page.at("statements.db")).open().await.unwrap();
    let mut conn = keyed.connection().await.unwrap();
    for (situation, sql) in [
        ("it would set a key or a cipher setting", "PRAGMA rekey = 'other'"),
        ("it would attach a file to an encrypted database", "ATTACH 'other.db' AS other"),
        ("it would put unencrypted files on the disk", "PRAGMA temp_store = FILE"),
        ("it would load an extension", "SELECT load_extension('x')"),
    ] {
        page.row(situation, &conn.execute(sql, ()).await.unwrap_err());
    }
    let into = format!("VACUUM INTO '{}'", page.at("statements.db").display());
    page.row("it would write a file that exists already", &conn.execute(&into, ()).await.unwrap_err());
    let died = conn.interact(|_| -> rusqlite::Result<()> { panic!("user code") }).await.unwrap_err();
    page.row("your closure in `interact`, or your SQL function, panics", &died);
}

async fn transactions(page: &mut Catalogue) {
    page.section("Transactions", "Whatever failed, the transaction was rolled back, but for the last of these.");
    let db = memory().await;
    db.execute_script("CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1)").await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    page.row("an earlier statement of it failed", &tx.commit().await.unwrap_err());
    let mut tx = db.begin().await.unwrap();
    let polled = common::poll_once(Box::pin(tx.execute_script(ENDLESS)).as_mut());
    assert!(polled.is_pending(), "{polled:?}");
    page.row("a call in it was dropped half-way", &tx.commit().await.unwrap_err());
    let mut tx = db.begin_with(TransactionMode::READ).await.unwrap();
    page.row("it was begun for reading, and writes", &tx.execute("DELETE FROM t", ()).await.unwrap_err());
    drop(tx);
    let mut tx = db.begin().await.unwrap();
    page.row("the statement cannot run inside one", &tx.execute("VACUUM", ()).await.unwrap_err());
    drop(tx);
    let script = db.execute_script("BEGIN; DELETE FROM t").await.unwrap_err();
    page.row("a script leaves one open", &script);
    let stopped = tokio::spawn({
        let db = db.clone();
        async move { db.fetch_all(ENDLESS, ()).await.unwrap_err() }
    });
    common::eventually("the statement runs", || db.stats().active_connections == 1).await;
    db.close_within(Duration::from_millis(50)).await.unwrap();
    page.row("the database was closed while a statement ran", &stopped.await.unwrap());
}

async fn migrations(page: &mut Catalogue) {
    page.section(
        "Migrations",
        "Of `migrate`, and of `migration_plan` before it. What a migration itself failed with stands behind its number and name.\n\
         A run that failed has left each migration done or not begun, but for those outside of transactions.",
    );
    let rows =
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, user INTEGER REFERENCES users); INSERT INTO orders VALUES (1, 1)";
    let users = "CREATE TABLE users (id INTEGER PRIMARY KEY); INSERT INTO users VALUES (1)";
    let list = || Migrations::new().sql(1, "users", users).sql(3, "orders", rows);
    let db = memory().await;
    db.migrate(&list()).await.unwrap();
    let rebuild = "DROP TABLE users; CREATE TABLE users (id INTEGER PRIMARY KEY)";
    let vacuum =
        || list().add(Migration::sql(4, "compact", "VACUUM; INSERT INTO nowhere VALUES (1)").outside_transaction());
    let both = Migration::sql(4, "both", rebuild).without_foreign_keys().outside_transaction();
    let closure = Migration::code(4, "closure", async |_tx| Ok(()));
    for (situation, wrong) in [
        ("a text has changed since it ran", Migrations::new().sql(1, "users", "SELECT 1").sql(3, "orders", rows)),
        ("one that ran is not in the list", Migrations::new().sql(3, "orders", rows)),
        ("one comes before those that ran", list().sql(2, "late", "SELECT 1")),
        ("the database is newer than the program", Migrations::new().sql(1, "users", users)),
        ("two have the same number", list().sql(3, "invoices", "SELECT 1")),
        ("a number is below 0", list().sql(-1, "before all", "SELECT 1")),
        ("a closure is to run outside of a transaction", list().add(closure.outside_transaction())),
        ("one is to run in two ways", list().add(both)),
        ("one fails", list().sql(4, "totals", "INSERT INTO totals VALUES (1)")),
        ("one ends its transaction", list().sql(4, "totals", "BEGIN; CREATE TABLE totals (a); COMMIT")),
        ("rows lose what they refer to", list().add(Migration::sql(4, "rebuild", rebuild).without_foreign_keys())),
        ("one outside of transactions fails", vacuum()),
    ] {
        page.row(situation, &db.migrate(&wrong).await.unwrap_err());
    }
    page.row("it began before, and did not finish", &db.migration_plan(&vacuum()).await.unwrap_err());
    let nowhere = db.migrate_with(&list(), MigrateOptions::new().up_to(9)).await.unwrap_err();
    page.row("there is no migration of the number to stop at", &nowhere);

    let db = memory().await;
    let adopting = |from| MigrateOptions::new().adopt(from);
    let mut conn = db.connection().await.unwrap();
    conn.execute_script("PRAGMA user_version = 2").await.unwrap();
    drop(conn);
    let error = db.migrate_with(&list(), adopting(Adopt::UserVersion)).await.unwrap_err();
    page.row("`user_version` counts one that is not in the list", &error);
    let sqlx = "CREATE TABLE _sqlx_migrations (version BIGINT, description TEXT, success BOOLEAN, checksum BLOB);
                INSERT INTO _sqlx_migrations VALUES (1, 'users', 1, x'00')";
    db.execute_script(sqlx).await.unwrap();
    let error = db.migrate_with(&list(), adopting(Adopt::Sqlx)).await.unwrap_err();
    page.row("a text has changed since sqlx ran it", &error);
    db.execute("UPDATE _sqlx_migrations SET success = 0", ()).await.unwrap();
    let error = db.migrate_with(&list(), adopting(Adopt::Sqlx)).await.unwrap_err();
    page.row("sqlx could not run it", &error);

    let folder = page.at("migrations");
    page.row("there is no such folder", &Migrations::<SqlCipherConnector>::from_folder(&folder).unwrap_err());
    std::fs::create_dir(&folder).unwrap();
    page.row("a folder holds none", &Migrations::<SqlCipherConnector>::from_folder(&folder).unwrap_err());
    for (situation, name, text) in [
        ("the name of a file has no number", "users.sql", ""),
        ("the comment of a file is not understood", "1_users.sql", "-- strongroom: no-transaction"),
    ] {
        page.row(situation, &Migrations::<SqlCipherConnector>::from_files([(name, text)]).unwrap_err());
    }
}

async fn configuration(page: &mut Catalogue) {
    page.section(
        "Configuration",
        "Of files and of the environment; settings out of their bounds are moved into them, with a warning in the log.",
    );
    for (situation, text) in [
        ("a setting is unknown", "db: { pool: { max_sise: 5 } }"),
        ("a value has the wrong type", "db: { pool: { max_size: many } }"),
        ("a key is named, and not whether to encrypt", "db: { cipher: { key_source: sops, sops_path: secrets.yml } }"),
        ("a SOPS file is named that nobody would read", "db: { cipher: { enabled: true, sops_path: secrets.yml } }"),
        ("encryption is on, and there is no key", "db: { cipher: { enabled: true, key_source: sops } }"),
    ] {
        std::fs::write(page.at("strongroom.yml"), text).unwrap();
        let error = match DatabaseConfig::from_file(page.at("strongroom.yml")) {
            Err(error) => error,
            Ok(config) => AsyncDatabase::from_config(page.at("c.db"), &config).open().await.unwrap_err(),
        };
        page.row(situation, &error);
    }
}

/// What a panic said.
fn words(info: &std::panic::PanicHookInfo<'_>) -> String {
    let (said, built) = (info.payload().downcast_ref::<&str>(), info.payload().downcast_ref::<String>());
    said.map(|text| (*text).to_owned()).or_else(|| built.cloned()).unwrap_or_default()
}

#[tokio::test]
async fn the_catalogue_shows_what_is_really_said() {
    std::panic::set_hook(Box::new(|info| {
        if !["injected panic", "user code"].iter().any(|own| words(info).contains(own)) {
            eprintln!("{info}");
        }
    }));
    let maximum = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let few = rustix::process::Rlimit { current: Some(400), maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
    let mut page = Catalogue { text: INTRODUCTION.into(), directory: TempDir::new().unwrap(), bare: Vec::new() };
    opening(&mut page).await;
    other_ways(&mut page).await;
    maintenance(&mut page).await;
    copies(&mut page).await;
    salvaging(&mut page).await;
    rekeying(&mut page).await;
    observing(&mut page).await;
    observing_on_postgresql(&mut page).await;
    keys(&mut page).await;
    while_open(&mut page).await;
    waiting(&mut page).await;
    limits(&mut page).await;
    statements(&mut page).await;
    transactions(&mut page).await;
    migrations(&mut page).await;
    configuration(&mut page).await;
    page.text += "\n[troubleshooting]: troubleshooting.md\n[the page about them]: sops.md\n";
    drop(std::panic::take_hook());
    if std::env::var_os("STRONGROOM_BLESS").is_some() {
        std::fs::write(PAGE, &page.text).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    for (is, should) in written.lines().zip(page.text.lines()) {
        assert_eq!(is, should, "docs/errors.md is not what is said today; write it with STRONGROOM_BLESS=1");
    }
    assert_eq!(written, page.text);
    assert!(page.bare.is_empty(), "these name no way out: {:#?}", page.bare);
}
