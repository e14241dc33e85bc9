//! Getting in: passwords, hosts, TLS, and poolers in between.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{PASSWORD, run_sql, server, server_with, value};
use futures_util::SinkExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use strongroom::engine::{Access, Phase, Resource};
use strongroom::postgres::PostgresConnector;
use strongroom::postgres::{ChannelBinding, Readers, TargetSessionAttrs, Tls};
use strongroom::{
    AsyncDatabase, CachedKeySource, Connection, Connector, Error, ErrorKind, FileKeySource, KeySource,
    PassphraseKeySource, Reason, Result, Secret,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Handle};

async fn refused(connector: PostgresConnector) -> Error {
    connector.connect(Access::Write).await.expect_err("nobody gets in")
}

struct Rotating(Arc<AtomicUsize>);

#[strongroom::keys::async_trait]
impl KeySource for Rotating {
    async fn resolve(&self) -> Result<Secret> {
        let password = if self.0.fetch_add(1, Ordering::SeqCst) == 0 { "stale" } else { PASSWORD };
        Ok(Secret::new(password))
    }

    fn describe(&self) -> String {
        "a rotating source".into()
    }
}

#[tokio::test]
async fn the_password_is_asked_for_every_connection_and_shown_nowhere() {
    let Some(server) = server() else { return };
    let asked = Arc::new(AtomicUsize::new(0));
    let connector = server.connector().key(Rotating(Arc::clone(&asked)));
    // One that is refused is asked for once more.
    connector.connect(Access::Write).await.unwrap();
    connector.connect(Access::Read).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let asked = Arc::new(AtomicUsize::new(0));
    let stale = Stale(Arc::clone(&asked));
    let connector = server.connector().key(stale);
    let error = refused(connector.clone()).await;
    assert_eq!(
        (error.kind(), error.reason(), error.is_transient()),
        (ErrorKind::Connection, Reason::AuthRefused, false)
    );
    assert_eq!(error.phase(), Some(Phase::Connect));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(!format!("{connector:?}{error:?}").contains("stale"));
}

/// Has the old password still.
struct Stale(Arc<AtomicUsize>);

#[strongroom::keys::async_trait]
impl KeySource for Stale {
    async fn resolve(&self) -> Result<Secret> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Secret::new("stale"))
    }

    fn describe(&self) -> String {
        "a source that is late".into()
    }
}

#[tokio::test]
async fn a_pool_whose_password_changes_works_on_with_the_new_one_though_its_source_remembers_the_old() {
    let Some(server) = server() else { return };
    let admin = AsyncDatabase::with_connector(server.connector().key(PassphraseKeySource::new(PASSWORD))).build();
    admin.execute_script("CREATE ROLE rotated LOGIN PASSWORD 'of last year'").await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("password");
    let store = |password: &str| {
        fs::write(&file, password).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    store("of last year");
    let remembers = CachedKeySource::new(FileKeySource::new(&file), Duration::from_secs(3600));
    let connector = server.connector().user("rotated").database("postgres").key(remembers);
    let db = AsyncDatabase::with_connector(connector).build();
    assert_eq!(db.fetch_value::<i64>("SELECT 1::int8", ()).await.unwrap(), Some(1));
    for year in ["of this year", "of next year"] {
        db.suspend().await.unwrap();
        admin.execute_script(&format!("ALTER ROLE rotated PASSWORD '{year}'")).await.unwrap();
        let told = db.fetch_value::<i64>("SELECT 1::int8", ()).await.unwrap_err();
        assert_eq!(told.reason(), Reason::AuthRefused, "{told}");
        store(year);
        assert_eq!(db.fetch_value::<i64>("SELECT 1::int8", ()).await.unwrap(), Some(1));
    }
    db.close().await.unwrap();
    admin.execute_script("DROP ROLE rotated").await.unwrap();
    admin.close().await.unwrap();
}

#[tokio::test]
async fn passwords_that_cannot_be_are_refused_before_anything_is_sent() {
    let Some(server) = server() else { return };
    let error = refused(server.connector().key(PassphraseKeySource::new(""))).await;
    assert_eq!((error.kind(), error.reason(), error.phase()), (ErrorKind::Key, Reason::Empty, Some(Phase::Key)));
    let error = refused(server.connector().key(PassphraseKeySource::new(Secret::raw_key([7; 32])))).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Malformed));
    let error = refused(PostgresConnector::new("127.0.0.1", server.port).user("app").tls(Tls::off())).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::AuthRefused));
    assert!(error.to_string().contains("key(..)"), "{error}");
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_a_permanent_error() {
    let Some(server) = server() else { return };
    let error = refused(server.connector().database("nowhere")).await;
    assert_eq!((error.kind(), error.reason(), error.is_transient()), (ErrorKind::Connection, Reason::NotFound, false));
}

