//! One file for each suffix, written anew in place: what the targets read must stand in files.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

static FILES: Mutex<Option<HashMap<&str, (PathBuf, File)>>> = Mutex::new(None);

/// The path of a file with this suffix that holds `bytes`, and that nobody else may read.
pub fn file(suffix: &'static str, bytes: &[u8]) -> PathBuf {
    let mut files = FILES.lock().unwrap();
    let (path, file) = files.get_or_insert_default().entry(suffix).or_insert_with(|| create(suffix));
    file.write_all_at(bytes, 0).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    path.clone()
}

fn create(suffix: &str) -> (PathBuf, File) {
    // In memory where there is such a place: a million writes are no work for a disk.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let path = folder.join(format!("strongroom-fuzz-{}.{suffix}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    (path, file)
}
