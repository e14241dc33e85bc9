//! A checker of serializability, after Elle (Kingsbury and Alvaro, VLDB 2020), for lists that only grow.
//!
//! Each value is appended once, so a list that was read says who wrote before whom. Of two transactions one is behind
//! the other if it wrote behind it (`ww`), read what it wrote (`wr`), wrote what it had not read yet (`rw`), or began
//! after the end of it (`rt`). They can be put into one order if nothing is behind itself.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

#[path = "cycles.rs"]
mod cycles;

use std::collections::{BTreeMap, BTreeSet};

use cycles::{Edge, Graph};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A value to the list of a key.
    Append(u64, u64),
    /// What the list of a key was.
    Read(u64, Vec<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Committed,
    Aborted,
    /// It may have committed, and may yet.
    Unknown,
}

/// What one transaction did, in its order, and what its caller was told, by the clock of [`now`](super::lists::now).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transaction {
    pub begun: u64,
    pub ended: u64,
    pub ops: Vec<Op>,
    pub outcome: Outcome,
}

/// What time says of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Whoever began after the end of another one is behind it: nobody sees the past.
    RealTime,
    /// Only the transaction that began last is behind all that were acknowledged.
    LastReading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A transaction does not see what it wrote itself, or sees a list change.
    Internal,
    /// A value was read that nobody appended, or twice.
    Garbage,
    /// A value of a transaction that was rolled back was read.
    G1a,
    /// A value was read behind which its transaction appended another one.
    G1b,
    /// Two lists of one key contradict each other.
    Fork,
    /// Writes alone go around.
    G0,
    /// Writes, and reads of them, go around.
    G1c,
    /// One transaction read the past, and wrote or saw what came after it: a lost update, a torn read.
    GSingle,
    /// Several read what others wrote over: write skew.
    G2,
}

/// What contradicts every order; true: an order that time allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pub kind: Kind,
    pub in_time: bool,
    pub said: String,
}

/// How much was checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    pub committed: usize,
    pub aborted: usize,
    pub unknown: usize,
    pub edges: usize,
}

/// A list as a transaction found it, without what it had appended to it itself.
struct Found<'h> {
    reader: usize,
    key: u64,
    before: &'h [u64],
}

#[derive(Default)]
struct Lists<'h> {
    /// Who appended a value.
    writers: BTreeMap<u64, usize>,
    /// What a transaction appended last to a list.
    last: BTreeMap<(usize, u64), u64>,
    appended: BTreeMap<u64, BTreeSet<u64>>,
    found: Vec<Found<'h>>,
    /// The longest list of each key that was read.
    longest: BTreeMap<u64, &'h [u64]>,
}

/// Looks for an order of all transactions that explains what each was told.
pub fn check(history: &[Transaction], order: Order) -> Result<Checked, Anomaly> {
    let lists = Lists::of(history)?;
    let mut graph = Graph::new(history.len());
    lists.connect(&mut graph);
    let counted = |outcome| history.iter().filter(|each| each.outcome == outcome).count();
    let [committed, aborted, unknown] = [Outcome::Committed, Outcome::Aborted, Outcome::Unknown].map(counted);
    for in_time in [false, true] {
        if in_time {
            connect_in_time(&mut graph, history, order);
        }
        if let Some((kind, cycle)) = cyclic(&graph) {
            let one = |(from, edge): &(usize, Edge)| format!("{:?} --{edge:?}--> ", short(&history[*from]));
            return Err(Anomaly { kind, in_time, said: cycle.iter().map(one).collect::<String>() + "the first" });
        }
    }
    Ok(Checked { committed, aborted, unknown, edges: graph.edges() })
}

fn cyclic(graph: &Graph) -> Option<(Kind, Vec<(usize, Edge)>)> {
    let written = graph.cycle(|edge| matches!(edge, Edge::Ww | Edge::Rt)).map(|cycle| (Kind::G0, cycle));
    written
        .or_else(|| graph.cycle(|edge| edge != Edge::Rw).map(|cycle| (Kind::G1c, cycle)))
        .or_else(|| graph.cycle_with_one(Edge::Rw).map(|cycle| (Kind::GSingle, cycle)))
        .or_else(|| graph.cycle(|_| true).map(|cycle| (Kind::G2, cycle)))
}

/// With the ends of its lists only.
fn short(transaction: &Transaction) -> (u64, u64, Vec<String>) {
    let ops = transaction.ops.iter().map(|op| match op {
        Op::Append(key, value) => format!("{key} += {value}"),
        Op::Read(key, list) => format!("{key} = {} values to {:?}", list.len(), list.last()),
    });
    (transaction.begun, transaction.ended, ops.collect())
}

impl<'h> Lists<'h> {
    fn of(history: &'h [Transaction]) -> Result<Self, Anomaly> {
        let mut lists = Self::default();
        for (number, transaction) in history.iter().enumerate() {
            for op in &transaction.ops {
                if let Op::Append(key, value) = op {
                    assert_eq!(lists.writers.insert(*value, number), None, "{value} is appended twice");
                    lists.last.insert((number, *key), *value);
                }
            }
        }
        let seen: BTreeSet<u64> = values_read(history).collect();
        let happened = |transaction: &Transaction| match transaction.outcome {
            Outcome::Committed => true,
            Outcome::Aborted => false,
            // What others saw of it was committed.
            Outcome::Unknown => {
                transaction.ops.iter().any(|op| matches!(op, Op::Append(_, value) if seen.contains(value)))
            }
        };
        for (number, transaction) in history.iter().enumerate().filter(|(_, each)| happened(each)) {
            lists.take(number, transaction, history)?;
        }
        Ok(lists)
    }

