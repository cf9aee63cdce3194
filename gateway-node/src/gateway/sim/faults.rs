//! Faults that a venue can be told to have, for tests of what stands above it: what becomes of the events between the
//! counter that says them and the connection that they leave by. No clock: time is an argument.
//!
//! The ledger knows nothing of these faults (but for orders that were told to be rejected): it says what is true, and
//! what the node hears comes late, twice, in another order, or not at all, as real counters' returns do.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::OrderStatus;
use serde::{Deserialize, Serialize};

use crate::gateway::{VenueEvent, VenueOrder};

/// Events that may be held back; when there are more, the oldest ones leave early.
const HELD: usize = 65_536;
/// Orders, trades and quotes that can change places with each other.
const WINDOW: usize = 8;

/// Something to go wrong. `next` counts events of orders, trades, quotes, positions and account, unless it says
/// otherwise; `for_ms` is how long, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The connection of the session in force is closed.
    DropConnection,
    /// Logins fail as if the venue were closed.
    RefuseLogins {
        /// How long.
        for_ms: u64,
    },
    /// Everything that is said comes later.
    Delay {
        /// By how much, in milliseconds.
        by_ms: u64,
        /// How long.
        for_ms: u64,
    },
    /// Commands are taken, and nothing is said; heartbeats go on. Afterwards everything comes at once, and so does what
    /// an earlier, longer silence or delay has held back: 0 ends them.
    Silence {
        /// How long.
        for_ms: u64,
    },
    /// Events are said twice, as two messages with numbers of their own.
    Duplicate {
        /// How many.
        next: u32,
    },
    /// Messages are sent twice, as they are.
    Repeat {
        /// How many.
        next: u32,
    },
    /// What one input came to is told backwards: trades before orders, an acceptance after the fill.
    Reorder {
        /// For how many inputs that came to more than one event of an order, a trade or a quote.
        next: u32,
    },
    /// Messages are numbered and not sent.
    Lose {
        /// How many.
        next: u32,
    },
    /// Before an order is told to be filled, it is told to be cancelled or rejected.
    LateFill {
        /// For how many orders.
        next: u32,
    },
    /// Orders and quotes are rejected. This is no lie: they are.
    RejectOrders {
        /// How many.
        next: u32,
    },
    /// Every connection is closed, and the venue begins again with what its ledger says.
    Restart,
}

/// How often faults had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FaultCounts {
    /// Connections closed.
    pub connections_dropped: u64,
    /// Logins refused.
    pub logins_refused: u64,
    /// Events that came later, through a delay or a silence.
    pub held: u64,
    /// Events said twice.
    pub duplicated: u64,
    /// Messages sent twice.
    pub repeated: u64,
    /// Inputs told backwards.
    pub reordered: u64,
    /// Messages not sent.
    pub lost: u64,
    /// Orders filled after they were told to be over.
    pub late_fills: u64,
    /// Restarts.
    pub restarts: u64,
}

/// How an event leaves.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Delivery {
    /// As one message.
    Say(VenueEvent),
    /// As one message, twice.
    Repeat(VenueEvent),
    /// Its number is used, and nothing is sent.
    Lose,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Faults {
    counts: FaultCounts,
    closed_until: Duration,
    delay_by: Duration,
    delay_until: Duration,
    silent_until: Duration,
    duplicate: u32,
    repeat: u32,
    reorder: u32,
    lose: u32,
    late_fill: u32,
    /// With the time that they are due at, which never decreases.
    held: VecDeque<(Duration, VenueEvent)>,
}

