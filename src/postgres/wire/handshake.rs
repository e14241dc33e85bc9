//! The TLS handshake with one host, and the encrypted stream, as the driver takes them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// The driver's view of a handshake with one host.
#[derive(Clone)]
pub(crate) struct Handshake {
    connector: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
    stays_open: bool,
}

impl Handshake {
    pub(crate) fn new(config: Arc<ClientConfig>, host: &str) -> Result<Self, InvalidDnsNameError> {
        Ok(Self { connector: config.into(), name: ServerName::try_from(host.to_owned())?, stays_open: false })
    }

    /// For a stream that the other side is to close.
    pub(crate) fn stays_open(&self) -> Self {
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

pub(crate) struct Handshaking<S> {
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
pub(crate) struct Encrypted<S> {
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