/// Tokio's own lookup waits for such a thread.
#[tokio::test]
async fn a_name_is_looked_up_although_no_thread_for_blocking_work_is_free() {
    let Some(server) = server() else { return };
    let named = PostgresConnector::new("localhost", server.port).database("postgres").user("app").tls(Tls::off());
    let connector = named.key(PassphraseKeySource::new(PASSWORD)).connect_timeout(Duration::from_secs(20));
    let answer = std::thread::spawn(move || {
        let builder = &mut Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().max_blocking_threads(1).build().unwrap();
        let call = move || Handle::current().block_on(connector.connect(Access::Write)).map(drop);
        let call = runtime.spawn_blocking(call);
        runtime.block_on(call).unwrap()
    });
    answer.join().unwrap().unwrap();
}

#[tokio::test]
async fn hosts_that_do_not_answer_are_left_for_one_that_does() {
    let Some(server) = server() else { return };
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = |connector: PostgresConnector| {
        connector.host("127.0.0.1", silent.local_addr().unwrap().port()).connect_timeout(Duration::from_secs(1))
    };
    let first = PostgresConnector::new("127.0.0.1", closed).tls(Tls::off()).user("app").database("postgres");
    let connector = hosts(first.key(PassphraseKeySource::new(PASSWORD)));
    let error = refused(connector.clone()).await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Connection, true));
    let said = error.to_string();
    assert!(said.contains("connection refused") && said.contains("did not answer"), "{said}");

    let connector = connector.host("127.0.0.1", server.port);
    let began = Instant::now();
    connector.connect(Access::Write).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let began = Instant::now();
    connector.connect(Access::Write).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "the host that was right last time comes first");
}

