//! How the way to the server is protected.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::error::{Error, ErrorKind, Reason, Result};

/// How the way to the server is protected.
///
/// The default is what libpq calls `verify-full`: encrypted, the certificate comes from an authority that the operating
/// system trusts, and it is for the host name that was asked for. There is no mode that encrypts without checking whom
/// it talks to.
///
/// ```
/// use strongroom::postgres::Tls;
///
/// let error = Tls::authority("not a certificate").unwrap_err();
/// assert_eq!(error.kind(), strongroom::ErrorKind::Config);
/// ```
#[derive(Clone)]
pub struct Tls(Mode);

#[derive(Clone)]
enum Mode {
    Off,
    System,
    Config(Arc<ClientConfig>),
}

impl Tls {
    /// No encryption: for a server on this machine, or a network that is protected otherwise.
    pub fn off() -> Self {
        Self(Mode::Off)
    }

    /// Trusts the authorities of the operating system; the default.
    pub fn verify_full() -> Self {
        Self(Mode::System)
    }

    /// Trusts only the authorities whose certificates stand in `pem`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is no usable certificate in `pem`.
    pub fn authority(pem: impl AsRef<[u8]>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_ref()) {
            let certificate = certificate.map_err(|error| no_authority().caused_by(error.to_string()))?;
            roots.add(certificate).map_err(|error| no_authority().caused_by(error))?;
        }
        if roots.is_empty() { Err(no_authority()) } else { Ok(Self::config(client_config(roots)?)) }
    }

    /// Takes a whole configuration of rustls: for client certificates, pinning, or another provider of cryptography.
    pub fn config(config: impl Into<Arc<ClientConfig>>) -> Self {
        Self(Mode::Config(config.into()))
    }

    /// What is needed for handshakes; `None` when TLS is off.
    pub(super) fn client_config(&self) -> Result<Option<Arc<ClientConfig>>> {
        match &self.0 {
            Mode::Off => Ok(None),
            Mode::Config(config) => Ok(Some(Arc::clone(config))),
            Mode::System => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    let error = Error::new(ErrorKind::Connection, "this system trusts no certificate authority");
                    let hint = "install the package ca-certificates, or name the authority with Tls::authority(..)";
                    return Err(error.because(Reason::Untrusted).hint(hint));
                }
                client_config(roots).map(Arc::new).map(Some)
            }
        }
    }
}

#[cold]
fn no_authority() -> Error {
    Error::new(ErrorKind::Config, "Tls::authority was given no usable certificate")
        .because(Reason::Malformed)
        .hint("it takes certificates in PEM form")
}

fn client_config(roots: RootCertStore) -> Result<ClientConfig> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
    let builder =
        builder.map_err(|error| Error::new(ErrorKind::Config, "rustls refuses its own defaults").caused_by(error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Default for Tls {
    fn default() -> Self {
        Self::verify_full()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Mode::Off => "Tls(off)",
            Mode::System => "Tls(verify-full, system authorities)",
            Mode::Config(_) => "Tls(own configuration)",
        })
    }
}

/// The driver's view of a handshake with one host.
#[derive(Clone)]
pub(super) struct Handshake {
    connector: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
    stays_open: bool,
}

impl Handshake {
    pub(super) fn new(config: Arc<ClientConfig>, host: &str) -> Result<Self, InvalidDnsNameError> {
        Ok(Self { connector: config.into(), name: ServerName::try_from(host.to_owned())?, stays_open: false })
    }

    /// For a stream that the other side is to close.
    pub(super) fn stays_open(&self) -> Self {
        Self { stays_open: true, ..self.clone() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsConnect<S> for Handshake {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Handshaking<S>;

    fn connect(self, stream: S) -> Handshaking<S> {
        Handshaking { connect: self.connector.connect(self.name, stream), stays_open: self.stays_open }
    }
}

pub(super) struct Handshaking<S> {
    connect: tokio_rustls::Connect<S>,
    stays_open: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Handshaking<S> {
    type Output = io::Result<Encrypted<S>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let stays_open = self.stays_open;
        Pin::new(&mut self.connect).poll(cx).map_ok(|stream| Encrypted { stream, stays_open })
    }
}

/// rustls' stream, under a name that the driver's trait may be implemented for.
pub(super) struct Encrypted<S> {
    stream: tokio_rustls::client::TlsStream<S>,
    stays_open: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stays_open {
            return Pin::new(&mut self.stream).poll_flush(cx);
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    /// None: the certificate is verified in full, so that nobody can stand in between.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}
