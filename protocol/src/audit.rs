//! Checks a journal entry by entry: that nothing is missing, that each leader's chain is whole, and that what the
//! events say is what they add up to.

use crate::event::OmsEvent;
use crate::journal::{Entry, Private, SnapshotEnd, SnapshotPage, WINDOW, parse_message_id};
use crate::oms::{OmsState, OrderKey, PositionKey, TradeKey};

/// What is wrong with a journal, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Sequence of the entry that shows it.
    pub sequence: u64,
    /// What is wrong.
    pub what: String,
}

/// See the module. Entries are given in order, from the first one that is kept.
#[derive(Debug, Default)]
pub struct Audit {
    state: OmsState,
    /// Whether the state is known from here on: from the journal's first entry, or from a snapshot.
    is_complete: bool,
    last: Option<(u64, u64, u64)>,
    pages: Vec<SnapshotPage>,
    findings: Vec<Finding>,
    found: u64,
    /// How many [`Private::Fence`] entries of which epoch came last.
    fence: Option<(u64, usize)>,
    /// Entries looked at.
    pub entries: u64,
    /// Leaderships seen.
    pub leaders: u64,
    /// Entries of a stale leader, which stand for nothing.
    pub void: u64,
    /// Snapshots seen whole.
    pub snapshots: u64,
}

impl Audit {
    /// Most findings that are kept in words; all are counted.
    pub const MAX_FINDINGS: usize = 100;

    /// Looks at the next entry: its sequence, its message id, and what it decodes to.
    pub fn take(&mut self, sequence: u64, message_id: &str, entry: &Result<Entry, String>) {
        self.entries += 1;
        if let Ok(Entry::Private(Private::Fence { epoch })) = entry {
            self.take_fence(sequence, *epoch);
            return;
        }
        let Some((epoch, number)) = parse_message_id(message_id) else {
            self.find(sequence, format!("its id `{message_id}` is none of a node's"));
            self.last = self.last.map(|(_, led, numbered)| (sequence, led, numbered));
            return;
        };
        let is_leader = matches!(entry, Ok(Entry::Private(Private::LeaderStarted { .. })));
        match self.fence.take() {
            Some((fenced, _)) if !(is_leader && epoch == fenced) => {
                self.find(sequence, format!("the fence in front of it is epoch {fenced}'s"));
            }
            fence if is_leader && fence.is_none_or(|(_, length)| length < crate::journal::fence(WINDOW)) => {
                let length = fence.map_or(0, |(_, length)| length);
                self.find(sequence, format!("the fence in front of it has {length} entries: it does not keep all out"));
            }
            _ => {}
        }
        match self.last {
            None => self.is_complete = sequence == 1,
            Some((before, ..)) if sequence != before + 1 => {
                self.find(sequence, format!("entries {} to {} are missing", before + 1, sequence - 1));
            }
            Some((_, led, _)) if epoch < led => {
                self.void += 1;
                self.last = self.last.map(|(_, led, numbered)| (sequence, led, numbered));
                return;
            }
            Some((_, led, numbered)) if epoch == led && number != numbered + 1 => {
                self.find(sequence, format!("entry {number} of epoch {epoch} follows entry {numbered}"));
            }
            Some((_, led, _)) if epoch > led && !(is_leader && number == 0) => {
                self.find(sequence, format!("epoch {epoch} begins without a leader's first entry"));
            }
            Some(_) => {}
        }
        self.last = Some((sequence, epoch, number));
        match entry {
            Ok(entry) => self.apply(sequence, epoch, entry),
            Err(error) => self.find(sequence, format!("it does not decode: {error}")),
        }
    }

    fn take_fence(&mut self, sequence: u64, epoch: u64) {
        match self.last {
            None => self.is_complete = sequence == 1,
            Some((before, ..)) if sequence != before + 1 => {
                self.find(sequence, format!("entries {} to {} are missing", before + 1, sequence - 1));
            }
            Some((_, led, _)) if epoch <= led => {
                self.find(sequence, format!("epoch {epoch} fences off epoch {led}"));
            }
            Some(_) => {}
        }
        let (_, led, numbered) = self.last.unwrap_or_default();
        self.last = Some((sequence, led, numbered));
        self.fence = Some(match self.fence {
            Some((fenced, length)) if fenced == epoch => (epoch, length + 1),
            _ => (epoch, 1),
        });
    }

