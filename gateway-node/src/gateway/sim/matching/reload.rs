//! Rebuilding an exchange from what a ledger recorded: the same orders, trades, days and prices, in their order, come
//! to the same books and lists, bit for bit. What cannot be rebuilt is the market: the next tick of an instrument brings
//! its book back, and until a level shows, what rests there waits behind an unknown queue.

use protocol::{Direction, InstrumentId, OrderStatus, OrderType};

use super::super::market::lots;
use super::{Desk, Entry, Exchange, Leg, Market, Stop, begins_day};
use crate::gateway::{VenueOrder, VenueQuote, VenueReference, VenueTrade};

impl Exchange {
    /// An order that was accepted (or rejected), as it was then. `kept_at` is the price that its margin was kept at,
    /// where that is not its own.
    ///
    /// # Errors
    /// If its instrument is not traded here.
    pub fn reload_order(&mut self, order: &VenueOrder, kept_at: Option<f64>) -> Result<(), String> {
        let leg = Leg { entry: self.desk.arrive(), direction: order.direction };
        let is_active = order.status.is_active();
        if is_active {
            self.check_traded(&order.instrument)?;
            let price = kept_at.or(order.price).unwrap_or(0.0);
            self.desk.books.resume(&order.instrument, leg, order.offset, price, order.volume);
        }
        self.desk.reload(leg.entry, Entry::Order(order.clone()), is_active);
        Ok(())
    }

    /// A quote, as [`Exchange::reload_order`].
    ///
    /// # Errors
    /// If its instrument is not traded here.
    pub fn reload_quote(&mut self, quote: &VenueQuote) -> Result<(), String> {
        let entry = self.desk.arrive();
        let is_active = quote.status.is_active();
        if is_active {
            self.check_traded(&quote.instrument)?;
            for (direction, offset, price, volume) in [
                (Direction::Long, quote.bid_offset, quote.bid_price, quote.bid_volume),
                (Direction::Short, quote.ask_offset, quote.ask_price, quote.ask_volume),
            ] {
                self.desk.books.resume(&quote.instrument, Leg { entry, direction }, offset, price, volume);
            }
        }
        self.desk.reload(entry, Entry::Quote(quote.clone()), is_active);
        Ok(())
    }

    /// A trade of an order or a quote that was reloaded before.
    ///
    /// # Errors
    /// If there is no such order or quote.
    pub fn reload_trade(&mut self, trade: &VenueTrade) -> Result<(), String> {
        let number = self.desk.by_reference.get(&trade.reference).copied();
        let Some((number, entry)) = number.and_then(|n| Some((n, self.desk.entries.get_mut(&n)?))) else {
            return Err(format!("the trade {} is of {}, which was never accepted", trade.tradeid, trade.reference));
        };
        entry.add_traded(trade.direction, trade.volume);
        self.desk.book(Leg { entry: number, direction: trade.direction }, trade.clone());
        Ok(())
    }

    /// What was left of an order or a quote ended. One that is all traded has ended with its last trade.
    ///
    /// # Errors
    /// If there is no such order or quote, or it ended before.
    pub fn reload_end(
        &mut self,
        reference: &VenueReference,
        status: OrderStatus,
        reason: Option<&str>,
    ) -> Result<(), String> {
        let Some((number, entry)) = self.desk.find(reference) else {
            return Err(format!("{reference} ended, which was never accepted"));
        };
        match (status, entry.is_active()) {
            (OrderStatus::AllTraded, false) => {}
            (OrderStatus::Cancelled, true) => self.desk.finish(number, reason.unwrap_or_default(), &mut Vec::new()),
            _ => return Err(format!("{reference} ended as {status}, which its trades do not allow")),
        }
        Ok(())
    }

    /// A trading day of an instrument began.
    ///
    /// # Errors
    /// If the instrument is not traded here.
    pub fn reload_day(&mut self, instrument: &InstrumentId, day: chrono::NaiveDate) -> Result<(), String> {
        self.check_traded(instrument)?;
        let Some(market) = self.markets.get_mut(instrument) else { return Ok(()) };
        let before = market.trading_day();
        if before.is_some_and(|before| before != day) {
            self.desk.forget_day(instrument, before);
        }
        if begins_day(self.day, before, day) {
            self.day = Some(day);
        }
        market.resume_day(day);
        self.desk.books.begin_day(instrument, day);
        Ok(())
    }

    /// The last price that the profit of what is held was told with.
    pub fn reload_mark(&mut self, instrument: &InstrumentId, last: f64) {
        self.desk.books.mark(instrument, last);
    }

    /// What was told with one input counts as told.
    pub fn reload_told(&mut self) {
        self.desk.report(&mut Vec::new());
    }

    /// Puts what works back into its markets, by arrival. To be called once, when everything is reloaded.
    pub fn rest_working(&mut self) {
        for (number, entry) in &self.desk.entries {
            if let Some(market) = self.markets.get_mut(entry.instrument()).filter(|_| entry.is_active()) {
                rest(market, *number, entry);
            }
        }
    }

    /// The price that a working stop order's margin is kept at: no other order's outlives the input that it came with
    /// at another price than its own.
    #[must_use]
    pub fn kept_at(&self, order: &VenueOrder) -> Option<f64> {
        let (number, entry) = self.desk.find(&order.reference)?;
        let leg = Leg { entry: number, direction: order.direction };
        let is_waiting = order.order_type == OrderType::Stop && entry.is_active();
        self.desk.books.kept_at(&order.instrument, leg).filter(|_| is_waiting)
    }

    /// The last prices that the profit of what is held is reckoned with.
    pub fn marks(&self) -> impl Iterator<Item = (&InstrumentId, f64)> {
        self.desk.books.marks()
    }

    fn check_traded(&self, instrument: &InstrumentId) -> Result<(), String> {
        if self.trades(instrument) { Ok(()) } else { Err(format!("{instrument} is not among the contracts")) }
    }
}

impl Desk {
    fn reload(&mut self, number: u64, entry: Entry, is_active: bool) {
        self.enter(number, entry, &mut Vec::new());
        if !is_active {
            self.remember_finished(number);
        }
    }
}

fn rest(market: &mut Market, number: u64, entry: &Entry) {
    let mut side = |direction, price, left: f64| {
        if left > 0.0 {
            market.rest(Leg { entry: number, direction }, price, left);
        }
    };
    match entry {
        Entry::Order(order) => {
            let left = lots(order.volume - order.traded);
            match (order.order_type, order.price) {
                (OrderType::Stop, Some(trigger)) => {
                    market.wait(Stop { leg: Leg { entry: number, direction: order.direction }, trigger, volume: left });
                }
                (_, Some(price)) => side(order.direction, price, left),
                // A market order never outlives the input that it came with.
                (_, None) => {}
            }
        }
        Entry::Quote(quote) => {
            side(Direction::Long, quote.bid_price, lots(quote.bid_volume - quote.bid_traded));
            side(Direction::Short, quote.ask_price, lots(quote.ask_volume - quote.ask_traded));
        }
    }
}
