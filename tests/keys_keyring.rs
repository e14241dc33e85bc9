//! Keys in the store of the system: a real Secret Service on a bus of its own, and the keyrings of the kernel. What other
//! programs store opens here, what is made here they find, and at every moment the file opens with its source.
#![cfg(all(feature = "keyring", feature = "sqlcipher", target_os = "linux"))]

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/keyrings.rs"]
mod keyrings;
#[path = "common/peers.rs"]
mod peers;

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cipher::{create, read, refusal};
use keyrings::{SERVICE, clear, keyctl, lock, lookup, store};
use strongroom::database::RekeyOptions;
use strongroom::keys::{EnvKeySource, KeyringKeySource};
use strongroom::pool::NoRetry;
use strongroom::{
    AsyncDatabase, ChainKeySource, DatabaseBuilder, ErrorKind, KeySource, Reason, Secret, SqlCipherConnector,
};

fn with(path: &Path, source: impl KeySource + 'static) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(source).retry(NoRetry)
}

fn source() -> KeyringKeySource {
    KeyringKeySource::new(SERVICE, "app")
}

fn making() -> KeyringKeySource {
    source().raw_key().create_if_missing(true)
}

/// `work` in a process that has a Secret Service for itself.
fn in_a_session(name: &str, work: impl Future<Output = ()>) {
    if keyrings::is_child() {
        run(work);
    } else {
        keyrings::with_secret_service(name);
    }
}

/// The same with a keyring of the kernel.
fn in_a_kernel_session(name: &str, work: impl Future<Output = ()>) {
    if keyrings::is_child() {
        run(work);
    } else {
        keyrings::with_kernel_keyring(name);
    }
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work);
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn a_new_database_gets_a_new_key_that_other_programs_find() {
    in_a_session("a_new_database_gets_a_new_key_that_other_programs_find", async {
        let home = keyrings::home();
        let path = home.path().join("app.db");
        create(with(&path, making())).await;
        assert!(is_hex(&lookup("app").unwrap()));
        assert_eq!(lookup("app.next"), None);
        assert_eq!(read(with(&path, making())).await.unwrap(), "row");
        assert_eq!(read(with(&path, source().raw_key())).await.unwrap(), "row");
        // A key that is left over belongs to another database.
        let error = refusal(with(&home.path().join("new.db"), making())).await;
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::KeyPresent), "{error}");
        assert!(error.to_string().starts_with("keyring entry app of test.strongroom exists already"), "{error}");
        // An existing database never gets a new one.
        let other = KeyringKeySource::new(SERVICE, "other").create_if_missing(true);
        assert_eq!(refusal(with(&path, other)).await.reason(), Reason::Missing);
        assert_eq!((lookup("other"), lookup("other.next")), (None, None));
    });
}

#[test]
fn what_another_program_stores_opens_the_database() {
    in_a_session("what_another_program_stores_opens_the_database", async {
        let home = keyrings::home();
        let path = home.path().join("app.db");
        create(with(&path, Secret::new("grüße aus dem Schlüsselbund"))).await;
        store("app", "grüße aus dem Schlüsselbund", &[]);
        assert_eq!(read(with(&path, source())).await.unwrap(), "row");
        store("app", "grüße aus dem Schlüsselbund\n", &[]);
        assert_eq!(source().resolve().await.unwrap().expose(), "grüße aus dem Schlüsselbund".as_bytes());
        let raw = home.path().join("raw.db");
        create(with(&raw, Secret::raw_key([0xab; 32]))).await;
        store("app", &"ab".repeat(32), &[]);
        assert_eq!(read(with(&raw, source().raw_key())).await.unwrap(), "row");
    });
}

#[test]
fn a_key_is_replaced_and_the_old_one_opens_nothing_any_more() {
    in_a_session("a_key_is_replaced_and_the_old_one_opens_nothing_any_more", async {
        let home = keyrings::home();
        let path = home.path().join("app.db");
        create(with(&path, making())).await;
        let old = source().raw_key().resolve().await.unwrap();
        let db = with(&path, making()).open().await.unwrap();
        for _ in 0..3 {
            let before = lookup("app");
            db.rekey_fresh(making()).await.unwrap();
            assert_eq!(making().candidates().await.unwrap().len(), 1);
            assert_ne!(lookup("app"), before);
            assert_eq!(lookup("app.next"), None);
        }
        db.close().await.unwrap();
        assert_eq!(refusal(with(&path, old)).await.reason(), Reason::WrongKey);
        assert_eq!(read(with(&path, making())).await.unwrap(), "row");
    });
}

