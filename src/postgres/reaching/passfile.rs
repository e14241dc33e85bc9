//! libpq's files: passwords (`~/.pgpass`) and services (`~/.pg_service.conf`).

use std::path::{Path, PathBuf, absolute};

use zeroize::Zeroizing;

use super::names::{Environment, malformed};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::secret::Secret;

/// A file of lines `host:port:database:user:password`. It is read anew for every connection.
#[derive(Clone, Debug)]
pub(crate) struct PassFile {
    path: PathBuf,
    /// Somebody named it, so it has to be there.
    named: bool,
}

impl PassFile {
    /// A relative path starts at the working directory of this moment.
    pub(crate) fn find(named: Option<&str>, environment: Environment<'_>) -> Option<Self> {
        let path = match named {
            Some(path) => path.into(),
            None => Path::new(&environment("HOME")?).join(".pgpass"),
        };
        Some(Self { path: absolute(&path).unwrap_or(path), named: named.is_some() })
    }

    /// The password of the first line that fits.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when others may read the file, or a file that was named cannot be read.
    pub(crate) fn look_up(&self, host: &str, port: u16, database: &str, user: &str) -> Result<Option<Secret>> {
        let failed = |what: &str, reason| {
            let message = format!("the password file {} {what}", self.path.display());
            Error::new(ErrorKind::Key, message).because(reason).during(Phase::Key)
        };
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(_) if !self.named => return Ok(None),
            Err(error) => return Err(failed("cannot be read", Reason::NotFound).caused_by(error)),
        };
        if !metadata.is_file() {
            return if self.named { Err(failed("is no file", Reason::NotAFile)) } else { Ok(None) };
        }
        #[cfg(unix)]
        if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
            let error = failed("may be read by others than its owner", Reason::NotPermitted);
            return Err(error.hint(format!("chmod 600 {}", self.path.display())));
        }
        let text = std::fs::read(&self.path).map(Zeroizing::new);
        let text = text.map_err(|error| failed("cannot be read", Reason::NotPermitted).caused_by(error))?;
        // A socket goes by the name libpq gives it.
        let host = if host.starts_with('/') { "localhost" } else { host };
        let wanted = [host, &port.to_string(), database, user].map(str::to_owned);
        Ok(text.split(|byte| *byte == b'\n').find_map(|line| password(line, &wanted)))
    }
}

/// The password of a line, if its first four fields are those wanted, or `*`.
fn password(line: &[u8], wanted: &[String; 4]) -> Option<Secret> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.starts_with(b"#") {
        return None;
    }
    let mut rest = line;
    for wanted in wanted {
        let field = take_field(&mut rest)?;
        if *field != b"*" && *field != wanted.as_bytes() {
            return None;
        }
    }
    // It ends at a colon too, as libpq reads it.
    let password = take_field(&mut rest).unwrap_or_default();
    (!password.is_empty()).then(|| Secret::new(password))
}

/// Takes a field and the colon behind it; a backslash takes a character's meaning away.
fn take_field(rest: &mut &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if rest.is_empty() {
        return None;
    }
    let mut field = Zeroizing::new(Vec::with_capacity(rest.len()));
    while let Some((&byte, tail)) = rest.split_first() {
        *rest = tail;
        match (byte, tail.first()) {
            (b':', _) => break,
            (b'\\', Some(&escaped)) => {
                field.push(escaped);
                *rest = &tail[1..];
            }
            _ => field.push(byte),
        }
    }
    Some(field)
}

/// The lines of a service: from the user's file, or else from the system's.
pub(crate) fn service(name: &str, environment: Environment<'_>) -> Result<Vec<(String, Zeroizing<String>)>> {
    let own = environment("PGSERVICEFILE").map(PathBuf::from);
    let own = own.or_else(|| Some(Path::new(&environment("HOME")?).join(".pg_service.conf")));
    let directory = environment("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".into());
    let files = own.into_iter().chain([Path::new(&directory).join("pg_service.conf")]);
    for path in files {
        let Ok(text) = std::fs::read_to_string(&path).map(Zeroizing::new) else { continue };
        if let Some(lines) = section(&text, name) {
            return lines.ok_or_else(|| malformed(format!("{} has a line without =", path.display())));
        }
    }
    let error = malformed(format!("there is no service {name:?}")).because(Reason::NotFound);
    Err(error.hint("services stand in ~/.pg_service.conf, or where PGSERVICEFILE says"))
}

/// Names and values of one service.
type ServiceSettings = Vec<(String, Zeroizing<String>)>;

/// The lines under `[name]`; inside, `None` if one of them is none.
#[allow(clippy::option_option, reason = "not there, and there but wrong")]
fn section(text: &str, name: &str) -> Option<Option<ServiceSettings>> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.find(|line| line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) == Some(name))?;
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim().to_owned(), Zeroizing::new(value.trim().to_owned())))
    };
    Some(lines.take_while(|line| !line.starts_with('[')).map(pair).collect())
}
