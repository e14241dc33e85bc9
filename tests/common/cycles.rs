//! A graph with edges of several kinds, and the search for its cycles.

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// Wrote behind it.
    Ww,
    /// Was read by it.
    Wr,
    /// Had not read what it wrote.
    Rw,
    /// Ended before it began.
    Rt,
}

pub struct Graph {
    next: Vec<Vec<(usize, Edge)>>,
}

impl Graph {
    pub fn new(nodes: usize) -> Self {
        Self { next: vec![Vec::new(); nodes] }
    }

    /// Nothing is behind itself for what it did itself.
    pub fn add(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.next[from].push((to, edge));
        }
    }

    pub fn edges(&self) -> usize {
        self.next.iter().map(Vec::len).sum()
    }

    /// A short cycle of such edges: each node with the edge that leads on from it.
    pub fn cycle(&self, may: impl Fn(Edge) -> bool) -> Option<Vec<(usize, Edge)>> {
        let knots = self.knots(&may);
        let start = (0..self.next.len())
            .find(|node| self.next[*node].iter().any(|(to, edge)| may(*edge) && knots[*to] == knots[*node]))?;
        self.path(start, start, |to, edge| may(edge) && knots[to] == knots[start])
    }

    /// A cycle with exactly one edge of this kind.
    pub fn cycle_with_one(&self, special: Edge) -> Option<Vec<(usize, Edge)>> {
        let knots = self.knots(|_| true);
        let mut all =
            (0..self.next.len()).flat_map(|from| self.next[from].iter().map(move |(to, edge)| (from, *to, *edge)));
        all.find_map(|(from, to, edge)| {
            if edge != special || knots[from] != knots[to] {
                return None;
            }
            let back = self.path(to, from, |to, edge| edge != special && knots[to] == knots[from])?;
            Some([(from, edge)].into_iter().chain(back).collect())
        })
    }

    /// The shortest way, of at least one edge.
    fn path(&self, from: usize, to: usize, may: impl Fn(usize, Edge) -> bool) -> Option<Vec<(usize, Edge)>> {
        let mut came = vec![None; self.next.len()];
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for (next, edge) in &self.next[node] {
                if came[*next].is_none() && may(*next, *edge) {
                    came[*next] = Some((node, *edge));
                    queue.push_back(*next);
                }
            }
            if came[to].is_some() {
                break;
            }
        }
        let (mut way, mut at) = (vec![came[to]?], came[to]?.0);
        while at != from {
            way.push(came[at]?);
            at = came[at]?.0;
        }
        way.reverse();
        Some(way)
    }

    /// For each node the number of what is strongly connected with it, after Tarjan, without recursion.
    fn knots(&self, may: impl Fn(Edge) -> bool) -> Vec<usize> {
        const NONE: usize = usize::MAX;
        let count = self.next.len();
        let (mut number, mut low, mut knot) = (vec![NONE; count], vec![0; count], vec![NONE; count]);
        let (mut next_number, mut open) = (0, Vec::new());
        for root in 0..count {
            let mut calls = vec![(root, 0)];
            while let Some((node, at)) = calls.pop() {
                if at == 0 {
                    if number[node] != NONE {
                        continue;
                    }
                    (number[node], low[node]) = (next_number, next_number);
                    next_number += 1;
                    open.push(node);
                }
                if let Some((to, edge)) = self.next[node].get(at) {
                    calls.push((node, at + 1));
                    if may(*edge) && knot[*to] == NONE {
                        if number[*to] == NONE {
                            calls.push((*to, 0));
                        } else {
                            low[node] = low[node].min(number[*to]);
                        }
                    }
                    continue;
                }
                if low[node] == number[node] {
                    while let Some(member) = open.pop() {
                        knot[member] = node;
                        if member == node {
                            break;
                        }
                    }
                }
                if let Some((above, _)) = calls.last() {
                    low[*above] = low[*above].min(low[node]);
                }
            }
        }
        knot
    }
}
