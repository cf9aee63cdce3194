//! What the venue says: each event is applied, journalled and so republished, in the venue's order.

use std::time::Duration;

use protocol::event::{Event, OmsEvent};
use protocol::oms::{Applied, OrderKey};
use protocol::value::OWNER_EXTERNAL;
use protocol::{LogLevel, OrderStatus};

use super::{Effect, Effects, Engine, Now};
use crate::gateway::{VenueEvent, VenueReference, VenueSnapshot};
use crate::reconcile::{self, Books, Difference, Target, Way};

/// While an intent may still be under way, the venue is asked about it no more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// While the venue lists less than worked, it is asked again, and people are told again, this often.
const LOOK_AGAIN_MISSING: Duration = Duration::from_secs(30);

impl Engine {
    /// The venue speaks.
    pub fn on_venue_event(&mut self, now: Now, event: VenueEvent, out: &mut Effects) {
        match event {
            VenueEvent::Connected { session, max_reference, trading_day, venue } => {
                self.on_connected(now, session, max_reference, trading_day, venue, out);
            }
            VenueEvent::Contract(contract) => {
                let counter = self.contract_seqs.entry(contract.instrument()).or_insert(0);
                *counter += 1;
                out.push(Effect::Contract(Box::new(Event {
                    gateway: self.options.gateway.clone(),
                    epoch: self.options.epoch,
                    seq: *counter,
                    time: now.wall,
                    data: contract.clone(),
                })));
                self.session.told(contract.instrument());
                self.contracts.insert(contract.instrument(), Box::new(contract));
            }
            VenueEvent::Ready => self.on_contracts_complete(now, out),
            VenueEvent::Disconnected { reason } => self.on_disconnected(now, reason, out),
            VenueEvent::Refused { reason } => self.on_refused(now, reason, out),
            VenueEvent::TradingDay(day) => self.session.set_trading_day(day),
            VenueEvent::Order(order) => self.take_told(now, self.books().order(&order), out),
            VenueEvent::Trade(trade) => self.take_told(now, Ok(Some(self.books().trade(&trade))), out),
            VenueEvent::CancelRefused { reference, reason } => {
                self.log(now, LogLevel::Warning, reason, out);
                self.session.refused_cancels.push(now.mono, reference);
            }
            VenueEvent::Quote(quote) => self.take_told(now, self.books().quote(&quote), out),
            VenueEvent::Position(position) => self.on_position(now, position, out),
            VenueEvent::Account(account) => self.on_account(now, account, out),
            VenueEvent::Snapshot(snapshot) => self.on_snapshot(now, &snapshot, out),
            VenueEvent::Answer { token, answer } => self.on_answer(token, answer, out),
            VenueEvent::Log { level, message } => self.log(now, level, message, out),
        }
    }

