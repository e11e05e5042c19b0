//! The keys that calls read and write: a queue a key, in ticket order.
//!
//! A call enters all its queues at once, under one ticket, so every queue has the same order and
//! waiting can't go round in a circle.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::CallRef;
use crate::tool::{Access, KeyUse};

#[derive(Debug, Default)]
pub(super) struct KeyTable {
    queues: HashMap<Arc<str>, Queue>,
    last_ticket: u64,
}

/// Those who have the key, and those who wait for it.
#[derive(Debug, Default)]
struct Queue {
    holders: BTreeMap<u64, (CallRef, Access)>,
    waiting: BTreeMap<u64, (CallRef, Access)>,
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
    fn admits(&self, access: Access) -> bool {
        match access {
            Access::Write => self.holders.is_empty(),
            Access::Read => self.holders.values().all(|(_, held)| *held == Access::Read),
        }
    }

    /// Admits from the front of the queue while that is possible.
    fn admit(&mut self, admitted: &mut Vec<CallRef>) {
        while let Some((&ticket, &(call, access))) = self.waiting.first_key_value() {
            // Holders are either one writer or readers only, so a look at one is enough.
            let free = match self.holders.first_key_value() {
                None => true,
                Some((_, (_, held))) => *held == Access::Read && access == Access::Read,
            };
            if !free {
                return;
            }
            self.waiting.remove(&ticket);
            self.holders.insert(ticket, (call, access));
            admitted.push(call);
        }
    }
}

impl KeyTable {
    /// Enters the queues of `keys`; returns how many of them have to be waited for.
    pub(super) fn enter(&mut self, call: CallRef, keys: Arc<[KeyUse]>) -> (Ticket, usize) {
        self.last_ticket += 1;
        let number = self.last_ticket;
        let mut blocked = 0;
        for KeyUse { key, access } in keys.iter() {
            let queue = self.queues.entry(Arc::clone(key)).or_default();
            let free = queue.waiting.is_empty()
                && match queue.holders.first_key_value() {
                    None => true,
                    Some((_, (_, held))) => *held == Access::Read && *access == Access::Read,
                };
            debug_assert!(!free || queue.admits(*access));
            if free {
                queue.holders.insert(number, (call, *access));
            } else {
                queue.waiting.insert(number, (call, *access));
                blocked += 1;
            }
        }
        (Ticket { number, keys }, blocked)
    }

    /// Leaves all queues; `admitted` gets a call once for each key it need not wait for any more.
    pub(super) fn leave(&mut self, ticket: &Ticket, admitted: &mut Vec<CallRef>) {
        for KeyUse { key, .. } in ticket.keys.iter() {
            let Some(queue) = self.queues.get_mut(key) else { continue };
            queue.holders.remove(&ticket.number);
            queue.waiting.remove(&ticket.number);
            queue.admit(admitted);
            if queue.holders.is_empty() && queue.waiting.is_empty() {
                self.queues.remove(key);
            }
        }
    }

    /// Who has `key`.
    pub(super) fn holders(&self, key: &str) -> impl Iterator<Item = (CallRef, Access)> {
        self.queues.get(key).into_iter().flat_map(|queue| queue.holders.values().copied())
    }

    /// Who waits for `key`.
    pub(super) fn waiting(&self, key: &str) -> impl Iterator<Item = CallRef> {
        self.queues.get(key).into_iter().flat_map(|q| q.waiting.values().map(|(call, _)| *call))
    }

    /// Whose end a call that enters (or entered) under `ticket` waits for because of `wanted`.
    pub(super) fn ahead(
        &self,
        ticket: u64,
        wanted: &KeyUse,
    ) -> impl Iterator<Item = (CallRef, Access)> {
        let access = wanted.access;
        self.queues
            .get(&wanted.key)
            .into_iter()
            .flat_map(move |queue| {
                queue.holders.range(..ticket).chain(queue.waiting.range(..ticket))
            })
            .map(|(_, entry)| *entry)
            .filter(move |(_, other)| access == Access::Write || *other == Access::Write)
    }

    /// Whether a write of one of `keys` was entered after `ticket` and isn't over.
    pub(super) fn written_after(&self, ticket: u64, keys: &[KeyUse]) -> bool {
        keys.iter().filter_map(|KeyUse { key, .. }| self.queues.get(key)).any(|queue| {
            let later = (ticket + 1)..;
            queue
                .holders
                .range(later.clone())
                .chain(queue.waiting.range(later))
                .any(|(_, (_, access))| *access == Access::Write)
        })
    }

    pub(super) fn next_ticket(&self) -> u64 {
        self.last_ticket + 1
    }

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