#[test]
fn a_passphrase_is_made_and_replaced_as_well() {
    in_a_session("a_passphrase_is_made_and_replaced_as_well", async {
        let home = keyrings::home();
        let path = home.path().join("app.db");
        let key = || source().create_if_missing(true);
        create(with(&path, key()).cipher_kdf_iter(1000)).await;
        let db = with(&path, key()).cipher_kdf_iter(1000).open().await.unwrap();
        db.rekey_fresh(key()).await.unwrap();
        db.close().await.unwrap();
        assert_eq!(read(with(&path, key()).cipher_kdf_iter(1000)).await.unwrap(), "row");
    });
}

#[test]
fn a_change_that_is_refused_leaves_both_and_the_next_one_takes_it_up() {
    in_a_session("a_change_that_is_refused_leaves_both_and_the_next_one_takes_it_up", async {
        let home = keyrings::home();
        let path = home.path().join("app.db");
        create(with(&path, making())).await;
        let db = with(&path, making()).open().await.unwrap();
        let busy = db.connection().await.unwrap();
        let brief = RekeyOptions::new().fresh().limit(Duration::from_millis(1));
        assert_eq!(db.rekey_with(making(), brief).await.unwrap_err().reason(), Reason::StillLent);
        drop(busy);
        let both = making().candidates().await.unwrap();
        let names: Vec<&str> = both.iter().map(|one| one.source.as_str()).collect();
        assert_eq!(names, ["keyring entry app of test.strongroom", "keyring entry app.next of test.strongroom"]);
        assert_eq!(read(with(&path, making())).await.unwrap(), "row");
        db.rekey_fresh(making()).await.unwrap();
        let now = making().candidates().await.unwrap();
        assert_eq!((now.len(), now[0].secret.expose()), (1, both[1].secret.expose()));
        db.close().await.unwrap();
        assert_eq!(read(with(&path, making())).await.unwrap(), "row");
    });
}

/// The states in which a kill leaves the two entries, each with the database that belongs to it.
#[test]
fn what_a_killed_process_leaves_is_taken_up() {
    in_a_session("what_a_killed_process_leaves_is_taken_up", async {
        let (old, new) = ("01".repeat(32), "02".repeat(32));
        let states = [
            // Made for a new database, which was made.
            (None, Some(&new), [2; 32]),
            // The new one is stored, and the database has the old key still, or has the new one.
            (Some(&old), Some(&new), [1; 32]),
            (Some(&old), Some(&new), [2; 32]),
            // Settled, but for the second entry.
            (Some(&new), Some(&new), [2; 32]),
        ];
        for (number, (present, next, key)) in states.into_iter().enumerate() {
            let home = keyrings::home();
            let path = home.path().join("app.db");
            create(with(&path, Secret::raw_key(key))).await;
            let user = format!("killed-{number}");
            for (name, text) in [(user.clone(), present), (format!("{user}.next"), next)] {
                if let Some(text) = text {
                    store(&name, text, &[]);
                }
            }
            let source = KeyringKeySource::new(SERVICE, &user).raw_key().create_if_missing(true);
            let db = with(&path, source.clone()).open().await.unwrap_or_else(|error| panic!("{number}: {error}"));
            db.rekey_fresh(source.clone()).await.unwrap_or_else(|error| panic!("{number}: {error}"));
            db.close().await.unwrap();
            assert_eq!(source.candidates().await.unwrap().len(), 1, "{number}");
            assert_eq!(lookup(&format!("{user}.next")), None, "{number}");
            let now = lookup(&user).unwrap();
            // A change that was cut off is taken up; what is settled gets another one.
            assert_eq!(now == new, matches!(number, 1 | 2), "{number}");
            assert_eq!(read(with(&path, source)).await.unwrap(), "row", "{number}");
        }
    });
}

