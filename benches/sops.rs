//! One key of a SOPS file with 200 values: read by this crate, and by the real program where it is there.

#[path = "../tests/common/peers.rs"]
mod peers;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use strongroom::keys::sops::{IdentitySources, KeyPath, SopsBackend, SopsFormat, decrypt};
use strongroom::{KeySource, SopsKeySource};

fn read(criterion: &mut Criterion) {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops");
    let identities = IdentitySources::none().file(vectors.join("keys.txt"));
    let source = SopsKeySource::new(vectors.join("good/big.enc.yaml"), "key_199").identities(identities);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let resolve = |source: &SopsKeySource| runtime.block_on(source.resolve()).unwrap();

    let mut group = criterion.benchmark_group("sops, 200 values");
    let fresh = source.clone().ttl(Duration::ZERO);
    group.bench_function("native", |bench| bench.iter(|| black_box(resolve(&fresh))));
    group.bench_function("native, kept", |bench| bench.iter(|| black_box(resolve(&source))));
    let bytes = std::fs::read(vectors.join("good/big.enc.yaml")).unwrap();
    let own = IdentitySources::none().secret(std::fs::read(vectors.join("keys.txt")).unwrap());
    let path: KeyPath = "key_199".parse().unwrap();
    group.bench_function("native, in memory", |bench| {
        bench.iter(|| black_box(decrypt(&bytes, SopsFormat::Yaml, &path, &own).unwrap()));
    });
    if let Some(sops) = peers::peer("sops") {
        let program = fresh.backend(SopsBackend::Binary).program(sops);
        group.sample_size(20);
        group.bench_function("the sops program", |bench| bench.iter(|| black_box(resolve(&program))));
    }
}

criterion_group!(benches, read);
criterion_main!(benches);
