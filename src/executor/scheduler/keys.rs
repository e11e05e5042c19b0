//! The keys that calls read and write: a queue a key, in ticket order.
//!
//! A call enters all its queues at once, under one ticket, so every queue has the same order and
//! waiting can't go round in a circle.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::CallRef;
use crate::tool::{Access, KeyUse};

#[derive(Debug, Default)]
pub(super) struct KeyTable {
    queues: HashMap<Arc<str>, Queue>,
    last_ticket: u64,
}

/// Those who have the key, and those who wait for it, by ticket. Of both there may be very many.
#[derive(Debug, Default)]
struct Queue {
    holders: Line,
    waiting: Line,
    /// How many holders were walked away from.
    abandoned: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    ticket: u64,
    call: CallRef,
    access: Access,
    abandoned: bool,
}

/// A call's place in the queues of its keys.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    number: u64,
    pub(super) keys: Arc<[KeyUse]>,
}

impl Ticket {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// Entries by ticket. New ones mostly go to the end, and the first mostly leave first.
#[derive(Debug, Default)]
struct Line(VecDeque<Entry>);

impl Line {
    fn find(&self, ticket: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&ticket, |entry| entry.ticket)
    }

    fn insert(&mut self, entry: Entry) {
        let at = self.find(entry.ticket).unwrap_or_else(|at| at);
        self.0.insert(at, entry);
    }

    fn remove(&mut self, ticket: u64) -> Option<Entry> {
        self.0.remove(self.find(ticket).ok()?)
    }

    /// Those of the tickets from `from` up to `to`.
    fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &Entry> {
        let at = |ticket| self.find(ticket).unwrap_or_else(|at| at);
        let (from, to) = (at(from), at(to));
        self.0.range(from..to.max(from))
    }
}

impl Queue {
    /// Whether a call that comes now would have the key. Holders are either one writer or readers
    /// only, so a look at one is enough.
    fn admits(&self, access: Access) -> bool {
        match self.holders.0.front() {
            None => true,
            Some(held) => held.access == Access::Read && access == Access::Read,
        }
    }

    /// Those who have it and those who wait, of the tickets from `from` up to `to`.
    fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &Entry> {
        self.holders.range(from, to).chain(self.waiting.range(from, to))
    }

    /// Admits from the front of the queue while that is possible.
    fn admit(&mut self, admitted: &mut Vec<CallRef>) {
        while let Some(&entry) = self.waiting.0.front()
            && self.admits(entry.access)
        {
            self.waiting.0.pop_front();
            self.holders.insert(entry);
            admitted.push(entry.call);
        }
    }
}

impl KeyTable {
    /// Enters the queues of `keys`; returns how many of them have to be waited for.
    /// Those in `shared` are had at once, because an ancestor reads them, too.
    pub(super) fn enter(
        &mut self,
        call: CallRef,
        keys: Arc<[KeyUse]>,
        shared: &[Arc<str>],
    ) -> (Ticket, usize) {
        self.last_ticket += 1;
        let number = self.last_ticket;
        let mut blocked = 0;
        for KeyUse { key, access } in keys.iter() {
            let queue = self.queues.entry(Arc::clone(key)).or_default();
            let entry = Entry { ticket: number, call, access: *access, abandoned: false };
            let is_first = queue.waiting.0.is_empty() && queue.admits(*access);
            if is_first || shared.contains(key) {
                queue.holders.insert(entry);
            } else {
                queue.waiting.insert(entry);
                blocked += 1;
            }
        }
        (Ticket { number, keys }, blocked)
    }

    /// Leaves all queues; `admitted` gets a call once for each key it need not wait for any more.
    pub(super) fn leave(&mut self, ticket: &Ticket, admitted: &mut Vec<CallRef>) {
        for KeyUse { key, .. } in ticket.keys.iter() {
            let Some(queue) = self.queues.get_mut(key) else { continue };
            if queue.holders.remove(ticket.number).is_some_and(|entry| entry.abandoned) {
                queue.abandoned -= 1;
            }
            queue.waiting.remove(ticket.number);
            queue.admit(admitted);
            if queue.holders.0.is_empty() && queue.waiting.0.is_empty() {
                self.queues.remove(key);
            }
        }
    }

    /// Who has `key`.
    pub(super) fn holders(&self, key: &str) -> impl Iterator<Item = (CallRef, Access)> {
        let queue = self.queues.get(key).into_iter();
        queue.flat_map(|queue| queue.holders.0.iter().map(|entry| (entry.call, entry.access)))
    }

    /// Who waits for `key`.
    pub(super) fn waiting(&self, key: &str) -> impl Iterator<Item = CallRef> {
        let queue = self.queues.get(key).into_iter();
        queue.flat_map(|queue| queue.waiting.0.iter().map(|entry| entry.call))
    }

    /// The call that has these keys was walked away from.
    pub(super) fn abandon(&mut self, ticket: &Ticket) {
        for KeyUse { key, .. } in ticket.keys.iter() {
            let Some(queue) = self.queues.get_mut(key) else { continue };
            if let Ok(at) = queue.holders.find(ticket.number) {
                queue.holders.0[at].abandoned = true;
                queue.abandoned += 1;
            }
        }
    }

    /// An abandoned call that has a key which `ticket` waits for.
    pub(super) fn abandoned_holder(&self, ticket: &Ticket) -> Option<CallRef> {
        let conflict = |wanted: &KeyUse| {
            let queue = self.queues.get(&wanted.key)?;
            if queue.abandoned == 0 || queue.waiting.find(ticket.number).is_err() {
                return None;
            }
            let mut holders = queue.holders.0.iter();
            let holder = holders.find(|entry| entry.abandoned)?;
            let conflicts = wanted.access == Access::Write || holder.access == Access::Write;
            conflicts.then_some(holder.call)
        };
        ticket.keys.iter().find_map(conflict)
    }

    /// Whose end a call waits for because of `wanted`: those of the tickets from `from` up to its
    /// own, `ticket`.
    pub(super) fn ahead(
        &self,
        from: u64,
        ticket: u64,
        wanted: &KeyUse,
    ) -> impl Iterator<Item = CallRef> {
        let access = wanted.access;
        self.queues
            .get(&wanted.key)
            .into_iter()
            .flat_map(move |queue| queue.range(from, ticket))
            .filter(move |other| access == Access::Write || other.access == Access::Write)
            .map(|other| other.call)
    }

    /// Whether a write of one of `keys` was entered after `ticket` and isn't over.
    pub(super) fn written_after(&self, ticket: u64, keys: &[KeyUse]) -> bool {
        keys.iter().filter_map(|KeyUse { key, .. }| self.queues.get(key)).any(|queue| {
            queue.range(ticket + 1, u64::MAX).any(|entry| entry.access == Access::Write)
        })
    }

    pub(super) fn next_ticket(&self) -> u64 {
        self.last_ticket + 1
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

/// The keys of a call, each once; a key that is read and written is written.
pub(super) fn merged(mut keys: Vec<KeyUse>) -> Arc<[KeyUse]> {
    keys.sort_by(|a, b| {
        a.key.cmp(&b.key).then((b.access == Access::Write).cmp(&(a.access == Access::Write)))
    });
    keys.dedup_by(|later, kept| later.key == kept.key);
    keys.into()
}
