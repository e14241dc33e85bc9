//! Turns: what runs on a runtime's thread without waiting gives the other tasks of the thread theirs.
//!
//! A turn is counted in time that calls took, not in calls: five point reads take three microseconds, five reads of a
//! hundred rows a hundred.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task;

use crate::lock::foreign;

/// How long calls for whose answers nobody waited follow each other before the other tasks of the thread get their
/// turn. With so many tasks as this counts, each waits for that long times their number.
const TURN: Duration = Duration::from_micros(3);

/// After a turn of that length the runtime's driver is asked too: timers and sockets wait for longer calls by now.
const LONG_TURN: Duration = Duration::from_micros(10);

/// The same while no other task of this thread calls anything: to yield then mostly wakes another thread for nothing.
const TURN_ALONE: Duration = Duration::from_micros(250);

/// The same before a transaction begins: tasks that queue for one writer have nothing to give each other by a turn, only
/// the rest of the thread has.
const TURN_BEGINNING: Duration = Duration::from_micros(250);

/// The same for calls inside a transaction, and on a connection that was lent for long: others wait for that until it
/// ends, so to yield there costs them more than it gives.
const TURN_HOLDING: Duration = Duration::from_millis(1);

/// How long a call is taken to last that nobody has measured: to look at the clock twice would cost it a tenth of that.
const SHORT: Duration = Duration::from_nanos(600);

thread_local! {
    static TURN_HERE: Cell<Turn> = const { Cell::new(Turn::NEW) };
}

/// What was done on this thread since others had their turn. Calls of different tasks are counted together: tasks that
/// wait for each other at every call would otherwise never get to the end of a turn.
#[derive(Clone, Copy)]
struct Turn {
    task: Option<task::Id>,
    alone: bool,
    spent: Duration,
}

impl Turn {
    const NEW: Self = Self { task: None, alone: false, spent: Duration::ZERO };

    /// Before a call of `task`; the flag says that others are next.
    fn before(self, task: Option<task::Id>, least: Duration) -> (Self, bool) {
        let alone = self.alone && self.task == task;
        if self.spent < least.max(if alone { TURN_ALONE } else { TURN }) {
            return (Self { task, alone, ..self }, false);
        }
        // If the next call on this thread is of the same task again, it is alone.
        (Self { task, alone: true, spent: Duration::ZERO }, true)
    }
}

/// Lets the other tasks of this thread run from time to time: a call that an engine answers on the spot never waits, so
/// nothing else would. Called before a connection is taken, because others would wait for that one.
pub(crate) async fn take() {
    take_of(TURN).await;
}

/// The same before a transaction begins.
pub(crate) async fn take_beginning() {
    take_of(TURN_BEGINNING).await;
}

/// The same for a call that has its connection already, and holds it afterwards.
pub(crate) async fn take_holding() {
    take_of(TURN_HOLDING).await;
}

async fn take_of(least: Duration) {
    let last = TURN_HERE.get();
    let (turn, over) = last.before(task::try_id(), least);
    TURN_HERE.set(turn);
    if over {
        if last.spent < LONG_TURN { step_back().await } else { task::yield_now().await }
    }
}

/// Goes behind the tasks of this thread that are ready now. tokio's own [`yield_now`](task::yield_now) waits until none is:
/// before that, the thread takes tasks of others and asks the driver, which costs more than a short turn.
async fn step_back() {
    let mut is_behind = false;
    poll_fn(|cx| {
        if is_behind {
            return Poll::Ready(());
        }
        is_behind = true;
        foreign();
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Lets the other tasks of this thread run now: between two pieces of a work of several.
pub(crate) async fn pass() {
    others_run();
    task::yield_now().await;
}

fn others_run() {
    TURN_HERE.set(Turn { spent: Duration::ZERO, ..TURN_HERE.get() });
}

/// Work on the caller's task took so long. Told by engines of what they know not to be short.
pub(crate) fn took(time: Duration) {
    let turn = TURN_HERE.get();
    TURN_HERE.set(Turn { spent: turn.spent.saturating_add(time), ..turn });
}

/// Runs a call of an engine, and counts it; while it waits for its answer, others run anyway. To yield then would cost
/// another thread's waking.
pub(crate) async fn noting<T>(mut call: Pin<&mut impl Future<Output = T>>) -> T {
    poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        if polled.is_pending() {
            others_run();
        } else {
            took(SHORT);
        }
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many calls that take so long each turn of these tasks ends.
    fn turns(time: Duration, tasks: &[Option<task::Id>]) -> Vec<u32> {
        TURN_HERE.set(Turn::NEW);
        let length = |task: &Option<task::Id>| {
            (1..=1000).find(|_| {
                took(time);
                let (turn, over) = TURN_HERE.get().before(*task, TURN);
                TURN_HERE.set(turn);
                over
            })
        };
        tasks.iter().filter_map(length).collect()
    }

    #[tokio::test]
    async fn a_task_gets_long_turns_only_while_it_is_alone() {
        let [one, two] = [tokio::spawn(async {}), tokio::spawn(async {})].map(|task| Some(task.id()));
        let micro = Duration::from_micros(1);
        assert_eq!(turns(micro, &[one, two, one, two]), [3, 3, 3, 3]);
        assert_eq!(turns(micro, &[one, one, one]), [3, 250, 250]);
        assert_eq!(turns(micro, &[one, one, two, one, one]), [3, 250, 3, 3, 250]);
        // A future that is polled outside of any task has none.
        assert_eq!(turns(micro, &[None, None, one]), [3, 250, 3]);
        assert_eq!(turns(Duration::from_micros(18), &[one, two, one, one]), [1, 1, 1, 14]);
        TURN_HERE.set(Turn::NEW);
        for call in 1..=3 {
            took(micro);
            let (turn, over) = TURN_HERE.get().before(if call % 2 == 0 { one } else { two }, TURN);
            TURN_HERE.set(turn);
            assert_eq!(over, call == 3, "two tasks in turn share one");
        }
    }

    #[tokio::test]
    async fn what_an_engine_measures_counts_for_as_long_as_it_took() {
        others_run();
        noting(std::pin::pin!(async { took(TURN) })).await;
        assert!(TURN_HERE.get().before(None, TURN).1);
        assert!(!TURN_HERE.get().before(None, TURN_HOLDING).1, "whoever holds what others wait for goes on for longer");
        took(TURN_HOLDING);
        assert!(TURN_HERE.get().before(None, TURN_HOLDING).1);
        noting(std::pin::pin!(task::yield_now())).await;
        assert!(TURN_HERE.get().spent < TURN, "while it waited, others ran");
    }
}
