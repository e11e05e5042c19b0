//! A map that is sorted by its keys, in one piece of memory.

use std::cmp::Ordering;
use std::ops::Range;

/// For what there are few of at once: open batches, nested ones, pools, abandoned calls. New keys
/// mostly go to the end.
#[derive(Debug)]
pub(crate) struct Sorted<K, V = ()>(Vec<(K, V)>);

impl<K, V> Sorted<K, V> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Copy + Ord, V> Sorted<K, V> {
    fn find(&self, key: K) -> Result<usize, usize> {
        // Most often it is the newest.
        let Some((last, _)) = self.0.last() else { return Err(0) };
        match last.cmp(&key) {
            Ordering::Less => Err(self.0.len()),
            Ordering::Equal => Ok(self.0.len() - 1),
            Ordering::Greater => self.0.binary_search_by_key(&key, |(key, _)| *key),
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// The value of `key`, made where there is none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = self.find(key).unwrap_or_else(|at| {
            self.0.insert(at, (key, make()));
            at
        });
        &mut self.0[at].1
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.find(key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let at = self.find(key).ok()?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.0.retain(|(_, value)| keep(value));
    }

    pub(crate) fn first(&self) -> Option<(K, &V)> {
        self.0.first().map(|(key, value)| (*key, value))
    }

    /// Those whose keys are in `keys`.
    pub(crate) fn range(&self, keys: Range<K>) -> impl Iterator<Item = (K, &V)> {
        let at = |key| self.find(key).unwrap_or_else(|at| at);
        let (from, to) = (at(keys.start), at(keys.end));
        self.0[from..to.max(from)].iter().map(|(key, value)| (*key, value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }
}
