//! What there is of each open batch, by its number.

use super::BatchId;

/// Sorted by number. Batches are opened in the order of their numbers, and few are open at once:
/// a new one goes to the end, and to close one moves few.
pub(crate) struct Open<T>(Vec<(BatchId, T)>);

impl<T> Open<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    fn find(&self, id: BatchId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id)
    }

    pub(crate) fn get(&self, id: BatchId) -> Option<&T> {
        self.find(id).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, id: BatchId) -> Option<&mut T> {
        self.find(id).ok().map(|at| &mut self.0[at].1)
    }

    pub(crate) fn insert(&mut self, id: BatchId, value: T) {
        match self.find(id) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (id, value)),
        }
    }

    pub(crate) fn remove(&mut self, id: BatchId) -> Option<T> {
        self.find(id).ok().map(|at| self.0.remove(at).1)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (BatchId, &T)> {
        self.0.iter().map(|(id, value)| (*id, value))
    }
}
