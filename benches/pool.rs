//! Checking a free connection out and giving it back, beside bb8 alone.
//!
//! `free` is one task alone. `contended` is eight tasks on two threads that share two connections, each holding one
//! for a turn of the scheduler; the number is the time of one loan.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use strongroom::engine::{Access, Canceller, Dialect, Resource, ResourceState};
use strongroom::{Capabilities, Connector, Pool, Result};
use tokio::runtime::{Builder, Runtime};

struct Nothings;
struct Nothing;

impl Connector for Nothings {
    type Connection = Nothing;
    fn capabilities(&self) -> Capabilities {
        Capabilities::new("nothing", Dialect::Other)
    }
    async fn connect(&self, _: Access) -> Result<Nothing> {
        Ok(Nothing)
    }
}

impl Resource for Nothing {
    fn state(&self) -> ResourceState {
        ResourceState::Idle
    }
    fn canceller(&self) -> Canceller {
        Canceller::none()
    }
    async fn ping(&mut self) -> Result<()> {
        Ok(())
    }
    async fn close(self) -> Result<()> {
        Ok(())
    }
}

impl bb8::ManageConnection for Nothings {
    type Connection = Nothing;
    type Error = Infallible;
    async fn connect(&self) -> Result<Nothing, Infallible> {
        Ok(Nothing)
    }
    async fn is_valid(&self, _: &mut Nothing) -> Result<(), Infallible> {
        Ok(())
    }
    fn has_broken(&self, _: &mut Nothing) -> bool {
        false
    }
}

const TASKS: u64 = 8;

fn bench(c: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let ours = Pool::builder(Nothings).max_size(2).build();
    let bb8 = runtime.block_on(bb8::Pool::builder().max_size(2).build(Nothings)).expect("bb8 connects");

    let mut free = c.benchmark_group("checkout/free");
    free.bench_function("strongroom", |b| {
        b.to_async(&runtime).iter(|| async { drop(black_box(ours.get().await.expect("free"))) });
    });
    free.bench_function("bb8", |b| {
        b.to_async(&runtime).iter(|| async { drop(black_box(bb8.get().await.expect("free"))) });
    });
    free.finish();

    let mut contended = c.benchmark_group("checkout/contended");
    many(&mut contended, &runtime, "strongroom", move || {
        let pool = ours.clone();
        async move {
            let loan = pool.get().await.expect("in turn");
            tokio::task::yield_now().await;
            drop(loan);
        }
    });
    many(&mut contended, &runtime, "bb8", move || {
        let pool = bb8.clone();
        async move {
            let loan = pool.get().await.expect("in turn");
            tokio::task::yield_now().await;
            drop(loan);
        }
    });
    contended.finish();
}

/// Measures `loan` run by all tasks at once; the time of one.
fn many<F, L>(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, name: &str, loan: F)
where
    F: Fn() -> L + Clone + Send + 'static,
    L: Future<Output = ()> + Send,
{
    group.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            let work = |loan: F, times: u64| async move {
                for _ in 0..times {
                    loan().await;
                }
            };
            let begin = Instant::now();
            runtime.block_on(async {
                let share = |task| iterations / TASKS + u64::from(task < iterations % TASKS);
                let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(work(loan.clone(), share(task)))).collect();
                for task in tasks {
                    task.await.expect("no task panics");
                }
            });
            begin.elapsed()
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = bench
}
criterion_main!(benches);
