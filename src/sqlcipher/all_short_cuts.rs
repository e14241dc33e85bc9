//! Outside of tests nothing but the program decides which short cuts are taken.

use super::tuning::Tuning;

pub(super) fn left_on(tuning: Tuning) -> Tuning {
    tuning
}
