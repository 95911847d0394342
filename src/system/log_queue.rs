//! The lines of the log that are not written yet. When they become too many, the oldest and the newest are
//! kept: how a fault began, and what came last. Pure.

use std::collections::VecDeque;

/// Bytes of the oldest lines that are kept, and as many of the newest: about a thousand lines.
const HALF_BYTES_MAX: usize = 64 << 10;

/// A line of the log, with its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The text as it is written.
    pub text: String,
    /// Whether it begins with the priority that journald reads.
    pub has_priority: bool,
}

/// A line that is due, and how many were dropped between the previous one and it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueLine {
    /// The line.
    pub line: LogLine,
    /// Lines that were dropped before it.
    pub dropped_before: u64,
}

/// The lines that are not written yet.
#[derive(Debug)]
pub struct LogQueue {
    oldest: VecDeque<LogLine>,
    oldest_bytes: usize,
    /// Lines that were dropped between the oldest and the newest.
    dropped: u64,
    newest: VecDeque<LogLine>,
    newest_bytes: usize,
}

impl LogQueue {
    /// An empty queue.
    pub const fn new() -> LogQueue {
        LogQueue {
            oldest: VecDeque::new(),
            oldest_bytes: 0,
            dropped: 0,
            newest: VecDeque::new(),
            newest_bytes: 0,
        }
    }

    /// Adds a line; if there is no room, the line in the middle is dropped.
    pub fn push(&mut self, line: LogLine) {
        let length = line.text.len();
        if self.newest.is_empty() && self.oldest_bytes + length <= HALF_BYTES_MAX {
            self.oldest_bytes += length;
            self.oldest.push_back(line);
            return;
        }
        self.newest_bytes += length;
        self.newest.push_back(line);
        while self.newest_bytes > HALF_BYTES_MAX
            && self.newest.len() > 1
            && let Some(dropped) = self.newest.pop_front()
        {
            self.newest_bytes -= dropped.text.len();
            self.dropped += 1;
        }
    }

    /// Takes the line that is due.
    pub fn pop(&mut self) -> Option<DueLine> {
        let mut dropped_before = 0;
        if self.oldest.is_empty() {
            self.oldest = std::mem::take(&mut self.newest);
            self.oldest_bytes = std::mem::take(&mut self.newest_bytes);
            dropped_before = std::mem::take(&mut self.dropped);
        }
        let line = self.oldest.pop_front()?;
        self.oldest_bytes -= line.text.len();
        Some(DueLine { line, dropped_before })
    }

    /// Whether every line has been taken.
    pub fn is_empty(&self) -> bool {
        self.oldest.is_empty() && self.newest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> LogLine {
        LogLine { text: format!("{number:099}\n"), has_priority: false }
    }

    /// The numbers of the lines that are left, and how many were dropped before each.
    fn drained(queue: &mut LogQueue) -> Vec<(usize, u64)> {
        let due = std::iter::from_fn(|| queue.pop());
        due.map(|due| (due.line.text.trim().parse().unwrap(), due.dropped_before)).collect()
    }

    #[test]
    fn lines_keep_their_order() {
        let mut queue = LogQueue::new();
        for number in 0..1000 {
            queue.push(line(number));
        }
        assert_eq!(drained(&mut queue), (0..1000).map(|n| (n, 0)).collect::<Vec<_>>());
        assert!(queue.is_empty());
    }

    #[test]
    fn when_there_is_no_room_the_oldest_and_the_newest_lines_stay_and_the_others_are_counted() {
        let mut queue = LogQueue::new();
        for number in 0..10_000 {
            queue.push(line(number));
        }
        let kept = drained(&mut queue);
        let each = HALF_BYTES_MAX / 100;
        assert_eq!(kept.len(), 2 * each);
        assert_eq!((kept[0], kept[each - 1]), ((0, 0), (each - 1, 0)));
        let dropped = 10_000 - 2 * each;
        assert_eq!(kept[each], (each + dropped, u64::try_from(dropped).unwrap()));
        assert_eq!(kept.last(), Some(&(9_999, 0)));
        // What was counted once is not counted again.
        queue.push(line(1));
        assert_eq!(drained(&mut queue), [(1, 0)]);
    }

    #[test]
    fn a_line_that_is_longer_than_the_queue_is_kept_until_the_next_one() {
        let mut queue = LogQueue::new();
        let long = LogLine { text: "x".repeat(3 * HALF_BYTES_MAX), has_priority: false };
        queue.push(long.clone());
        assert_eq!(queue.pop().unwrap().line, long);
        queue.push(long);
        queue.push(line(1));
        assert_eq!(drained(&mut queue), [(1, 1)]);
    }
}
