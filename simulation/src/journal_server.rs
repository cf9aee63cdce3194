//! The journal's server: stored entries, and what JetStream says to an append (`Nats-Msg-Id`,
//! `Nats-Expected-Last-Sequence`), as tried on a real server.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use protocol::journal::{Entry, Private, SnapshotEnd, fence, message_id, parse_message_id};

/// Most appends of a leader without an ack: few, so that many histories come to the end of them.
pub const WINDOW: usize = 4;
/// How far back the server knows message ids for de-duplication.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

/// What the append must find.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// `Nats-Expected-Last-Sequence`.
    LastSequence(u64),
    /// Nothing: a writer that does not ask.
    Anything,
}

/// An entry as it is stored; its sequence is its place, from 1.
#[derive(Debug, Clone)]
pub struct Stored {
    /// `Nats-Msg-Id`.
    pub id: String,
    /// The epoch that the id names.
    pub epoch: u64,
    /// The entry.
    pub entry: Rc<Entry>,
}

/// What a look at the stream shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Sequence of the last entry.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// The epoch of the last `LeaderStarted`.
    pub leader: u64,
}

/// See the module.
#[derive(Default)]
pub struct JournalServer {
    stored: Vec<Stored>,
    /// Entries up to here are purged.
    purged: u64,
    leader: u64,
    ids: HashMap<String, (u64, Duration)>,
    /// Nothing is taken until then; what comes meanwhile waits.
    pub stalled_until: Duration,
    /// The storage is full until then: appends are refused.
    pub full_until: Duration,
}

impl JournalServer {
    /// What is stored behind this sequence, with its sequences.
    pub fn stored_behind(&self, sequence: u64) -> impl Iterator<Item = (u64, &Stored)> {
        let first = usize::try_from(sequence.max(self.purged)).unwrap_or(usize::MAX).min(self.stored.len());
        (first as u64 + 1..).zip(&self.stored[first..])
    }

    /// The last snapshot, unless a leader that had been replaced wrote it, or a page of it is not there: then everything
    /// is read.
    fn last_snapshot(&self) -> Option<&SnapshotEnd> {
        let mut snapshot = None;
        let mut leader = 0;
        for (sequence, stored) in (1..).zip(&self.stored) {
            match &*stored.entry {
                Entry::Private(Private::LeaderStarted { epoch, .. }) => leader = *epoch,
                Entry::Private(Private::SnapshotEnd(end)) => {
                    let number = parse_message_id(&stored.id).map_or(0, |(_, number)| number);
                    let has_all = (end.begins..sequence)
                        .all(|place| self.id_at(place) == Some(&message_id(stored.epoch, place + number - sequence)));
                    snapshot = (stored.epoch >= leader && has_all).then_some(end);
                }
                _ => {}
            }
        }
        snapshot
    }

    /// The trading day that has begun last.
    #[must_use]
    pub fn day(&self) -> Option<chrono::NaiveDate> {
        self.last_snapshot().map(|end| end.trading_day)
    }

    /// What a reader takes that begins with the last snapshot.
    pub fn from_snapshot(&self) -> impl Iterator<Item = (u64, &Stored)> {
        self.stored_behind(self.last_snapshot().map_or(0, |end| end.begins - 1))
    }

    /// Everything before this sequence goes.
    pub fn purge_before(&mut self, sequence: u64) {
        self.purged = self.purged.max(sequence.saturating_sub(1));
    }

