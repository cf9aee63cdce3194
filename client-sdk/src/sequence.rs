//! Gaps in what one gateway publishes on one subject, by epoch and sequence number.

/// What an event's numbers say about those that should have come before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is new; so many before it did not arrive.
    New {
        /// How many are missing directly before it.
        missed: u64,
    },
    /// It, or a later one, came before, or it is of a leader that leads no more.
    Stale,
}

/// The last event seen of one subject and gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sequence {
    last: Option<(u64, u64)>,
}

impl Sequence {
    /// The epoch of the last event seen.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.last.map(|(epoch, _)| epoch)
    }

    /// Takes in an event's epoch and sequence number.
    ///
    /// The very first one tells of no gap: nobody knows what came before. A new epoch counts from 1 again, so whatever
    /// is below its first arrival was missed (what the old epoch still said at its end cannot be known).
    pub(crate) fn arrive(&mut self, epoch: u64, seq: u64) -> Arrival {
        let missed = match self.last {
            None => 0,
            Some((known, _)) if epoch > known => seq.saturating_sub(1),
            Some((known, last)) if epoch == known && seq > last => seq - last - 1,
            Some(_) => return Arrival::Stale,
        };
        self.last = Some((epoch, seq));
        Arrival::New { missed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(arrivals: &[(u64, u64)]) -> Vec<Arrival> {
        let mut sequence = Sequence::default();
        arrivals.iter().map(|&(epoch, seq)| sequence.arrive(epoch, seq)).collect()
    }

    const fn new(missed: u64) -> Arrival {
        Arrival::New { missed }
    }

    #[test]
    fn the_first_event_tells_of_no_gap() {
        assert_eq!(run(&[(5, 1000), (5, 1001), (5, 1005)]), [new(0), new(0), new(3)]);
    }

    #[test]
    fn a_new_epoch_counts_from_one() {
        assert_eq!(run(&[(5, 1000), (6, 1), (6, 2)]), [new(0), new(0), new(0)]);
        assert_eq!(run(&[(5, 1000), (6, 4)]), [new(0), new(3)]);
    }

    #[test]
    fn a_former_leader_and_a_repeated_event_are_dropped() {
        assert_eq!(run(&[(6, 1), (5, 1001), (6, 1), (6, 2)]), [new(0), Arrival::Stale, Arrival::Stale, new(0)]);
    }

    #[test]
    fn numbers_from_a_broken_node_are_survived() {
        assert_eq!(run(&[(1, 1), (u64::MAX, u64::MAX), (u64::MAX, 0)])[2], Arrival::Stale);
        assert_eq!(run(&[(1, 1), (2, 0)])[1], new(0));
    }

    proptest! {
        /// Whatever is lost, repeated: taken and missed together are all that was sent since the first one taken.
        #[test]
        fn taken_and_missed_are_all_there_was(arrives in prop::collection::vec(0_u8..3, 1..200)) {
            let mut sequence = Sequence::default();
            let (mut taken, mut missed) = (0_u64, 0_u64);
            let (mut first, mut last) = (None, 0);
            for (seq, &copies) in (1_u64..).zip(&arrives) {
                for copy in 0..copies {
                    match sequence.arrive(1, seq) {
                        Arrival::New { missed: gap } => {
                            prop_assert_eq!(copy, 0, "a copy was taken for new");
                            taken += 1;
                            missed += gap;
                            first = first.or(Some(seq));
                            last = seq;
                        }
                        Arrival::Stale => prop_assert!(copy > 0),
                    }
                }
            }
            if let Some(first) = first {
                prop_assert_eq!(taken + missed, last - first + 1);
            }
        }
    }
}
