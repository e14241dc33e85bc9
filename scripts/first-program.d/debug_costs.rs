//! What each thing costs in a debug build of a stranger's crate, in CPU time of the whole process, beside what the same
//! run needs for the same work by rusqlite alone. CPU time, so that a busy machine changes little; and a factor of what
//! was measured in the same run, so that a slow one changes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, encrypt};
use strongroom::rusqlite;
use strongroom::sqlcipher::ReplaceOptions;
use strongroom::{
    AsyncDatabase, DatabaseConfig, FileKeySource, KeySource as _, PassphraseKeySource, Secret, SopsKeySource, named,
};

/// What `age -p` made of the identity for [`RECIPIENT`], under the passphrase `pass phrase`.
const PROTECTED: &str = "-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBnRGRHL3FwVVc2MWhYOGVu
RWRDL1F3IDE4CkdjNkcyM1FJS09kZDFIUnZwMmZ6YUl3cG9zVmZ6VkZHSkF4NERj
Z3FacEUKLS0tIGJFQ2k3Y3RpaHgzcXJod2JnVVpoRFd2ZWJsSHBmdkxYSHVaUHI5
WWRldXcKgfbmnse9pvYpcoOzi8lQ0F1vvwM+sgMd9KGAjqPYfNZFHiq/nGepC9b4
NoU3ujdyw/T/1sMnxKGN+86f/AcwWRv5vDDKsYOTtYj6dfAnBvC5KvqUQjO7J2eC
MTx3ogKe1MavPvfiOpwhr8Be2H8exiC+AxyWtKyNF1CIGgMGe633eL5q6htdmD/E
5DeyS+btALpd48i3VTGmaxsQKZ55vH+pVxAz66a5xStaTlE7f1UYivD1cPdTWc8y
Oac48gPYMgOrybIaJr/qFhsZR4Vi8k8wowv0aZrq
-----END AGE ENCRYPTED FILE-----
";
const RECIPIENT: &str = "age16u9yy4z7dxrj4zfjuvlpyjulmzyta2lnv97nta9lcqchtpla0cxsk5cmsm";

const ROWS: i64 = 10_000;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Row {
    id: i64,
    name: String,
    score: f64,
    data: Vec<u8>,
}

fn row(id: i64) -> Row {
    Row { id, name: format!("row {id}"), score: 0.5, data: vec![7; 200] }
}

/// CPU time of this process so far, in hundredths of a second.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, behind) = stat.rsplit_once(')').unwrap();
    behind.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// Phases, each with what it may cost.
#[derive(Default)]
struct Costs {
    too_much: Vec<String>,
    last: u64,
}

impl Costs {
    fn begin(&mut self) {
        self.last = cpu();
    }

    fn end(&mut self) -> u64 {
        cpu() - self.last
    }

    /// At most `factor` times the reference, and a tenth of a second.
    fn bound(&mut self, what: &str, factor: u64, reference: u64) {
        let took = self.end();
        let most = factor * reference + 10;
        println!("{what:<48}{took:>5} of {most:>5} hundredths");
        if took > most {
            self.too_much.push(format!("{what}: {took} hundredths of a second, at most {most}"));
        }
        self.begin();
    }
}

fn by_rusqlite(path: &str) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.pragma_update(None, "key", "correct horse").unwrap();
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT, score REAL, data BLOB)")
        .unwrap();
    connection
}

