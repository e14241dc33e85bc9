//! Asking the server for the first row only.
//!
//! An Execute message says how many rows are wanted, and the server computes no more. The driver always asks for all of
//! them, except from portals of its own transactions, which take two more round trips. So the number is written into
//! the message on its way to the socket: that costs nothing, and works inside a transaction and outside.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::described::Described;
use super::in_step::InStep;
use super::reported::Reported;

/// Shared by a session and its socket: whether the next Execute message is to ask for one row. The message itself goes from one
/// to the other through a channel, which orders it behind this.
#[derive(Clone, Default)]
pub(crate) struct FirstRow(Arc<AtomicBool>);

impl FirstRow {
    /// The statement that is sent next stops after its first row. Dropping what is returned takes that back, in case the
    /// statement was not sent.
    pub(crate) fn only(&self) -> OnlyFirst {
        self.0.store(true, Ordering::Release);
        OnlyFirst(self.clone())
    }
}

pub(crate) struct OnlyFirst(FirstRow);

impl Drop for OnlyFirst {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// What a session and its socket tell each other beside the messages.
#[derive(Clone, Default)]
pub(crate) struct Beside {
    pub(crate) first_row: FirstRow,
    pub(crate) reported: Reported,
    pub(crate) described: Described,
}

/// What the driver sends in plain text, read as far as it takes to find Execute messages; and what arrives, as far as it
/// takes to see that it is in step.
pub(crate) struct Limited<S> {
    stream: S,
    at: Position,
    first_row: FirstRow,
    arrived: InStep,
}

impl<S> Limited<S> {
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// `stream` is at its beginning.
    pub(crate) fn new(stream: S, beside: Beside) -> Self {
        let Beside { first_row, reported, described } = beside;
        Self { stream, at: Position::BEGINNING, first_row, arrived: InStep::new(reported, described) }
    }
}

/// Where in a message the next byte stands: a letter, a length that counts itself, and the rest.
#[derive(Clone, Copy)]
struct Position {
    letter: u8,
    length: u32,
    /// Bytes of the letter and the length that are still to come.
    header: usize,
    /// Bytes of the rest that are still to come.
    rest: usize,
}

impl Position {
    /// The first message of all has no letter.
    const BEGINNING: Self = Self { letter: 0, length: 0, header: 4, rest: 0 };
    const MESSAGE: Self = Self { header: 5, ..Self::BEGINNING };

    /// Moves over `bytes`; says where in them the first Execute message ends, which is with the number of rows.
    fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut execute) = (0, None);
        while let Some(&byte) = bytes.get(at) {
            if self.header > 0 {
                match self.header {
                    5 => self.letter = byte,
                    _ => self.length = self.length << 8 | u32::from(byte),
                }
                (self.header, at) = (self.header - 1, at + 1);
                self.rest = (self.length as usize).saturating_sub(4);
            } else {
                let step = self.rest.min(bytes.len() - at);
                (self.rest, at) = (self.rest - step, at + step);
            }
            if (self.header, self.rest) == (0, 0) {
                if self.letter == b'E' {
                    execute.get_or_insert(at - 1);
                }
                *self = Self::MESSAGE;
            }
        }
        execute
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut at = this.at;
        let execute = at.advance(bytes).filter(|_| this.first_row.0.load(Ordering::Acquire));
        let polled = match execute {
            // No rows means all of them.
            Some(at) if bytes[at] == 0 => {
                let mut limited = bytes.to_vec();
                limited[at] = 1;
                Pin::new(&mut this.stream).poll_write(cx, &limited)
            }
            _ => Pin::new(&mut this.stream).poll_write(cx, bytes),
        };
        if let Poll::Ready(Ok(written)) = polled {
            this.at.advance(&bytes[..written]);
            if execute.is_some_and(|at| at < written) {
                this.first_row.0.store(false, Ordering::Release);
            }
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.arrived.look(&mut buffer.filled_mut()[before..]))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use proptest::prelude::*;

    use super::*;

    /// Takes a few bytes at a time.
    struct Narrow<'t>(&'t mut Vec<u8>, usize);

    impl AsyncWrite for Narrow<'_> {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn message(letter: &str, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(rest.len() + 4).unwrap().to_be_bytes();
        [letter.as_bytes(), &length, rest].concat()
    }

    proptest! {
        #[test]
        fn one_execute_asks_for_one_row_however_the_messages_are_cut(
            before in proptest::collection::vec(("[BDPSX]", proptest::collection::vec(any::<u8>(), 0..9)), 0..4),
            (given, taken) in (1..20_usize, 1..20_usize),
        ) {
            let all = message("E", b"\0\0\0\0\0");
            let mut sent = message("", b"EEEE");
            sent.extend(before.iter().flat_map(|(letter, rest)| message(letter, rest)));
            let row = sent.len() + all.len() - 1;
            sent.extend([&*all, &*message("S", b""), &*all].concat());
            let (beside, mut arrived) = (Beside::default(), Vec::new());
            let only = beside.first_row.only();
            let mut stream = pin!(Limited::new(Narrow(&mut arrived, taken), beside));
            for mut piece in sent.chunks(given) {
                while !piece.is_empty() {
                    let mut context = Context::from_waker(std::task::Waker::noop());
                    let Poll::Ready(written) = stream.as_mut().poll_write(&mut context, piece) else { unreachable!() };
                    piece = &piece[written.unwrap()..];
                }
            }
            drop(only);
            sent[row] = 1;
            prop_assert_eq!(arrived, sent);
        }
    }
}
