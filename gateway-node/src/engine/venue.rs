//! What the venue says: each event is applied, journalled and so republished, in the venue's order.

use protocol::event::{Event, OmsEvent};
use protocol::oms::OrderKey;
use protocol::value::OWNER_EXTERNAL;
use protocol::{LogLevel, Name, Order, OrderId, Quote, Subject, Trade};

use super::orders::Target;
use super::{Effect, Effects, Engine, Now};
use crate::gateway::{VenueEvent, VenueOrder, VenueQuote, VenueReference, VenueSnapshot, VenueTrade};
use crate::reconcile;

impl Engine {
    /// The venue speaks.
    pub fn on_venue_event(&mut self, now: Now, event: VenueEvent, out: &mut Effects) {
        match event {
            VenueEvent::Connected { session, max_reference, trading_day, venue } => {
                self.on_connected(now, session, max_reference, trading_day, venue, out);
            }
            VenueEvent::Contract(contract) => {
                let subject = Subject::Contract {
                    symbol: contract.symbol.clone(),
                    exchange: contract.exchange,
                    gateway: self.options.gateway.clone(),
                };
                let counter = self.subject_seqs.entry(subject).or_insert(0);
                *counter += 1;
                out.push(Effect::Contract(Box::new(Event {
                    gateway: self.options.gateway.clone(),
                    epoch: self.options.epoch,
                    seq: *counter,
                    time: now.wall,
                    data: contract.clone(),
                })));
                self.session.told(contract.instrument());
                self.contracts.insert(contract.instrument(), contract);
            }
            VenueEvent::Ready => self.on_contracts_complete(now, out),
            VenueEvent::Disconnected { reason } => self.on_disconnected(now, reason, out),
            VenueEvent::Refused { reason } => self.on_refused(now, reason, out),
            VenueEvent::TradingDay(day) => self.session.set_trading_day(day),
            VenueEvent::Order(order) => self.on_order(now, order, out),
            VenueEvent::Trade(trade) => self.on_trade(now, trade, out),
            VenueEvent::Quote(quote) => self.on_quote(now, quote, out),
            VenueEvent::Position(position) => self.on_position(now, position, out),
            VenueEvent::Account(account) => self.on_account(now, account, out),
            VenueEvent::Snapshot(snapshot) => self.on_snapshot(now, *snapshot, out),
            VenueEvent::Answer { token, answer } => self.on_answer(token, answer, out),
            VenueEvent::Log { level, message } => self.log(now, level, message, out),
        }
    }

    fn on_order(&mut self, now: Now, told: VenueOrder, out: &mut Effects) {
        let order = match self.references.get(&told.reference) {
            Some(Target::Order(key)) => {
                let Some(known) = self.state.order(key) else { return };
                // What the client asked for stays; the venue tells how it goes.
                Order {
                    traded: told.traded,
                    status: told.status,
                    datetime: told.datetime.or(known.datetime),
                    deadline: None,
                    reason: told.reason,
                    ..known.clone()
                }
            }
            Some(Target::Quote(_)) => {
                self.log(
                    now,
                    LogLevel::Error,
                    format!("the venue tells of an order under a quote's reference {}; ignored", told.reference),
                    out,
                );
                return;
            }
            None => self.external_order(&told),
        };
        self.record(now, OmsEvent::Order(order), out);
    }

    /// An order that nobody here sent: every node derives the same id from the venue's reference.
    fn external_order(&mut self, told: &VenueOrder) -> Order {
        let orderid = external_id(&told.reference);
        let owner = Name::const_new(OWNER_EXTERNAL);
        let key = OrderKey { owner: owner.clone(), orderid: orderid.clone() };
        self.references.insert(told.reference.clone(), Target::Order(key));
        Order {
            gateway_name: self.options.gateway.clone(),
            symbol: told.instrument.symbol.clone(),
            exchange: told.instrument.exchange,
            orderid,
            r#type: told.order_type,
            direction: told.direction,
            offset: told.offset,
            price: told.price,
            volume: told.volume,
            traded: told.traded,
            status: told.status,
            datetime: told.datetime,
            reference: Name::default(),
            owner,
            venue_reference: Some(told.reference.to_string().into()),
            traceid: None,
            deadline: None,
            reason: told.reason.clone(),
            extra: None,
        }
    }

