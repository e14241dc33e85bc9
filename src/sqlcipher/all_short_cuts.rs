//! Outside of tests nothing but the program decides which short cuts are taken.

pub(super) fn is_on(_name: &str) -> bool {
    true
}
