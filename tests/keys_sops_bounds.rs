//! Large and hostile files: each bound has its test, and no input costs more than about its size.
#![cfg(feature = "sops")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use strongroom::keys::sops::{AgeIdentity, IdentitySources, KeyPath, SopsFormat, decrypt, encrypt};
use strongroom::{Error, KeySource, Reason, Secret, SopsKeySource};

/// The age file, MAC and so on of a file that cannot be opened, for everything that is refused before that matters.
const BLOCK: &str = "sops:\n  lastmodified: \"2024-01-01T00:00:00Z\"\n  mac: x\n  age: [{recipient: r, enc: e}]\n";

async fn read(name: &str, bytes: &[u8]) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, bytes).unwrap();
    SopsKeySource::at(file).identities(IdentitySources::none()).resolve().await.unwrap_err()
}

#[tokio::test]
async fn a_file_above_16_mib_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.yaml");
    // The larger one could not even be held: it must be refused before it is read.
    for size in [(16 << 20) + 1, 1 << 40] {
        File::create(&path).unwrap().set_len(size).unwrap();
        let error = SopsKeySource::at(&path).identities(IdentitySources::none()).resolve().await.unwrap_err();
        assert_eq!(error.reason(), Reason::TooLarge);
        assert!(error.to_string().contains("larger than 16 MiB"), "{error}");
    }
    let bytes = vec![b'#'; (16 << 20) + 1];
    let error = decrypt(&bytes, SopsFormat::Dotenv, &"db_key".parse().unwrap(), &IdentitySources::none()).unwrap_err();
    assert_eq!(error.reason(), Reason::TooLarge);
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = vec![folder.path().to_owned()];
    if cfg!(unix) {
        let pipe = folder.path().join("pipe.yaml");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        paths.extend([pipe, PathBuf::from("/dev/zero")]);
    }
    for path in paths {
        let error = SopsKeySource::at(path).resolve().await.unwrap_err();
        assert_eq!(error.reason(), Reason::NotAFile, "{error}");
    }
    let error = SopsKeySource::at(folder.path().join("missing.yaml")).resolve().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Missing);
}

/// A regular file by its looks whose first page cannot be read.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_fails_while_it_is_read_is_told_apart() {
    let error = SopsKeySource::at("/proc/self/mem").resolve().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Io, "{error}");
}

#[tokio::test]
async fn nesting_ends_at_255_levels() {
    let yaml = |depth: usize| {
        let open: String = (0..depth).fold(String::new(), |text, level| text + &" ".repeat(level) + "a:\n");
        format!("{open}{}a: 1\n{BLOCK}", " ".repeat(depth))
    };
    let flow = |depth: usize| format!("k: {}{}\n{BLOCK}", "[".repeat(depth), "]".repeat(depth));
    let json = |depth: usize| {
        let sops = r#""sops":{"lastmodified":"2024-01-01T00:00:00Z","mac":"x","age":[{"enc":"e"}]}"#;
        format!("{{\"k\":{}{},{sops}}}", "[".repeat(depth), "]".repeat(depth))
    };
    for (name, text) in [("s.yaml", yaml(250)), ("s.yaml", flow(250)), ("s.json", json(255))] {
        assert_eq!(read(name, text.as_bytes()).await.reason(), Reason::Missing, "{name}");
    }
    for (name, text) in [("s.yaml", yaml(257)), ("s.json", json(256)), ("s.json", json(1 << 20))] {
        assert_eq!(read(name, text.as_bytes()).await.reason(), Reason::TooLarge, "{name}");
    }
    // The YAML scanner has the same bound for brackets, and says it in its own way.
    for depth in [257, 1 << 20] {
        assert!(matches!(read("s.yaml", flow(depth).as_bytes()).await.reason(), Reason::TooLarge | Reason::Malformed));
    }
}

#[tokio::test]
async fn flattened_metadata_cannot_nest_deeper_either() {
    let text = format!("db_key=x\nsops_a{}=1\n", "__map_a".repeat(300));
    assert_eq!(read("s.env", text.as_bytes()).await.reason(), Reason::TooLarge);
    let text = format!("db_key=x\nsops_a{}=1\n", "__list_0".repeat(1 << 18));
    assert_eq!(read("s.env", text.as_bytes()).await.reason(), Reason::TooLarge);
    // An index is a number to sort by, never a length to allocate.
    assert_eq!(read("s.env", b"db_key=x\nsops_age__list_4294967295__map_enc=1\n").await.reason(), Reason::Malformed);
}

