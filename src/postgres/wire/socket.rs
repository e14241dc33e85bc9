//! The way to a server: a TCP connection or a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// When the operating system asks whether the server is still there: after how much silence, again after what pause, and
/// how often. Without `Some` it decides itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    pub(crate) on: bool,
    pub(crate) idle: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) count: Option<u32>,
}

impl Default for Keepalive {
    /// A lost network is found out within minutes and not hours.
    fn default() -> Self {
        let pause = Some(Duration::from_secs(30));
        Self { on: true, idle: pause, interval: pause, count: None }
    }
}

impl Keepalive {
    fn apply(self, stream: &TcpStream) -> io::Result<()> {
        if !self.on {
            return Ok(());
        }
        let asks = socket2::TcpKeepalive::new();
        let asks = self.idle.map_or(asks.clone(), |idle| asks.with_time(idle));
        let asks = self.interval.map_or(asks.clone(), |interval| asks.with_interval(interval));
        let asks = self.count.map_or(asks.clone(), |count| asks.with_retries(count));
        socket2::SockRef::from(stream).set_tcp_keepalive(&asks)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr, Keepalive),
    Unix(PathBuf),
}

pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Address {
    pub(crate) async fn open(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address, keepalive) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                keepalive.apply(&stream)?;
                Ok(Stream::Tcp(stream))
            }
            #[cfg(unix)]
            Self::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            #[cfg(not(unix))]
            Self::Unix(path) => {
                let message = format!("there are no Unix sockets on this system to find {}", path.display());
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
        }
    }
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Tcp($inner) => $call,
            #[cfg(unix)]
            Stream::Unix($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}