#[tokio::test]
async fn a_host_that_hung_up_on_a_reader_is_asked_last_for_a_while() {
    let Some(server) = server() else { return };
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = host.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = tokio::spawn({
        let asked = Arc::clone(&asked);
        async move {
            while host.accept().await.is_ok() {
                asked.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    for readers in [Readers::Any, Readers::PreferStandby] {
        let first = PostgresConnector::new("127.0.0.1", port).tls(Tls::off()).user("app").database("postgres");
        let hosts = first.key(PassphraseKeySource::new(PASSWORD)).host("127.0.0.1", server.port);
        let connector = hosts.readers(readers);
        let before = asked.load(Ordering::SeqCst);
        for _ in 0..6 {
            connector.connect(Access::Read).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::SeqCst) - before, 1, "{readers:?}");
    }
    counting.abort();
}

#[tokio::test]
async fn writers_want_a_server_that_accepts_writes() {
    let Some(server) = server_with("default_transaction_read_only = on") else { return };
    let error = refused(server.connector()).await;
    assert_eq!(
        (error.kind(), error.reason(), error.is_transient()),
        (ErrorKind::Connection, Reason::NotWritable, true)
    );
    server.connector().connect(Access::Read).await.unwrap();
    server.connector().target_session_attrs(TargetSessionAttrs::Any).connect(Access::Write).await.unwrap();
    let reader = server.connector().target_session_attrs(TargetSessionAttrs::ReadOnly);
    reader.connect(Access::Write).await.unwrap();
}

#[tokio::test]
async fn a_host_that_refuses_for_good_ends_the_search() {
    let Some(server) = server() else { return };
    let next = TcpListener::bind("127.0.0.1:0").unwrap();
    let connector = server.connector().database("nowhere").host("127.0.0.1", next.local_addr().unwrap().port());
    let error = refused(connector.connect_timeout(Duration::from_secs(2))).await;
    assert_eq!((error.reason(), error.is_transient()), (Reason::NotFound, false), "{error}");
    next.set_nonblocking(true).unwrap();
    assert_eq!(next.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "the next host was not tried");
}

#[tokio::test]
async fn who_wants_a_read_only_server_leaves_one_that_accepts_writes() {
    let (Some(primary), Some(standby)) = (server(), server_with("default_transaction_read_only = on")) else { return };
    let reader = primary.connector().target_session_attrs(TargetSessionAttrs::ReadOnly);
    for access in [Access::Write, Access::Read] {
        let error = reader.connect(access).await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Connection, true));
        assert!(error.to_string().contains("read-only one was asked for"), "{access:?}: {error}");
    }
    let mut connection = reader.host("127.0.0.1", standby.port).connect(Access::Write).await.unwrap();
    assert_eq!(
        value::<i64>(&mut connection, "SELECT cast(inet_server_port() AS bigint)").await,
        i64::from(standby.port)
    );
}

#[tokio::test]
async fn settings_and_name_reach_the_server() {
    let Some(server) = server() else { return };
    let connector = server.connector().application_name("the till").setting("app.note", "a b, \\c");
    let error = refused(connector.clone().setting("work_mem", "plenty")).await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Config, false));
    let mut connection = connector.setting("statement_timeout", "300ms").connect(Access::Write).await.unwrap();
    assert_eq!(value::<String>(&mut connection, "SHOW application_name").await, "the till");
    assert_eq!(value::<String>(&mut connection, "SHOW app.note").await, "a b, \\c");
    let error = run_sql(&mut connection, "SELECT pg_sleep(5)", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason(), error.is_transient()), (ErrorKind::Timeout, Reason::RolledBack, false));
}

/// A certificate for `names`, signed by `authority`.
struct Identity {
    certificate: String,
    key: String,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn identity(authority: &CertifiedIssuer<'_, KeyPair>, name: &str, last_year: i32) -> Identity {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap().pem();
    Identity { certificate, key: key.serialize_pem() }
}

/// A server that shows `identity`.
fn tls_server(identity: &Identity) -> Option<common::Server> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    let (certificate, key) = (directory.join("server.pem"), directory.join("server.key"));
    fs::write(&certificate, &identity.certificate).unwrap();
    fs::write(&key, &identity.key).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    common::give_to_server(&directory);
    let settings = format!("ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'", certificate.display(), key.display());
    let server = server_with(&settings);
    fs::remove_dir_all(directory).unwrap();
    server
}

/// An authority with a key of this kind; the kind decides how certificates are signed.
fn authority_of(kind: &'static rcgen::SignatureAlgorithm) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate_for(kind).unwrap()).unwrap()
}

#[tokio::test]
async fn a_login_is_bound_to_the_server_s_certificate_where_that_can_be() {
    for (kind, binds) in
        [(&rcgen::PKCS_ECDSA_P256_SHA256, true), (&rcgen::PKCS_ECDSA_P384_SHA384, true), (&rcgen::PKCS_ED25519, false)]
    {
        let authority = authority_of(kind);
        let Some(server) = tls_server(&identity(&authority, "localhost", 4000)) else { return };
        let connector = PostgresConnector::new("localhost", server.port).database("postgres").user("app");
        let connector = connector.key(PassphraseKeySource::new(PASSWORD)).tls(Tls::authority(authority.pem()).unwrap());
        for binding in [ChannelBinding::Disable, ChannelBinding::Prefer] {
            connector.clone().channel_binding(binding).connect(Access::Write).await.unwrap();
        }
        let required = connector.channel_binding(ChannelBinding::Require);
        let outcome = required.connect(Access::Write).await;
        if binds {
            // What is written goes through both: TLS, and what asks for the first row only.
            let db = AsyncDatabase::with_connector(required.clone()).pool_max(1).open().await.unwrap();
            let endless = "SELECT generate_series(1, 1000000000)";
            let first = tokio::time::timeout(Duration::from_secs(10), db.fetch_value::<i64>(endless, ())).await;
            assert_eq!(first.expect("in time").unwrap(), Some(1));
            assert_eq!(db.fetch_all("SELECT generate_series(1, 10)", ()).await.unwrap().len(), 10);
            let error = refused(required.tls(Tls::off())).await;
            assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Config, false), "{error}");
        } else {
            let error = outcome.unwrap_err();
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::AuthRefused), "{error}");
            assert!(error.to_string().contains("does not bind the login"), "{error}");
        }
    }
}

