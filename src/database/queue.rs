//! What waits for the one writer: batches of jobs, in the order in which their drivers queue for it.
//!
//! Pure state, behind the lock of [`WriteLane`](super::lane::WriteLane), which knows callers, drivers and time.

use std::collections::VecDeque;

/// The batches of one database.
#[derive(Debug)]
pub(super) struct Batches<J> {
    batches: VecDeque<Batch<J>>,
    next: u64,
}

/// Jobs that wait for the same driver.
#[derive(Debug)]
struct Batch<J> {
    /// That of its first job.
    number: u64,
    /// How many calls had queued for the writer itself when it was opened; drivers are not counted.
    arrivals: u64,
    jobs: VecDeque<(u64, J)>,
}

impl<J> Default for Batches<J> {
    fn default() -> Self {
        Self { batches: VecDeque::new(), next: 0 }
    }
}

impl<J> Batches<J> {
    /// Whether nobody waits, so that a newcomer overtakes nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Joins the last batch, or opens one behind those who have queued for the writer since that was opened. Gives the
    /// number of the job; true: it is also that of a new batch, which needs a driver.
    pub(super) fn join(&mut self, arrivals: u64, job: J) -> (u64, bool) {
        let number = self.next;
        self.next += 1;
        match self.batches.back_mut() {
            Some(batch) if batch.arrivals == arrivals => {
                batch.jobs.push_back((number, job));
                (number, false)
            }
            _ => {
                self.batches.push_back(Batch { number, arrivals, jobs: VecDeque::from([(number, job)]) });
                (number, true)
            }
        }
    }

    /// Takes a job back; `None` if it is gone from its batch already.
    pub(super) fn leave(&mut self, number: u64) -> Option<J> {
        self.batches.iter_mut().find_map(|batch| {
            let at = batch.jobs.iter().position(|(of, _)| *of == number)?;
            batch.jobs.remove(at).map(|(_, job)| job)
        })
    }

    /// Takes jobs from the front of a batch until `most` wanted ones are found: first those that nobody wants any more,
    /// then the wanted ones. If none is wanted, the batch is over and removed.
    pub(super) fn take(&mut self, batch: u64, most: usize, wanted: impl Fn(&J) -> bool) -> (Vec<J>, Vec<J>) {
        let (mut group, mut unwanted) = (Vec::new(), Vec::new());
        let Some(at) = self.place(batch) else { return (unwanted, group) };
        let jobs = &mut self.batches[at].jobs;
        while group.len() < most {
            let Some((_, job)) = jobs.pop_front() else { break };
            if wanted(&job) { group.push(job) } else { unwanted.push(job) }
        }
        if group.is_empty() {
            self.batches.remove(at);
        }
        (unwanted, group)
    }

    /// Whether anything waits in a batch.
    pub(super) fn has_jobs(&self, batch: u64) -> bool {
        self.place(batch).is_some_and(|at| !self.batches[at].jobs.is_empty())
    }

    /// Ends a batch whose driver goes, and gives back what was left in it.
    pub(super) fn dissolve(&mut self, batch: u64) -> Vec<J> {
        let batch = self.place(batch).and_then(|at| self.batches.remove(at));
        batch.into_iter().flat_map(|batch| batch.jobs).map(|(_, job)| job).collect()
    }

    fn place(&self, batch: u64) -> Option<usize> {
        self.batches.iter().position(|found| found.number == batch)
    }
}

/// The lane in the small: real queue, threads for callers and drivers, and their steps in as many orders as
/// there is time for.
#[cfg(test)]
mod tests {
    use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use shuttle::sync::{Arc, Condvar, Mutex};
    use shuttle::thread;

    use super::Batches;

