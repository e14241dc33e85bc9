//! A process that searches its own memory, and an allocator that never frees, which leaves every unwiped copy in sight.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use age::armor::ArmoredReader;
use strongroom::keys::sops::AgeIdentity;

/// Frees nothing while the switch is on.
struct Hoarder;

static HOARD: AtomicBool = AtomicBool::new(false);

#[global_allocator]
static ALLOCATOR: Hoarder = Hoarder;

#[allow(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: everything is passed on to the system's allocator, or not given back at all.
unsafe impl GlobalAlloc for Hoarder {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if !HOARD.load(Ordering::Relaxed) {
            // SAFETY: the caller's promise is passed on.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}

const MASK: u8 = 0x5A;

fn masked(secret: &[u8]) -> String {
    secret.iter().fold(String::new(), |text, byte| text + &format!("{:02x}", byte ^ MASK))
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// How often each masked needle stands, unmasked, in this process's memory.
fn count(needles: &[Vec<u8>]) -> Vec<usize> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let memory = File::open("/proc/self/mem").unwrap();
    let mut counts = vec![0; needles.len()];
    let mut first = [false; 256];
    for needle in needles {
        first[usize::from(needle[0])] = true;
    }
    // One buffer for all regions, masked at once, and itself not searched: it would hold what the search put there.
    let mut chunk = vec![0; 1 << 20];
    let own = chunk.as_ptr_range();
    let own = own.start as u64..own.end as u64;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|access| access.starts_with("rw"))) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        for (mut at, end) in [(start, end.min(own.start)), (start.max(own.end), end)] {
            while at < end {
                let size = chunk.len().min(usize::try_from(end - at).unwrap());
                let Ok(read @ 1..) = memory.read_at(&mut chunk[..size], at) else { break };
                chunk[..read].iter_mut().for_each(|byte| *byte ^= MASK);
                for place in (0..read).filter(|place| first[usize::from(chunk[*place])]) {
                    for (needle, count) in needles.iter().zip(&mut counts) {
                        *count += usize::from(chunk[place..read].starts_with(needle));
                    }
                }
                // Overlap, so that nothing hides on a border.
                at += if at + read as u64 == end { read } else { read - 128.min(read - 1) } as u64;
            }
        }
    }
    chunk.fill(0);
    counts
}

/// The 32 bytes behind `AGE-SECRET-KEY-1...`.
fn identity_bytes(text: &str) -> Vec<u8> {
    let data = &text.to_lowercase()["age-secret-key-1".len()..];
    let words = data.bytes().map(|c| "qpzry9x8gf2tvdw0s3jn54khce6mua7l".bytes().position(|d| d == c).unwrap());
    let bits: Vec<usize> = words.flat_map(|word| (0..5).rev().map(move |bit| word >> bit & 1)).collect();
    bits.chunks(8).take(32).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::try_from(*bit).unwrap())).collect()
}

/// The data key of a SOPS file, for `identity`.
pub(crate) fn data_key(file: &str, identity: &dyn age::Identity) -> Vec<u8> {
    let armor = file.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN"));
    let armor: Vec<&str> = armor.take_while(|line| !line.starts_with("lastmodified")).collect();
    let armor = armor.join("\n");
    let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(armor.as_bytes())).unwrap();
    let mut data_key = Vec::new();
    std::io::Read::read_to_end(&mut decryptor.decrypt(std::iter::once(identity)).unwrap(), &mut data_key).unwrap();
    assert_eq!(data_key.len(), 32);
    data_key
}

/// What the file and the identity of [`AgeIdentity`] look like in memory, by name. Halves too: a buffer that grew
/// leaves the first part of what it held.
pub(crate) fn of_file(file: &str, identity: &AgeIdentity) -> Vec<(&'static str, Vec<u8>)> {
    let secret = std::str::from_utf8(identity.secret().expose()).unwrap();
    let key = data_key(file, &secret.parse::<age::x25519::Identity>().unwrap());
    let raw = identity_bytes(secret);
    vec![
        ("data key", key.clone()),
        ("data key, first half", key[..16].into()),
        ("data key, second half", key[16..].into()),
        ("identity", secret.into()),
        ("identity, a part", secret[17..49].into()),
        ("bytes of the identity", raw.clone()),
        ("bytes of the identity, first half", raw[..16].into()),
        ("bytes of the identity, second half", raw[16..].into()),
    ]
}

/// A secret, and its halves.
pub(crate) fn of_bytes(names: [&'static str; 3], bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    [bytes, first, second].into_iter().zip(names).map(|(part, name)| (name, part.to_vec())).collect()
}

/// Runs the test `child` in a process of its own. What it found at each stage, by name; the control, which it holds all
/// the time, must be among it and is left out.
pub(crate) fn stages(
    folder: &Path,
    needles: Vec<(&'static str, Vec<u8>)>,
    env: &[(&str, &str)],
) -> Vec<(String, Vec<&'static str>)> {
    let control: Vec<u8> = (0..32).map(|_| fastrand::u8(..)).collect();
    let mut needles = needles;
    needles.insert(0, ("control", control));
    let masked: Vec<String> = needles.iter().map(|(_, needle)| masked(needle)).collect();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--nocapture"]).envs(env.iter().copied());
    child.env("CHILD_NEEDLES", masked.join(",")).env("CHILD_FOLDER", folder);
    let answer = child.output().unwrap();
    let text = String::from_utf8(answer.stdout).unwrap();
    assert!(answer.status.success(), "{text}\n{}", String::from_utf8_lossy(&answer.stderr));
    let stages: Vec<(String, Vec<&str>)> = text
        .lines()
        .filter_map(|line| line.split_once("STAGE ")?.1.split_once(": "))
        .map(|(stage, found)| {
            let found = found.split_whitespace().map(|number| needles[number.parse::<usize>().unwrap()].0);
            (stage.to_owned(), found.collect())
        })
        .collect();
    println!("{stages:#?}");
    stages
        .into_iter()
        .map(|(stage, found)| {
            let rest = found.strip_prefix(&["control"]).unwrap_or_else(|| panic!("{stage}: the control was not found"));
            (stage, rest.to_vec())
        })
        .collect()
}

/// The child's side: what to look for, and the folder of its files.
pub(crate) struct Child {
    needles: Vec<Vec<u8>>,
    control: Vec<u8>,
    pub(crate) folder: PathBuf,
}

impl Child {
    /// `None` in the parent.
    pub(crate) fn here() -> Option<Self> {
        let needles = std::env::var("CHILD_NEEDLES").ok()?;
        HOARD.store(std::env::var_os("CHILD_HOARD").is_some(), Ordering::Relaxed);
        let needles: Vec<Vec<u8>> = needles.split(',').map(unhex).collect();
        let control = needles[0].iter().map(|byte| byte ^ MASK).collect();
        Some(Self { needles, control, folder: std::env::var_os("CHILD_FOLDER").unwrap().into() })
    }

    /// Looks, and tells the parent.
    pub(crate) fn stage(&self, name: &str) {
        let found = count(&self.needles).into_iter().enumerate().filter(|(_, count)| *count > 0);
        println!("\nSTAGE {name}: {}", found.map(|(number, _)| format!("{number} ")).collect::<String>());
        assert_eq!(self.control.len(), 32);
    }
}
