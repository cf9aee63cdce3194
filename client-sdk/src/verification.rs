//! Whether everything that a gateway journalled has arrived: decisions only, no I/O.
//!
//! Three things show a loss: the chain of `Nats-Last-Sequence` on one subject (before the event that follows is
//! delivered), the heads (one heartbeat later, also at the end of a subject), and a change of epoch or connection. In
//! each case the journal is read again behind the last position that is known to be complete. Whatever the counting
//! says, it can only make us read too often, never too little.

use std::collections::{BTreeMap, HashMap};

use protocol::{Head, Name};

/// Events delivered but not yet known to be complete, at most: then the journal is read to make sure, and they are
/// forgotten.
const UNVERIFIED_MAX: usize = 10_000;

/// A live event's place.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// `Nats-Sequence`: its position in the journal.
    pub seq: u64,
    /// `Nats-Last-Sequence`: the position of its predecessor on the same subject, 0 if that is gone.
    pub previous: u64,
    /// Its subject.
    pub subject: &'a str,
    /// The epoch that it was written under.
    pub epoch: u64,
    /// `None` for positions and accounts, which count for every owner.
    pub owner: Option<&'a Name>,
}

/// What was delivered, and up to where it is known to be everything.
#[derive(Debug)]
pub struct Verification {
    complete_to: u64,
    epoch: u64,
    needs_refill: bool,
    /// The position of the last event that was held back: the refill must reach it. The node may not know yet that it
    /// is stored.
    held_to: u64,
    /// Delivered behind `complete_to`.
    delivered: BTreeMap<u64, Delivered>,
    last_of_subject: HashMap<String, u64>,
    owners: HashMap<Name, Owner>,
}

#[derive(Debug, Clone)]
struct Delivered {
    epoch: u64,
    owner: Option<Name>,
}

#[derive(Debug, Default)]
struct Owner {
    verified: Option<Count>,
    /// A head that was ahead of what had arrived. It may have overtaken events, so it has one heartbeat's time.
    ahead: Option<Count>,
}

/// How many events of an owner an epoch has stored up to a position.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Count {
    epoch: u64,
    seq: u64,
    count: u64,
}

impl Verification {
    /// Begins where everything up to `complete_to` is known (or not wanted).
    pub fn new(complete_to: u64, epoch: u64) -> Verification {
        Verification {
            complete_to,
            epoch,
            needs_refill: false,
            held_to: 0,
            delivered: BTreeMap::new(),
            last_of_subject: HashMap::new(),
            owners: HashMap::new(),
        }
    }

    /// The position up to which nothing is missing; a refill reads behind it.
    pub fn complete_to(&self) -> u64 {
        self.complete_to
    }

    /// The highest epoch that was told of.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The position of the last event that was delivered.
    pub fn told_to(&self) -> u64 {
        self.delivered.last_key_value().map_or(self.complete_to, |(seq, _)| self.complete_to.max(*seq))
    }

    /// Whether the journal has to be read again.
    pub fn needs_refill(&self) -> bool {
        self.needs_refill || self.delivered.len() > UNVERIFIED_MAX
    }

    /// Something may have been missed: a reconnect, say.
    pub fn doubt(&mut self) {
        self.needs_refill = true;
    }

    /// A live event came: whether to deliver it now. One that is held back comes with the refill.
    pub fn on_event(&mut self, place: Place<'_>) -> bool {
        if place.seq <= self.complete_to || self.delivered.contains_key(&place.seq) {
            return false;
        }
        if place.epoch < self.epoch {
            // Either it was stored before the new leader began, or it is void: the journal knows.
            return self.hold_back(place.seq);
        }
        self.on_epoch(place.epoch);
        let last = self.last_of_subject.get(place.subject).copied().unwrap_or(0).max(self.complete_to);
        if place.previous > last || place.seq < last {
            return self.hold_back(place.seq);
        }
        match self.last_of_subject.get_mut(place.subject) {
            Some(last) => *last = place.seq,
            None => {
                self.last_of_subject.insert(place.subject.to_owned(), place.seq);
            }
        }
        self.record(place.seq, place.epoch, place.owner);
        true
    }

