//! What is known of one statement: what it does, and how its values are bound.
//!
//! `watch` is the authorizer, which sees what a statement does while it is prepared (`subject`: in a few words); `plan` keeps that with the
//! placeholders, `cost` how long it runs, `ready` has a statement prepared and permitted, `halfway` finds those that can stop half-way, `straight`
//! those that cannot be long, `rows` reads rows, `withhold` keeps values out of errors.

mod cost;
pub(crate) mod halfway;
pub(crate) mod plan;
pub(crate) mod ready;
pub(crate) mod rows;
pub(crate) mod straight;
mod subject;
mod telling;
pub(crate) mod watch;
pub(crate) mod withhold;
