//! What stands between a client of PostgreSQL and its server, and knows where a message begins: it cuts, delays, stalls,
//! splits or spoils the one that it is told.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strongroom::postgres::PostgresConnector;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::common::{Server, connector_at};

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// What happens to one message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Harm {
    /// Everything is cut behind it.
    CutBehind,
    /// Everything is cut in the middle of it.
    CutWithin,
    /// It, and what follows on its way, waits until it is healed.
    Stall,
    /// It waits so long.
    Delay(Duration),
    /// It is of a type that there is not.
    Type,
    /// It says that it is so long.
    Length(u32),
    /// The byte of its body at this place, counted from the end if that is negative, has another upper bit.
    Body(isize),
}

#[derive(Default)]
struct Plan {
    /// The next message but so many.
    harm: Option<(Side, usize, Harm)>,
    /// Each byte travels alone.
    split: bool,
    /// How often the client had a statement parsed.
    parses: usize,
    /// How many messages clients have sent.
    sent: usize,
}

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    plan: Mutex<Plan>,
    /// Counts what cuts all connections.
    cut: watch::Sender<u64>,
    /// Counts what ends a stall.
    healed: watch::Sender<u64>,
}

impl Shared {
    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to happen to the message that is there now.
    fn meet(&self, side: Side) -> Option<Harm> {
        let mut plan = self.plan();
        match &mut plan.harm {
            Some((of, 0, harm)) if *of == side => {
                let harm = *harm;
                plan.harm = None;
                Some(harm)
            }
            Some((of, left, _)) if *of == side => {
                *left -= 1;
                None
            }
            _ => None,
        }
    }
}

fn next(count: &watch::Sender<u64>) {
    count.send_modify(|count| *count += 1);
}

impl Proxy {
    pub async fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, healed) = (watch::Sender::new(0), watch::Sender::new(0));
        let shared = Arc::new(Shared { plan: Mutex::default(), cut, healed });
        let proxy = Self { port, shared: Arc::clone(&shared) };
        let to = server.port;
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                tokio::spawn(between(client, server, Arc::clone(&shared)));
            }
        });
        proxy
    }

    /// Harms the next message of a side but so many, on whichever connection that is.
    pub fn harm(&self, side: Side, skip: usize, harm: Harm) {
        self.shared.plan().harm = Some((side, skip, harm));
    }

    /// Cuts behind the next `messages` of the server, once.
    pub fn cut_after(&self, messages: usize) {
        match messages.checked_sub(1) {
            Some(skip) => self.harm(Side::Server, skip, Harm::CutBehind),
            None => self.cut_now(),
        }
    }

    pub fn cut_now(&self) {
        self.shared.plan().harm = None;
        next(&self.shared.cut);
    }

    /// How often clients had a statement parsed.
    pub fn parses(&self) -> usize {
        self.shared.plan().parses
    }

    /// How many messages clients have sent.
    pub fn sent(&self) -> usize {
        self.shared.plan().sent
    }

    pub fn split(&self, split: bool) {
        self.shared.plan().split = split;
    }

    /// Ends what stalls. Whether what was asked for has not happened; it is taken back.
    pub fn heal(&self) -> bool {
        next(&self.shared.healed);
        self.shared.plan().harm.take().is_some()
    }

    pub fn connector(&self) -> PostgresConnector {
        connector_at(self.port)
    }
}

/// Until one of both hangs up, or all is cut.
async fn between(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let mut cut = shared.cut.subscribe();
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        _ = pass(from_client, to_server, Side::Client, &shared) => {}
        _ = pass(from_server, to_client, Side::Server, &shared) => {}
        _ = cut.changed() => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, side: Side, shared: &Shared) -> io::Result<()> {
    // The first message of a client has no type.
    let mut typed = side == Side::Server;
    loop {
        let head = if typed { 5 } else { 4 };
        let mut message = vec![0; head];
        from.read_exact(&mut message).await?;
        let length = u32::from_be_bytes(message[head - 4..].try_into().unwrap()) as usize;
        message.resize(head - 4 + length, 0);
        from.read_exact(&mut message[head..]).await?;
        if side == Side::Client && typed && message[0] == b'P' {
            shared.plan().parses += 1;
        }
        shared.plan().sent += usize::from(side == Side::Client);
        typed = true;
        let harm = shared.meet(side);
        match harm {
            None | Some(Harm::CutBehind) => {}
            Some(Harm::CutWithin) => message.truncate(message.len() / 2),
            Some(Harm::Stall) => drop(shared.healed.subscribe().changed().await),
            Some(Harm::Delay(time)) => tokio::time::sleep(time).await,
            Some(Harm::Type) => message[0] = 0x7f,
            Some(Harm::Length(length)) => message[head - 4..head].copy_from_slice(&length.to_be_bytes()),
            Some(Harm::Body(at)) => {
                let length = message.len() - head;
                let at = usize::try_from(at).unwrap_or(length.wrapping_add_signed(at));
                if at < length {
                    message[head + at] ^= 0x80;
                }
            }
        }
        let alone = shared.plan().split;
        for part in message.chunks(if alone { 1 } else { usize::MAX }) {
            to.write_all(part).await?;
        }
        if matches!(harm, Some(Harm::CutBehind | Harm::CutWithin)) {
            next(&shared.cut);
            return Ok(());
        }
    }
}