    fn books(&self) -> Books<'_> {
        Books { gateway: &self.options.gateway, state: &self.state, references: &self.references }
    }

    /// Takes in what the venue told of an order, a quote or a trade.
    fn take_told(&mut self, now: Now, told: Result<Option<OmsEvent>, String>, out: &mut Effects) {
        match told {
            Ok(Some(event)) => self.record_told(now, event, out),
            Ok(None) => {}
            Err(line) => self.log(now, LogLevel::Error, line, out),
        }
    }

    /// Journals what the venue says happened. Where it contradicts what had been told as final, people hear of it.
    fn record_told(&mut self, now: Now, event: OmsEvent, out: &mut Effects) {
        self.remember_reference(&event);
        let Some((key, before)) = self.outcome_told(&event) else {
            self.record(now, event, out);
            return;
        };
        let is_trade = matches!(event, OmsEvent::Trade(_));
        if self.record(now, event, out) == Applied::Unchanged || before.status.is_active() {
            return;
        }
        let Some(after) = self.outcome(&key) else { return };
        let was_rejected = before.status == OrderStatus::Rejected;
        let contradiction = match after.status {
            status if status.is_active() => format!("the venue says {status}: it is open again"),
            status if after.traded > before.traded => {
                format!("the venue says {} lots more are filled: {status}", after.traded - before.traded)
            }
            _ if is_trade && was_rejected => "the venue tells of a trade of it".to_owned(),
            _ => return,
        };
        let line = format!("{} of {} had ended as {}, and {contradiction}", key.orderid, key.owner, before.status);
        self.log(now, LogLevel::Critical, line, out);
    }

    /// An order or quote that nobody here sent is known by the venue's reference from now on.
    fn remember_reference(&mut self, event: &OmsEvent) {
        let (owner, reference, target) = match event {
            OmsEvent::Order(order) => (&order.owner, &order.venue_reference, Target::Order(order.into())),
            OmsEvent::Quote(quote) => (&quote.owner, &quote.venue_reference, Target::Quote(quote.into())),
            OmsEvent::Trade(_) | OmsEvent::Position(_) | OmsEvent::Account(_) => return,
        };
        if owner == OWNER_EXTERNAL
            && let Some(reference) = reference.as_ref().and_then(|text| text.parse().ok())
        {
            self.references.entry(reference).or_insert(target);
        }
    }

    /// How the order or quote stands that an event is of.
    fn outcome_told(&self, event: &OmsEvent) -> Option<(OrderKey, OrderOutcome)> {
        let key = match event {
            OmsEvent::Order(order) => order.into(),
            OmsEvent::Quote(quote) => quote.into(),
            OmsEvent::Trade(trade) => OrderKey { owner: trade.owner.clone(), orderid: trade.orderid.clone() },
            OmsEvent::Position(_) | OmsEvent::Account(_) => return None,
        };
        let outcome = self.outcome(&key)?;
        Some((key, outcome))
    }

    /// Whether the order or quote of this reference works, as far as the venue has told; one that nobody here knows may.
    pub(super) fn is_working(&self, reference: &VenueReference) -> bool {
        let target = self.references.get(reference);
        target.and_then(|target| self.outcome(target.key())).is_none_or(|outcome| outcome.status.is_active())
    }

    fn outcome(&self, key: &OrderKey) -> Option<OrderOutcome> {
        let order = self.state.order(key).map(|o| OrderOutcome { status: o.status, traded: o.traded });
        order.or_else(|| self.state.quote(key).map(|q| OrderOutcome { status: q.status, traded: q.traded() }))
    }

    /// Everything the venue knows: take it in, and close what differs.
    fn on_snapshot(&mut self, now: Now, snapshot: &VenueSnapshot, out: &mut Effects) {
        if snapshot.session != *self.session.id() {
            let line = format!("a snapshot of the old session {} is ignored", snapshot.session);
            self.log(now, LogLevel::Warning, line, out);
            return;
        }
        let (circumstances, is_behind_losses) = self.session.snapshot_came(now, self.options.lease);
        let way = |key: &OrderKey| match (self.unsent.contains_key(key), self.unconfirmed.get(key)) {
            (true, _) => Way::Unsent,
            (false, Some(unconfirmed)) => Way::Sent(unconfirmed.sent),
            (false, None) => Way::Inherited,
        };
        let mut missing = Vec::new();
        let mut nonsense = Vec::new();
        for difference in reconcile::compare(self.books(), snapshot, &circumstances, way) {
            match difference {
                Difference::Event(event) if event.malformed_field().is_some() => nonsense.push(event),
                Difference::Event(OmsEvent::Position(position)) => self.on_position(now, position, out),
                Difference::Event(OmsEvent::Account(account)) => self.on_account(now, account, out),
                Difference::Event(event) => self.record_told(now, event, out),
                Difference::Contradiction(line) => self.log(now, LogLevel::Error, line, out),
                Difference::UnderWay(_, until) => self.session.look_again(until.max(now.mono + LOOK_AGAIN)),
                Difference::Missing(key) => missing.push(key),
            }
        }
        self.settle_unlisted(now, &snapshot.positions, out);
        if !missing.is_empty() {
            self.session.look_again(now.mono + LOOK_AGAIN_MISSING);
            let some: Vec<&str> = missing.iter().take(5).map(|key| key.orderid.as_str()).collect();
            let line = format!(
                "{} working orders are not in the venue's complete snapshot ({}, ...): they stay as they are, and the \
                 venue is asked again",
                missing.len(),
                some.join(", ")
            );
            self.log(now, LogLevel::Critical, line, out);
        }
        let Some(event) = nonsense.first() else {
            self.on_reconciled(now, is_behind_losses, out);
            return;
        };
        let field = event.malformed_field().unwrap_or_default();
        let line = format!(
            "{} entries of the venue's snapshot have numbers that none can be, and are ignored; the first is `{field}` of \
             {event:?}",
            nonsense.len()
        );
        self.log(now, LogLevel::Error, line.chars().take(500).collect::<String>(), out);
        self.on_nonsense(now, out);
    }
}

/// How an order or a quote stands.
struct OrderOutcome {
    status: OrderStatus,
    traded: f64,
}