#[test]
fn a_key_that_was_taken_away_before_it_is_settled_is_stored_again_over_no_other() {
    in_a_session("a_key_that_was_taken_away_before_it_is_settled_is_stored_again_over_no_other", async {
        for (user, is_raw) in [("raw", true), ("text", false)] {
            let source = KeyringKeySource::new(SERVICE, user).create_if_missing(true);
            let source = if is_raw { source.raw_key() } else { source };
            let first = source.create().await.unwrap().unwrap();
            source.settle(&first).await.unwrap();
            source.settle(&first).await.unwrap();
            let made = source.replace().await.unwrap();
            let (second, text) = (format!("{user}.next"), lookup(&format!("{user}.next")).unwrap());
            clear(&second);
            let error = source.settle(&made).await.unwrap_err();
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::WrongKey), "{error}");
            assert!(error.to_string().contains(&format!("{user} of {SERVICE} has another key")), "{error}");
            assert_eq!(lookup(&second).as_deref(), Some(&*text), "in the form in which it was");
            let offered = source.candidates().await.unwrap();
            assert_eq!([offered[0].secret.expose(), offered[1].secret.expose()], [first.expose(), made.expose()]);

            let other = "5a".repeat(32);
            store(&second, &other, &[]);
            let error = source.settle(&made).await.unwrap_err();
            assert!(error.advice().unwrap().contains("before this handle is closed"), "{error}");
            assert_eq!(lookup(&second), Some(other));
        }
    });
}

#[test]
fn those_that_make_a_key_at_the_same_time_agree_on_one() {
    in_a_session("those_that_make_a_key_at_the_same_time_agree_on_one", async {
        for round in 0..5 {
            let source = KeyringKeySource::new(SERVICE, format!("round-{round}")).create_if_missing(true);
            let makers: Vec<_> = (0..8)
                .map(|_| {
                    let source = source.clone();
                    tokio::spawn(async move { source.create().await.unwrap().unwrap() })
                })
                .collect();
            let mut made = Vec::new();
            for maker in makers {
                made.push(maker.await.unwrap());
            }
            assert!(made.iter().all(|secret| secret.expose() == made[0].expose()), "round {round}");
            source.settle(&made[0]).await.unwrap();
            assert_eq!(source.resolve().await.unwrap().expose(), made[0].expose());
        }
    });
}

#[test]
fn what_is_wrong_with_an_entry_is_said_with_its_name_and_a_way_out() {
    in_a_session("what_is_wrong_with_an_entry_is_said_with_its_name_and_a_way_out", async {
        let why = async |source: KeyringKeySource| source.resolve().await.unwrap_err();
        let error = why(source()).await;
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Missing));
        assert_eq!(
            error.to_string(),
            "keyring entry app of test.strongroom does not exist; store the key there first, or have it made with \
             .create_if_missing(true)"
        );
        store("short", "abcd", &[]);
        let error = why(KeyringKeySource::new(SERVICE, "short").raw_key()).await;
        assert_eq!(error.reason(), Reason::Malformed);
        assert!(error.to_string().contains("short of test.strongroom holds no 256-bit key; store"), "{error}");
        store("line", "\n", &[]);
        assert_eq!(why(KeyringKeySource::new(SERVICE, "line")).await.reason(), Reason::Empty);
        store("twice", "one", &[]);
        store("twice", "two", &["more", "of it"]);
        let error = why(KeyringKeySource::new(SERVICE, "twice")).await;
        assert_eq!(error.reason(), Reason::Malformed);
        assert!(
            error.to_string().contains("twice of test.strongroom stands in the keyring 2 times; remove"),
            "{error}"
        );
        let error = why(KeyringKeySource::new("", "app")).await;
        assert!(error.to_string().contains("without a service or a user; name both"), "{error}");
        // One that is not there is passed over by others.
        let chain = ChainKeySource::new(source()).or(Secret::new("the next one"));
        assert_eq!(chain.resolve().await.unwrap().expose(), b"the next one");
    });
}

#[test]
fn a_keyring_that_is_locked_is_named_and_nothing_is_made() {
    in_a_session("a_keyring_that_is_locked_is_named_and_nothing_is_made", async {
        let home = keyrings::home();
        let path = home.path().join("app.db");
        store("app", "correct horse", &[]);
        lock();
        // No terminal, no display: nobody can be asked.
        let error = source().resolve().await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Locked), "{error}");
        assert!(
            error.to_string().contains("app of test.strongroom cannot be opened: the keyring is locked"),
            "{error}"
        );
        let other = KeyringKeySource::new(SERVICE, "other").create_if_missing(true);
        let error = refusal(with(&path, other)).await;
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Locked), "{error}");
        assert!(!path.exists());
    });
}

