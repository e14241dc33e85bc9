//! Turns: what runs on a runtime's thread without waiting gives the other tasks of the thread theirs.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;

use tokio::task;

/// Calls in a row for whose answers nobody waited, after which the other tasks of the thread get their turn.
const CALLS: u8 = 16;

/// The same while no other task of this thread calls anything: to yield then mostly wakes another thread for nothing.
const CALLS_ALONE: u8 = 64;

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn { task: None, done: 0, ends: CALLS }) };
}

/// What was done on this thread since others had their turn. Calls of different tasks are counted together: tasks that
/// wait for each other at every call would otherwise never get to the end of a turn.
#[derive(Clone, Copy)]
struct Turn {
    task: Option<task::Id>,
    done: u8,
    ends: u8,
}

impl Turn {
    /// Counts a call of `task`; the flag says that others are next.
    fn after(self, task: Option<task::Id>) -> (Self, bool) {
        let ends = if self.task == task { self.ends } else { CALLS };
        match self.done + 1 {
            // If the next call on this thread is of the same task again, it is alone.
            last if last >= ends => (Self { task, done: 0, ends: CALLS_ALONE }, true),
            done => (Self { task, done, ends }, false),
        }
    }
}

/// Lets the other tasks of this thread run from time to time: a call that an engine answers on the spot never waits, so
/// nothing else would. Called before a connection is taken, because others would wait for that one.
pub(crate) async fn take() {
    let (turn, over) = TURN.get().after(task::try_id());
    TURN.set(turn);
    if over {
        task::yield_now().await;
    }
}

/// Lets the other tasks of this thread run now: between two pieces of a work of several.
pub(crate) async fn pass() {
    TURN.set(Turn { done: 0, ..TURN.get() });
    task::yield_now().await;
}

/// Runs a call of an engine; while it waits for its answer, others run anyway. To yield then would cost another thread's
/// waking.
pub(crate) async fn noting<T>(mut call: Pin<&mut impl Future<Output = T>>) -> T {
    poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        if polled.is_pending() {
            TURN.set(Turn { done: 0, ..TURN.get() });
        }
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many calls each turn of these tasks ends.
    fn turns(tasks: &[Option<task::Id>]) -> Vec<u8> {
        let mut turn = TURN.get();
        let length = |task: &Option<task::Id>| {
            (1..=u8::MAX).find(|_| {
                let over;
                (turn, over) = turn.after(*task);
                over
            })
        };
        tasks.iter().filter_map(length).collect()
    }

    #[tokio::test]
    async fn a_task_gets_long_turns_only_while_it_is_alone() {
        let [one, two] = [tokio::spawn(async {}), tokio::spawn(async {})].map(|task| Some(task.id()));
        assert_eq!(turns(&[one, two, one, two]), [16, 16, 16, 16]);
        assert_eq!(turns(&[one, one, one]), [16, 64, 64]);
        assert_eq!(turns(&[one, one, two, one, one]), [16, 64, 16, 16, 64]);
        // A future that is polled outside of any task has none.
        assert_eq!(turns(&[None, None, one]), [16, 64, 16]);
        let (mut turn, mut over) = (TURN.get(), false);
        for call in 1..=16 {
            assert!(!over, "call {call}");
            (turn, over) = turn.after(if call % 2 == 0 { one } else { two });
        }
        assert!(over, "two tasks in turn share one");
    }
}