impl Faults {
    /// Takes a fault that concerns what is said; returns whether it does. `now` is the time since any fixed instant.
    pub(super) fn inject(&mut self, fault: Fault, now: Duration) -> bool {
        let until = |ms| now.saturating_add(Duration::from_millis(ms));
        match fault {
            Fault::RefuseLogins { for_ms } => self.closed_until = until(for_ms),
            Fault::Delay { by_ms, for_ms } => {
                (self.delay_by, self.delay_until) = (Duration::from_millis(by_ms), until(for_ms));
            }
            Fault::Silence { for_ms } => {
                self.silent_until = until(for_ms);
                self.held.iter_mut().for_each(|(due, _)| *due = (*due).min(self.silent_until));
            }
            Fault::Duplicate { next } => self.duplicate = next,
            Fault::Repeat { next } => self.repeat = next,
            Fault::Reorder { next } => self.reorder = next,
            Fault::Lose { next } => self.lose = next,
            Fault::LateFill { next } => self.late_fill = next,
            Fault::DropConnection | Fault::RejectOrders { .. } | Fault::Restart => return false,
        }
        true
    }

    pub(super) fn counts(&mut self) -> &mut FaultCounts {
        &mut self.counts
    }

    /// Whether a login fails now; counted.
    pub(super) fn refuses_login(&mut self, now: Duration) -> bool {
        let is_refused = now < self.closed_until;
        self.counts.logins_refused += u64::from(is_refused);
        is_refused
    }

    /// What leaves now of what one input came to.
    pub(super) fn pass(&mut self, mut events: Vec<VenueEvent>, now: Duration) -> Vec<Delivery> {
        self.lie_of_fills(&mut events);
        self.turn_round(&mut events);
        let mut due = self.silent_until.max(now);
        if now < self.delay_until {
            due = due.max(now.saturating_add(self.delay_by));
        }
        if let Some((last, _)) = self.held.back() {
            due = due.max(*last);
        }
        let mut out = Vec::new();
        for event in events {
            if due <= now && self.held.is_empty() {
                self.deliver(event, &mut out);
                continue;
            }
            self.counts.held += 1;
            self.held.push_back((due, event));
            if self.held.len() > HELD
                && let Some((_, oldest)) = self.held.pop_front()
            {
                self.deliver(oldest, &mut out);
            }
        }
        out
    }

    /// What was held back and is due.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<Delivery> {
        let mut out = Vec::new();
        while self.next_due().is_some_and(|due| due <= now) {
            if let Some((_, event)) = self.held.pop_front() {
                self.deliver(event, &mut out);
            }
        }
        out
    }

    /// When something that was held back is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.held.front().map(|(due, _)| *due)
    }

    /// The session that it was for is over.
    pub(super) fn forget_held(&mut self) {
        self.held.clear();
    }

    fn deliver(&mut self, event: VenueEvent, out: &mut Vec<Delivery>) {
        let is_trading = matches!(
            event,
            VenueEvent::Order(_)
                | VenueEvent::Trade(_)
                | VenueEvent::Quote(_)
                | VenueEvent::Position(_)
                | VenueEvent::Account(_)
        );
        if !is_trading {
            out.push(Delivery::Say(event));
        } else if take_one(&mut self.lose) {
            self.counts.lost += 1;
            out.push(Delivery::Lose);
        } else if take_one(&mut self.duplicate) {
            self.counts.duplicated += 1;
            out.extend([Delivery::Say(event.clone()), Delivery::Say(event)]);
        } else if take_one(&mut self.repeat) {
            self.counts.repeated += 1;
            out.push(Delivery::Repeat(event));
        } else {
            out.push(Delivery::Say(event));
        }
    }

    /// Before the first fill of an order that ends all traded, says that it was cancelled or rejected.
    fn lie_of_fills(&mut self, events: &mut Vec<VenueEvent>) {
        let filled: Vec<VenueOrder> = events
            .iter()
            .filter_map(|event| match event {
                VenueEvent::Order(order) if order.status == OrderStatus::AllTraded => Some(order.clone()),
                _ => None,
            })
            .collect();
        for order in filled {
            let is_filled =
                |event: &VenueEvent| matches!(event, VenueEvent::Trade(trade) if trade.reference == order.reference);
            let is_reported = |event: &VenueEvent| matches!(event, VenueEvent::Order(o) if o.reference == order.reference && o.traded > 0.0);
            // A repeated word on a finished order has no fill beside it.
            let Some(at) = events.iter().position(is_reported).filter(|_| events.iter().any(is_filled)) else {
                continue;
            };
            if !take_one(&mut self.late_fill) {
                return;
            }
            let volume: f64 = events
                .iter()
                .filter_map(|event| match event {
                    VenueEvent::Trade(trade) if trade.reference == order.reference => Some(trade.volume),
                    _ => None,
                })
                .sum();
            let traded = (order.traded - volume).max(0.0);
            let is_even = self.counts.late_fills.is_multiple_of(2);
            self.counts.late_fills += 1;
            let status = if traded > 0.0 || is_even { OrderStatus::Cancelled } else { OrderStatus::Rejected };
            let reason = Some("said to be over before its fill (a fault)".to_owned());
            events.insert(at, VenueEvent::Order(VenueOrder { status, traded, reason, ..order }));
        }
    }

    fn turn_round(&mut self, events: &mut [VenueEvent]) {
        let is_order = |e: &VenueEvent| matches!(e, VenueEvent::Order(_) | VenueEvent::Trade(_) | VenueEvent::Quote(_));
        let places: Vec<usize> = (0..events.len()).filter(|at| is_order(&events[*at])).collect();
        if places.len() < 2 || !take_one(&mut self.reorder) {
            return;
        }
        self.counts.reordered += 1;
        for window in places.chunks(WINDOW) {
            for (first, last) in window.iter().zip(window.iter().rev()).take(window.len() / 2) {
                events.swap(*first, *last);
            }
        }
    }
}

