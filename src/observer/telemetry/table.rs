//! A table that only grows, so that whoever looks something up in it takes no lock, and may use what was found for as long as the
//! table lives.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// As many chains as keep each short with a thousand entries.
const CHAINS: usize = 256;

pub(super) struct GrowingTable<T> {
    chains: [ChainLink<T>; CHAINS],
    /// A rough measure, so `Relaxed` does.
    len: AtomicUsize,
}

type ChainLink<T> = OnceLock<Box<ChainedEntry<T>>>;

struct ChainedEntry<T> {
    entry: T,
    next: ChainLink<T>,
}

impl<T> Default for GrowingTable<T> {
    fn default() -> Self {
        Self { chains: [const { OnceLock::new() }; CHAINS], len: AtomicUsize::new(0) }
    }
}

impl<T> GrowingTable<T> {
    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// The entry of this hash that `is_it` recognises.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        let mut link = self.chain(hash);
        while let Some(found) = link.get() {
            if is_it(&found.entry) {
                return Some(&found.entry);
            }
            link = &found.next;
        }
        None
    }

    /// Adds an entry. Two threads that add the same one add it twice, and the first of them is found.
    pub(super) fn add(&self, hash: u64, entry: T) -> &T {
        self.len.fetch_add(1, Relaxed);
        let mut new = Box::new(ChainedEntry { entry, next: OnceLock::new() });
        let mut link = self.chain(hash);
        loop {
            let Err(refused) = link.set(new) else { break };
            new = refused;
            link = link.get().map_or(link, |other| &other.next);
        }
        match link.get() {
            Some(added) => &added.entry,
            None => unreachable!("it was set"),
        }
    }

    fn chain(&self, hash: u64) -> &ChainLink<T> {
        // The low bits say which.
        #[allow(clippy::cast_possible_truncation, reason = "the high bits do not matter")]
        let chain = hash as usize % CHAINS;
        &self.chains[chain]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_add_at_the_same_time_is_all_found() {
        let table = GrowingTable::default();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let table = &table;
                scope.spawn(move || {
                    for n in 0..500 {
                        let entry = n * 4 + thread;
                        // Few chains, so that they meet.
                        assert_eq!(*table.add(entry % 8, entry), entry);
                    }
                });
            }
        });
        assert_eq!(table.len(), 2000);
        assert!((0..2000).all(|entry| table.find(entry % 8, |found| *found == entry) == Some(&entry)));
        assert_eq!(table.find(1, |found| *found == 2000), None);
    }
}
