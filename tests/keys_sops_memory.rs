//! What remains in memory after a key was resolved, used and dropped: nothing.
//!
//! The work runs in a process of its own that then reads all of its own memory. The needles (passphrase, data key,
//! identity) come to it XOR-masked, so it never holds one by itself; a control that it does hold must be found. One run
//! has the ordinary allocator and one an allocator whose `free` does nothing, which leaves every unwiped copy in sight.
#![cfg(all(feature = "sops", target_os = "linux"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use age::armor::ArmoredReader;
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsFormat, encrypt};
use strongroom::{KeySource, Secret, SopsKeySource};

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
    // One buffer for all regions, and masked at once: otherwise the search would find what it copied itself.
    let mut chunk = vec![0; 1 << 20];
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|access| access.starts_with("rw"))) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (mut at, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        while at < end {
            let Ok(read) = memory.read_at(&mut chunk, at) else { break };
            let read = read.min(usize::try_from(end - at).unwrap());
            chunk[..read].iter_mut().for_each(|byte| *byte ^= MASK);
            for place in (0..read).filter(|place| first[usize::from(chunk[*place])]) {
                for (needle, count) in needles.iter().zip(&mut counts) {
                    *count += usize::from(chunk[place..read].starts_with(needle));
                }
            }
            // Overlap, so that nothing hides on a border.
            at += read.saturating_sub(128).max(1) as u64;
            if read < 4096 {
                break;
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

fn run(hoard: bool, given: bool) {
    let folder = tempfile::tempdir().unwrap();
    let identity = AgeIdentity::generate();
    let passphrase: String = (0..32).map(|_| fastrand::alphanumeric()).collect();
    let control: Vec<u8> = (0..32).map(|_| fastrand::u8(..)).collect();
    let file = folder.path().join("secrets.yaml");
    let (key, other) = (Secret::new(passphrase.as_str()), Secret::new("another value"));
    let text = encrypt(SopsFormat::Yaml, &[("db_key", &key), ("other", &other)], &[identity.recipient()]).unwrap();
    fs::write(&file, &text).unwrap();
    identity.write(folder.path().join("keys.txt")).unwrap();

    let armor = text.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN"));
    let armor: Vec<&str> = armor.take_while(|line| !line.starts_with("lastmodified")).collect();
    let secret = std::str::from_utf8(identity.secret().expose()).unwrap();
    let own: age::x25519::Identity = secret.parse().unwrap();
    let mut data_key = Vec::new();
    let armor = armor.join("\n");
    let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(armor.as_bytes())).unwrap();
    std::io::Read::read_to_end(&mut decryptor.decrypt(std::iter::once(&own as _)).unwrap(), &mut data_key).unwrap();
    assert_eq!(data_key.len(), 32);

    let raw = identity_bytes(secret);
    // Halves too: a buffer that grew leaves the first part of what it held.
    let needles = [
        control.as_slice(),
        passphrase.as_bytes(),
        &passphrase.as_bytes()[..16],
        &data_key,
        &data_key[..16],
        &data_key[16..],
        secret.as_bytes(),
        &secret.as_bytes()[17..49],
        &raw,
        &raw[..16],
        &raw[16..],
    ];
    let needles: Vec<String> = needles.iter().map(|needle| masked(needle)).collect();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--nocapture"]).env("CHILD_NEEDLES", needles.join(","));
    child.env("CHILD_FOLDER", folder.path()).env("CHILD_HOARD", if hoard { "1" } else { "0" });
    child.env("CHILD_GIVEN", if given { "1" } else { "0" });
    let answer = child.output().unwrap();
    let text = String::from_utf8(answer.stdout).unwrap();
    let line = |name: &str| -> Vec<usize> {
        let line = text.lines().find_map(|line| Some(line.split_once(name)?.1));
        let line = line.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&answer.stderr)));
        line.trim().split(' ').map(|count| count.parse().unwrap()).collect()
    };
    let (held, after) = (line("HELD "), line("AFTER "));
    assert!(held[0] > 0 && after[0] > 0, "the control was not found: {held:?} {after:?}");
    assert!(held[1] > 0, "the passphrase was not found while it was held");
    assert_eq!(after[1..], [0; 10], "passphrase, half; data key, halves; identity text, part; its bytes, halves");
}

#[test]
fn child() {
    let Ok(needles) = std::env::var("CHILD_NEEDLES") else { return };
    let folder = std::path::PathBuf::from(std::env::var_os("CHILD_FOLDER").unwrap());
    HOARD.store(std::env::var("CHILD_HOARD").unwrap() == "1", Ordering::Relaxed);
    let needles: Vec<Vec<u8>> = needles.split(',').map(unhex).collect();
    let control: Vec<u8> = needles[0].iter().map(|byte| byte ^ MASK).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let identities = if std::env::var("CHILD_GIVEN").unwrap() == "1" {
        // The test's own copy of the identity file is wiped by `Secret`.
        IdentitySources::none().secret(fs::read(folder.join("keys.txt")).unwrap())
    } else {
        IdentitySources::none().file(folder.join("keys.txt"))
    };
    let source = SopsKeySource::at(folder.join("secrets.yaml")).identities(identities).ttl(Duration::from_secs(1));
    let show = |name: &str, counts: Vec<usize>| {
        println!("{name} {}", counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    };
    let secret = runtime.block_on(source.resolve()).unwrap();
    show("HELD", count(&needles));
    drop(secret);
    if std::env::var("CHILD_GIVEN").unwrap() == "1" {
        drop(source);
    } else {
        // Kept by the cache until its time is over; then gone without being asked for, while the source lives on.
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1100)).await });
        show("AFTER", count(&needles));
    }
    show("AFTER", count(&needles));
    assert_eq!(control.len(), 32);
}

#[test]
fn nothing_remains_with_the_ordinary_allocator() {
    run(false, false);
}

#[test]
fn nothing_remains_where_nothing_is_ever_freed() {
    run(true, false);
}

#[test]
fn nothing_remains_of_an_identity_given_by_the_caller() {
    run(true, true);
}
