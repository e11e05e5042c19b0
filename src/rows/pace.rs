//! How fast requests may be made. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);

/// The requests of the last minute, and whether the provider asked to wait.
#[derive(Debug, Default)]
pub(super) struct Pace {
    requests: Option<usize>,
    tokens: Option<u64>,
    /// When each was made, its ticket, and the tokens it took or is expected to take.
    recent: VecDeque<(Instant, u64, u64)>,
    next: u64,
    paused_until: Option<Instant>,
    finished: u64,
    taken: u64,
}

impl Pace {
    pub(super) fn new(requests: Option<u32>, tokens: Option<u64>) -> Self {
        Self { requests: requests.map(|n| n as usize), tokens, ..Self::default() }
    }

    /// A ticket for a request now, or when to ask again.
    pub(super) fn admit(&mut self, now: Instant) -> Result<u64, Instant> {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Err(until);
        }
        while self.recent.front().is_some_and(|(at, ..)| *at + WINDOW <= now) {
            self.recent.pop_front();
        }
        let expected = self.taken.checked_div(self.finished).unwrap_or(0);
        if let Some((first, ..)) = self.recent.front() {
            // One alone may be larger than the limit: it would never be made otherwise.
            let tokens = self.recent.iter().map(|(_, _, tokens)| *tokens);
            let sum = tokens.fold(0, u64::saturating_add);
            let too_many = self.requests.is_some_and(|most| self.recent.len() >= most);
            let too_large = self.tokens.is_some_and(|most| sum.saturating_add(expected) > most);
            if too_many || too_large {
                return Err(*first + WINDOW);
            }
        }
        let ticket = self.next;
        self.next += 1;
        self.recent.push_back((now, ticket, expected));
        Ok(ticket)
    }

    /// The request of this ticket took so many tokens.
    pub(super) fn took(&mut self, ticket: u64, tokens: u64) {
        self.finished += 1;
        self.taken = self.taken.saturating_add(tokens);
        if let Some(request) = self.recent.iter_mut().find(|(_, of, _)| *of == ticket) {
            request.2 = tokens;
        }
    }

    /// Nothing before then.
    pub(super) fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn in_no_minute_are_there_more_requests_than_allowed() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(3), None);
        let mut made = Vec::new();
        for second in 0..300 {
            let now = start + secs(second);
            while pace.admit(now).is_ok() {
                made.push(second);
            }
        }
        for second in 0..300 {
            let minute = made.iter().filter(|at| (second..second + 60).contains(*at)).count();
            assert!(minute <= 3, "{minute} in the minute from {second}");
        }
        assert_eq!(made.len(), 15, "and no fewer");
        assert_eq!(pace.admit(start + secs(299)), Err(start + secs(300)), "when to ask again");
    }

    #[test]
    fn tokens_are_expected_at_the_average_until_they_are_known() {
        let start = Instant::now();
        let mut pace = Pace::new(None, Some(1000));
        let first = pace.admit(start).unwrap();
        pace.took(first, 400);
        let second = pace.admit(start + secs(1)).unwrap();
        assert_eq!(pace.admit(start + secs(2)), Err(start + secs(60)), "400 + 400 + 400");
        pace.took(second, 100);
        assert!(pace.admit(start + secs(2)).is_ok(), "400 + 100 + 250");
        let mut large = Pace::new(None, Some(10));
        for _ in 0..2 {
            let ticket = large.admit(start).unwrap_or_default();
            large.took(ticket, u64::MAX);
        }
        assert!(large.admit(start + secs(1)).is_err());
        assert!(large.admit(start + secs(60)).is_ok(), "one alone is let through");
    }

    #[test]
    fn a_pause_holds_for_all_and_the_longest_counts() {
        let start = Instant::now();
        let mut pace = Pace::new(None, None);
        pace.pause(start + secs(9));
        pace.pause(start + secs(3));
        assert_eq!(pace.admit(start + secs(4)), Err(start + secs(9)));
        assert!(pace.admit(start + secs(9)).is_ok());
    }
}