    fn apply(&mut self, sequence: u64, epoch: u64, entry: &Entry) {
        let pages = std::mem::take(&mut self.pages);
        match entry {
            Entry::Event(event) => {
                if event.epoch != epoch {
                    self.find(sequence, format!("the event says epoch {} and its id says {epoch}", event.epoch));
                }
                self.state.apply(&event.data);
                if self.is_complete && !holds(&self.state, &event.data) {
                    self.find(sequence, "the event is not what the journal adds up to".to_owned());
                }
            }
            Entry::Private(Private::LeaderStarted { epoch: told, .. }) => {
                self.leaders += 1;
                if *told != epoch {
                    self.find(sequence, format!("the leader says epoch {told} and its id says {epoch}"));
                }
            }
            Entry::Private(Private::Snapshot(page)) => {
                self.pages = pages;
                self.pages.push(page.clone());
            }
            Entry::Private(Private::SnapshotEnd(end)) => self.end_snapshot(sequence, &pages, end),
            Entry::Private(_) => {}
        }
    }

    fn end_snapshot(&mut self, sequence: u64, pages: &[SnapshotPage], end: &SnapshotEnd) {
        if pages.len() != end.pages as usize || end.begins + u64::from(end.pages) != sequence {
            self.find(sequence, format!("a snapshot of {} pages from {} has {}", end.pages, end.begins, pages.len()));
            return;
        }
        let mut held = OmsState::default();
        for event in pages.iter().flat_map(|page| &page.events) {
            held.apply(event);
            if self.is_complete && !holds(&self.state, event) {
                self.find(sequence, format!("the snapshot holds what the journal does not add up to: {event:?}"));
            }
        }
        if self.is_complete {
            let order = self.state.active_orders().map(OrderKey::from).find(|key| held.order(key).is_none());
            let quote = self.state.active_quotes().map(OrderKey::from).find(|key| held.quote(key).is_none());
            if let Some(key) = order.or(quote) {
                self.find(sequence, format!("the snapshot lacks {}, which works", key.orderid));
            }
            if held.positions() != self.state.positions() || held.accounts() != self.state.accounts() {
                self.find(sequence, "the snapshot's positions or accounts differ".to_owned());
            }
        }
        self.state = held;
        self.is_complete = true;
        self.snapshots += 1;
    }

    fn find(&mut self, sequence: u64, what: String) {
        self.found += 1;
        if self.findings.len() < Audit::MAX_FINDINGS {
            self.findings.push(Finding { sequence, what: what.chars().take(500).collect() });
        }
    }

    /// What is wrong, the first [`Audit::MAX_FINDINGS`] of it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How much is wrong.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.found
    }

    /// What the journal adds up to.
    #[must_use]
    pub fn state(&self) -> &OmsState {
        &self.state
    }
}

