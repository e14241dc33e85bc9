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

use super::end_point::end_point;
use super::first_row::{Beside, Limited};

/// The driver's view of a handshake with one host.
#[derive(Clone)]
pub(crate) struct Handshake {
    connector: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
    stays_open: bool,
    beside: Beside,
}

impl Handshake {
    pub(crate) fn new(config: Arc<ClientConfig>, host: &str) -> Result<Self, InvalidDnsNameError> {
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Self { connector: config.into(), name, stays_open: false, beside: Beside::default() })
    }

    /// For a stream that the other side is to close.
    pub(crate) fn stays_open(&self) -> Self {
        Self { stays_open: true, ..self.clone() }
    }

    /// For a session that shares this with its socket.
    pub(crate) fn beside(&self, beside: Beside) -> Self {
        Self { beside, ..self.clone() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsConnect<S> for Handshake {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Handshaking<S>;

    fn connect(self, stream: S) -> Handshaking<S> {
        let Self { connector, name, stays_open, beside } = self;
        Handshaking { connect: connector.connect(name, stream), stays_open, beside }
    }
}

pub(crate) struct Handshaking<S> {
    connect: tokio_rustls::Connect<S>,
    stays_open: bool,
    beside: Beside,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Handshaking<S> {
    type Output = io::Result<Encrypted<S>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (stays_open, beside) = (self.stays_open, self.beside.clone());
        let connected = Pin::new(&mut self.connect).poll(cx);
        connected.map_ok(|stream| Encrypted { stream: Limited::new(stream, beside), stays_open })
    }
}

/// rustls' stream, under a name that the driver's trait may be implemented for.
pub(crate) struct Encrypted<S> {
    stream: Limited<tokio_rustls::client::TlsStream<S>>,
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
    fn channel_binding(&self) -> ChannelBinding {
        let (_, connection) = self.stream.get_ref().get_ref();
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let end_point = certificate.and_then(|certificate| end_point(certificate));
        end_point.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}