/// Stands between a client and the server on `port`, with a certificate of its own that the client trusts, and passes
/// everything on. `strips`: it hides from the client that the login can be bound.
async fn stand_between(port: u16, authority: &CertifiedIssuer<'_, KeyPair>, strips: bool) -> u16 {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

    const PLEASE: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let Identity { certificate, key } = identity(authority, "localhost", 4000);
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let served = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let served = served.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let asked = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let asked = asked.with_root_certificates(roots).with_no_client_auth();
    let (served, asked) =
        (tokio_rustls::TlsAcceptor::from(Arc::new(served)), tokio_rustls::TlsConnector::from(Arc::new(asked)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (served, asked) = (served.clone(), asked.clone());
            tokio::spawn(async move {
                client.read_exact(&mut [0; 8]).await?;
                client.write_all(b"S").await?;
                let mut client = served.accept(client).await?;
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                server.write_all(&PLEASE).await?;
                server.read_exact(&mut [0]).await?;
                let mut server = asked.connect(ServerName::try_from("localhost").unwrap(), server).await?;
                if strips {
                    let mut first = vec![0; 4096];
                    let length = client.read(&mut first).await?;
                    server.write_all(&first[..length]).await?;
                    let mut offer = vec![0; 4096];
                    let length = server.read(&mut offer).await?;
                    assert!(String::from_utf8_lossy(&offer[..length]).contains("SCRAM-SHA-256-PLUS"), "it is offered");
                    let offer = [&[b'R', 0, 0, 0, 23, 0, 0, 0, 10][..], b"SCRAM-SHA-256\0\0"].concat();
                    client.write_all(&offer).await?;
                }
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    own
}

#[tokio::test]
async fn nobody_with_another_certificate_stands_between_a_bound_login_and_the_server() {
    let authority = authority();
    let Some(server) = tls_server(&identity(&authority, "localhost", 4000)) else { return };
    for strips in [false, true] {
        let port = stand_between(server.port, &authority, strips).await;
        let connector = PostgresConnector::new("localhost", port).database("postgres").user("app");
        let connector = connector.key(PassphraseKeySource::new(PASSWORD)).tls(Tls::authority(authority.pem()).unwrap());
        // Its certificate is trusted, so without binding it reads everything.
        let unbound = connector.clone().channel_binding(ChannelBinding::Disable);
        assert_eq!(
            value::<i64>(&mut unbound.connect(Access::Write).await.unwrap(), "SELECT cast(1 AS bigint)").await,
            1
        );
        for binding in [ChannelBinding::Prefer, ChannelBinding::Require] {
            let error = refused(connector.clone().channel_binding(binding)).await;
            let text = format!("{strips}, {binding:?}: {error}");
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::AuthRefused), "{text}");
            assert!(!error.is_transient(), "{text}");
        }
        refused(connector).await;
    }
}

#[tokio::test]
async fn a_server_must_prove_who_it_is() {
    let (ours, theirs) = (authority(), authority());
    let trusted = Tls::authority(ours.pem()).unwrap();
    let cases = [
        (identity(&ours, "localhost", 4000), None),
        (identity(&ours, "elsewhere.example", 4000), Some("is for another name")),
        (identity(&ours, "localhost", 2002), Some("has expired")),
        (identity(&theirs, "localhost", 4000), Some("is not trusted here")),
    ];
    for (identity, refusal) in cases {
        let Some(server) = tls_server(&identity) else { return };
        let connector = PostgresConnector::new("localhost", server.port).database("postgres").user("app");
        let connector = connector.key(PassphraseKeySource::new(PASSWORD)).tls(trusted.clone());
        let Some(refusal) = refusal else {
            let mut connection = connector.connect(Access::Write).await.unwrap();
            let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            assert!(value::<bool>(&mut connection, encrypted).await);
            // A request to stop goes the same protected way.
            let call = run_sql(&mut connection, "SELECT pg_sleep(30)", ());
            tokio::time::timeout(Duration::from_millis(200), call).await.unwrap_err();
            let began = Instant::now();
            connection.reset().await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(5));
            let error = refused(connector.tls(Tls::verify_full())).await;
            assert_eq!(error.reason(), Reason::Untrusted, "{error}");
            continue;
        };
        let error = refused(connector).await;
        assert_eq!(
            (error.kind(), error.reason(), error.is_transient()),
            (ErrorKind::Connection, Reason::Untrusted, false)
        );
        assert!(error.to_string().contains(refusal), "{error}");
    }
}

/// As with libpq: dialled by the address, verified by the name.
#[tokio::test]
async fn a_host_with_an_address_is_looked_up_nowhere_and_keeps_its_name() {
    let ours = authority();
    let Some(server) = tls_server(&identity(&ours, "db.invalid", 4000)) else { return };
    let (password, port) = (PASSWORD.replace(' ', "%20"), server.port);
    let connector = |host: &str, more: &str| {
        let url = format!("postgres://app:{password}@{host}/postgres?sslmode=verify-full{more}");
        PostgresConnector::from_url(url).unwrap().tls(Tls::authority(ours.pem()).unwrap())
    };
    for (host, more) in [
        (format!("db.invalid:{port}"), "&hostaddr=127.0.0.1"),
        // One without an address is looked up.
        (format!("nowhere.invalid:1,db.invalid:{port}"), "&hostaddr=,127.0.0.1"),
    ] {
        let mut connection = connector(&host, more).connect(Access::Write).await.unwrap();
        assert_eq!(value::<i64>(&mut connection, "SELECT CAST(1 AS BIGINT)").await, 1);
    }
    // An address alone is the name, too.
    for host in [format!("other.invalid:{port}"), format!(":{port}")] {
        let error = refused(connector(&host, "&hostaddr=127.0.0.1")).await;
        assert_eq!(error.reason(), Reason::Untrusted, "{error}");
    }
    let error = refused(connector(&format!("db.invalid:{port}"), "")).await;
    assert!(error.to_string().contains("its name"), "{error}");
    let error = refused(connector("db.invalid:1", "&hostaddr=127.0.0.1")).await;
    assert!(error.to_string().contains("db.invalid:1 at 127.0.0.1"), "{error}");
    for wrong in
        ["db.invalid?hostaddr=db.invalid", "db.invalid,b?hostaddr=127.0.0.1", "db.invalid?hostaddr=1.1.1.1,2.2.2.2"]
    {
        let error = PostgresConnector::from_url(format!("postgres://{wrong}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}: {error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_unless_tls_is_off() {
    let Some(server) = server() else { return };
    let error = refused(server.connector().tls(Tls::authority(authority().pem()).unwrap())).await;
    assert_eq!((error.reason(), error.is_transient()), (Reason::Untrusted, false));
    assert!(error.to_string().contains("Tls::off()"), "{error}");
    server.connector().tls(Tls::off()).connect(Access::Write).await.unwrap();
}

#[tokio::test]
async fn notifications_and_copy_are_reached_through_the_driver() {
    let Some(server) = server() else { return };
    let (mut connection, mut other) = (server.connect().await, server.connect().await);
    let mut notifications = connection.notifications();
    run_sql(&mut connection, "LISTEN orders", ()).await.unwrap();
    run_sql(&mut other, "SELECT pg_notify('orders', '42')", ()).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(5), notifications.recv()).await.unwrap().unwrap();
    assert_eq!((heard.channel(), heard.payload()), ("orders", "42"));

    other.run_script("CREATE TABLE t (a int)".into()).await.unwrap();
    let mut sink = Box::pin(other.native().copy_in("COPY t FROM STDIN").await.unwrap());
    sink.send(bytes::Bytes::from_static(b"1\n2\n")).await.unwrap();
    assert_eq!(sink.as_mut().finish().await.unwrap(), 2);
}