#[tokio::test]
async fn an_alias_bomb_is_refused_at_its_first_alias() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = format!("*a{}, ", level - 1).repeat(10);
        let _ = writeln!(text, "a{level}: &a{level} [{items}]");
    }
    let begin = Instant::now();
    assert_eq!(read("s.yaml", (text + BLOCK).as_bytes()).await.reason(), Reason::Malformed);
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_thousand_keys_are_enough() {
    for (count, reason) in [(1024, Reason::Locked), (1025, Reason::TooLarge)] {
        let entries = "    - {recipient: r, enc: e}\n".repeat(count);
        let text = format!("db_key: x\nsops:\n  lastmodified: \"2024-01-01T00:00:00Z\"\n  mac: x\n  age:\n{entries}");
        assert_eq!(read("s.yaml", text.as_bytes()).await.reason(), reason, "{count}");
    }
    for (count, reason) in [(255, Reason::Locked), (256, Reason::TooLarge)] {
        let groups = "    - age: [{recipient: r, enc: e}]\n".repeat(count);
        let block = "lastmodified: \"2024-01-01T00:00:00Z\"\n  mac: x\n  shamir_threshold: 2";
        let text = format!("db_key: x\nsops:\n  {block}\n  key_groups:\n{groups}");
        assert_eq!(read("s.yaml", text.as_bytes()).await.reason(), reason, "{count} groups");
    }
}

#[tokio::test]
async fn a_path_longer_than_8_kib_is_refused() {
    // A value is authenticated with its whole path: a long key above many values would cost their product.
    let identity = AgeIdentity::generate();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.json");
    let key = Secret::new("k");
    let long = "k".repeat((8 << 10) + 1);
    let text = encrypt(SopsFormat::Json, &[("db_key", &key)], &[identity.recipient()]).unwrap();
    fs::write(&file, text.replacen("{\n", &format!("{{\n\"{long}\": {{\"x\": \"\", \"y\": 1}},\n"), 1)).unwrap();
    let source = SopsKeySource::at(&file).identities(IdentitySources::none().secret(identity.secret().clone()));
    assert_eq!(source.resolve().await.unwrap_err().reason(), Reason::TooLarge);
    assert_eq!(KeyPath::keys([long.clone()]).unwrap_err().reason(), Reason::Malformed);
    assert!(KeyPath::keys([&long[1..]]).is_ok());
    // The longest name there is: a colon follows it.
    let longest = &long[2..];
    fs::write(&file, encrypt(SopsFormat::Json, &[(longest, &key)], &[identity.recipient()]).unwrap()).unwrap();
    assert_eq!(source.clone().key_path(longest.parse().unwrap()).resolve().await.unwrap().expose(), b"k");
    let one_more = encrypt(SopsFormat::Json, &[(&long[1..], &key)], &[identity.recipient()]);
    assert_eq!(one_more.unwrap_err().reason(), Reason::Malformed);
    assert_eq!(
        encrypt(SopsFormat::Json, &[(&long, &key)], &[identity.recipient()]).unwrap_err().reason(),
        Reason::Malformed
    );
}

#[tokio::test]
async fn an_expression_that_would_fill_the_memory_is_refused() {
    let text = format!("db_key: x\n{BLOCK}  encrypted_regex: ((a{{1000}}){{1000}}){{1000}}\n");
    assert_eq!(read("s.yaml", text.as_bytes()).await.reason(), Reason::Malformed);
}

/// Time that this thread had on a processor: others use the machine too.
#[cfg(target_os = "linux")]
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn the_cost_of_a_file_grows_with_its_size_and_not_faster() {
    let yaml = |count: usize| (0..count).fold(String::new(), |text, n| text + &format!("key_{n}: v\n")) + BLOCK;
    let json = |count: usize| {
        let entries = (0..count).fold(String::new(), |text, n| text + &format!("\"key_{n}\":\"v\","));
        format!("{{{entries}\"sops\":null}}")
    };
    let env = |count: usize| (0..count).fold(String::new(), |text, n| text + &format!("sops_a__list_{n}__map_x=v\n"));
    let ini = |count: usize| (0..count).fold("[s]\n".to_owned(), |text, n| text + &format!("key_{n} = v\n"));
    let flow = |count: usize| format!("k: [{}]\n", "{a: [b]}, ".repeat(count / 8));
    let cases: [(SopsFormat, &dyn Fn(usize) -> String); 5] = [
        (SopsFormat::Yaml, &yaml),
        (SopsFormat::Json, &json),
        (SopsFormat::Dotenv, &env),
        (SopsFormat::Ini, &ini),
        (SopsFormat::Yaml, &flow),
    ];
    let path: KeyPath = "db_key".parse().unwrap();
    let cost = |format, text: &str| {
        let begin = processor_time();
        decrypt(text.as_bytes(), format, &path, &IdentitySources::none()).unwrap_err();
        processor_time().saturating_sub(begin)
    };
    for (format, make) in cases {
        let (small, large) = (cost(format, &make(16_000)), cost(format, &make(128_000)));
        // Eight times the size; a quadratic reader would take 64 times as long. The clock ticks every 4 ms.
        assert!(large < small.max(Duration::from_millis(10)) * 32, "{format:?}: {small:?}, then {large:?}");
    }
}
