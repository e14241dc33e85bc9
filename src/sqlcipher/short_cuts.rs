//! Short cuts that the environment switches off, so that every test can run without them: feature `testing`.

/// Names those that stay on by default, with commas between them. What a test sets by itself stays as it says.
const VARIABLE: &str = "STRONGROOM_SHORT_CUTS";

pub(super) fn is_on(name: &str) -> bool {
    std::env::var(VARIABLE).map_or(true, |named| named.split(',').any(|other| other == name))
}
