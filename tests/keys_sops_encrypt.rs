//! Files that the crate writes: it reads them itself, and so does the real program.
#![cfg(feature = "sops")]

#[path = "common/peers.rs"]
mod peers;

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use strongroom::keys::sops::{AgeIdentity, IdentitySources, KeyPath, SopsFormat, encrypt};
use strongroom::{ErrorKind, KeySource, Reason, Secret, SopsKeySource};

const AWKWARD: &str = "quotes \" ' ` colon: hash # \\ tab\t newline\n päß ☃";

async fn read(path: &Path, key: &str, identity: &AgeIdentity) -> strongroom::Result<Secret> {
    let identities = IdentitySources::none().secret(identity.secret().clone());
    SopsKeySource::new(path, key).identities(identities).resolve().await
}

#[tokio::test]
async fn what_is_written_is_read_back_by_every_recipient() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, stranger) = (AgeIdentity::generate(), AgeIdentity::generate(), AgeIdentity::generate());
    let (key, other) = (Secret::new(AWKWARD), Secret::new("2"));
    for (format, name) in [(SopsFormat::Yaml, "s.yaml"), (SopsFormat::Json, "s.json")] {
        let path = folder.path().join(name);
        let text = encrypt(format, &[("db_key", &key), ("true", &other)], &[first.recipient(), second.recipient()]);
        fs::write(&path, text.unwrap()).unwrap();
        for identity in [&first, &second] {
            assert_eq!(read(&path, "db_key", identity).await.unwrap().expose(), AWKWARD.as_bytes());
            assert_eq!(read(&path, "true", identity).await.unwrap().expose(), b"2");
        }
        assert_eq!(read(&path, "db_key", &stranger).await.unwrap_err().reason(), Reason::Locked);
    }
}

#[test]
fn the_real_program_opens_what_is_written() {
    let Some(sops) = peers::peer("sops") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (identity, second) = (AgeIdentity::generate(), AgeIdentity::generate());
    identity.write(folder.path().join("keys.txt")).unwrap();
    let (key, other) = (Secret::new(AWKWARD), Secret::new(b"\xff\x00 not UTF-8".as_slice()));
    let recipients = [second.recipient(), identity.recipient()];
    for (format, name) in [(SopsFormat::Yaml, "s.yaml"), (SopsFormat::Json, "s.json"), (SopsFormat::Binary, "s.bin")] {
        let path = folder.path().join(name);
        let values: &[(&str, &Secret)] = match format {
            SopsFormat::Binary => &[("data", &other)],
            _ => &[("db_key", &key), ("a.b \"c\": d", &other)],
        };
        fs::write(&path, encrypt(format, values, &recipients).unwrap()).unwrap();
        let mut command = Command::new(&sops);
        command.arg("decrypt").env("SOPS_AGE_KEY_FILE", folder.path().join("keys.txt")).env("SOPS_CONFIG", "/dev/null");
        if format != SopsFormat::Binary {
            command.args(["--extract", "[\"db_key\"]"]);
        }
        let answer = command.arg(&path).output().unwrap();
        assert!(answer.status.success(), "{name}: {}", String::from_utf8_lossy(&answer.stderr));
        let wanted = if format == SopsFormat::Binary { other.expose() } else { AWKWARD.as_bytes() };
        assert_eq!(answer.stdout, wanted, "{name}");
    }
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let identity = AgeIdentity::generate();
    let to = &[identity.recipient()][..];
    let (key, raw) = (Secret::new("x"), Secret::raw_key([7; 32]));
    let yaml = SopsFormat::Yaml;
    let refusals = [
        (encrypt(yaml, &[("k", &Secret::new(""))], to), Reason::Empty),
        (encrypt(yaml, &[("k", &raw)], to), Reason::Malformed),
        (encrypt(yaml, &[("sops", &key)], to), Reason::Malformed),
        (encrypt(yaml, &[("", &key)], to), Reason::Malformed),
        (encrypt(yaml, &[("line\nbreak", &key)], to), Reason::Malformed),
        (encrypt(yaml, &[("key_unencrypted", &key)], to), Reason::Malformed),
        (encrypt(yaml, &[("k", &key), ("k", &key)], to), Reason::Malformed),
        (encrypt(yaml, &[("k", &key)], &[]), Reason::Malformed),
        (encrypt(yaml, &[("k", &key)], &["age1nobody"]), Reason::Malformed),
        (encrypt(SopsFormat::Binary, &[("k", &key)], to), Reason::Malformed),
    ];
    for (position, (refusal, reason)) in refusals.into_iter().enumerate() {
        let error = refusal.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, reason), "{position}: {error}");
    }
    assert_eq!(encrypt(SopsFormat::Ini, &[("k", &key)], to).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[cfg(unix)]
#[test]
fn an_identity_file_is_for_its_user_only_and_never_overwrites() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.txt");
    let identity = AgeIdentity::generate();
    identity.write(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).unwrap();
    assert!(before.windows(identity.secret().expose().len()).any(|part| part == identity.secret().expose()));
    assert_eq!(AgeIdentity::generate().write(&path).unwrap_err().reason(), Reason::Io);
    assert_eq!(fs::read(&path).unwrap(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_name_and_any_value_survive(
        name in "[^\\p{Cc}]{1,20}",
        value in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        prop_assume!(name != "sops" && !name.ends_with("_unencrypted"));
        let identity = AgeIdentity::generate();
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (format, file) in [(SopsFormat::Yaml, "s.yaml"), (SopsFormat::Json, "s.json")] {
            let path = folder.path().join(file);
            let text = encrypt(format, &[(&name, &Secret::new(&value[..]))], &[identity.recipient()]).unwrap();
            fs::write(&path, text).unwrap();
            let source = SopsKeySource::new(&path, "").key_path(KeyPath::keys([name.clone()]).unwrap());
            let source = source.identities(IdentitySources::none().secret(identity.secret().clone()));
            let secret = runtime.block_on(source.resolve()).unwrap();
            prop_assert_eq!(secret.expose(), &value[..]);
        }
    }
}