    /// A heartbeat or a head tells of an epoch; behind a change of it the journal is read again.
    pub fn on_epoch(&mut self, epoch: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.needs_refill = true;
        }
    }

    /// A head came: compares what it counts with what has arrived.
    pub fn on_head(&mut self, head: &Head) {
        if head.epoch < self.epoch {
            return;
        }
        self.on_epoch(head.epoch);
        let new = Count { epoch: head.epoch, seq: head.journal_seq, count: head.count };
        let complete_to = self.complete_to;
        let owner = self.owners.entry(head.owner.clone()).or_default();
        // Counts start again with each epoch.
        owner.verified = owner.verified.filter(|known| known.epoch == head.epoch);
        owner.ahead = owner.ahead.filter(|known| known.epoch == head.epoch);
        let Some(verified) = owner.verified else {
            if new.seq <= complete_to {
                // Events between the head and `complete_to` may be missing in its count: that shows as a mismatch
                // later, and is put right by a refill.
                owner.verified = Some(Count { seq: complete_to, ..new });
            } else {
                owner.ahead = Some(new);
                self.needs_refill = true;
            }
            return;
        };
        let waited_for = owner.ahead.take();
        let proves = |count: Count| proves(&self.delivered, &head.owner, verified, count);
        let (verified, ahead, lost) = match waited_for {
            Some(old) if !proves(old) => (verified, Some(new), true),
            _ if proves(new) => (if new.seq > verified.seq { new } else { verified }, None, false),
            _ => (verified, Some(new), false),
        };
        owner.verified = Some(verified);
        owner.ahead = ahead;
        self.needs_refill |= lost;
    }

    /// An event came out of a refill: whether it is to be delivered, or has been.
    pub fn on_refilled(&mut self, seq: u64, epoch: u64, owner: Option<&Name>) -> bool {
        self.epoch = self.epoch.max(epoch);
        if seq <= self.complete_to || self.delivered.contains_key(&seq) {
            return false;
        }
        self.record(seq, epoch, owner);
        true
    }

    /// The journal was read from `complete_to` to here.
    pub fn on_refill_done(&mut self, scanned: u64) {
        let scanned = scanned.max(self.complete_to);
        for (name, owner) in &mut self.owners {
            // A head that the journal has caught up with counts, whatever we counted ourselves.
            if let Some(ahead) = owner.ahead.take_if(|ahead| ahead.seq <= scanned) {
                owner.verified = Some(ahead);
            }
            if let Some(verified) = &mut owner.verified {
                verified.count += counted(&self.delivered, name, *verified, scanned);
                verified.seq = verified.seq.max(scanned);
            }
        }
        self.delivered = self.delivered.split_off(&scanned.saturating_add(1));
        self.complete_to = scanned;
        self.needs_refill = self.held_to > scanned;
    }

    fn hold_back(&mut self, seq: u64) -> bool {
        self.held_to = self.held_to.max(seq);
        self.needs_refill = true;
        false
    }

    fn record(&mut self, seq: u64, epoch: u64, owner: Option<&Name>) {
        self.delivered.insert(seq, Delivered { epoch, owner: owner.cloned() });
    }
}

/// Events delivered behind `from` up to `to` that count for the owner in that epoch.
fn counted(delivered: &BTreeMap<u64, Delivered>, owner: &Name, from: Count, to: u64) -> u64 {
    if to <= from.seq {
        return 0;
    }
    let counts = |event: &&Delivered| event.epoch == from.epoch && event.owner.as_ref().is_none_or(|o| o == owner);
    delivered.range(from.seq + 1..=to).map(|(_, event)| event).filter(counts).count() as u64
}