    /// What became of a job.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Answer {
        Done,
        Refused,
    }

    #[derive(Default)]
    struct Job {
        runs: AtomicU64,
        gone: AtomicBool,
        answer: Mutex<Option<Answer>>,
        news: Condvar,
    }

    impl Job {
        fn tell(&self, answer: Answer) {
            assert_eq!(self.answer.lock().unwrap().replace(answer), None, "answered twice");
            self.news.notify_all();
        }

        fn wait(&self) -> Answer {
            let mut answer = self.answer.lock().unwrap();
            loop {
                match *answer {
                    Some(answer) => return answer,
                    None => answer = self.news.wait(answer).unwrap(),
                }
            }
        }
    }

    /// How a caller behaves.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Caller {
        Waits,
        /// Its time is up at some moment: takes the job back, or waits on if it is running.
        LosesPatience,
        /// Its future is dropped.
        GoesAway,
        /// Queues for the writer itself, as transactions do.
        Transacts,
    }

    #[derive(Default)]
    struct Lane {
        queue: Mutex<Batches<Arc<Job>>>,
        arrivals: AtomicU64,
        writer: Mutex<()>,
        drivers: Mutex<Vec<thread::JoinHandle<()>>>,
    }

    fn drive(lane: &Lane, batch: u64, dies: bool) {
        let _writer = lane.writer.lock().unwrap();
        loop {
            let (_, group) = lane.queue.lock().unwrap().take(batch, 2, |job| !job.gone.load(SeqCst));
            if group.is_empty() {
                return;
            }
            for job in group {
                job.runs.fetch_add(1, SeqCst);
                job.tell(Answer::Done);
            }
            if dies {
                let left = lane.queue.lock().unwrap().dissolve(batch);
                for job in left {
                    job.tell(Answer::Refused);
                }
                return;
            }
        }
    }

    fn call(lane: &Arc<Lane>, caller: Caller, drivers_die: bool) {
        if caller == Caller::Transacts {
            lane.arrivals.fetch_add(1, SeqCst);
            drop(lane.writer.lock().unwrap());
            return;
        }
        let job = Arc::new(Job::default());
        let (number, opened) = lane.queue.lock().unwrap().join(lane.arrivals.load(SeqCst), Arc::clone(&job));
        if opened {
            let driver = thread::spawn({
                let lane = Arc::clone(lane);
                move || drive(&lane, number, drivers_die)
            });
            lane.drivers.lock().unwrap().push(driver);
        }
        match caller {
            Caller::GoesAway => job.gone.store(true, SeqCst),
            Caller::LosesPatience if lane.queue.lock().unwrap().leave(number).is_some() => {
                assert_eq!(job.runs.load(SeqCst), 0, "taken back, and run");
                assert_eq!(*job.answer.lock().unwrap(), None, "taken back, and answered");
            }
            _ => {
                let answer = job.wait();
                let runs = u64::from(answer == Answer::Done);
                assert_eq!(job.runs.load(SeqCst), runs, "{answer:?}");
            }
        }
    }

    fn play(callers: &[Caller], drivers_die: bool) {
        let lane = Arc::new(Lane::default());
        let threads: Vec<_> = callers
            .iter()
            .map(|caller| {
                let (lane, caller) = (Arc::clone(&lane), *caller);
                thread::spawn(move || call(&lane, caller, drivers_die))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let drivers = std::mem::take(&mut *lane.drivers.lock().unwrap());
        for driver in drivers {
            driver.join().unwrap();
        }
        assert!(lane.queue.lock().unwrap().is_empty(), "a batch was left behind");
    }

    /// Other processors are emulated where this is run for each change, and the orders are the model's, whatever the processor.
    const SHARE: usize = if cfg!(target_arch = "x86_64") { 1 } else { 10 };

    const ALL: [Caller; 4] = [Caller::Waits, Caller::LosesPatience, Caller::GoesAway, Caller::Transacts];

    #[test]
    fn searching_the_orders_of_two_callers_nobody_is_forgotten_or_served_twice() {
        for one in ALL {
            for two in ALL {
                shuttle::check_dfs(move || play(&[one, two], false), Some(1500 / SHARE));
            }
        }
    }

    #[test]
    fn in_many_orders_of_four_callers_nobody_is_forgotten_or_served_twice() {
        for dies in [false, true] {
            for one in ALL {
                let callers = [Caller::Waits, one, Caller::LosesPatience, Caller::Waits];
                shuttle::check_random(move || play(&callers, dies), 400 / SHARE);
                shuttle::check_pct(move || play(&callers, dies), 400 / SHARE, 3);
            }
        }
    }
}
