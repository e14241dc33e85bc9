//! The servers of a cluster, and in which order they are asked.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::connector::Access;
use crate::error::{Error, ErrorKind, Phase, Reason};
use crate::lock::{Guard, Lock};

/// Readers ask a host that would not do after the others for so long.
const REST: Duration = Duration::from_secs(30);

/// A server: a name, an address, or the directory of a socket.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Where it is, if its name is not to be looked up. Its certificate and the password file still go by the name.
    pub(crate) address: Option<IpAddr>,
}

impl Host {
    pub(crate) fn new(name: impl Into<String>, port: u16) -> Self {
        Self { name: name.into(), port, address: None }
    }

    /// Whether `name` can be one. What cannot is not shown: it may be a URL with a password in it.
    pub(crate) fn is_named(&self) -> bool {
        let part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
        self.is_socket() || (!self.name.is_empty() && self.name.chars().all(part))
    }

    /// Whether it is the directory of a Unix socket.
    pub(crate) fn is_socket(&self) -> bool {
        self.name.starts_with('/') && !self.name.contains('@')
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port, address } = self;
        match () {
            () if !self.is_named() => f.write_str("what is no host name"),
            () if self.is_socket() => write!(f, "{name}/.s.PGSQL.{port}"),
            () if name.contains(':') => write!(f, "[{name}]:{port}"),
            () => write!(f, "{name}:{port}"),
        }?;
        address.map_or(Ok(()), |address| write!(f, " at {address}"))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where connections go that only read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readers {
    /// To all hosts in turn.
    #[default]
    Any,
    /// To the standbys in turn; to any host when no standby will do.
    PreferStandby,
    /// To the host that accepts writes, so that they see what has just been committed.
    Primary,
}

/// What is remembered of the hosts, by their number. It says whom to ask first, and nothing of other memory: `Relaxed` does.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The one that took writes last.
    writes: AtomicUsize,
    /// Readers begin with another one each time.
    turn: AtomicUsize,
    /// Those that would not do, for writers and for readers.
    rests: [Lock<Vec<HostRest>>; 2],
}

#[derive(Debug)]
struct HostRest {
    host: usize,
    standing: Standing,
    until: Instant,
}

/// What a host lately was, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    Fit,
    /// It answered, and would not do: it is of another kind, or full.
    Unfit,
    /// It did not answer.
    Silent,
}

impl Memory {
    /// All of `count` hosts, in the order in which to ask them.
    pub(crate) fn order(&self, count: usize, access: Access) -> Vec<usize> {
        let first = match access {
            Access::Write => self.writes.load(Ordering::Relaxed),
            Access::Read => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        // Turns are taken among those that are alike, so that each of them gets as many.
        let standings = self.standings(count, access);
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|host| standings[*host]);
        for alike in order.chunk_by_mut(|one, next| standings[*one] == standings[*next]) {
            alike.rotate_left(first % alike.len());
        }
        order
    }

    /// What each of `count` hosts lately was, all at one moment. Writers ask every host: the one that takes writes now may
    /// have refused them a moment ago.
    pub(crate) fn standings(&self, count: usize, access: Access) -> Vec<Standing> {
        let mut standings = vec![Standing::Fit; count];
        let now = Instant::now();
        for rest in self.rests(access).iter().filter(|rest| access == Access::Read && rest.until > now) {
            // A clone of the connector may have more hosts.
            if let Some(standing) = standings.get_mut(rest.host) {
                *standing = rest.standing;
            }
        }
        standings
    }

    pub(crate) fn did(&self, host: usize, access: Access) {
        if access == Access::Write {
            self.writes.store(host, Ordering::Relaxed);
        }
        self.rests(access).retain(|rest| rest.host != host);
    }

    pub(crate) fn refused(&self, host: usize, access: Access, standing: Standing) {
        let mut rests = self.rests(access);
        rests.retain(|rest| rest.host != host);
        rests.push(HostRest { host, standing, until: Instant::now() + REST });
    }

    fn rests(&self, access: Access) -> Guard<'_, Vec<HostRest>> {
        self.rests[usize::from(access == Access::Read)].lock()
    }
}

/// All hosts failed: the error of the only one, or one that tells what each of them said.
#[cold]
pub(super) fn no_host(mut failures: Vec<Error>) -> Error {
    if failures.len() == 1 {
        return failures.swap_remove(0);
    }
    // A host that answers but refuses writes tells more than one that does not answer.
    let reason =
        failures.iter().find(|error| error.reason() == Reason::NotWritable).map_or(Reason::Broken, Error::reason);
    let said: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let error = Error::new(ErrorKind::Connection, format!("no host will do: {}", said.join(", ")));
    error.because(reason).transient().during(Phase::Connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_take_turns_and_writers_go_where_they_were() {
        let memory = Memory::default();
        let firsts = |access| [(); 4].map(|()| memory.order(3, access)[0]);
        assert_eq!((firsts(Access::Read), firsts(Access::Write)), ([0, 1, 2, 0], [0; 4]));
        memory.did(2, Access::Write);
        assert_eq!(memory.order(3, Access::Write), [2, 0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_would_not_do_is_asked_last_for_a_while() {
        let memory = Memory::default();
        memory.refused(0, Access::Read, Standing::Silent);
        assert!((0..3).all(|_| memory.order(3, Access::Read)[2] == 0));
        memory.refused(1, Access::Read, Standing::Silent);
        let second = [(); 4].map(|()| memory.order(3, Access::Read)[1]);
        assert!(second.contains(&0) && second.contains(&1), "those who are asked last take turns too: {second:?}");
        memory.did(1, Access::Read);
        assert_eq!(memory.order(3, Access::Write)[0], 0, "what it refused is reading");
        tokio::time::advance(REST).await;
        assert!((0..3).any(|_| memory.order(3, Access::Read)[0] == 0));
        memory.refused(0, Access::Read, Standing::Silent);
        memory.did(0, Access::Read);
        assert!((0..3).any(|_| memory.order(3, Access::Read)[0] == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_would_not_do_is_asked_before_one_that_did_not_answer() {
        let memory = Memory::default();
        memory.refused(0, Access::Read, Standing::Silent);
        memory.refused(1, Access::Read, Standing::Unfit);
        // By a clone of the connector that has more hosts.
        memory.refused(5, Access::Read, Standing::Silent);
        assert!((0..3).all(|_| memory.order(3, Access::Read) == [2, 1, 0]));
    }

    #[test]
    fn what_may_hold_a_password_is_not_shown() {
        for name in ["postgres://app:secret@host/db", "app:secret@host", "host=a password=secret", "/x:secret@y", ""] {
            let host = Host::new(name, 5432);
            assert!(!host.is_named() && !format!("{host:?}{host}").contains("secret"), "{name}");
        }
        for (name, shown) in [("::1", "[::1]:1"), ("a-b.example", "a-b.example:1"), ("/run", "/run/.s.PGSQL.1")] {
            let host = Host::new(name, 1);
            assert!(host.is_named());
            assert_eq!(host.to_string(), shown);
        }
    }
}