fn take_one(left: &mut u32) -> bool {
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::VenueTrade;
    use protocol::{Direction, Exchange, InstrumentId, Offset, OrderType};

    const NOW: Duration = Duration::from_secs(100);

    fn at(ms: u64) -> Duration {
        NOW + Duration::from_millis(ms)
    }

    fn order(status: OrderStatus, traded: f64) -> VenueEvent {
        VenueEvent::Order(VenueOrder {
            reference: "1/1".parse().expect("a reference"),
            instrument: InstrumentId::new("x", Exchange::SHFE),
            order_type: OrderType::Limit,
            direction: Direction::Long,
            offset: Offset::Open,
            price: Some(1.0),
            volume: 2.0,
            traded,
            status,
            datetime: None,
            reason: None,
        })
    }

    fn trade() -> VenueEvent {
        VenueEvent::Trade(VenueTrade {
            reference: "1/1".parse().expect("a reference"),
            tradeid: "1".into(),
            instrument: InstrumentId::new("x", Exchange::SHFE),
            direction: Direction::Long,
            offset: Offset::Open,
            price: 1.0,
            volume: 2.0,
            datetime: None,
            trading_day: None,
        })
    }

    fn fill() -> Vec<VenueEvent> {
        vec![order(OrderStatus::NotTraded, 0.0), order(OrderStatus::AllTraded, 2.0), trade(), VenueEvent::Ready]
    }

    fn said(deliveries: Vec<Delivery>) -> Vec<VenueEvent> {
        let say = |delivery| match delivery {
            Delivery::Say(event) => event,
            other => panic!("{other:?}"),
        };
        deliveries.into_iter().map(say).collect()
    }

    #[test]
    fn without_a_fault_everything_leaves_as_it_is() {
        assert_eq!(said(Faults::default().pass(fill(), NOW)), fill());
    }

    #[test]
    fn a_delay_keeps_the_order_and_ends() {
        let mut faults = Faults::default();
        assert!(faults.inject(Fault::Delay { by_ms: 50, for_ms: 100 }, NOW));
        assert_eq!(faults.pass(vec![trade()], at(99)), []);
        assert_eq!(faults.pass(vec![VenueEvent::Ready], at(101)), [], "the delay is over, but not what it holds");
        assert_eq!(faults.next_due(), Some(at(149)));
        assert_eq!(faults.take_due(at(148)), []);
        assert_eq!(said(faults.take_due(at(149))), [trade(), VenueEvent::Ready]);
        assert_eq!(said(faults.pass(vec![trade()], at(149))), [trade()]);
        assert_eq!(faults.counts().held, 2);
    }

    #[test]
    fn a_silence_ends_with_everything_at_once() {
        let mut faults = Faults::default();
        faults.inject(Fault::Silence { for_ms: 10 }, NOW);
        assert_eq!(faults.pass(vec![trade()], NOW), []);
        assert_eq!(faults.pass(vec![VenueEvent::Ready], at(9)), []);
        assert_eq!(said(faults.take_due(at(10))), [trade(), VenueEvent::Ready]);
        faults.inject(Fault::Silence { for_ms: 1000 }, NOW);
        assert_eq!(faults.pass(vec![trade()], NOW), []);
        faults.inject(Fault::Silence { for_ms: 0 }, at(1));
        assert_eq!(said(faults.take_due(at(1))), [trade()]);
    }

    #[test]
    fn messages_are_lost_doubled_and_repeated() {
        let mut faults = Faults::default();
        faults.inject(Fault::Lose { next: 1 }, NOW);
        faults.inject(Fault::Duplicate { next: 1 }, NOW);
        faults.inject(Fault::Repeat { next: 1 }, NOW);
        let events = vec![VenueEvent::Ready, trade(), trade(), trade(), trade()];
        let say = || Delivery::Say(trade());
        let ready = Delivery::Say(VenueEvent::Ready);
        let expected = vec![ready, Delivery::Lose, say(), say(), Delivery::Repeat(trade()), say()];
        assert_eq!(faults.pass(events, NOW), expected);
    }

    #[test]
    fn trades_come_before_their_orders() {
        let mut faults = Faults::default();
        faults.inject(Fault::Reorder { next: 1 }, NOW);
        assert_eq!(said(faults.pass(vec![trade()], NOW)), [trade()], "there is nothing to change places with");
        let turned =
            vec![trade(), order(OrderStatus::AllTraded, 2.0), order(OrderStatus::NotTraded, 0.0), VenueEvent::Ready];
        assert_eq!(said(faults.pass(fill(), NOW)), turned);
        assert_eq!(said(faults.pass(fill(), NOW)), fill());
    }

    #[test]
    fn a_fill_comes_after_a_false_end() {
        let mut faults = Faults::default();
        faults.inject(Fault::LateFill { next: 2 }, NOW);
        let finished = vec![order(OrderStatus::AllTraded, 2.0)];
        assert_eq!(said(faults.pass(finished.clone(), NOW)), finished, "no fill, no lie");
        for status in [OrderStatus::Cancelled, OrderStatus::Rejected] {
            let said = said(faults.pass(fill(), NOW));
            assert_eq!(said.len(), 5);
            let VenueEvent::Order(lie) = &said[1] else { panic!("{said:?}") };
            assert_eq!((lie.status, lie.traded), (status, 0.0));
            assert_eq!((&said[0], &said[2..]), (&fill()[0], &fill()[1..]));
        }
        assert_eq!(said(faults.pass(fill(), NOW)), fill());
    }

    #[test]
    fn a_long_silence_holds_a_bounded_number() {
        let mut faults = Faults::default();
        faults.inject(Fault::Silence { for_ms: u64::MAX }, NOW);
        let out = faults.pass(vec![VenueEvent::Ready; HELD + 3], NOW);
        assert_eq!(out.len(), 3);
        faults.forget_held();
        assert_eq!(faults.next_due(), None);
    }

    #[test]
    fn logins_are_refused_for_a_while() {
        let mut faults = Faults::default();
        assert!(!faults.refuses_login(NOW));
        faults.inject(Fault::RefuseLogins { for_ms: 10 }, NOW);
        assert!(faults.refuses_login(at(9)) && !faults.refuses_login(at(10)));
        assert!(!faults.inject(Fault::Restart, NOW));
    }
}
