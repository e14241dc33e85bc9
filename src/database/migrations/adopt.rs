//! The histories of other tools.

use sha2::{Digest as _, Sha384};

use super::checksum::normalised;
use super::history::{Line, Reads, Words};
use super::migration::{Body, Migration, title};
use crate::connector::Connector;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::params::Dialect;

/// Where the history of a database stands that another tool has migrated so far. It is taken over once, when there is no
/// history of ours yet; from then on, ours counts, and that of the other tool stays as it was.
///
/// What it says was done must stand in the list of the program, under the same numbers. Where the other tool kept a
/// checksum, it is compared.
///
/// ```
/// use strongroom::AsyncDatabase;
/// use strongroom::database::migrations::{Adopt, MigrateOptions, Migrations};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// # let db = AsyncDatabase::builder(":memory:").open().await?;
/// # db.connection().await?.execute_script("CREATE TABLE users (id INTEGER); PRAGMA user_version = 1").await?;
/// let migrations = Migrations::new()
///     .sql(1, "create users", "CREATE TABLE users (id INTEGER)")
///     .sql(2, "names", "ALTER TABLE users ADD COLUMN name TEXT");
/// let report = db.migrate_with(&migrations, MigrateOptions::new().adopt(Adopt::UserVersion)).await?;
/// assert_eq!((report.adopted, report.ran.len()), (1, 1));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Adopt {
    /// SQLite's `PRAGMA user_version`, which the crate `rusqlite_migration` and many a program of its own count up: all migrations up
    /// to the one of that number were done. Number the list from 1, one by one.
    UserVersion,
    /// The table `_sqlx_migrations`.
    Sqlx,
    /// The table `refinery_schema_history`.
    Refinery,
    /// The table `__diesel_schema_migrations`. Its versions are the digits that a migration's folder begins with:
    /// `2026-01-02-030405_create_users` is number 20260102030405. Diesel keeps no texts that could be compared.
    Diesel,
}

impl Adopt {
    /// As the history names it.
    pub(super) fn origin(self) -> &'static str {
        match self {
            Self::UserVersion => "user_version",
            Self::Sqlx => "sqlx",
            Self::Refinery => "refinery",
            Self::Diesel => "diesel",
        }
    }

    /// The lines that our history gets for what the other tool did; none if it did nothing.
    ///
    /// # Errors
    /// When that does not fit to the list, or did not succeed.
    pub(super) async fn lines<C: Connector>(
        self,
        db: &mut impl Reads,
        words: Words,
        list: &[&Migration<C>],
    ) -> Result<Vec<Line>> {
        match self {
            Self::UserVersion => user_version(db, words, list).await,
            Self::Sqlx if db.has_table("_sqlx_migrations").await? => sqlx(db, list).await,
            Self::Refinery if db.has_table("refinery_schema_history").await? => refinery(db, list).await,
            Self::Diesel if db.has_table("__diesel_schema_migrations").await? => diesel(db, list).await,
            Self::Sqlx | Self::Refinery | Self::Diesel => Ok(Vec::new()),
        }
    }
}

/// Our line for a migration that was done elsewhere.
fn line<C: Connector>(migration: &Migration<C>) -> Line {
    let checksum = migration.checksum().map(str::to_owned);
    Line { version: migration.version, name: migration.name.to_string(), checksum, unfinished: None }
}

/// Our line for what another tool calls so. What the list does not have is refused later, as for lines of our own.
fn line_for<C: Connector>(list: &[&Migration<C>], version: i64, name: String) -> Line {
    let found = list.iter().find(|migration| migration.version == version);
    found.map_or_else(|| Line { version, name, checksum: None, unfinished: None }, |migration| line(migration))
}

async fn user_version<C: Connector>(db: &mut impl Reads, words: Words, list: &[&Migration<C>]) -> Result<Vec<Line>> {
    if words.0 != Dialect::Sqlite {
        return Err(Error::new(ErrorKind::Unsupported, "only SQLite has a user_version to adopt")
            .hint("leave MigrateOptions::adopt() away for this engine"));
    }
    let version: i64 = db.rows("PRAGMA user_version").await?.first().map_or(Ok(0), |row| row.get(0))?;
    let done = || list.iter().filter(|migration| migration.version <= version).copied();
    match done().last() {
        _ if version == 0 => Ok(Vec::new()),
        Some(last) if last.version == version => Ok(done().map(line).collect()),
        _ if list.last().is_none_or(|last| last.version < version) => {
            let last = list.last().map_or_else(|| "no migration at all".into(), |last| last.title());
            let message = format!("the database has user_version {version}, and the last of the program is {last}");
            Err(Error::new(ErrorKind::Migration, message)
                .because(Reason::NewerSchema)
                .hint("use the newer version of the program, or number the list from 1 as user_version counts"))
        }
        _ => {
            let message = format!("the database has user_version {version}, and there is no migration of that number");
            Err(Error::new(ErrorKind::Migration, message)
                .because(Reason::MigrationMissing)
                .hint("number the list from 1 as user_version counts"))
        }
    }
}

