//! Short cuts that the environment switches off, so that every test can run without them: feature `testing`.

use super::tuning::{Checkpoints, Tuning};

/// Names those that stay on by default, with commas between them. What a test sets by itself stays as it says.
const VARIABLE: &str = "STRONGROOM_SHORT_CUTS";

pub(super) fn left_on(tuning: Tuning) -> Tuning {
    let Ok(named) = std::env::var(VARIABLE) else { return tuning };
    let on = |name| named.split(',').any(|other| other == name);
    tuning
        .inline_reads(on("inline_reads"))
        .inline_writes(on("inline_writes"))
        .kept_snapshots(on("kept_snapshots"))
        .group_commit(on("group_commit"))
        .checkpoints(if on("background_checkpoints") { Checkpoints::Background } else { Checkpoints::AtCommit })
}