    /// Sequence of the last entry.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.stored.len() as u64
    }

    /// The id of the entry at a sequence.
    #[must_use]
    pub fn id_at(&self, sequence: u64) -> Option<&String> {
        let place = usize::try_from(sequence).ok()?.checked_sub(1)?;
        self.stored.get(place).map(|stored| &stored.id)
    }

    /// The last entry, and the last `LeaderStarted`.
    #[must_use]
    pub fn last(&self) -> Last {
        let id = self.stored.last().map(|s| s.id.clone()).unwrap_or_default();
        Last { sequence: self.last_sequence(), id, leader: self.leader }
    }

    /// An append arrives: the sequence that it is stored at, and whether it had been stored before.
    ///
    /// # Errors
    /// As the server words it.
    pub fn append(
        &mut self,
        now: Duration,
        id: &str,
        expected: &Expected,
        entry: Rc<Entry>,
    ) -> Result<(u64, bool), String> {
        if now < self.full_until {
            return Err("maximum bytes exceeded".to_owned());
        }
        // A retried append that was stored is refused here, even with the same id.
        match expected {
            Expected::LastSequence(sequence) if *sequence != self.last_sequence() => {
                return Err(format!("wrong last sequence: {}", self.last_sequence()));
            }
            Expected::LastSequence(_) | Expected::Anything => {}
        }
        if let Some((sequence, at)) = self.ids.get(id)
            && now.saturating_sub(*at) < DUPLICATE_WINDOW
        {
            return Ok((*sequence, true));
        }
        let epoch = parse_message_id(id).map_or(0, |(epoch, _)| epoch);
        // It comes as one batch with the fence in front of it.
        if matches!(*entry, Entry::Private(Private::LeaderStarted { .. })) {
            self.leader = epoch;
            let fenced =
                Stored { id: String::new(), epoch: 0, entry: Rc::new(Entry::Private(Private::Fence { epoch })) };
            self.stored.extend(std::iter::repeat_n(fenced, fence(WINDOW)));
        }
        self.stored.push(Stored { id: id.to_owned(), epoch, entry });
        let sequence = self.last_sequence();
        self.ids.insert(id.to_owned(), (sequence, now));
        Ok((sequence, false))
    }

    /// The server starts again: entries stay, what it remembered for de-duplication does not.
    pub fn restart(&mut self) {
        self.ids.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Rc<Entry> {
        Rc::new(Entry::Private(Private::Halts { halts: Default::default(), entries: None }))
    }

    #[test]
    fn a_purge_takes_what_is_before() {
        let mut server = JournalServer::default();
        for number in 0..4 {
            let id = format!("1-{number}");
            server.append(Duration::ZERO, &id, &Expected::Anything, entry()).expect("stored");
        }
        server.purge_before(3);
        assert_eq!(server.stored_behind(0).map(|(sequence, _)| sequence).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(server.stored_behind(3).map(|(_, stored)| stored.id.as_str()).collect::<Vec<_>>(), ["1-3"]);
        assert_eq!((server.last_sequence(), server.stored_behind(9).count()), (4, 0));
    }

    #[test]
    fn no_append_of_a_replaced_leader_fits_behind_its_successors_beginning() {
        let mut server = JournalServer::default();
        let now = Duration::ZERO;
        let started = |epoch| {
            let time = chrono::DateTime::UNIX_EPOCH.fixed_offset();
            Rc::new(Entry::Private(Private::LeaderStarted { epoch, node: "n".into(), time, limits: None }))
        };
        server.append(now, "1-0", &Expected::LastSequence(0), started(1)).expect("leads");
        let base = server.last_sequence();
        // As many as it may have on their way; none has arrived.
        let on_their_way: Vec<u64> = (base..base + WINDOW as u64).collect();
        server.append(now, "2-0", &Expected::LastSequence(base), started(2)).expect("leads");
        for last in on_their_way {
            assert!(server.append(now, "1-9", &Expected::LastSequence(last), entry()).is_err(), "behind {last}");
        }
    }

    #[test]
    fn appends_are_refused_behind_anything_else() {
        let mut server = JournalServer::default();
        let now = Duration::ZERO;
        let behind = Expected::LastSequence;
        assert_eq!(server.append(now, "1-0", &Expected::LastSequence(0), entry()), Ok((1, false)));
        assert_eq!(server.append(now, "1-1", &behind(1), entry()), Ok((2, false)));
        assert!(server.append(now, "1-1", &behind(1), entry()).is_err(), "a retried one that was stored");
        assert!(server.append(now, "1-3", &behind(3), entry()).is_err(), "one behind a lost one");
        assert!(server.append(now, "2-0", &Expected::LastSequence(1), entry()).is_err());
        assert_eq!(server.append(now, "1-1", &Expected::Anything, entry()), Ok((2, true)), "de-duplicated");
        server.restart();
        assert_eq!(server.append(now, "1-1", &Expected::Anything, entry()), Ok((3, false)));
        server.full_until = Duration::from_secs(1);
        assert!(server.append(now, "1-2", &behind(3), entry()).is_err());
        assert_eq!(server.last(), Last { sequence: 3, id: "1-1".to_owned(), leader: 0 });
    }
}
