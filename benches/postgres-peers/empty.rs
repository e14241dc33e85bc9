//! There is only a bench here.