#[test]
fn where_no_secret_service_answers_the_error_says_what_to_start() {
    let key = EnvKeySource::new("STRONGROOM_TEST_NO_BUS");
    if std::env::var_os("STRONGROOM_TEST_NO_BUS").is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "where_no_secret_service_answers_the_error_says_what_to_start", "--nocapture"]);
        child.env("STRONGROOM_TEST_NO_BUS", "1").env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
        assert!(child.status().unwrap().success());
        return;
    }
    run(async {
        let error = source().resolve().await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::ProgramMissing), "{error}");
        assert!(error.to_string().contains("no Secret Service answers"), "{error}");
        assert!(error.advice().unwrap().contains("DBUS_SESSION_BUS_ADDRESS"), "{error}");
        // A chain goes on.
        assert_eq!(ChainKeySource::new(source()).or(key).resolve().await.unwrap().expose(), b"1");
    });
}

/// Everything that is logged, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_key_is_shown_or_logged() {
    in_a_session("no_key_is_shown_or_logged", async {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
        subscriber.with_writer(move || writer.clone()).with_ansi(false).init();
        let home = keyrings::home();
        let path = home.path().join("app.db");
        create(with(&path, making())).await;
        let db = with(&path, making()).open().await.unwrap();
        let first = lookup("app").unwrap();
        db.rekey_fresh(making()).await.unwrap();
        let second = lookup("app").unwrap();
        store("app", &format!("{second}x"), &[]);
        let error = making().resolve().await.unwrap_err();
        let mut shown = format!("{:?} {error:?} {error} {:?}", making(), std::error::Error::source(&error));
        shown.push_str(std::str::from_utf8(&log.0.lock().unwrap()).unwrap());
        assert!(shown.contains("zbus"), "the log of the store's library is looked at, too");
        let bytes = |digits: &str| {
            let pairs = digits.as_bytes().chunks(2).take(4);
            let bytes =
                pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap().to_string());
            bytes.collect::<Vec<_>>().join(", ")
        };
        let ascii = |digits: &str| digits.bytes().take(4).map(|digit| digit.to_string()).collect::<Vec<_>>().join(", ");
        for digits in [&first, &second] {
            assert!(!shown.contains(&digits[..16]), "as text");
            assert!(!shown.contains(&bytes(digits)) && !shown.contains(&ascii(digits)), "as numbers");
        }
    });
}

#[test]
fn the_kernel_keeps_keys_too() {
    in_a_kernel_session("the_kernel_keeps_keys_too", async {
        let home = keyrings::home();
        let path = home.path().join("app.db");
        let user = format!("kernel-{}", std::process::id());
        let source = || KeyringKeySource::new(SERVICE, &user).kernel().raw_key().create_if_missing(true);
        let held = |user: &str| {
            let key = keyctl(&["search", "@s", "user", &format!("keyring:{user}@{SERVICE}")]);
            keyctl(&["print", &key])
        };
        let error = source().resolve().await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Missing), "{error}");
        assert!(error.to_string().starts_with(&format!("kernel keyring entry {user} of {SERVICE}")), "{error}");

        create(with(&path, source())).await;
        let first = held(&user);
        assert!(is_hex(&first));
        assert_eq!(refusal(with(&home.path().join("new.db"), source())).await.reason(), Reason::KeyPresent);
        let db = with(&path, source()).open().await.unwrap();
        let busy = db.connection().await.unwrap();
        let brief = RekeyOptions::new().fresh().limit(Duration::from_millis(1));
        db.rekey_with(source(), brief).await.unwrap_err();
        drop(busy);
        let waiting = held(&format!("{user}.next"));
        assert_eq!(source().candidates().await.unwrap().len(), 2);
        db.rekey_fresh(source()).await.unwrap();
        db.close().await.unwrap();
        assert_eq!(source().candidates().await.unwrap().len(), 1);
        assert_eq!(held(&user), waiting);
        assert_ne!(first, waiting);
        assert_eq!(read(with(&path, source())).await.unwrap(), "row");

        // What another program brings.
        keyctl(&["add", "user", &format!("keyring:brought-{user}@{SERVICE}"), "correct horse", "@s"]);
        let brought = KeyringKeySource::new(SERVICE, format!("brought-{user}")).kernel();
        assert_eq!(brought.resolve().await.unwrap().expose(), b"correct horse");
        keyctl(&["add", "user", &format!("keyring:bytes-{user}@{SERVICE}"), "\u{1}", "@s"]);
        for name in [user.clone(), format!("brought-{user}"), format!("bytes-{user}")] {
            keyctl(&["purge", "user", &format!("keyring:{name}@{SERVICE}")]);
        }
    });
}