#[tokio::main]
async fn main() -> strongroom::Result<()> {
    let mut costs = Costs::default();

    // The references: SQLCipher's own derivation, ten thousand rows in and out of an encrypted file, and their pages once
    // more (which is what copies and new keys do).
    costs.begin();
    let mut plain = by_rusqlite("reference.db");
    let derivation = costs.end();
    costs.begin();
    let begun = plain.transaction().unwrap();
    let mut insert = begun.prepare("INSERT INTO t VALUES (?, ?, ?, ?)").unwrap();
    for id in 0..ROWS {
        let Row { id, name, score, data } = row(id);
        insert.execute((id, name, score, data)).unwrap();
    }
    drop(insert);
    begun.commit().unwrap();
    let filling = costs.end();
    costs.begin();
    let mut select = plain.prepare("SELECT id, name, score, data FROM t").unwrap();
    let rows = select
        .query_map((), |row| Ok(Row { id: row.get(0)?, name: row.get(1)?, score: row.get(2)?, data: row.get(3)? }));
    assert_eq!(rows.unwrap().map(Result::unwrap).filter(|read| *read == row(read.id)).count(), 10_000);
    drop(select);
    let reading = costs.end();
    costs.begin();
    plain.execute_batch("PRAGMA rekey = 'another horse'").unwrap();
    let rewriting = costs.end();
    drop(plain);
    println!(
        "rusqlite: derivation {derivation}, filling {filling}, reading {reading}, rewriting {rewriting} hundredths"
    );

    let passphrase = || PassphraseKeySource::new("correct horse");
    costs.begin();
    let db = AsyncDatabase::builder("app.db").key(passphrase()).open().await?;
    costs.bound("an encrypted database is made", 2, derivation);
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, score REAL, data BLOB)").await?;
    costs.begin();
    let sets = (0..ROWS).map(row).map(|Row { id, name, score, data }| (id, name, score, data));
    db.execute_many("INSERT INTO t VALUES ($1, $2, $3, $4)", sets).await?;
    costs.bound("10,000 rows go in", 2, derivation);
    let read: Vec<Row> = db.fetch_all_as("SELECT * FROM t", ()).await?;
    // serde takes a `Vec<u8>` byte by byte, in the caller's own code. The rows' own references are too small to measure by.
    costs.bound("10,000 rows with blobs are decoded", 3, derivation);
    assert_eq!(read.iter().filter(|read| **read == row(read.id)).count(), 10_000);
    costs.begin();
    let mut blobs = 0;
    for row in &db.fetch_all("SELECT * FROM t", ()).await? {
        blobs += row.get::<Vec<u8>>("data")?.len();
    }
    assert_eq!(blobs, 2_000_000);
    costs.bound("10,000 rows with blobs are read by get", 2, derivation);
    db.execute("DELETE FROM t WHERE id >= 5000", ()).await?;
    costs.begin();
    let sets: Vec<_> = read[5000..].iter().map(named).collect();
    db.execute_many("INSERT INTO t VALUES (:id, :name, :score, :data)", sets).await?;
    costs.bound("5,000 structs go in", 3, derivation);
    db.backup_to("copy.db").await?;
    costs.bound("a copy is made and verified", 4, rewriting);
    db.rekey(PassphraseKeySource::new("another horse")).await?;
    costs.bound("the key is changed and the file verified", 4, rewriting);
    db.close().await?;

    costs.begin();
    let db = AsyncDatabase::builder("app.db").key(PassphraseKeySource::new("another horse")).open().await?;
    costs.bound("it is opened by a passphrase", 2, derivation);
    drop(all_readers(&db).await?);
    costs.bound("its other connections are opened", 1, derivation);
    db.close().await?;

    costs.begin();
    let file = || FileKeySource::new("key.bin").create_if_missing(true);
    let db = AsyncDatabase::builder("by-file.db").key(file()).open().await?;
    db.close().await?;
    costs.bound("a key file is made, and a database under it", 2, derivation);
    AsyncDatabase::builder("by-file.db").key(file()).open().await?.close().await?;
    costs.bound("it is opened by the file", 2, derivation);

    std::fs::write("app.yml", "db:\n  pool: { max_size: 3 }\n  cipher: { enabled: true, key_source: sops, sops_path: s.yml, sops_key: db_key }\n").unwrap();
    for _ in 0..20 {
        DatabaseConfig::from_file("app.yml")?;
    }
    costs.bound("twenty configurations are read", 1, derivation);
    let identity = AgeIdentity::generate();
    let secrets = (0..200).map(|number| format!("key{number}")).collect::<Vec<_>>();
    let word = Secret::new("opened");
    let mut values: Vec<_> = secrets.iter().map(|name| (name.as_str(), &word)).collect();
    values.push(("db_key", &word));
    std::fs::write("s.yml", encrypt(SopsFormat::Yaml, &values, &[identity.recipient(), RECIPIENT])?).unwrap();
    costs.bound("a SOPS file of 200 values is made", 1, derivation);
    let of = |identities| SopsKeySource::new("s.yml", "db_key").identities(identities).backend(SopsBackend::Native);
    of(IdentitySources::none().secret(identity.secret().clone())).resolve().await?;
    costs.bound("a SOPS file of 200 values is opened", 1, derivation);
    std::fs::write("key.age", PROTECTED).unwrap();
    of(IdentitySources::none().file("key.age").passphrase("pass phrase")).resolve().await?;
    // 2^18 rounds of scrypt: four to six times the work of SQLCipher's derivation.
    costs.bound("one is opened by what age -p made", 15, derivation);

    let plain = AsyncDatabase::builder("plain.db").open().await?;
    plain.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, score REAL, data BLOB)").await?;
    let sets = (0..ROWS).map(row).map(|Row { id, name, score, data }| (id, name, score, data));
    plain.execute_many("INSERT INTO t VALUES ($1, $2, $3, $4)", sets).await?;
    plain.close().await?;
    costs.begin();
    AsyncDatabase::builder("plain.db").key(passphrase()).encrypt(ReplaceOptions::new()).await?;
    costs.bound("a file is encrypted in place", 4, rewriting);

    assert!(costs.too_much.is_empty(), "in a debug build, these are too slow: {:#?}", costs.too_much);
    Ok(())
}

/// All readers at once.
async fn all_readers(db: &AsyncDatabase) -> strongroom::Result<Vec<impl Sized + use<>>> {
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(db.with_timeout(Duration::from_secs(5)).read_connection().await?);
    }
    Ok(all)
}