    fn take(&mut self, number: usize, transaction: &'h Transaction, history: &[Transaction]) -> Result<(), Anomaly> {
        let fail = |kind, what: String| {
            Err(Anomaly { kind, in_time: false, said: format!("{what}, by {:?}", short(transaction)) })
        };
        let (mut own, mut before) = (BTreeMap::<u64, Vec<u64>>::new(), BTreeMap::new());
        for op in &transaction.ops {
            let (key, list) = match op {
                Op::Append(key, value) => {
                    own.entry(*key).or_default().push(*value);
                    self.appended.entry(*key).or_default().insert(*value);
                    continue;
                }
                Op::Read(key, list) => (*key, list),
            };
            if list.iter().collect::<BTreeSet<_>>().len() < list.len() {
                return fail(Kind::Garbage, format!("a value stands twice in {list:?}"));
            }
            for value in list {
                match self.writers.get(value).map(|writer| history[*writer].outcome) {
                    None => return fail(Kind::Garbage, format!("nobody appended {value}")),
                    Some(Outcome::Aborted) => return fail(Kind::G1a, format!("{value} was rolled back and is read")),
                    Some(_) => {}
                }
            }
            let Some(others) = list.strip_suffix(own.get(&key).map_or(&[][..], Vec::as_slice)) else {
                return fail(Kind::Internal, format!("the list of {key} lacks its own values"));
            };
            if *before.entry(key).or_insert(others) != others {
                return fail(Kind::Internal, format!("the list of {key} has changed"));
            }
            if let Some(value) = others.last().filter(|value| {
                self.writers[value] != number && self.last.get(&(self.writers[value], key)) != Some(value)
            }) {
                return fail(Kind::G1b, format!("{value} is not the last of its transaction, and is read as the last"));
            }
            let longest = self.longest.entry(key).or_insert(list);
            let (short, long) =
                if list.len() > longest.len() { (*longest, list.as_slice()) } else { (&**list, *longest) };
            if !long.starts_with(short) {
                return fail(Kind::Fork, format!("two lists of {key}: {short:?} and {long:?}"));
            }
            *longest = long;
            self.found.push(Found { reader: number, key, before: others });
        }
        Ok(())
    }

    fn connect(&self, graph: &mut Graph) {
        for list in self.longest.values() {
            for pair in list.windows(2) {
                graph.add(self.writers[&pair[0]], self.writers[&pair[1]], Edge::Ww);
            }
        }
        let nothing = BTreeSet::new();
        // What no list shows was appended behind all that are there.
        let never_seen: BTreeMap<u64, Vec<u64>> = self
            .longest
            .iter()
            .map(|(key, list)| {
                let seen: BTreeSet<u64> = list.iter().copied().collect();
                (*key, self.appended.get(key).unwrap_or(&nothing).difference(&seen).copied().collect())
            })
            .collect();
        for Found { reader, key, before } in &self.found {
            if let Some(value) = before.last() {
                graph.add(self.writers[value], *reader, Edge::Wr);
            }
            let next = self.longest[key].get(before.len()).into_iter();
            for value in next.chain(&never_seen[key]) {
                graph.add(*reader, self.writers[value], Edge::Rw);
            }
        }
    }
}

fn values_read(history: &[Transaction]) -> impl Iterator<Item = u64> {
    let told = history.iter().filter(|transaction| transaction.outcome == Outcome::Committed);
    told.flat_map(|transaction| &transaction.ops)
        .filter_map(|op| match op {
            Op::Read(_, list) => Some(list.iter().copied()),
            Op::Append(..) => None,
        })
        .flatten()
}

/// The edges between those that ended and those that began after, without those that follow from others.
fn connect_in_time(graph: &mut Graph, history: &[Transaction], order: Order) {
    let mut events = Vec::new();
    for (number, transaction) in history.iter().enumerate().filter(|(_, each)| each.outcome != Outcome::Aborted) {
        events.push((transaction.begun, false, number));
        if transaction.outcome == Outcome::Committed {
            events.push((transaction.ended, true, number));
        }
    }
    events.sort_unstable();
    let last = events.iter().rev().find(|(_, ends, _)| !ends).map(|(.., number)| *number);
    let (mut newest, mut before) = (BTreeSet::new(), BTreeMap::new());
    let mut connect = |all: &BTreeSet<usize>, number| {
        for earlier in all {
            graph.add(*earlier, number, Edge::Rt);
        }
    };
    for (_, ends, number) in events {
        if order == Order::LastReading {
            if ends {
                newest.insert(number);
            } else if Some(number) == last {
                connect(&newest, number);
            }
        } else if ends {
            newest = &newest - &before.remove(&number).unwrap_or_default();
            newest.insert(number);
        } else {
            connect(&newest, number);
            before.insert(number, newest.clone());
        }
    }
}