/// Whether what was delivered since `verified` is all that `head` counts. A head that says no more than is known proves
/// nothing wrong.
fn proves(delivered: &BTreeMap<u64, Delivered>, owner: &Name, verified: Count, head: Count) -> bool {
    if head.seq <= verified.seq {
        return head.count <= verified.count;
    }
    verified.count + counted(delivered, owner, verified, head.seq) == head.count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHARED: u8 = 3;

    /// One gateway's journal, as the node writes it and `get_events` reads it.
    #[derive(Default)]
    struct Journal {
        /// Owner (or none), subject and epoch of each published entry.
        entries: BTreeMap<u64, (Option<Name>, String, u64)>,
        end: u64,
        epoch: u64,
    }

    impl Journal {
        fn append(&mut self, owner: u8, subject: u8) -> u64 {
            let owner = (owner != SHARED).then(|| Name::from(format!("o{owner}")));
            let subject = format!("{owner:?}.{subject}");
            self.end += 1;
            self.entries.insert(self.end, (owner, subject, self.epoch));
            self.end
        }

        fn previous(&self, seq: u64) -> u64 {
            let subject = &self.entries[&seq].1;
            self.entries.range(..seq).rev().find(|(_, entry)| entry.1 == *subject).map_or(0, |(seq, _)| *seq)
        }

        fn head(&self, owner: u8) -> Head {
            let name = Name::from(format!("o{owner}"));
            let mine = self.entries.iter().filter(|(_, (o, _, _))| o.as_ref().is_none_or(|o| *o == name));
            Head {
                gateway_name: "sim1".into(),
                owner: name.clone(),
                epoch: self.epoch,
                journal_seq: mine.clone().map(|(seq, _)| *seq).next_back().unwrap_or(0),
                count: mine.filter(|(_, entry)| entry.2 == self.epoch).count() as u64,
            }
        }
    }

    struct Reader {
        verification: Verification,
        delivered: Vec<u64>,
        refills: usize,
    }

    impl Reader {
        fn new() -> Reader {
            Reader { verification: Verification::new(0, 1), delivered: Vec::new(), refills: 0 }
        }

        fn event(&mut self, journal: &Journal, seq: u64) {
            let (owner, subject, epoch) = &journal.entries[&seq];
            let place = Place { seq, previous: journal.previous(seq), subject, epoch: *epoch, owner: owner.as_ref() };
            if self.verification.on_event(place) {
                self.delivered.push(seq);
            }
        }

        fn refill(&mut self, journal: &Journal) {
            if self.verification.needs_refill() {
                self.refills += 1;
                for (&seq, (owner, _, epoch)) in journal.entries.range(self.verification.complete_to() + 1..) {
                    if self.verification.on_refilled(seq, *epoch, owner.as_ref()) {
                        self.delivered.push(seq);
                    }
                }
                self.verification.on_refill_done(journal.end);
            }
        }

        fn beat(&mut self, journal: &Journal) {
            for owner in 0..SHARED {
                self.verification.on_head(&journal.head(owner));
            }
            self.refill(journal);
        }
    }

    fn journal() -> Journal {
        Journal { epoch: 1, ..Journal::default() }
    }

    #[test]
    fn without_a_loss_nothing_is_read_again() {
        let (mut journal, mut reader) = (journal(), Reader::new());
        reader.beat(&journal);
        for n in 0..100 {
            let seq = journal.append(n % 4, n % 2);
            reader.event(&journal, seq);
            if n % 10 == 0 {
                reader.beat(&journal);
            }
        }
        assert_eq!(reader.refills, 0);
        assert_eq!(reader.delivered, (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn a_hole_is_filled_before_what_follows_it_on_the_same_subject() {
        let (mut journal, mut reader) = (journal(), Reader::new());
        reader.beat(&journal);
        let (_lost, second) = (journal.append(0, 0), journal.append(0, 0));
        reader.event(&journal, second);
        assert!(reader.delivered.is_empty(), "held back");
        reader.refill(&journal);
        assert_eq!(reader.delivered, [1, 2]);
    }

    #[test]
    fn a_refill_that_ends_in_front_of_what_was_held_back_is_not_the_last() {
        let (mut journal, mut reader) = (journal(), Reader::new());
        let (_lost, second) = (journal.append(0, 0), journal.append(0, 0));
        reader.event(&journal, second);
        // The node does not know yet that the second one is stored.
        assert!(reader.verification.on_refilled(1, 1, None));
        reader.verification.on_refill_done(1);
        assert!(reader.verification.needs_refill(), "the second one is still to come");
        reader.refill(&journal);
        assert_eq!(reader.delivered, [2]);
        assert!(!reader.verification.needs_refill());
    }

    #[test]
    fn a_head_may_overtake_its_event_by_one_heartbeat() {
        let (mut journal, mut reader) = (journal(), Reader::new());
        reader.beat(&journal);
        let seq = journal.append(0, 0);
        reader.beat(&journal);
        assert_eq!(reader.refills, 0);
        reader.event(&journal, seq);
        reader.beat(&journal);
        assert_eq!((reader.refills, reader.delivered.len()), (0, 1));
        journal.append(0, 0);
        reader.beat(&journal);
        reader.beat(&journal);
        assert_eq!(reader.delivered, [1, 2], "lost at the end of its subject, and found");
    }

    #[test]
    fn an_event_of_a_former_leader_waits_for_what_the_journal_says() {
        let (mut journal, mut reader) = (journal(), Reader::new());
        let old = journal.append(0, 0);
        reader.verification.on_epoch(2);
        reader.event(&journal, old);
        assert!(reader.delivered.is_empty());
        reader.refill(&journal);
        assert_eq!(reader.delivered, [old]);
    }

    #[test]
    fn a_purge_is_no_loss() {
        let mut verification = Verification::new(10, 1);
        let place = |seq, previous| Place { seq, previous, subject: "s", epoch: 1, owner: None };
        assert!(verification.on_event(place(11, 10)));
        assert!(verification.on_event(place(15, 0)), "the predecessor was purged");
        assert!(!verification.needs_refill());
    }

    #[test]
    fn a_node_that_counts_otherwise_costs_reads_and_nothing_else() {
        let (mut journal, mut reader) = (journal(), Reader::new());
        reader.beat(&journal);
        for _ in 0..20 {
            let seq = journal.append(0, 0);
            reader.event(&journal, seq);
            let mut head = journal.head(0);
            head.count *= 2;
            reader.verification.on_head(&head);
            reader.refill(&journal);
        }
        assert_eq!(reader.delivered, (1..=20).collect::<Vec<_>>());
    }

    proptest! {
        /// Whatever is lost on the way: after two more heartbeats everything was delivered, once, and in order on
        /// each subject.
        #[test]
        fn everything_arrives_once_and_in_order(
            steps in prop::collection::vec((0_u8..4, 0_u8..2, any::<bool>(), 0_u8..12), 1..150),
        ) {
            let (mut journal, mut reader) = (journal(), Reader::new());
            for (owner, subject, lost, other) in steps {
                let seq = journal.append(owner, subject);
                if !lost {
                    reader.event(&journal, seq);
                }
                match other {
                    0 => reader.beat(&journal),
                    1 => reader.refill(&journal),
                    2 => journal.epoch += 1,
                    3 => reader.verification.on_epoch(journal.epoch),
                    4 => reader.verification.on_head(&journal.head(0)),
                    // An entry that is only stored.
                    5 => journal.end += 1,
                    _ => {}
                }
            }
            for _ in 0..3 {
                reader.beat(&journal);
            }
            let mut sorted = reader.delivered.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&sorted, &journal.entries.keys().copied().collect::<Vec<_>>());
            let mut last: HashMap<&str, u64> = HashMap::new();
            for seq in &reader.delivered {
                let before = last.insert(&journal.entries[seq].1, *seq);
                prop_assert!(before.is_none_or(|before| before < *seq), "out of order on its subject");
            }
        }
    }
}
