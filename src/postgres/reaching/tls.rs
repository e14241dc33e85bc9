//! How the way to the server is protected.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

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
    pub(crate) fn client_config(&self) -> Result<Option<Arc<ClientConfig>>> {
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
