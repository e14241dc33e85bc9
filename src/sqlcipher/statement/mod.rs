//! What is known of one statement: what it does, and how its values are bound.
//!
//! `watch` is the authorizer, which sees what a statement does while it is prepared (`seen`, and `subject` in a few words); `plan` keeps that with how long it
//! runs (`cost`) and the placeholders (`slots`: which is which of SQLite's), `ready` has a statement prepared and permitted and runs it, `halfway` finds those that can stop half-way, `straight`
//! those that cannot be long, `withhold` keeps values out of errors, and `seals` notices pages that were tampered with.

mod cost;
pub(crate) mod halfway;
pub(crate) mod plan;
pub(crate) mod ready;
pub(crate) mod seals;
pub(crate) mod seen;
mod slots;
pub(crate) mod straight;
mod subject;
mod telling;
pub(crate) mod watch;
pub(crate) mod withhold;
