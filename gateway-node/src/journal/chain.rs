//! The chain of one leader's appends: which comes next, what an ack says, and after a failure, what the stream's last
//! entry says. No I/O: the writer sends, the simulation pretends to.

use std::collections::VecDeque;

use protocol::defect::{Defect, is_planted};
use protocol::journal::{message_id, parse_message_id};

/// An append on its way: what to store, under which id, behind which sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Append<T> {
    /// Its number within the epoch; `LeaderStarted` is 0.
    pub number: u64,
    /// `Nats-Msg-Id`.
    pub id: String,
    /// The predecessor's sequence, `Nats-Expected-Last-Sequence`: the server refuses the append at any other place.
    pub behind_sequence: u64,
    /// What is stored.
    pub entry: T,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Chain<T> {
    epoch: u64,
    /// Sequence of this leader's `LeaderStarted`: entry *n* behind it has sequence `base + n`.
    base: u64,
    sent: u64,
    acked: u64,
    unacked: VecDeque<(u64, T)>,
    /// Most of them.
    window: usize,
}

/// What an ack or a look at the stream says of what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Everything up to this sequence is stored.
    Stored(u64),
    /// Nobody knows what is stored: look at the stream's last entry.
    Unclear(String),
    /// The journal goes on without this leader.
    Fenced(String),
}

impl<T: Clone> Chain<T> {
    /// The epoch that it belongs to.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The chain behind a `LeaderStarted` at sequence `base`, with at most `window` appends without an ack.
    #[must_use]
    pub fn new(epoch: u64, base: u64, window: usize) -> Self {
        Chain { epoch, base, sent: 0, acked: 0, unacked: VecDeque::new(), window }
    }

    /// Whether another entry may be taken. Successors rely on it: see [`protocol::journal::fence`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.unacked.len() < self.window
    }

    /// Takes the next entry, for which there must be room; it is kept until it is known to be stored.
    pub fn push(&mut self, entry: T) -> Append<T> {
        self.sent += 1;
        self.unacked.push_back((self.sent, entry.clone()));
        self.append(self.sent, entry)
    }

    fn append(&self, number: u64, entry: T) -> Append<T> {
        Append { number, id: message_id(self.epoch, number), behind_sequence: self.base + number - 1, entry }
    }

    /// What is sent and not known to be stored.
    #[must_use]
    pub fn unacked(&self) -> usize {
        self.unacked.len()
    }

    /// The oldest append without an ack was acknowledged at this sequence.
    pub fn on_ack(&mut self, sequence: u64) -> Said {
        let Some((number, _)) = self.unacked.pop_front() else {
            return Said::Unclear(format!("an ack for sequence {sequence} that nobody waits for"));
        };
        self.acked = number;
        if sequence == self.base + number || is_planted(Defect::Fence) {
            Said::Stored(sequence)
        } else {
            Said::Unclear(format!("entry {number} was stored at {sequence}, not {}", self.base + number))
        }
    }

    /// What [`Chain::on_last`] would take for stored if the stream ends at this sequence, each with the id that must be
    /// found there. Look at all of them first: where a replaced leader's append has taken the place of one of ours by
    /// chance, later ones of ours fit behind it, and the last entry alone proves nothing.
    pub fn unproven(&self, sequence: u64) -> impl Iterator<Item = (u64, String)> {
        let ours = self.unacked.iter().map(|(number, _)| (self.base + number, message_id(self.epoch, *number)));
        ours.take_while(move |(place, _)| *place <= sequence && !is_planted(Defect::Fence))
    }

    /// After a failed append: the stream's last entry, by sequence and id. Ours → go on behind it, with
    /// [`Chain::to_send_again`]; anybody else's → this leadership is over.
    pub fn on_last(&mut self, sequence: u64, id: &str) -> Said {
        match parse_message_id(id) {
            _ if is_planted(Defect::Fence) => Said::Stored(sequence),
            Some((epoch, number)) if epoch == self.epoch && number < self.acked => {
                Said::Fenced(format!("the journal ends at entry {sequence}; later ones that it acknowledged are gone"))
            }
            Some((epoch, number)) if epoch == self.epoch && number <= self.sent && sequence == self.base + number => {
                while self.unacked.front().is_some_and(|(unacked, _)| *unacked <= number) {
                    self.unacked.pop_front();
                }
                self.acked = self.acked.max(number);
                Said::Stored(sequence)
            }
            _ => Said::Fenced(format!("entry {sequence} of the journal is `{id}`, not this leader's")),
        }
    }

    /// Everything that is not stored yet, in order, to be sent once more.
    #[must_use]
    pub fn to_send_again(&self) -> Vec<Append<T>> {
        self.unacked.iter().map(|(number, entry)| self.append(*number, entry.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_names_its_predecessor() {
        let mut chain = Chain::new(7, 100, 3);
        let first = chain.push("a");
        assert_eq!((first.id.as_str(), first.behind_sequence), ("7-1", 100));
        let second = chain.push("b");
        assert_eq!((second.id.as_str(), second.behind_sequence), ("7-2", 101));
        assert_eq!(chain.on_ack(101), Said::Stored(101));
        assert_eq!(chain.unacked(), 1);
        assert!(chain.has_room());
        assert!(matches!(chain.on_ack(103), Said::Unclear(_)), "somebody else wrote in between");
    }

    #[test]
    fn everything_up_to_the_last_entry_has_to_be_proven() {
        let mut chain = Chain::new(7, 100, 3);
        for entry in ["a", "b", "c"] {
            chain.push(entry);
        }
        chain.on_ack(101);
        let unproven: Vec<(u64, String)> = chain.unproven(103).collect();
        assert_eq!(unproven, [(102, "7-2".to_owned()), (103, "7-3".to_owned())]);
        assert_eq!(chain.unproven(102).count(), 1);
        assert_eq!(chain.unproven(101).count(), 0);
    }

    #[test]
    fn the_last_entry_says_where_to_go_on() {
        let mut chain = Chain::new(7, 100, 3);
        for entry in ["a", "b", "c"] {
            chain.push(entry);
        }
        assert_eq!(chain.on_last(102, "7-2"), Said::Stored(102));
        assert_eq!(chain.to_send_again().into_iter().map(|a| a.entry).collect::<Vec<_>>(), ["c"]);
        assert!(matches!(chain.on_last(103, "8-0"), Said::Fenced(_)), "a successor");
        assert!(matches!(chain.on_last(101, "7-1"), Said::Fenced(_)), "an acknowledged entry is gone");
        assert!(matches!(chain.on_last(200, "7-3"), Said::Fenced(_)), "ours, but not where it must be");
    }
}