/// Whether a state holds exactly this.
fn holds(state: &OmsState, event: &OmsEvent) -> bool {
    match event {
        OmsEvent::Order(order) => state.order(&order.into()) == Some(order),
        OmsEvent::Trade(trade) => state.trades().get(&TradeKey::from(trade)) == Some(trade),
        OmsEvent::Quote(quote) => state.quote(&quote.into()) == Some(quote),
        OmsEvent::Position(position) => state.positions().get(&PositionKey::from(position)) == Some(position),
        OmsEvent::Account(account) => state.account(&account.accountid) == Some(account),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::message_id;
    use crate::{Direction, Event, Exchange, InstrumentId, Offset, OrderId, OrderRequest, OrderStatus, Timestamp};

    /// Sequence, epoch, number, entry.
    type Numbered = (u64, u64, u64, Result<Entry, String>);

    fn time() -> Timestamp {
        chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time")
    }

    fn order(epoch: u64, id: &str, status: OrderStatus) -> Result<Entry, String> {
        let instrument = InstrumentId::new("rb2410", Exchange::SHFE);
        let mut request = OrderRequest::limit(instrument, Direction::Long, Offset::Open, 3500.0, 1.0);
        request.orderid = OrderId::new(id);
        let order = crate::Order { status, ..request.to_order(&"sim1".into(), &"default".into()) };
        Ok(Entry::Event(Box::new(Event {
            gateway: "sim1".into(),
            epoch,
            seq: 1,
            time: time(),
            data: OmsEvent::Order(order),
        })))
    }

    fn leader(epoch: u64) -> Result<Entry, String> {
        Ok(Entry::Private(Private::LeaderStarted { epoch, node: "a".into(), time: time(), limits: None }))
    }

    const FENCE: u64 = crate::journal::fence(WINDOW) as u64;

    /// Each leader's first entry comes with a whole fence, which moves what is behind it.
    fn audit(entries: &[Numbered]) -> Audit {
        let (mut audit, mut moved) = (Audit::default(), 0);
        for (sequence, epoch, number, entry) in entries {
            if matches!(entry, Ok(Entry::Private(Private::LeaderStarted { .. }))) {
                fence(&mut audit, sequence + moved, *epoch, FENCE);
                moved += FENCE;
            }
            audit.take(sequence + moved, &message_id(*epoch, *number), entry);
        }
        audit
    }

    fn fence(audit: &mut Audit, from: u64, epoch: u64, length: u64) {
        for sequence in from..from + length {
            audit.take(sequence, "", &Ok(Entry::Private(Private::Fence { epoch })));
        }
    }

    fn sound() -> Vec<Numbered> {
        vec![
            (1, 3, 0, leader(3)),
            (2, 3, 1, order(3, "a", OrderStatus::Submitting)),
            (3, 3, 2, order(3, "a", OrderStatus::NotTraded)),
            (4, 9, 0, leader(9)),
            (5, 9, 1, order(9, "a", OrderStatus::Cancelled)),
        ]
    }

    #[test]
    fn a_sound_journal_has_no_findings() {
        let audit = audit(&sound());
        assert_eq!(audit.findings(), []);
        assert_eq!((audit.entries, audit.leaders, audit.void), (5 + 2 * FENCE, 2, 0));
    }

    #[test]
    fn what_is_missing_or_out_of_place_is_found() {
        let found = |change: &dyn Fn(&mut Vec<Numbered>)| {
            let mut entries = sound();
            change(&mut entries);
            audit(&entries)
                .findings()
                .iter()
                .map(|finding| (finding.sequence, finding.what.clone()))
                .collect::<Vec<_>>()
        };
        let (lost, shown) = (FENCE + 3, FENCE + 4);
        assert_eq!(found(&|e| drop(e.remove(2))), [(shown, format!("entries {lost} to {lost} are missing"))]);
        assert_eq!(found(&|e| e[2].2 = 3)[0].1, "entry 3 of epoch 3 follows entry 1");
        assert_eq!(
            found(&|e| e[3].3 = order(9, "b", OrderStatus::Submitting))[0].1,
            "epoch 9 begins without a leader's first entry"
        );
        assert_eq!(
            found(&|e| e[4].3 = order(9, "a", OrderStatus::Submitting))[0].1,
            "the event is not what the journal adds up to"
        );
        assert!(found(&|e| e[4].3 = Err("no JSON".to_owned()))[0].1.contains("no JSON"));
        let mut entries = sound();
        entries.push((6, 3, 3, order(3, "late", OrderStatus::Submitting)));
        let audit = audit(&entries);
        assert_eq!((audit.found(), audit.void), (0, 1), "a stale leader's words stand for nothing");
        assert!(audit.state().orders().len() == 1);
    }

    #[test]
    fn a_fence_must_be_whole_and_its_leaders_own() {
        let fenced = |epoch, length| {
            let mut audit = Audit::default();
            fence(&mut audit, 1, 3, FENCE);
            audit.take(FENCE + 1, &message_id(3, 0), &leader(3));
            fence(&mut audit, FENCE + 2, epoch, length);
            audit.take(FENCE + 2 + length, &message_id(9, 0), &leader(9));
            audit.findings().iter().map(|finding| finding.what.clone()).collect::<Vec<_>>()
        };
        assert_eq!(fenced(9, FENCE), [""; 0]);
        assert!(fenced(9, FENCE - 1)[0].contains("does not keep all out"));
        assert!(fenced(9, 0)[0].contains("0 entries"));
        assert_eq!(fenced(8, FENCE), ["the fence in front of it is epoch 8's"]);
        assert_eq!(fenced(3, 1)[0], "epoch 3 fences off epoch 3");
    }

    #[test]
    fn a_snapshot_must_be_what_the_journal_adds_up_to() {
        let Ok(Entry::Event(works)) = order(3, "w", OrderStatus::NotTraded) else { unreachable!() };
        let end = SnapshotEnd {
            trading_day: time().date_naive(),
            begins: FENCE + 3,
            pages: 1,
            time: time(),
            rolls: Vec::new(),
            earlier: Vec::new(),
            halts: Default::default(),
            halt_entries: None,
        };
        let with = |events: Vec<OmsEvent>| {
            audit(&[
                (1, 3, 0, leader(3)),
                (2, 3, 1, Ok(Entry::Event(works.clone()))),
                (3, 3, 2, Ok(Entry::Private(Private::Snapshot(SnapshotPage { events, ..SnapshotPage::default() })))),
                (4, 3, 3, Ok(Entry::Private(Private::SnapshotEnd(end.clone())))),
            ])
        };
        let whole = with(vec![works.data.clone()]);
        assert_eq!((whole.findings(), whole.snapshots), (&[][..], 1));
        assert!(with(Vec::new()).findings()[0].what.contains("lacks w"));
        let Ok(Entry::Event(other)) = order(3, "w", OrderStatus::AllTraded) else { unreachable!() };
        assert!(with(vec![other.data.clone()]).findings()[0].what.contains("does not add up to"));
    }
}
