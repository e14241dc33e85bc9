//! The `sops` program and `gpg` behind the source: the same answers, and nothing of what they may do wrong gets out.
#![cfg(all(feature = "sops", target_os = "linux"))]

#[path = "common/peers.rs"]
mod peers;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, encrypt};
use strongroom::{Error, ErrorKind, KeySource, Reason, Secret, SopsKeySource};
use tempfile::TempDir;

const PLAINTEXT: &str = "plaintext that must not get out";

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops")
}

/// A script in place of the `sops` program.
fn fake(folder: &TempDir, script: &str) -> PathBuf {
    let path = folder.path().join("fake-sops");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn asked(program: &Path) -> SopsKeySource {
    SopsKeySource::at(vectors().join("good/base.enc.yaml"))
        .identities(IdentitySources::none().file(vectors().join("keys.txt")))
        .backend(SopsBackend::Binary)
        .program(program)
}

async fn refusal(script: &str) -> Error {
    let folder = tempfile::tempdir().unwrap();
    asked(&fake(&folder, script)).resolve().await.unwrap_err()
}

fn alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn the_program_gives_the_same_values_as_the_native_reader() {
    let Some(sops) = peers::peer("sops") else { return };
    let manifest = fs::read_to_string(vectors().join("manifest.json")).unwrap();
    let manifest: Vec<serde_json::Value> = serde_json::from_str(&manifest).unwrap();
    let mut wrong = Vec::new();
    for entry in manifest.iter().filter(|entry| entry["needs"].is_null()) {
        let (file, path) = (entry["file"].as_str().unwrap(), entry["path"].as_str().unwrap());
        let source = SopsKeySource::new(vectors().join(file), path)
            .identities(IdentitySources::none().file(vectors().join("keys.txt")))
            .program(&sops);
        let native = source.clone().backend(SopsBackend::Native).resolve().await;
        let program = source.backend(SopsBackend::Binary).resolve().await;
        match (native, program) {
            (Ok(native), Ok(program)) if native.expose() == program.expose() => {}
            // The reasons are as fine as the exit codes; that there is a refusal must agree.
            (Err(_), Err(_)) => {}
            // The program cannot name such a key, and does not read what an editor made of its file.
            (Ok(_), Err(_))
                if path.contains('[') && file.ends_with("names.enc.json") || file.ends_with("windows.enc.env") => {}
            (native, program) => wrong.push(format!("{file} at {path}: {native:?}, and the program {program:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn identities_of_the_caller_reach_the_program_for_every_entry() {
    let Some(sops) = peers::peer("sops") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (AgeIdentity::generate(), AgeIdentity::generate());
    let path = folder.path().join("s.yaml");
    let key = Secret::new("k");
    fs::write(&path, encrypt(SopsFormat::Yaml, &[("db_key", &key)], &[first.recipient(), second.recipient()]).unwrap())
        .unwrap();
    // The second entry is opened only if the identities can be read a second time.
    let identities = IdentitySources::none().secret(second.secret().clone());
    let source = SopsKeySource::at(path).identities(identities).backend(SopsBackend::Binary).program(sops);
    assert_eq!(source.resolve().await.unwrap().expose(), b"k");
}

#[tokio::test]
async fn post_quantum_identities_reach_the_program_in_memory_and_not_in_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let program = fake(&folder, &format!("env > {place}/env; cat \"$SOPS_AGE_KEY_FILE\" > {place}/keys; printf found"));
    let path = folder.path().join("s.yaml");
    let text = fs::read_to_string(vectors().join("good/base.enc.yaml")).unwrap();
    let recipient = text.lines().find_map(|line| line.trim().strip_prefix("- recipient: ")).unwrap().to_owned();
    fs::write(&path, text.replace(&recipient, "age1pq1qqqq")).unwrap();
    let source = SopsKeySource::at(&path).identities(IdentitySources::none().secret("AGE-SECRET-KEY-PQ-1QQQQ"));
    assert_eq!(source.clone().program(&program).resolve().await.unwrap().expose(), b"found");
    assert_eq!(fs::read_to_string(folder.path().join("keys")).unwrap(), "AGE-SECRET-KEY-PQ-1QQQQ\n");
    assert!(!fs::read_to_string(folder.path().join("env")).unwrap().contains("PQ-1"));
    let error = source.program("no-such-sops").resolve().await.unwrap_err();
    assert!(error.to_string().contains("its post-quantum age key (`age1pq1...`) needs the `sops` program"), "{error}");
}

#[tokio::test]
async fn gpg_opens_pgp_keys_without_a_prompt() {
    let Some(gpg) = peers::peer("gpg") else { return };
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let import = [Path::new("--batch"), Path::new("--quiet"), Path::new("--import"), &vectors().join("keys/pgp.asc")];
    let imported = Command::new(gpg).env("GNUPGHOME", home.path()).args(import).status().unwrap();
    assert!(imported.success());
    for file in ["good/pgp.enc.yaml", "good/shamir_age_and_pgp.enc.yaml"] {
        let answer = in_child(file, "", &[("GNUPGHOME", home.path().to_str().unwrap())]);
        assert_eq!(answer, "Ok correct horse battery staple", "{file}");
        let answer = in_child(file, "no-gpg", &[("GNUPGHOME", home.path().to_str().unwrap())]);
        assert!(answer.starts_with("Err Locked"), "{file}: {answer}");
    }
    let _ = Command::new("gpgconf").env("GNUPGHOME", home.path()).args(["--kill", "all"]).status();
    let empty = tempfile::tempdir().unwrap();
    let answer = in_child("good/pgp.enc.yaml", "", &[("GNUPGHOME", empty.path().to_str().unwrap())]);
    assert!(answer.starts_with("Err Locked"), "{answer}");
    let answer = in_child("good/pgp.enc.yaml", "", &[("SOPS_GPG_EXEC", "no-such-gpg")]);
    assert!(answer.contains("program `no-such-gpg` is not installed"), "{answer}");
}

/// Runs `resolve` in a process of its own, whose environment can be chosen.
fn in_child(file: &str, switches: &str, env: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--nocapture"]).env("CHILD_FILE", vectors().join(file));
    child.env("CHILD_SWITCHES", switches).envs(env.iter().copied());
    let answer = child.output().unwrap();
    let text = String::from_utf8(answer.stdout).unwrap();
    let answer = text.split("ANSWER ").nth(1).and_then(|rest| rest.lines().next());
    answer.unwrap_or_else(|| panic!("the child said: {text}")).to_owned()
}

#[tokio::test]
async fn child() {
    let Some(file) = std::env::var_os("CHILD_FILE") else { return };
    let switches = std::env::var("CHILD_SWITCHES").unwrap_or_default();
    let source = SopsKeySource::at(file)
        .identities(IdentitySources::none().file(vectors().join("keys.txt")))
        .gpg(!switches.contains("no-gpg"));
    let source = match std::env::var_os("CHILD_PROGRAM") {
        Some(program) => source.backend(SopsBackend::Binary).program(program),
        None => source,
    };
    match source.resolve().await {
        Ok(secret) => println!("ANSWER Ok {}", String::from_utf8_lossy(secret.expose())),
        Err(error) => println!("ANSWER Err {:?} {error}", error.reason()),
    }
}

#[tokio::test]
async fn exit_codes_become_reasons() {
    let reasons = [
        (1, Reason::Malformed),
        (2, Reason::ProgramFailed),
        (25, Reason::Tampered),
        (51, Reason::Tampered),
        (91, Reason::Malformed),
        (100, Reason::Missing),
        (128, Reason::Locked),
        (77, Reason::ProgramFailed),
    ];
    for (code, reason) in reasons {
        let error = refusal(&format!("exit {code}")).await;
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, reason), "exit code {code}");
    }
    assert_eq!(refusal("kill -9 $$").await.reason(), Reason::ProgramFailed);
}

#[tokio::test]
async fn what_the_program_prints_never_gets_into_an_error() {
    for code in [0, 1, 25, 128] {
        // For exit code 0 the value is a number in the file, so this output does not fit.
        let folder = tempfile::tempdir().unwrap();
        let script = format!("echo '{PLAINTEXT}'; echo '{PLAINTEXT}' >&2; exit {code}");
        let source = asked(&fake(&folder, &script));
        let number = SopsKeySource::new(vectors().join("good/base.enc.yaml"), "number")
            .backend(SopsBackend::Binary)
            .program(folder.path().join("fake-sops"));
        let source = if code == 0 { number } else { source };
        let error = source.resolve().await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("plaintext"), "{shown}");
    }
}

#[tokio::test]
async fn what_is_no_text_comes_without_the_programs_line_break_and_quotes() {
    let folder = tempfile::tempdir().unwrap();
    let answers = [
        ("int", "-17\n", "-17"),
        ("big", "9007199254740993\n", "9007199254740993"),
        ("small", "1e-07\n", "0.0000001"),
        ("whole", "100\n", "100"),
        ("yes_bool", "true\n", "true"),
        ("day", "2024-01-02\n", "2024-01-02T00:00:00Z"),
        ("when", "\"2024-01-02T03:04:05.678Z\"\n", "2024-01-02T03:04:05.678Z"),
        ("text", "\"text\"\n", "\"text\"\n"),
    ];
    for (path, printed, value) in answers {
        fs::write(folder.path().join("answer"), printed).unwrap();
        let program = fake(&folder, &format!("cat {}/answer", folder.path().display()));
        // Encrypted, where the type stands beside the value, and not encrypted, where YAML says it.
        for file in ["good/types.enc.yaml", "good/types_plain.enc.yaml"] {
            let source = SopsKeySource::new(vectors().join(file), path).backend(SopsBackend::Binary).program(&program);
            let secret = source.identities(IdentitySources::none()).resolve().await.unwrap();
            assert_eq!(
                secret.expose().escape_ascii().to_string(),
                value.escape_default().to_string(),
                "{file}, {path}"
            );
        }
    }
    // No number, and of an encrypted one nothing is shown.
    fs::write(folder.path().join("answer"), "seventeen\n").unwrap();
    let program = fake(&folder, &format!("cat {}/answer", folder.path().display()));
    for path in ["int", "small", "yes_bool", "day"] {
        let source = SopsKeySource::new(vectors().join("good/types_plain.enc.yaml"), path).program(&program);
        let source = source.backend(SopsBackend::Binary).identities(IdentitySources::none());
        assert_eq!(source.resolve().await.unwrap_err().reason(), Reason::ProgramFailed, "{path}");
    }
}

#[tokio::test]
async fn the_program_is_told_the_format_and_the_path_and_takes_no_file_for_an_option() {
    let folder = tempfile::tempdir().unwrap();
    let program = fake(&folder, &format!("echo \"$@\" > {}/arguments; printf found", folder.path().display()));
    let files = [
        ("good/base.enc.yaml", "nested.list.2", "yaml", r#" --extract ["nested"]["list"][2]"#),
        ("good/types.enc.json", "l.1.1.k", "json", r#" --extract ["l"][1][1]["k"]"#),
        ("good/types.enc.env", "DB_KEY", "dotenv", r#" --extract ["DB_KEY"]"#),
        ("good/types.enc.ini", "database.key", "ini", r#" --extract ["database"]["key"]"#),
        ("good/text.enc.txt", "data", "binary", ""),
    ];
    for (file, path, format, extract) in files {
        let file = vectors().join(file);
        let source = SopsKeySource::new(&file, path).backend(SopsBackend::Binary).program(&program);
        assert_eq!(source.identities(IdentitySources::none()).resolve().await.unwrap().expose(), b"found");
        let arguments = fs::read_to_string(folder.path().join("arguments")).unwrap();
        let format = format!("decrypt --input-type {format} --output-type {format}{extract} -- {}\n", file.display());
        assert_eq!(arguments, format);
    }
}

#[tokio::test]
async fn what_no_mac_covers_is_refused_from_the_program_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = vectors().join("good/mac_only.enc.yaml");
    let sealed = "ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:str]";
    for (path, printed, reason) in [
        ("db_key", "value", None),
        // What an attacker planted in an unencrypted place, and one that the program did not decrypt.
        ("note_unencrypted", "value", Some(Reason::Exposed)),
        ("db_key", sealed, Some(Reason::Exposed)),
    ] {
        let program = fake(&folder, &format!("printf '{printed}'"));
        let source = SopsKeySource::new(&file, path).backend(SopsBackend::Binary).program(program);
        let answer = source.identities(IdentitySources::none()).resolve().await;
        assert_eq!(answer.err().map(|error| error.reason()), reason, "{path} prints {printed}");
    }
}

#[tokio::test]
async fn an_empty_answer_is_no_key() {
    assert_eq!(refusal("exit 0").await.reason(), Reason::Empty);
}

#[tokio::test]
async fn long_output_comes_whole() {
    let folder = tempfile::tempdir().unwrap();
    for length in [4095, 4096, 4097, 300_000] {
        let source = asked(&fake(&folder, &format!("head -c {length} /dev/zero | tr '\\0' x")));
        assert_eq!(source.resolve().await.unwrap().expose(), vec![b'x'; length]);
    }
}

#[tokio::test]
async fn endless_output_is_cut_off() {
    assert_eq!(refusal("cat /dev/zero").await.reason(), Reason::TooLarge);
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let error = asked(Path::new("no-such-sops")).resolve().await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProgramMissing);
    assert!(error.to_string().contains("program `no-such-sops` is not installed"), "{error}");
}

#[tokio::test]
async fn a_hanging_program_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sleep 600 & echo $! > {0}.new; echo $$ >> {0}.new; mv {0}.new {0}; wait", pids.display());
    let begin = Instant::now();
    let source = asked(&fake(&folder, &script)).program_timeout(Duration::from_secs(1));
    let error = source.resolve().await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProgramFailed);
    assert!(error.is_transient() && begin.elapsed() < Duration::from_secs(20));
    assert_all_end(&pids).await;
}

#[tokio::test]
async fn a_dropped_resolve_kills_the_program_and_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sleep 600 & echo $! > {0}.new; echo $$ >> {0}.new; mv {0}.new {0}; wait", pids.display());
    let source = asked(&fake(&folder, &script));
    let task = tokio::spawn(async move { source.resolve().await });
    let begin = Instant::now();
    while !pids.exists() {
        assert!(begin.elapsed() < Duration::from_secs(20), "the program does not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    task.abort();
    assert_all_end(&pids).await;
}

async fn assert_all_end(pids: &Path) {
    let pids = fs::read_to_string(pids).unwrap();
    for pid in pids.lines() {
        for _ in 0..400 {
            if !alive(pid) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!alive(pid), "process {pid} lives on");
    }
}

#[tokio::test]
async fn the_program_gets_a_minimal_environment_and_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("env > {0}/env; readlink /proc/self/fd/0 > {0}/stdin; echo secret", folder.path().display());
    let source = asked(&fake(&folder, &script)).identities(IdentitySources::none());
    assert_eq!(source.resolve().await.unwrap().expose(), b"secret\n");
    let env = fs::read_to_string(folder.path().join("env")).unwrap();
    assert!(env.contains("SOPS_CONFIG=/dev/null\n") && env.contains("SOPS_DISABLE_VERSION_CHECK=1\n"), "{env}");
    assert!(!env.contains("CARGO_"), "{env}");
    assert_eq!(fs::read_to_string(folder.path().join("stdin")).unwrap(), "/dev/null\n");
}

#[test]
fn identities_of_the_environment_reach_the_program_only_as_the_switches_say() {
    let folder = tempfile::tempdir().unwrap();
    let program = fake(&folder, &format!("env > {}/env; printf found", folder.path().display()));
    let variables =
        ["SOPS_AGE_KEY", "SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_FILE"];
    let mut env: Vec<_> = variables.iter().map(|name| (*name, "planted")).collect();
    env.push(("CHILD_PROGRAM", program.to_str().unwrap()));
    assert_eq!(in_child("good/base.enc.yaml", "", &env), "Ok found");
    let env = fs::read_to_string(folder.path().join("env")).unwrap();
    assert!(!env.contains("planted"), "{env}");
    assert!(env.contains("SOPS_AGE_KEY_FILE=/dev/stdin\n"), "{env}");
}

#[tokio::test]
async fn auto_asks_the_program_only_about_keys_that_only_it_can_use() {
    let folder = tempfile::tempdir().unwrap();
    let called = folder.path().join("called");
    let program = fake(&folder, &format!("touch {}; printf by-program", called.display()));
    let text = fs::read_to_string(vectors().join("good/base.enc.yaml")).unwrap();
    let kms = "sops:\n    kms:\n        - arn: arn:aws:kms:nowhere\n          created_at: \"2024-01-01T00:00:00Z\"\n          enc: AAAA\n";
    let path = folder.path().join("kms.yaml");
    fs::write(&path, text.replace("sops:\n", kms)).unwrap();

    // Opened natively although a KMS key stands beside.
    let keys = IdentitySources::none().file(vectors().join("keys.txt"));
    let source = SopsKeySource::at(&path).identities(keys).program(&program);
    assert_eq!(source.resolve().await.unwrap().expose(), b"correct horse battery staple");
    assert!(!called.exists());
    // No identity, and no key for the program: nobody is asked.
    let source = SopsKeySource::at(vectors().join("good/base.enc.yaml")).identities(IdentitySources::none());
    assert_eq!(source.program(&program).resolve().await.unwrap_err().reason(), Reason::Locked);
    assert!(!called.exists());
    // No identity, but a KMS key.
    let source = SopsKeySource::at(&path).identities(IdentitySources::none());
    assert_eq!(source.clone().program(&program).resolve().await.unwrap().expose(), b"by-program");
    assert!(called.exists());
    // The same without the program, and with the native reader pinned: the error names what is missing.
    let error = source.clone().program("no-such-sops").resolve().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Locked);
    assert!(error.to_string().contains("`kms` key needs the `sops` program"), "{error}");
    // A refusal of the program is a refusal, and no missing key.
    let refusing = folder.path().join("refusing-sops");
    fs::copy(&program, &refusing).unwrap();
    fs::write(&refusing, "#!/bin/sh\nexit 51\n").unwrap();
    assert_eq!(source.clone().program(&refusing).resolve().await.unwrap_err().reason(), Reason::Tampered);
    let error = source.backend(SopsBackend::Native).program(&program).resolve().await.unwrap_err();
    assert!(error.to_string().contains("`kms` key needs the `sops` program"), "{error}");
}
