//! Where identities come from: each place by itself, its switch, and what a bad place does to the others.
#![cfg(all(feature = "sops", unix))]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use age::secrecy::SecretString;
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, encrypt};
use strongroom::{KeySource, Reason, Secret, SopsKeySource};

struct House {
    folder: tempfile::TempDir,
    identity: AgeIdentity,
}

impl House {
    fn new() -> Self {
        let house = Self { folder: tempfile::tempdir().unwrap(), identity: AgeIdentity::generate() };
        let text = encrypt(SopsFormat::Yaml, &[("db_key", &Secret::new("opened"))], &[house.identity.recipient()]);
        fs::write(house.at("s.yaml"), text.unwrap()).unwrap();
        house
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The identity as text.
    fn text(&self) -> &str {
        std::str::from_utf8(self.identity.secret().expose()).unwrap()
    }

    /// A file with `text`, and its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// Resolves in a process of its own, which has no environment but `env`.
    fn ask(&self, switches: &str, env: &[(&str, &str)]) -> String {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child", "--nocapture"]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        child
            .current_dir(self.folder.path())
            .env("CHILD_FILE", self.at("s.yaml"))
            .env("CHILD_SWITCHES", switches)
            .envs(env.iter().copied());
        let answer = child.output().unwrap();
        let text = String::from_utf8(answer.stdout).unwrap();
        let answer = text.split("ANSWER ").nth(1).and_then(|rest| rest.lines().next());
        answer.unwrap_or_else(|| panic!("the child said: {text}")).to_owned()
    }

    async fn try_with(&self, identities: IdentitySources) -> Result<String, String> {
        let source = SopsKeySource::at(self.at("s.yaml")).identities(identities).backend(SopsBackend::Native);
        let secret = source.resolve().await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(secret.expose().to_vec()).unwrap())
    }
}

#[tokio::test]
async fn child() {
    let Some(file) = std::env::var_os("CHILD_FILE") else { return };
    let mut identities = IdentitySources::default();
    for switch in std::env::var("CHILD_SWITCHES").unwrap().split_whitespace() {
        identities = match switch {
            "-key" => identities.env_key(false),
            "-key_file" => identities.env_key_file(false),
            "-config_dir" => identities.config_dir(false),
            "-ssh_file" => identities.env_ssh_file(false),
            "+commands" => identities.env_commands(true),
            "+home_ssh" => identities.home_ssh(true),
            other => panic!("no such switch: {other}"),
        };
    }
    if let Some(protected) = std::env::var_os("CHILD_PROTECTED") {
        identities = identities.file(protected).passphrase("pass phrase");
        let limit = Some(700 << 20);
        let limit = rustix::process::Rlimit { current: limit, maximum: limit };
        rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    }
    let source = SopsKeySource::at(file).identities(identities);
    let source = match std::env::var_os("CHILD_PROGRAM") {
        Some(program) => source.backend(SopsBackend::Binary).program(program),
        None => source.backend(SopsBackend::Native),
    };
    match source.resolve().await {
        Ok(secret) => println!("ANSWER Ok {}", String::from_utf8_lossy(secret.expose())),
        Err(error) => println!("ANSWER {:?} {error}", error.reason()),
    }
}