async fn sqlx<C: Connector>(db: &mut impl Reads, list: &[&Migration<C>]) -> Result<Vec<Line>> {
    let rows = db.rows("SELECT version, description, success, checksum FROM _sqlx_migrations ORDER BY version").await?;
    let mut lines = Vec::new();
    for row in &rows {
        let (version, name): (i64, String) = (row.get(0)?, row.get(1)?);
        if !row.get::<bool>(2)? {
            let message = format!("sqlx has marked {} as failed", title(version, &name));
            return Err(Error::new(ErrorKind::Migration, message)
                .because(Reason::MigrationUnfinished)
                .hint("look at what is done of it, and put its row in _sqlx_migrations right")
                .about(title(version, &name)));
        }
        let checksum: Vec<u8> = row.get(3)?;
        compare("sqlx", list, version, &name, |text| Sha384::digest(text.as_bytes())[..] == checksum[..])?;
        lines.push(line_for(list, version, name));
    }
    Ok(lines)
}

async fn diesel<C: Connector>(db: &mut impl Reads, list: &[&Migration<C>]) -> Result<Vec<Line>> {
    let rows = db.rows("SELECT version FROM __diesel_schema_migrations ORDER BY version").await?;
    let mut lines = Vec::new();
    for row in &rows {
        let name: String = row.get(0)?;
        let Ok(version) = name.parse() else {
            let message = format!("diesel has a migration {name}, whose version is no number");
            return Err(Error::new(ErrorKind::Migration, message)
                .because(Reason::MigrationMissing)
                .hint("give it a number, in __diesel_schema_migrations and in the list")
                .about(name));
        };
        lines.push(line_for(list, version, name));
    }
    lines.sort_by_key(|line| line.version);
    Ok(lines)
}

async fn refinery<C: Connector>(db: &mut impl Reads, list: &[&Migration<C>]) -> Result<Vec<Line>> {
    let rows = db.rows("SELECT version, name, checksum FROM refinery_schema_history ORDER BY version").await?;
    let mut lines = Vec::new();
    for row in &rows {
        let (version, name): (i64, String) = (row.get(0)?, row.get(1)?);
        let checksum: String = row.get(2)?;
        // Its feature `int8-versions` hashes eight bytes of the number, otherwise it is four.
        let long = version.to_le_bytes();
        compare("refinery", list, version, &name, |text| {
            [&long[..4], &long[..]].into_iter().any(|number| {
                let hashed = [name.as_bytes(), &[0xff], number, text.as_bytes(), &[0xff]].concat();
                siphash_1_3(&hashed).to_string() == checksum
            })
        })?;
        lines.push(line_for(list, version, name));
    }
    Ok(lines)
}

/// Compares the text of the list with the checksum of another tool, which took line endings and the end as they were.
fn compare<C: Connector>(
    tool: &str,
    list: &[&Migration<C>],
    version: i64,
    name: &str,
    mut is_same: impl FnMut(&str) -> bool,
) -> Result<()> {
    let Some(migration) = list.iter().find(|migration| migration.version == version) else { return Ok(()) };
    let Body::Sql { text, .. } = &migration.body else { return Ok(()) };
    let unix = normalised(text);
    let dos = unix.replace('\n', "\r\n");
    let variants = [text, &*unix, &*dos, &*format!("{unix}\n"), &*format!("{dos}\r\n")];
    if variants.into_iter().any(&mut is_same) {
        return Ok(());
    }
    let had = title(version, name);
    let message = format!("the text of {had} has changed since {tool} ran it");
    Err(Error::new(ErrorKind::Migration, message)
        .because(Reason::MigrationChanged)
        .hint("put back what ran, and make the change in a migration with a number of its own")
        .about(had))
}

/// SipHash-1-3 with a key of zeros, by which refinery knows a text.
fn siphash_1_3(bytes: &[u8]) -> u64 {
    let mut v: [u64; 4] = [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];
    let round = |v: &mut [u64; 4]| {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32).wrapping_add(v[3]);
        v[2] = v[2].wrapping_add(v[1]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    };
    let mut take = |word: u64| {
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    };
    let chunks = bytes.chunks_exact(8);
    let rest = chunks.remainder();
    chunks.for_each(|chunk| take(chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))));
    // The last word holds what is left, and the length in its highest byte.
    take(rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)) | (bytes.len() as u64) << 56);
    v[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use super::siphash_1_3;

    #[test]
    #[allow(deprecated, reason = "its algorithm is not promised, but is this one")]
    fn siphash_is_that_of_the_standard_library() {
        for length in 0..70 {
            let bytes: Vec<u8> = (0..length).map(|number: u8| number.wrapping_mul(7).wrapping_add(3)).collect();
            let mut theirs = std::collections::hash_map::DefaultHasher::new();
            theirs.write(&bytes);
            assert_eq!(siphash_1_3(&bytes), theirs.finish(), "{length}");
        }
    }
}