    /// A trade counts whatever its order's status.
    fn on_trade(&mut self, now: Now, told: VenueTrade, out: &mut Effects) {
        let (orderid, owner, reference, traceid) = match self.references.get(&told.reference) {
            Some(Target::Order(key)) => {
                let order = self.state.order(key);
                let reference = order.map(|o| o.reference.clone()).unwrap_or_default();
                (key.orderid.clone(), key.owner.clone(), reference, order.and_then(|o| o.traceid.clone()))
            }
            Some(Target::Quote(key)) => {
                let quote = self.state.quote(key);
                let reference = quote.map(|q| q.reference.clone()).unwrap_or_default();
                (key.orderid.clone(), key.owner.clone(), reference, quote.and_then(|q| q.traceid.clone()))
            }
            None => (external_id(&told.reference), Name::const_new(OWNER_EXTERNAL), Name::default(), None),
        };
        let trade = Trade {
            gateway_name: self.options.gateway.clone(),
            symbol: told.instrument.symbol,
            exchange: told.instrument.exchange,
            orderid,
            tradeid: told.tradeid,
            direction: told.direction,
            offset: told.offset,
            price: told.price,
            volume: told.volume,
            datetime: told.datetime,
            trading_day: told.trading_day,
            reference,
            owner,
            traceid,
            extra: None,
        };
        self.record(now, OmsEvent::Trade(trade), out);
    }

    fn on_quote(&mut self, now: Now, told: VenueQuote, out: &mut Effects) {
        let quote = match self.references.get(&told.reference) {
            Some(Target::Quote(key)) => {
                let Some(known) = self.state.quote(key) else { return };
                Quote {
                    bid_traded: told.bid_traded,
                    ask_traded: told.ask_traded,
                    status: told.status,
                    datetime: told.datetime.or(known.datetime),
                    deadline: None,
                    reason: told.reason,
                    ..known.clone()
                }
            }
            Some(Target::Order(_)) => {
                self.log(
                    now,
                    LogLevel::Error,
                    format!("the venue tells of a quote under an order's reference {}; ignored", told.reference),
                    out,
                );
                return;
            }
            None => self.external_quote(told),
        };
        self.record(now, OmsEvent::Quote(quote), out);
    }

    fn external_quote(&mut self, told: VenueQuote) -> Quote {
        let quoteid = external_id(&told.reference);
        let owner = Name::const_new(OWNER_EXTERNAL);
        let key = OrderKey { owner: owner.clone(), orderid: quoteid.clone() };
        let venue_reference = Some(told.reference.to_string().into());
        self.references.insert(told.reference, Target::Quote(key));
        Quote {
            gateway_name: self.options.gateway.clone(),
            symbol: told.instrument.symbol,
            exchange: told.instrument.exchange,
            quoteid,
            bid_price: told.bid_price,
            bid_volume: told.bid_volume,
            ask_price: told.ask_price,
            ask_volume: told.ask_volume,
            bid_offset: told.bid_offset,
            ask_offset: told.ask_offset,
            bid_traded: told.bid_traded,
            ask_traded: told.ask_traded,
            status: told.status,
            datetime: told.datetime,
            reference: Name::default(),
            owner,
            venue_reference,
            traceid: None,
            deadline: None,
            reason: told.reason,
            extra: None,
        }
    }

    /// Everything the venue knows: take it in, then close what differs.
    fn on_snapshot(&mut self, now: Now, snapshot: VenueSnapshot, out: &mut Effects) {
        if snapshot.session != *self.session.id() {
            self.log(
                now,
                LogLevel::Warning,
                format!("a snapshot of the old session {} is ignored", snapshot.session),
                out,
            );
            return;
        }
        let differences = reconcile::missing_at_venue(&self.state, &snapshot, |key| self.unsent.contains_key(key));
        for order in snapshot.orders {
            self.on_order(now, order, out);
        }
        for quote in snapshot.quotes {
            self.on_quote(now, quote, out);
        }
        for trade in snapshot.trades {
            self.on_trade(now, trade, out);
        }
        for position in snapshot.positions {
            self.on_position(now, position, out);
        }
        for account in snapshot.accounts {
            self.on_account(now, account, out);
        }
        for event in differences {
            self.record(now, event, out);
        }
        self.on_reconciled(now, out);
    }
}

fn external_id(reference: &VenueReference) -> OrderId {
    // Ids are tokens of a subject-friendly alphabet; the rest of a venue's reference is mapped onto it.
    let text: String = reference
        .to_string()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' })
        .collect();
    OrderId::external(&text)
}
