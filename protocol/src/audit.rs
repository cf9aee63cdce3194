//! Checks a journal entry by entry: that nothing is missing, that each leader's chain is whole, and that what the
//! events say is what they add up to.

use crate::event::OmsEvent;
use crate::journal::{Entry, Private, SnapshotEnd, SnapshotPage, parse_message_id};
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
    /// The last entry was a [`Private::Fence`] of this epoch.
    fence: Option<u64>,
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
            return;
        };
        let is_leader = matches!(entry, Ok(Entry::Private(Private::LeaderStarted { .. })));
        if let Some(fenced) = self.fence.take()
            && !(is_leader && epoch == fenced)
        {
            self.find(sequence, format!("the fence in front of it is epoch {fenced}'s"));
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
        self.fence = Some(epoch);
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
        Ok(Entry::Private(Private::LeaderStarted { epoch, node: "a".into(), time: time() }))
    }

    fn audit(entries: &[Numbered]) -> Audit {
        let mut audit = Audit::default();
        for (sequence, epoch, number, entry) in entries {
            audit.take(*sequence, &message_id(*epoch, *number), entry);
        }
        audit
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
        assert_eq!((audit.entries, audit.leaders, audit.void), (5, 2, 0));
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
        assert_eq!(found(&|e| drop(e.remove(2))), [(4, "entries 3 to 3 are missing".to_owned())]);
        assert_eq!(found(&|e| e[2].2 = 3)[0].1, "entry 3 of epoch 3 follows entry 1");
        assert_eq!(
            found(&|e| e[3].3 = order(9, "b", OrderStatus::Submitting))[0].1,
            "epoch 9 begins without a leader's first entry"
        );
        assert_eq!(
            found(&|e| e[4].3 = order(9, "a", OrderStatus::Submitting))[0].1,
            "the event is not what the journal adds up to"
        );
        let fence = |epoch| Ok(Entry::Private(Private::Fence { epoch }));
        let fenced = |epoch| {
            move |e: &mut Vec<Numbered>| {
                e.insert(3, (4, 0, 0, fence(epoch)));
                e[4].0 = 5;
                e[5].0 = 6;
            }
        };
        assert_eq!(found(&fenced(9)), []);
        assert_eq!(found(&fenced(8)), [(5, "the fence in front of it is epoch 8's".to_owned())]);
        assert_eq!(found(&fenced(3))[0], (4, "epoch 3 fences off epoch 3".to_owned()));
        assert_eq!(found(&|e| e.insert(0, (0, 0, 0, fence(3)))), []);
        assert!(found(&|e| e[4].3 = Err("no JSON".to_owned()))[0].1.contains("no JSON"));
        let mut entries = sound();
        entries.push((6, 3, 3, order(3, "late", OrderStatus::Submitting)));
        let audit = audit(&entries);
        assert_eq!((audit.found(), audit.void), (0, 1), "a stale leader's words stand for nothing");
        assert!(audit.state().orders().len() == 1);
    }

    #[test]
    fn a_snapshot_must_be_what_the_journal_adds_up_to() {
        let Ok(Entry::Event(works)) = order(3, "w", OrderStatus::NotTraded) else { unreachable!() };
        let end = SnapshotEnd {
            trading_day: time().date_naive(),
            begins: 3,
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
