//! A page of a b-tree, read without trust in what stands there.
//!
//! Source: "Database File Format", section 1.6.

use super::record;

/// What a page of a b-tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageKind {
    TableLeaf,
    TableInner,
    IndexLeaf,
    IndexInner,
}

impl PageKind {
    pub(super) fn of(byte: u8) -> Option<Self> {
        match byte {
            13 => Some(Self::TableLeaf),
            5 => Some(Self::TableInner),
            10 => Some(Self::IndexLeaf),
            2 => Some(Self::IndexInner),
            _ => None,
        }
    }

    /// Whether its keys are rowids.
    pub(super) fn is_of_rowids(self) -> bool {
        matches!(self, Self::TableLeaf | Self::TableInner)
    }

    pub(super) fn is_leaf(self) -> bool {
        matches!(self, Self::TableLeaf | Self::IndexLeaf)
    }
}

/// A page whose header and cells make sense.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) number: u32,
    pub(super) kind: PageKind,
    /// Whether some of its cells make no sense.
    pub(super) is_damaged: bool,
    bytes: Vec<u8>,
    usable: usize,
    /// Where those cells begin that make sense.
    cells: Vec<usize>,
}

/// An entry of a page.
#[derive(Debug)]
pub(super) struct TreeCell<'p> {
    /// The page with what is smaller; 0 on leaves.
    pub(super) child: u32,
    /// 0 in an index.
    pub(super) rowid: i64,
    pub(super) payload: Option<Payload<'p>>,
    end: usize,
}

/// A record, or its beginning.
#[derive(Debug)]
pub(super) struct Payload<'p> {
    pub(super) length: usize,
    pub(super) local: &'p [u8],
    /// The page on which it goes on; 0 if it does not.
    pub(super) overflow: u32,
}

impl Page {
    /// `None` for a page that is no part of a b-tree. Where no seal tells that it is what was written, cells that make no
    /// sense or overlap are left out, and a page of which that is true of most is none.
    pub(super) fn parse(number: u32, bytes: Vec<u8>, usable: usize, is_sealed: bool) -> Option<Self> {
        let at = header_of(number);
        let kind = PageKind::of(*bytes.get(at)?)?;
        let count = usize::from(short(&bytes, at + 3)?);
        let first = at + if kind.is_leaf() { 8 } else { 12 };
        let end = first + 2 * count;
        if end > usable || usable > bytes.len() {
            return None;
        }
        let offsets: Vec<usize> =
            (0..count).filter_map(|cell| short(&bytes, first + 2 * cell)).map(usize::from).collect();
        let mut page = Self { number, kind, is_damaged: false, bytes, usable, cells: offsets };
        page.keep_sound(end, is_sealed);
        page.is_damaged |= page.cells.len() < count;
        let holds = is_sealed || page.cells.len() * 2 >= count;
        holds.then_some(page)
    }

    fn keep_sound(&mut self, end_of_offsets: usize, is_sealed: bool) {
        let is_sound = |at: &usize| {
            *at >= end_of_offsets && self.cell_at(*at).is_some_and(|cell| is_sealed || cell.is_plausible())
        };
        let sound: Vec<usize> = self.cells.iter().copied().filter(is_sound).collect();
        self.cells = if is_sealed { sound } else { self.ascending(&self.apart(&sound)) };
    }

    /// Those that share no byte with another one.
    fn apart(&self, cells: &[usize]) -> Vec<usize> {
        let mut sorted: Vec<(usize, usize)> =
            cells.iter().map(|at| (*at, self.cell_at(*at).map_or(*at, |cell| cell.end))).collect();
        sorted.sort_unstable();
        let (mut shared, mut reach) = (std::collections::HashSet::new(), (0, 0));
        for (begin, end) in sorted {
            if begin < reach.1 {
                shared.extend([begin, reach.0]);
            }
            if end > reach.1 {
                reach = (begin, end);
            }
        }
        cells.iter().copied().filter(|at| !shared.contains(at)).collect()
    }

    /// Those whose rowids go up.
    fn ascending(&self, cells: &[usize]) -> Vec<usize> {
        if !self.kind.is_of_rowids() {
            return cells.to_vec();
        }
        let mut last = None;
        let mut goes_up = |at: &usize| {
            let rowid = self.cell_at(*at).map(|cell| cell.rowid);
            let up = last.is_none_or(|last| rowid > last);
            if up {
                last = Some(rowid);
            }
            up
        };
        cells.iter().copied().filter(|at| goes_up(at)).collect()
    }

    pub(super) fn cells(&self) -> impl DoubleEndedIterator<Item = TreeCell<'_>> {
        self.cells.iter().filter_map(|at| self.cell_at(*at))
    }

    /// Whether a cell ends where the page does, as the first one that is written to it.
    pub(super) fn reaches_end(&self) -> bool {
        self.cells().any(|cell| cell.end == self.usable)
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// The page with what is larger than all cells; 0 on leaves.
    pub(super) fn right(&self) -> u32 {
        if self.kind.is_leaf() { 0 } else { word(&self.bytes, header_of(self.number) + 8).unwrap_or(0) }
    }

    fn cell_at(&self, begin: usize) -> Option<TreeCell<'_>> {
        let bytes = self.bytes.get(..self.usable)?;
        let mut at = begin;
        let child = if self.kind.is_leaf() { 0 } else { word(bytes, at)? };
        if !self.kind.is_leaf() {
            at += 4;
        }
        if self.kind == PageKind::TableInner {
            let (rowid, length) = record::varint(bytes.get(at..)?)?;
            return Some(TreeCell { child, rowid, payload: None, end: at + length });
        }
        let (length, used) = record::varint(bytes.get(at..)?)?;
        at += used;
        let mut rowid = 0;
        if self.kind == PageKind::TableLeaf {
            let (found, used) = record::varint(bytes.get(at..)?)?;
            (rowid, at) = (found, at + used);
        }
        let length = usize::try_from(length).ok().filter(|length| i32::try_from(*length).is_ok())?;
        let here = self.local(length);
        let local = bytes.get(at..at + here)?;
        at += here;
        let overflow = if here < length { word(bytes, at)? } else { 0 };
        if here < length {
            at += 4;
        }
        Some(TreeCell { child, rowid, payload: Some(Payload { length, local, overflow }), end: at })
    }

    /// How many bytes of a record stand on the page itself.
    fn local(&self, length: usize) -> usize {
        let usable = self.usable;
        let most = if self.kind == PageKind::TableLeaf { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        if length <= most {
            return length;
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let filled = least + (length - least) % (usable - 4);
        if filled <= most { filled } else { least }
    }
}

impl TreeCell<'_> {
    fn is_plausible(&self) -> bool {
        self.payload.as_ref().is_none_or(|payload| record::is_plausible(payload.local, payload.length))
    }
}

/// Where the header of a page begins: on the first, behind that of the file.
fn header_of(number: u32) -> usize {
    if number == 1 { 100 } else { 0 }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Four bytes, the highest first.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