/// On Linux it gets identities as a file in memory, elsewhere the variables that may be read.
#[test]
fn the_program_gets_no_variable_that_is_switched_off() {
    use std::os::unix::fs::PermissionsExt as _;

    let house = House::new();
    let program = house.file("shows", "#!/bin/sh\nprintf '<%s><%s>' \"$SOPS_AGE_KEY\" \"$SOPS_AGE_KEY_FILE\"\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let keys = house.file("keys.txt", house.text());
    let sees = |switches: &str| {
        let set = [("SOPS_AGE_KEY", house.text()), ("SOPS_AGE_KEY_FILE", &keys), ("CHILD_PROGRAM", &program)];
        house.ask(switches, &set)
    };
    assert_eq!(sees("-key -key_file -config_dir"), "Ok <><>");
    let (text, in_memory) = (house.text(), cfg!(target_os = "linux"));
    let linux = "Ok <></dev/stdin>".to_owned();
    assert_eq!(sees("-key_file"), if in_memory { linux.clone() } else { format!("Ok <{text}><>") });
    assert_eq!(sees("-key"), if in_memory { linux } else { format!("Ok <><{keys}>") });
}

#[test]
fn each_place_of_the_environment_is_read_and_can_be_switched_off() {
    let house = House::new();
    let keys = house.file("keys.txt", &format!("# comment\n\n{}\n", house.text()));
    let config = house.file("config/sops/age/keys.txt", house.text());
    let config = Path::new(&config).ancestors().nth(3).unwrap().to_str().unwrap().to_owned();
    let home = house.file("home/.config/sops/age/keys.txt", house.text());
    let home = Path::new(&home).ancestors().nth(4).unwrap().to_str().unwrap().to_owned();
    let mut places = vec![
        ("SOPS_AGE_KEY", house.text().to_owned(), "-key"),
        ("SOPS_AGE_KEY_FILE", keys, "-key_file"),
        ("XDG_CONFIG_HOME", config, "-config_dir"),
    ];
    if cfg!(not(target_os = "macos")) {
        places.push(("HOME", home, "-config_dir"));
    }
    for (variable, value, off) in places {
        assert_eq!(house.ask("", &[(variable, &value)]), "Ok opened", "{variable}");
        let answer = house.ask(off, &[(variable, &value)]);
        assert!(answer.starts_with("Locked"), "{variable}: {answer}");
    }
    assert!(house.ask("", &[]).starts_with("Locked"));
    // Go takes no relative configuration directory, and an empty variable for none.
    if cfg!(target_os = "linux") {
        assert!(house.ask("", &[("XDG_CONFIG_HOME", "config")]).starts_with("Locked"));
    }
}

#[test]
fn commands_run_only_when_asked_without_a_shell_and_know_the_recipient() {
    let house = House::new();
    let keys = house.file("keys 1.txt", house.text());
    let ran = house.at("ran").into_os_string().into_string().unwrap();
    let script =
        format!("touch '{ran}'; test \"$SOPS_AGE_RECIPIENT\" = {} && cat '{keys}'", house.identity.recipient());
    let script = house.file("give.sh", &script);
    let command = format!("sh '{script}' # not a shell: $(touch x)");
    assert!(house.ask("", &[("SOPS_AGE_KEY_CMD", &command)]).starts_with("Locked"));
    assert!(!Path::new(&ran).exists(), "the command ran unasked");
    assert_eq!(house.ask("+commands", &[("SOPS_AGE_KEY_CMD", &command)]), "Ok opened");
    fs::remove_file(&ran).unwrap();
    // Not needed, not run.
    let both = [("SOPS_AGE_KEY_CMD", command.as_str()), ("SOPS_AGE_KEY", house.text())];
    assert_eq!(house.ask("+commands", &both), "Ok opened");
    assert!(!Path::new(&ran).exists(), "the command ran although another place was enough");
    for (broken, said) in [("false", "the command failed"), ("no-such-command", "not installed"), ("'", "command line")]
    {
        let answer = house.ask("+commands", &[("SOPS_AGE_KEY_CMD", broken)]);
        assert!(answer.starts_with("Locked") && answer.contains(said), "{broken}: {answer}");
    }
}

#[test]
fn commands_have_the_environment_that_they_have_from_sops_and_end_once_the_file_is_open() {
    let house = House::new();
    let others = [AgeIdentity::generate(), AgeIdentity::generate()];
    let recipients = [others[0].recipient(), house.identity.recipient(), others[1].recipient()];
    let text = encrypt(SopsFormat::Yaml, &[("db_key", &Secret::new("opened"))], &recipients).unwrap();
    fs::write(house.at("s.yaml"), text).unwrap();
    let (keys, ran) = (house.file("keys.txt", house.text()), house.at("ran").display().to_string());
    let script = format!(
        "echo \"$SOPS_AGE_RECIPIENT\" >> '{ran}'; test \"$SOPS_AGE_RECIPIENT\" = {} || exit 1; cat \"$MY_VAULT\"",
        house.identity.recipient()
    );
    let command = format!("sh '{}'", house.file("give.sh", &script));
    let env = [("SOPS_AGE_KEY_CMD", command.as_str()), ("SOPS_AGE_SSH_PRIVATE_KEY_CMD", &command), ("MY_VAULT", &keys)];
    assert_eq!(house.ask("+commands", &env), "Ok opened");
    let ran: Vec<String> = fs::read_to_string(&ran).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(ran, recipients[..2], "the command ran for a recipient of a file that was open");
}

#[test]
fn gpg_does_not_get_the_identities_of_age() {
    let house = House::new();
    let vector = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops/good/pgp.enc.yaml");
    fs::copy(vector, house.at("s.yaml")).unwrap();
    let seen = house.at("seen").display().to_string();
    let gpg = house.file("gpg.sh", &format!("#!/bin/sh\nenv > '{seen}'; exit 1\n"));
    fs::set_permissions(&gpg, fs::Permissions::from_mode(0o755)).unwrap();
    let env = [("SOPS_GPG_EXEC", gpg.as_str()), ("SOPS_AGE_KEY", house.text()), ("AWS_SECRET_ACCESS_KEY", "x")];
    assert!(house.ask("", &[&env[..], &[("GNUPGHOME", "/some/where")]].concat()).starts_with("Locked"));
    let seen = fs::read_to_string(&seen).unwrap();
    assert!(seen.contains("GNUPGHOME=/some/where") && seen.contains("PATH="), "{seen}");
    assert!(!seen.contains("AGE-SECRET") && !seen.contains("SOPS_") && !seen.contains("AWS_"), "{seen}");
}

#[test]
fn ssh_keys_need_their_feature_and_those_at_home_also_a_switch() {
    let vectors = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops");
    let house = House::new();
    for kind in ["ed25519", "rsa"] {
        fs::copy(vectors.join(format!("good/ssh_{kind}.enc.yaml")), house.at("s.yaml")).unwrap();
        let key = fs::read_to_string(vectors.join(format!("keys/id_{kind}"))).unwrap();
        let file = house.file(&format!("home/.ssh/id_{kind}"), &key);
        let home = Path::new(&file).ancestors().nth(2).unwrap().to_str().unwrap();
        let opened = |answer: String| {
            let locked = answer.starts_with("Locked") && answer.contains("feature `sops-ssh`");
            if cfg!(feature = "sops-ssh") { answer == "Ok correct horse battery staple" } else { locked }
        };
        assert!(opened(house.ask("", &[("SOPS_AGE_SSH_PRIVATE_KEY_FILE", &file)])), "{kind}");
        assert!(opened(house.ask("+home_ssh", &[("HOME", home)])), "{kind}");
        let answer = house.ask("", &[("HOME", home)]);
        assert!(answer.starts_with("Locked") && !answer.contains(".ssh"), "read unasked: {answer}");
        let answer = house.ask("-ssh_file", &[("SOPS_AGE_SSH_PRIVATE_KEY_FILE", &file)]);
        assert!(answer.starts_with("Locked") && !answer.contains("sops-ssh"), "read unasked: {answer}");
    }
}

#[cfg(not(feature = "sops-ssh"))]
#[test]
fn what_an_ssh_key_would_need_is_said_where_one_may_be_read() {
    let house = House::new();
    let vector = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops/good/ssh_ed25519.enc.yaml");
    fs::copy(vector, house.at("s.yaml")).unwrap();
    let needs = "its SSH key needs the feature `sops-ssh` or the `sops` program";
    let home = house.folder.path().to_str().unwrap();
    assert!(house.ask("+home_ssh", &[("HOME", home)]).contains(needs));
    assert!(house.ask("", &[("SOPS_AGE_SSH_PRIVATE_KEY_FILE", "no/such/file")]).contains(needs));
    assert!(!house.ask("", &[("HOME", home)]).contains(needs));
}

#[tokio::test]
async fn a_bad_place_spoils_itself_only_and_is_told_only_if_nothing_helps() {
    let house = House::new();
    let bad = house.file("bad.txt", &format!("{}\nAGE-SECRET-KEY-1PLANTED\n", house.text()));
    let error = house.try_with(IdentitySources::none().file(&bad)).await.unwrap_err();
    assert!(error.contains("bad.txt: line 2 is no age identity") && !error.contains("PLANTED"), "{error}");
    let identities = IdentitySources::none().file(&bad).file(house.at("missing.txt")).secret(house.text());
    assert_eq!(house.try_with(identities).await, Ok("opened".into()));
    let error = house.try_with(IdentitySources::none().file(house.at("missing.txt"))).await.unwrap_err();
    assert!(error.contains("missing.txt: the file does not exist"), "{error}");
    let error = house.try_with(IdentitySources::none().file(house.file("empty.txt", "# nothing\n"))).await.unwrap_err();
    assert!(error.contains("it holds no identity"), "{error}");
}

#[tokio::test]
async fn several_identities_may_stand_on_one_line() {
    let house = House::new();
    let other = AgeIdentity::generate();
    let line = format!("{} \t{}", std::str::from_utf8(other.secret().expose()).unwrap(), house.text());
    assert_eq!(house.try_with(IdentitySources::none().secret(line)).await, Ok("opened".into()));
}

#[tokio::test]
async fn an_identity_file_may_be_protected_by_a_passphrase() {
    let house = House::new();
    let mut recipient = age::scrypt::Recipient::new(SecretString::from("pass phrase"));
    recipient.set_work_factor(2);
    let binary = age::encrypt(&recipient, house.text().as_bytes()).unwrap();
    fs::write(house.at("binary.age"), binary).unwrap();
    fs::write(house.at("armored.age"), age::encrypt_and_armor(&recipient, house.text().as_bytes()).unwrap()).unwrap();
    for name in ["binary.age", "armored.age"] {
        let file = IdentitySources::none().file(house.at(name));
        assert_eq!(house.try_with(file.clone().passphrase("pass phrase")).await, Ok("opened".into()), "{name}");
        let error = house.try_with(file.clone().passphrase("wrong")).await.unwrap_err();
        assert!(error.contains("its passphrase does not fit"), "{error}");
        let error = house.try_with(file).await.unwrap_err();
        assert!(error.contains("protected by a passphrase and none was given"), "{error}");
    }
}

/// The header of an identity file, with another work factor in it.
fn with_work(file: &[u8], factor: &str) -> Vec<u8> {
    let at = file.windows(10).position(|part| part == b"-> scrypt ").unwrap();
    let end = at + file[at..].iter().position(|byte| *byte == b'\n').unwrap();
    let begin = file[..end].iter().rposition(|byte| *byte == b' ').unwrap() + 1;
    [&file[..begin], factor.as_bytes(), &file[end..]].concat()
}

/// The bound is one of work, not of the time that this machine needs for it.
#[tokio::test]
async fn what_age_p_makes_opens_and_too_much_work_is_told_from_a_wrong_passphrase() {
    let house = House::new();
    let protect = |factor, text: &str| {
        let mut recipient = age::scrypt::Recipient::new(SecretString::from("pass phrase"));
        recipient.set_work_factor(factor);
        age::encrypt(&recipient, text.as_bytes()).unwrap()
    };
    let ask = async |file: &[u8], passphrase: &str| {
        fs::write(house.at("key.age"), file).unwrap();
        house.try_with(IdentitySources::none().file(house.at("key.age")).passphrase(passphrase)).await
    };
    assert_eq!(ask(&protect(18, house.text()), "pass phrase").await, Ok("opened".into()));

    let file = protect(2, house.text());
    let error = ask(&file, "wrong").await.unwrap_err();
    assert!(error.contains("key.age: its passphrase does not fit"), "{error}");
    let error = ask(&file, "").await.unwrap_err();
    assert!(error.contains("the one of the identity sources is empty"), "{error}");
    for factor in ["23", "40", "63", "64", "255"] {
        let error = ask(&with_work(&file, factor), "pass phrase").await.unwrap_err();
        assert!(error.contains(&format!("scrypt with a work factor of {factor}, and 22 is the most")), "{error}");
    }
    // Cut off anywhere behind the line that says what it is.
    let cut = (b"age-encryption.org/v1\n".len()..file.len()).map(|end| file[..end].to_vec());
    for damaged in [with_work(&file, "02"), with_work(&file, "x")].into_iter().chain(cut) {
        let error = ask(&damaged, "pass phrase").await.unwrap_err();
        assert!(error.contains("damaged") && !error.contains("does not fit"), "{error}");
    }
    let error = ask(&protect(2, &"#\n".repeat(40_000)), "pass phrase").await.unwrap_err();
    assert!(error.contains("larger than 65536 bytes"), "{error}");
    let recipient: age::x25519::Recipient = house.identity.recipient().parse().unwrap();
    let error = ask(&age::encrypt(&recipient, b"x").unwrap(), "pass phrase").await.unwrap_err();
    assert!(error.contains("encrypted to other keys than a passphrase"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn work_for_which_there_is_no_memory_is_refused_and_ends_no_process() {
    let house = House::new();
    let mut recipient = age::scrypt::Recipient::new(SecretString::from("pass phrase"));
    recipient.set_work_factor(2);
    let file = age::encrypt(&recipient, house.text().as_bytes()).unwrap();
    // 1 GiB and 4 GiB, where 700 MiB is all there is: with libcrypto, and without it.
    for factor in ["20", "22"] {
        fs::write(house.at("key.age"), with_work(&file, factor)).unwrap();
        let answer = house.ask("", &[("CHILD_PROTECTED", house.at("key.age").to_str().unwrap())]);
        let refused = format!("a work factor of {factor}, for which the system does not give the memory");
        assert!(answer.starts_with("Locked") && answer.contains(&refused), "{answer}");
    }
    fs::write(house.at("key.age"), &file).unwrap();
    assert_eq!(house.ask("", &[("CHILD_PROTECTED", house.at("key.age").to_str().unwrap())]), "Ok opened");
}

/// As with a FIPS provider alone. A passphrase that needs no library is no reason to refuse a file.
#[test]
fn a_configuration_of_openssl_that_has_no_scrypt_is_no_obstacle() {
    let house = House::new();
    let mut recipient = age::scrypt::Recipient::new(SecretString::from("pass phrase"));
    recipient.set_work_factor(2);
    let file = age::encrypt(&recipient, house.text().as_bytes()).unwrap();
    fs::write(house.at("key.age"), &file).unwrap();
    let without = "openssl_conf = all\n[all]\nproviders = providers\n[providers]\nnull = null\n[null]\nactivate = 1\n";
    let without = house.file("openssl.cnf", without);
    let protected = house.at("key.age").into_os_string().into_string().unwrap();
    let environment = [("CHILD_PROTECTED", protected.as_str()), ("OPENSSL_CONF", without.as_str())];
    assert_eq!(house.ask("", &environment), "Ok opened");
}

#[cfg(feature = "sops-ssh")]
#[tokio::test]
async fn an_ssh_key_with_a_passphrase_opens_by_it() {
    let vectors = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops");
    let house = House::new();
    for kind in ["ed25519", "rsa"] {
        fs::copy(vectors.join(format!("good/ssh_{kind}.enc.yaml")), house.at("s.yaml")).unwrap();
        let key = IdentitySources::none().file(vectors.join(format!("keys/protected_{kind}")));
        assert_eq!(
            house.try_with(key.clone().passphrase("pass phrase")).await,
            Ok("correct horse battery staple".into())
        );
        let error = house.try_with(key.clone().passphrase("wrong")).await.unwrap_err();
        assert!(error.contains(&format!("protected_{kind}: its passphrase does not fit")), "{error}");
        let error = house.try_with(key).await.unwrap_err();
        assert!(error.contains("it is protected by a passphrase and none was given"), "{error}");
    }
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let error = house.try_with(IdentitySources::none().secret(old).passphrase("x")).await.unwrap_err();
    assert!(error.contains("ssh-keygen -p"), "{error}");
}

/// Kinds that no crate has are named, whether or not an identity for them is at hand.
#[tokio::test]
async fn kinds_of_keys_that_cannot_be_used_here_are_named_with_the_way_out() {
    let house = House::new();
    let text = fs::read_to_string(house.at("s.yaml")).unwrap();
    let other = AgeIdentity::generate();
    let other = std::str::from_utf8(other.secret().expose()).unwrap();
    for (recipient, kind, identity) in [
        ("age1pq1qqqq", "post-quantum age key (`age1pq1...`)", "AGE-SECRET-KEY-PQ-1QQQQ"),
        ("age1yubikey1qqqq", "plugin age key (`age1yubikey1...`)", "AGE-PLUGIN-YUBIKEY-1QQQQ"),
    ] {
        fs::write(house.at("s.yaml"), text.replace(house.identity.recipient(), recipient)).unwrap();
        for identities in [IdentitySources::none(), IdentitySources::none().secret(other)] {
            let error = house.try_with(identities).await.unwrap_err();
            let said = format!("its {kind} needs an identity of that kind and the `sops` program");
            assert!(error.contains(&said), "{error}");
        }
        let error = house.try_with(IdentitySources::none().secret(identity)).await.unwrap_err();
        assert!(error.contains(&format!("its {kind} needs the `sops` program")), "{error}");
    }
}

/// A variable that was set is not asked to be set.
#[test]
fn what_is_wrong_with_a_variable_is_said() {
    let house = House::new();
    let other = AgeIdentity::generate();
    let other = house.file("other.txt", std::str::from_utf8(other.secret().expose()).unwrap());
    let garbage = house.file("garbage.txt", "not an identity");
    let empty = house.file("empty.txt", "");
    let public = house.file("public.txt", house.identity.recipient());
    let folder = house.folder.path().to_str().unwrap().to_owned();
    let missing = house.at("no/keys.txt").to_str().unwrap().to_owned();
    let secret_file = house.at("s.yaml").to_str().unwrap().to_owned();
    for name in ["SOPS_AGE_KEY_FILE", "SOPS_AGE_SSH_PRIVATE_KEY_FILE"] {
        for (value, wrong) in [
            (&missing, "the file does not exist"),
            (&folder, "it is not a regular file"),
            (&garbage, "line 1 is no age identity"),
            (&empty, "it holds no identity"),
            (&public, "line 1 is no age identity"),
            (&secret_file, "line 1 is no age identity"),
            (&other, "no identity there fits"),
            (&"no/such".to_owned(), "the file does not exist"),
        ] {
            let answer = house.ask("", &[(name, value)]);
            assert!(answer.starts_with("Locked"), "{answer}");
            assert!(answer.contains(&format!("{name} names {value}: {wrong}")), "{answer}");
            assert_eq!(answer.contains("set SOPS_AGE_KEY_FILE"), name != "SOPS_AGE_KEY_FILE", "{answer}");
        }
        for blank in ["", " ", "\t"] {
            let answer = house.ask("", &[(name, blank)]);
            assert!(answer.contains(&format!("{name}: it is set, but empty")), "{answer}");
            assert_eq!(house.ask("", &[(name, blank), ("SOPS_AGE_KEY", house.text())]), "Ok opened");
        }
    }
    for (value, wrong) in
        [("", "it is set, but empty"), (" \n", "it is set, but empty"), ("x", "line 1 is no age identity")]
    {
        let answer = house.ask("", &[("SOPS_AGE_KEY", value)]);
        assert!(answer.contains(&format!("SOPS_AGE_KEY: {wrong}")), "{answer}");
    }
    let answer = house.ask("-key_file", &[("SOPS_AGE_KEY_FILE", &missing)]);
    assert!(!answer.contains("SOPS_AGE_KEY_FILE"), "{answer}");
}

#[tokio::test]
async fn an_identity_that_fits_nothing_is_locked_out() {
    let house = House::new();
    let source = SopsKeySource::at(house.at("s.yaml"))
        .identities(IdentitySources::none().secret(AgeIdentity::generate().secret().clone()));
    let error = source.resolve().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Locked);
    assert!(error.to_string().contains("give an age identity"), "{error}");
}

#[test]
fn what_is_wrong_with_a_variable_of_a_command_is_said() {
    let house = House::new();
    for name in ["SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD"] {
        for (value, wrong) in [
            ("", "it is set, but empty"),
            (" \t", "it is set, but empty"),
            ("no-such-program-here", "program `no-such-program-here` is not installed"),
            ("/", "program `/` cannot be started"),
            ("false", "the command failed"),
            ("true", "it holds no identity"),
            ("echo garbage", "line 1 is no age identity"),
            ("'unclosed", "it is not a command line"),
            ("yes", "it wrote more than 16 MiB"),
        ] {
            let answer = house.ask("+commands", &[(name, value)]);
            assert!(answer.starts_with("Locked") && answer.contains(&format!("{name}: ")), "{value}: {answer}");
            assert!(answer.contains(wrong), "{value}: {answer}");
            assert!(!answer.contains("is on"), "{answer}");
        }
        let answer = house.ask("", &[(name, "echo hunter2")]);
        let off = format!("{name}: it is set, but a command runs only if IdentitySources::env_commands is on");
        assert!(answer.contains(&off) && !answer.contains("hunter2"), "{answer}");
        let answer = house.ask("", &[(name, "")]);
        assert!(!answer.contains(name), "nobody asked for it: {answer}");
        let answer = house.ask("", &[(name, "echo hunter2"), ("SOPS_AGE_KEY", house.text())]);
        assert_eq!(answer, "Ok opened");
    }
}
