//! Values for runs of pages, kept in the bytes of the file: small, and loaded without work.

use std::marker::PhantomData;
use std::ops::Range;

use crate::HeatError;
use crate::bytes::{Reader, put};

/// One more than the highest page number of a key.
pub(crate) const PAGE_END: u64 = 1 << 52;

/// Something a page can have. The default stands for "nothing" and is not stored.
pub(crate) trait Value: Clone + Default + PartialEq {
    fn write(&self, out: &mut Vec<u8>);
    fn read(from: &mut Reader<'_>) -> Result<Self, HeatError>;
}

/// A run of pages of one key with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run<V> {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) value: V,
}

/// Runs in ascending order, encoded. Each is: pages since the run before, doubled, plus one when
/// the run is longer than a page; then its length less two; then the value. Neighbours differ,
/// so equal columns have equal bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column<V> {
    bytes: Vec<u8>,
    /// For every [`STRIDE`]th run where it begins: the end of the run before, and the byte.
    index: Vec<(u64, usize)>,
    value: PhantomData<V>,
}

/// Runs between two entries of a column's index.
const STRIDE: usize = 512;

impl<V> Default for Column<V> {
    fn default() -> Self {
        Self { bytes: Vec::new(), index: Vec::new(), value: PhantomData }
    }
}

impl<V: Value> Column<V> {
    /// The column of these bytes, which a file brought: every run is checked.
    pub(crate) fn from_bytes(bytes: &[u8], what: &'static str) -> Result<Self, HeatError> {
        Self::from_bytes_where(bytes, what, |_| true)
    }

    /// Like [`Self::from_bytes`], and every value must be accepted, too.
    pub(crate) fn from_bytes_where(
        bytes: &[u8],
        what: &'static str,
        accept: impl Fn(&V) -> bool,
    ) -> Result<Self, HeatError> {
        let mut reader = Reader::new(bytes, what);
        let (mut end, mut last) = (0, None);
        let mut index = Vec::new();
        for number in 0_usize.. {
            if reader.is_empty() {
                break;
            }
            if number.is_multiple_of(STRIDE) {
                index.push((end, bytes.len() - reader.len()));
            }
            let run: Run<V> = read_run(&mut reader, end)?;
            let touches = last.is_some() && run.start == end;
            if run.value == V::default() || (touches && last.as_ref() == Some(&run.value)) {
                return Err(reader.invalid("has runs that are not the shortest"));
            }
            if !accept(&run.value) {
                return Err(reader.invalid("refers to something that is not there"));
            }
            end = run.end;
            last = Some(run.value);
        }
        Ok(Self { bytes: bytes.to_vec(), index, value: PhantomData })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The runs, ascending.
    pub(crate) fn runs(&self) -> Runs<'_, V> {
        self.runs_in(0..PAGE_END)
    }

    /// The parts of runs that lie in `pages`, ascending.
    pub(crate) fn runs_in(&self, pages: Range<u64>) -> Runs<'_, V> {
        let at = self.index.partition_point(|(end, _)| *end <= pages.start).saturating_sub(1);
        let (end, byte) = self.index.get(at).copied().unwrap_or_default();
        let reader = Reader::new(self.bytes.get(byte..).unwrap_or_default(), "column");
        Runs { reader, end, pages, value: PhantomData }
    }

    /// The column of both, pages that both have combined by `combine`.
    pub(crate) fn join(&self, other: &Self, combine: impl Fn(&V, &V) -> V) -> Self {
        if self.is_empty() {
            return other.clone();
        }
        if other.is_empty() {
            return self.clone();
        }
        let mut builder = Builder::new();
        sweep(vec![self.runs(), other.runs()], |start, end, values| {
            let value = match (&values[0], &values[1]) {
                (Some(a), Some(b)) => combine(a, b),
                (Some(one), None) | (None, Some(one)) => one.clone(),
                (None, None) => return,
            };
            builder.push(start, end, value);
        });
        builder.finish()
    }
}

