//! The keys that calls read and write: a queue a key, in ticket order.
//!
//! A call enters all its queues at once, under one ticket, so every queue has the same order and
//! waiting can't go round in a circle.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::CallRef;
use crate::text;
use crate::tool::{Access, KeyUse};

#[derive(Debug, Default)]
pub(super) struct KeyTable {
    queues: HashMap<Arc<str>, Queue>,
    last_ticket: u64,
}

/// Those who have the key, and those who wait for it, by ticket. Of both there may be very many.
#[derive(Debug)]
struct Queue {
    holders: BTreeMap<u64, Entry>,
    waiting: BTreeMap<u64, Entry>,
    /// How many holders were walked away from.
    abandoned: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
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

impl Queue {
    const fn new() -> Self {
        Self { holders: BTreeMap::new(), waiting: BTreeMap::new(), abandoned: 0 }
    }

    /// Whether a call that comes now would have the key. Holders are either one writer or readers
    /// only, so a look at one is enough.
    fn admits(&self, access: Access) -> bool {
        match self.holders.first_key_value() {
            None => true,
            Some((_, held)) => held.access == Access::Read && access == Access::Read,
        }
    }

    /// Those of these tickets, who have it and who wait for it.
    fn entered(&self, tickets: Range<u64>) -> impl Iterator<Item = &Entry> {
        let holders = self.holders.range(tickets.clone());
        holders.chain(self.waiting.range(tickets)).map(|(_, entry)| entry)
    }

    /// Admits from the front of the queue while that is possible.
    fn admit(&mut self, admitted: &mut Vec<CallRef>) {
        while let Some((&ticket, &entry)) = self.waiting.first_key_value()
            && self.admits(entry.access)
        {
            self.waiting.remove(&ticket);
            self.holders.insert(ticket, entry);
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
            let queue = self.queues.entry(Arc::clone(key)).or_insert_with(Queue::new);
            let entry = Entry { call, access: *access, abandoned: false };
            let is_first = queue.waiting.is_empty() && queue.admits(*access);
            if is_first || shared.contains(key) {
                queue.holders.insert(number, entry);
            } else {
                queue.waiting.insert(number, entry);
                blocked += 1;
            }
        }
        (Ticket { number, keys }, blocked)
    }

    /// Leaves all queues; `admitted` gets a call once for each key it need not wait for any more.
    pub(super) fn leave(&mut self, ticket: &Ticket, admitted: &mut Vec<CallRef>) {
        for KeyUse { key, .. } in ticket.keys.iter() {
            let Some(queue) = self.queues.get_mut(key) else { continue };
            if queue.holders.remove(&ticket.number).is_some_and(|entry| entry.abandoned) {
                queue.abandoned -= 1;
            }
            queue.waiting.remove(&ticket.number);
            queue.admit(admitted);
            if queue.holders.is_empty() && queue.waiting.is_empty() {
                self.queues.remove(key);
            }
        }
    }

    /// Who has `key`.
    pub(super) fn holders(&self, key: &str) -> impl Iterator<Item = (CallRef, Access)> {
        self.queue(key).holders.values().map(|entry| (entry.call, entry.access))
    }

    /// Who waits for `key`.
    pub(super) fn waiting(&self, key: &str) -> impl Iterator<Item = CallRef> {
        self.queue(key).waiting.values().map(|entry| entry.call)
    }

    fn queue(&self, key: &str) -> &Queue {
        static NOBODY: Queue = Queue::new();
        self.queues.get(key).unwrap_or(&NOBODY)
    }

    /// The call that has these keys was walked away from.
    pub(super) fn abandon(&mut self, ticket: &Ticket) {
        for KeyUse { key, .. } in ticket.keys.iter() {
            let Some(queue) = self.queues.get_mut(key) else { continue };
            if let Some(entry) = queue.holders.get_mut(&ticket.number) {
                entry.abandoned = true;
                queue.abandoned += 1;
            }
        }
    }

    /// An abandoned call that has a key which `ticket` waits for.
    pub(super) fn abandoned_holder(&self, ticket: &Ticket) -> Option<CallRef> {
        let conflict = |wanted: &KeyUse| {
            let queue = self.queues.get(&wanted.key)?;
            if queue.abandoned == 0 || !queue.waiting.contains_key(&ticket.number) {
                return None;
            }
            let mut holders = queue.holders.values();
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
        let tickets = from..ticket.max(from);
        let all = self.queue(&wanted.key).entered(tickets);
        all.filter(move |other| access == Access::Write || other.access == Access::Write)
            .map(|other| other.call)
    }

    /// Whether a write of one of `keys` was entered after `ticket` and isn't over.
    pub(super) fn written_after(&self, ticket: u64, keys: &[KeyUse]) -> bool {
        keys.iter().any(|KeyUse { key, .. }| {
            let mut later = self.queue(key).entered(ticket + 1..u64::MAX);
            later.any(|entry| entry.access == Access::Write)
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
pub(super) fn merged(keys: Vec<KeyUse>) -> Arc<[KeyUse]> {
    if keys.len() < 2 {
        return keys.into();
    }
    let sorted = text::sorted(keys.len(), |at| &keys[at].key);
    let mut keys: Vec<_> = sorted.into_iter().map(|at| keys[at].clone()).collect();
    keys.dedup_by(|later, kept| {
        let is_same = later.key == kept.key;
        if is_same && later.access == Access::Write {
            kept.access = Access::Write;
        }
        is_same
    });
    keys.into()
}