fn read_run<V: Value>(reader: &mut Reader<'_>, end: u64) -> Result<Run<V>, HeatError> {
    let head = reader.number()?;
    let pages = if head & 1 == 0 { 1 } else { reader.number()?.saturating_add(2) };
    let start = end.saturating_add(head >> 1);
    let end = start.saturating_add(pages);
    if end > PAGE_END {
        return Err(reader.invalid("has a page number above 2^52"));
    }
    Ok(Run { start, end, value: V::read(reader)? })
}

/// The runs of a column.
#[derive(Clone, Debug)]
pub(crate) struct Runs<'a, V> {
    reader: Reader<'a>,
    end: u64,
    pages: Range<u64>,
    value: PhantomData<V>,
}

impl<V: Value> Iterator for Runs<'_, V> {
    type Item = Run<V>;

    fn next(&mut self) -> Option<Run<V>> {
        while !self.reader.is_empty() && self.end < self.pages.end {
            // Bytes are checked when they come in, so there is no error to lose.
            let run = read_run(&mut self.reader, self.end).ok()?;
            self.end = run.end;
            let (start, end) = (run.start.max(self.pages.start), run.end.min(self.pages.end));
            if start < end {
                return Some(Run { start, end, value: run.value });
            }
        }
        None
    }
}

/// Puts a column together.
#[derive(Clone, Debug)]
pub(crate) struct Builder<V> {
    column: Column<V>,
    end: u64,
    count: usize,
    pending: Option<Run<V>>,
}

impl<V: Value> Builder<V> {
    pub(crate) fn new() -> Self {
        Self { column: Column::default(), end: 0, count: 0, pending: None }
    }

    /// Adds the pages `start..end`, which lie behind everything added so far.
    pub(crate) fn push(&mut self, start: u64, end: u64, value: V) {
        debug_assert!(start < end && self.pending.as_ref().is_none_or(|p| p.end <= start));
        if value == V::default() {
            return;
        }
        if let Some(pending) = &mut self.pending
            && pending.end == start
            && pending.value == value
        {
            pending.end = end;
            return;
        }
        self.flush();
        self.pending = Some(Run { start, end, value });
    }

    pub(crate) fn finish(mut self) -> Column<V> {
        self.flush();
        self.column.bytes.shrink_to_fit();
        self.column
    }

    fn flush(&mut self) {
        let Some(run) = self.pending.take() else { return };
        if self.count.is_multiple_of(STRIDE) {
            self.column.index.push((self.end, self.column.bytes.len()));
        }
        self.count += 1;
        let out = &mut self.column.bytes;
        let pages = run.end - run.start;
        put(out, (run.start - self.end) << 1 | u64::from(pages > 1));
        if pages > 1 {
            put(out, pages - 2);
        }
        run.value.write(out);
        self.end = run.end;
    }
}

/// Walks several columns at once: `each` gets runs of pages over which none of them changes, and
/// what each of them has there. Pages that none has are left out.
pub(crate) fn sweep<V: Value>(
    mut columns: Vec<Runs<'_, V>>,
    mut each: impl FnMut(u64, u64, &[Option<V>]),
) {
    let mut heads: Vec<Option<Run<V>>> = columns.iter_mut().map(Iterator::next).collect();
    let mut values: Vec<Option<V>> = vec![None; heads.len()];
    let mut at = 0;
    loop {
        let Some(start) = heads.iter().flatten().map(|r| r.start.max(at)).min() else { return };
        let mut end = u64::MAX;
        for (head, value) in heads.iter().zip(&mut values) {
            *value = None;
            if let Some(run) = head {
                if run.start <= start {
                    *value = Some(run.value.clone());
                    end = end.min(run.end);
                } else {
                    end = end.min(run.start);
                }
            }
        }
        each(start, end, &values);
        at = end;
        for (head, runs) in heads.iter_mut().zip(&mut columns) {
            if head.as_ref().is_some_and(|r| r.end <= at) {
                *head = runs.next();
            }
        }
    }
}
