//! The paper account and its positions: what trades, prices and working orders add up to.
//!
//! Everything but the working orders follows from the trades, the last prices and the day rolls alone: fresh books
//! fed with these in order come to the same figures, bit for bit. Sums are taken afresh from their parts, so that what
//! is frozen returns to exactly 0.
//!
//! - A position has one average price, of today's lots and earlier days' together; there is no daily settlement.
//! - SHFE and INE: `CLOSETODAY` closes today's lots, `CLOSE` and `CLOSEYESTERDAY` those of earlier days, nothing else.
//!   Elsewhere the offset says which lots go first (`CLOSE`: the earlier ones), and the others follow.
//! - Margin is taken of long and short alike, at the average price.
//! - `available = balance - margin - frozen`, where `balance` counts the profit of what is held. An order to open
//!   needs its margin and commission available; an order to close needs no money, so that nobody is locked in.
//! - Commission and closed profit count from the books' first day on.

use std::collections::{BTreeMap, HashMap};

use protocol::{Account, Contract, Currency, Direction, InstrumentId, Name, Offset, Position};

use serde::{Deserialize, Serialize};

use super::market::{Leg, lots, sign};
use super::sheet::{Holding, Reservation, Sheet, Spec, fee, held, is_open};
use crate::gateway::VenueTrade;

/// What the paper account begins with, and what trading costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The account's name.
    pub accountid: Name,
    /// Its currency.
    pub currency: Currency,
    /// Money that it begins with.
    pub balance: f64,
    /// Commission per money traded (0.0001 is one in ten thousand).
    pub commission_rate: f64,
    /// Commission per lot, in money.
    pub commission_per_lot: f64,
    /// Margin as a share of the value, for contracts that name none.
    pub margin_ratio: f64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Books {
    gateway: Name,
    terms: Terms,
    specs: HashMap<InstrumentId, Spec>,
    sheets: BTreeMap<InstrumentId, Sheet>,
    /// Money put in: the terms' balance, or what an earlier process left.
    deposit: f64,
    close_profit: f64,
    commission: f64,
    touched: Vec<(InstrumentId, Direction)>,
    reported: HashMap<(InstrumentId, Direction), Position>,
    reported_account: Option<Account>,
}

impl Books {
    /// Books with the terms' balance and no positions.
    pub fn new<'a>(gateway: Name, contracts: impl Iterator<Item = &'a Contract>, terms: Terms) -> Self {
        let spec = |contract: &Contract| Spec {
            size: contract.size,
            long_margin: contract.long_margin_ratio.unwrap_or(terms.margin_ratio),
            short_margin: contract.short_margin_ratio.unwrap_or(terms.margin_ratio),
            days_apart: contract.exchange.closes_today_separately(),
        };
        Books {
            specs: contracts.map(|contract| (contract.instrument(), spec(contract))).collect(),
            gateway,
            deposit: terms.balance,
            terms,
            sheets: BTreeMap::new(),
            close_profit: 0.0,
            commission: 0.0,
            touched: Vec::new(),
            reported: HashMap::new(),
            reported_account: None,
        }
    }

    /// Begins again from what an earlier process journalled; without it, from the terms. Nothing is frozen then.
    /// Returns what could not be taken over, for people.
    pub fn restore(&mut self, positions: &[Position], accounts: &[Account]) -> Vec<String> {
        (self.deposit, self.close_profit, self.commission) = (self.terms.balance, 0.0, 0.0);
        self.touched.clear();
        self.reported.clear();
        self.reported_account = None;
        for sheet in self.sheets.values_mut() {
            (sheet.long, sheet.short, sheet.day) = (Holding::default(), Holding::default(), None);
            sheet.working.clear();
        }
        if let Some(account) = accounts.iter().find(|account| account.accountid == self.terms.accountid) {
            self.close_profit = account.close_profit.unwrap_or(0.0);
            self.commission = account.commission.unwrap_or(0.0);
            let earned = self.close_profit - self.commission + account.position_profit.unwrap_or(0.0);
            // Rounded, or each restart would leave a trace of binary noise.
            self.deposit = ((account.balance - earned) * 1e6).round() / 1e6;
        }
        positions.iter().filter_map(|position| self.restore_position(position).err()).collect()
    }

    fn restore_position(&mut self, position: &Position) -> Result<(), String> {
        let (instrument, direction) = (position.instrument(), position.direction);
        if position.volume <= 0.0 {
            return Ok(());
        }
        if direction == Direction::Net {
            return Err(format!("the net position of {instrument} is dropped: the simulated venue nets nothing"));
        }
        let Some(sheet) = self.sheet(&instrument) else {
            return Err(format!("the position of {instrument} is dropped: there is no such contract any more"));
        };
        let yesterday = lots(position.yd_volume.clamp(0.0, position.volume));
        *sheet.holding_mut(direction) =
            Holding { today: lots(position.volume - yesterday), yesterday, price: position.price };
        sheet.day = position.extra.as_ref().and_then(|extra| extra.get("trading_day")?.as_str()?.parse().ok());
        // Until a tick comes, the price that the reported profit was reckoned with.
        let value = position.volume * sheet.spec.size * sign(direction);
        sheet.last = sheet.last.or(Some(position.price + position.pnl / value).filter(|last| last.is_finite()));
        Ok(())
    }

    /// Takes over an instrument's last price. Whether a position's profit may have changed by it.
    pub fn mark(&mut self, instrument: &InstrumentId, last: f64) -> bool {
        let Some(sheet) = self.sheet(instrument) else { return false };
        let changed = sheet.last.replace(last) != Some(last);
        changed && (sheet.long.volume() > 0.0 || sheet.short.volume() > 0.0)
    }

    /// The instrument's trading day: when it changes, today's lots become lots of an earlier day.
    pub fn begin_day(&mut self, instrument: &InstrumentId, day: chrono::NaiveDate) {
        let Some(sheet) = self.sheet(instrument) else { return };
        if sheet.day.replace(day).is_none_or(|before| before == day) {
            return;
        }
        for holding in [&mut sheet.long, &mut sheet.short] {
            holding.yesterday = holding.volume();
            holding.today = 0.0;
        }
        self.touch(instrument, Direction::Long);
        self.touch(instrument, Direction::Short);
    }

    /// Keeps what a new order needs: money at this price to open, or lots to close.
    ///
    /// # Errors
    /// Says what it needs and what there is; nothing is kept then.
    pub fn reserve(
        &mut self,
        instrument: &InstrumentId,
        leg: Leg,
        offset: Offset,
        price: f64,
        volume: f64,
    ) -> Result<(), String> {
        let direction = held(leg.direction, offset);
        let available = self.account().available;
        let Some(sheet) = self.sheet(instrument) else { return Err(format!("no contract {instrument}")) };
        if is_open(offset) {
            self.check_money(instrument, leg.direction, price, volume, available)?;
        } else {
            let free = sheet.closable(direction, offset);
            if volume > free {
                return Err(format!(
                    "insufficient position: {offset} needs {volume} lots {direction}, closable {free}"
                ));
            }
        }
        let sheet = self.sheet(instrument).expect("found above");
        sheet.working.insert(leg, Reservation { offset, volume, price });
        self.touch(instrument, direction);
        Ok(())
    }

    /// Keeps what a working order kept in an earlier process, without asking whether there is enough.
    pub fn resume(&mut self, instrument: &InstrumentId, leg: Leg, offset: Offset, price: f64, volume: f64) {
        let Some(sheet) = self.sheet(instrument) else { return };
        sheet.working.insert(leg, Reservation { offset, volume, price });
        self.touch(instrument, held(leg.direction, offset));
    }

    /// The price that a working order's margin is kept at.
    #[must_use]
    pub fn kept_at(&self, instrument: &InstrumentId, leg: Leg) -> Option<f64> {
        self.sheets.get(instrument)?.working.get(&leg).map(|own| own.price)
    }

    /// The last prices that the profit of what is held is reckoned with.
    pub fn marks(&self) -> impl Iterator<Item = (&InstrumentId, f64)> {
        let is_held = |sheet: &Sheet| sheet.long.volume() > 0.0 || sheet.short.volume() > 0.0;
        let held = self.sheets.iter().filter(move |(_, sheet)| is_held(sheet));
        held.filter_map(|(instrument, sheet)| Some((instrument, sheet.last?)))
    }

    /// Whether a working order's rest could still be paid for at another price: a stop's, when it goes off.
    ///
    /// # Errors
    /// Says what it needs and what there is.
    pub fn check_reprice(&self, instrument: &InstrumentId, leg: Leg, price: f64) -> Result<(), String> {
        let Some(sheet) = self.sheets.get(instrument) else { return Ok(()) };
        match sheet.working.get(&leg) {
            Some(own) if is_open(own.offset) => {
                let available = self.account().available + self.money(sheet.spec, leg.direction, own.price, own.volume);
                self.check_money(instrument, leg.direction, price, own.volume, available)
            }
            _ => Ok(()),
        }
    }

    /// From now on the rest of this working order is kept at this price.
    pub fn reprice(&mut self, instrument: &InstrumentId, leg: Leg, price: f64) {
        if let Some(own) = self.sheets.get_mut(instrument).and_then(|sheet| sheet.working.get_mut(&leg)) {
            own.price = price;
        }
    }

    /// A working order is finished: what it kept is free.
    pub fn release(&mut self, instrument: &InstrumentId, leg: Leg) {
        if let Some(own) = self.sheets.get_mut(instrument).and_then(|sheet| sheet.working.remove(&leg)) {
            self.touch(instrument, held(leg.direction, own.offset));
        }
    }

    /// Some of a working order was filled: that much less is kept for it.
    pub fn settle(&mut self, instrument: &InstrumentId, leg: Leg, volume: f64) {
        if let Some(own) = self.sheets.get_mut(instrument).and_then(|sheet| sheet.working.get_mut(&leg)) {
            own.volume = lots(own.volume - volume).max(0.0);
        }
    }

    /// Takes in a trade.
    pub fn apply(&mut self, trade: &VenueTrade) {
        let terms = (self.terms.commission_rate, self.terms.commission_per_lot);
        let Some(sheet) = self.sheet(&trade.instrument) else { return };
        let size = sheet.spec.size;
        let direction = held(trade.direction, trade.offset);
        let days_apart = sheet.spec.days_apart;
        let holding = sheet.holding_mut(direction);
        if is_open(trade.offset) {
            holding.open(trade.price, trade.volume);
        } else {
            let average = holding.price;
            let closed = holding.close(trade.offset, days_apart, trade.volume);
            self.close_profit += (trade.price - average) * closed * size * sign(direction);
        }
        self.commission += fee(terms, trade.price, trade.volume, size);
        self.touch(&trade.instrument, direction);
    }

    /// Whether orders or trades changed something since the last report.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Positions that orders and trades changed since the last report, then the account if it changed.
    pub fn report(&mut self) -> (Vec<Position>, Option<Account>) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort();
        touched.dedup();
        self.report_these(&touched)
    }

    /// Everything that changed since the last report, by prices alone included.
    pub fn report_all(&mut self) -> (Vec<Position>, Option<Account>) {
        self.touched.clear();
        let keys: Vec<_> = self.keys().collect();
        self.report_these(&keys)
    }

    fn report_these(&mut self, keys: &[(InstrumentId, Direction)]) -> (Vec<Position>, Option<Account>) {
        let mut changed = Vec::new();
        for key in keys {
            let position = self.position(&key.0, key.1);
            let nothing = position.volume == 0.0 && position.frozen == 0.0;
            let before = self.reported.get(key);
            if before == Some(&position) || (before.is_none() && nothing) {
                continue;
            }
            self.reported.insert(key.clone(), position.clone());
            changed.push(position);
        }
        let account = self.account();
        let changed_account = (self.reported_account.as_ref() != Some(&account)).then(|| account.clone());
        self.reported_account = Some(account);
        (changed, changed_account)
    }

    /// All positions: those held, and those closed since the books began.
    #[must_use]
    pub fn positions(&self) -> Vec<Position> {
        let is_known = |position: &Position| {
            position.volume > 0.0 || self.reported.contains_key(&(position.instrument(), position.direction))
        };
        self.keys().map(|(instrument, direction)| self.position(&instrument, direction)).filter(is_known).collect()
    }

    fn keys(&self) -> impl Iterator<Item = (InstrumentId, Direction)> + '_ {
        self.sheets.keys().flat_map(|i| [(i.clone(), Direction::Long), (i.clone(), Direction::Short)])
    }

    /// One position; empty if nothing is held.
    #[must_use]
    pub fn position(&self, instrument: &InstrumentId, direction: Direction) -> Position {
        let sheet = self.sheets.get(instrument);
        let holding = sheet.map(|sheet| *sheet.holding(direction)).unwrap_or_default();
        let day = sheet.and_then(|sheet| sheet.day).filter(|_| holding.volume() > 0.0);
        // Read back by `restore`: without it, nobody could tell whether a day ended while no process was running.
        let extra = day.map(|day| Box::new([("trading_day".to_owned(), day.to_string().into())].into_iter().collect()));
        Position {
            gateway_name: self.gateway.clone(),
            symbol: instrument.symbol.clone(),
            exchange: instrument.exchange,
            direction,
            volume: holding.volume(),
            frozen: sheet.map_or(0.0, |sheet| sheet.frozen(direction, |_| true)),
            price: holding.price,
            pnl: sheet.map_or(0.0, |sheet| sheet.pnl(direction)),
            yd_volume: holding.yesterday,
            extra,
        }
    }

    /// The account, summed up from all sheets.
    #[must_use]
    pub fn account(&self) -> Account {
        let (mut margin, mut frozen, mut position_profit) = (0.0, 0.0, 0.0);
        for sheet in self.sheets.values() {
            margin += sheet.margin();
            position_profit += sheet.pnl(Direction::Long) + sheet.pnl(Direction::Short);
            for (leg, own) in sheet.working.iter().filter(|(_, own)| is_open(own.offset)) {
                frozen += self.money(sheet.spec, leg.direction, own.price, own.volume);
            }
        }
        let balance = self.deposit + self.close_profit - self.commission + position_profit;
        Account {
            gateway_name: self.gateway.clone(),
            accountid: self.terms.accountid.clone(),
            balance,
            frozen,
            available: balance - margin - frozen,
            margin: Some(margin),
            commission: Some(self.commission),
            close_profit: Some(self.close_profit),
            position_profit: Some(position_profit),
            currency: Some(self.terms.currency),
            extra: None,
        }
    }

    fn check_money(
        &self,
        instrument: &InstrumentId,
        direction: Direction,
        price: f64,
        volume: f64,
        available: f64,
    ) -> Result<(), String> {
        let Some(spec) = self.specs.get(instrument) else { return Err(format!("no contract {instrument}")) };
        let needs = self.money(*spec, direction, price, volume);
        // A millionth is noise of binary fractions, not money.
        if needs > available + 1e-6 {
            return Err(format!("insufficient funds: needs {needs:.2}, available {available:.2}"));
        }
        Ok(())
    }

    /// Margin and commission of opening so much at this price.
    fn money(&self, spec: Spec, direction: Direction, price: f64, volume: f64) -> f64 {
        let terms = (self.terms.commission_rate, self.terms.commission_per_lot);
        price.abs() * volume * spec.size * spec.margin(direction) + fee(terms, price, volume, spec.size)
    }

    fn touch(&mut self, instrument: &InstrumentId, direction: Direction) {
        self.touched.push((instrument.clone(), direction));
    }

    /// The instrument's sheet, begun if need be; `None` without a contract.
    fn sheet(&mut self, instrument: &InstrumentId) -> Option<&mut Sheet> {
        if !self.sheets.contains_key(instrument) {
            let spec = *self.specs.get(instrument)?;
            self.sheets.insert(instrument.clone(), Sheet::new(spec));
        }
        self.sheets.get_mut(instrument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Exchange, Product};

    fn instrument(exchange: Exchange) -> InstrumentId {
        InstrumentId::new("x2410", exchange)
    }

    fn books() -> Books {
        let contracts = [Exchange::SHFE, Exchange::DCE].map(|exchange| {
            let mut contract = Contract::new("sim1", instrument(exchange), Product::Futures, 10.0, 1.0);
            (contract.long_margin_ratio, contract.short_margin_ratio) = (Some(0.1), Some(0.2));
            contract
        });
        let terms = Terms {
            accountid: "paper".into(),
            currency: Currency::CNY,
            balance: 100_000.0,
            commission_rate: 0.0001,
            commission_per_lot: 2.0,
            margin_ratio: 0.1,
        };
        Books::new("sim1".into(), contracts.iter(), terms)
    }

    fn trade(exchange: Exchange, direction: Direction, offset: Offset, price: f64, volume: f64) -> VenueTrade {
        VenueTrade {
            reference: "1-1/1".parse().expect("a reference"),
            tradeid: "1".into(),
            instrument: instrument(exchange),
            direction,
            offset,
            price,
            volume,
            datetime: None,
            trading_day: None,
        }
    }

    fn leg(entry: u64, direction: Direction) -> Leg {
        Leg { entry, direction }
    }

    fn day(day: u32) -> chrono::NaiveDate {
        chrono::NaiveDate::from_ymd_opt(2024, 1, day).expect("a day")
    }

    #[test]
    fn money_follows_trades_and_prices() {
        let mut books = books();
        let shfe = instrument(Exchange::SHFE);
        books.apply(&trade(Exchange::SHFE, Direction::Long, Offset::Open, 100.0, 2.0));
        books.apply(&trade(Exchange::SHFE, Direction::Long, Offset::Open, 103.0, 1.0));
        books.mark(&shfe, 105.0);
        let position = books.position(&shfe, Direction::Long);
        assert_eq!((position.volume, position.yd_volume, position.price, position.pnl), (3.0, 0.0, 101.0, 120.0));
        let account = books.account();
        let commission = account.commission.expect("always there");
        assert!((commission - (3030.0 * 0.0001 + 6.0)).abs() < 1e-9);
        assert_eq!(account.balance, 100_000.0 - commission + 120.0);
        assert_eq!(account.margin, Some(303.0));
        assert_eq!(account.available, account.balance - 303.0);
        books.apply(&trade(Exchange::SHFE, Direction::Short, Offset::CloseToday, 105.0, 3.0));
        let account = books.account();
        assert_eq!((account.close_profit, account.position_profit), (Some(120.0), Some(0.0)));
        assert_eq!((account.margin, account.frozen), (Some(0.0), 0.0));
        assert!(account.frozen.is_sign_positive());
    }

    #[test]
    fn shfe_keeps_todays_and_earlier_lots_apart() {
        let mut books = books();
        let shfe = instrument(Exchange::SHFE);
        books.begin_day(&shfe, day(2));
        books.apply(&trade(Exchange::SHFE, Direction::Short, Offset::Open, 100.0, 5.0));
        let reserve = |books: &mut Books, entry, offset, volume| {
            books.reserve(&shfe, leg(entry, Direction::Long), offset, 100.0, volume)
        };
        let message = reserve(&mut books, 1, Offset::Close, 1.0).expect_err("nothing of an earlier day");
        assert_eq!(message, "insufficient position: CLOSE needs 1 lots SHORT, closable 0");
        books.begin_day(&shfe, day(3));
        books.apply(&trade(Exchange::SHFE, Direction::Short, Offset::Open, 100.0, 2.0));
        assert_eq!(reserve(&mut books, 2, Offset::CloseToday, 2.0), Ok(()));
        assert_eq!(reserve(&mut books, 3, Offset::Close, 4.0), Ok(()));
        assert!(reserve(&mut books, 4, Offset::CloseYesterday, 2.0).is_err());
        assert_eq!(books.position(&shfe, Direction::Short).frozen, 6.0);
        books.apply(&trade(Exchange::SHFE, Direction::Long, Offset::CloseYesterday, 100.0, 4.0));
        let position = books.position(&shfe, Direction::Short);
        assert_eq!((position.volume, position.yd_volume), (3.0, 1.0));
    }

    #[test]
    fn elsewhere_close_takes_earlier_lots_first_and_then_todays() {
        let mut books = books();
        let dce = instrument(Exchange::DCE);
        books.begin_day(&dce, day(2));
        books.apply(&trade(Exchange::DCE, Direction::Long, Offset::Open, 100.0, 3.0));
        books.begin_day(&dce, day(3));
        books.apply(&trade(Exchange::DCE, Direction::Long, Offset::Open, 100.0, 3.0));
        assert!(books.reserve(&dce, leg(1, Direction::Short), Offset::CloseToday, 100.0, 4.0).is_err());
        assert_eq!(books.reserve(&dce, leg(1, Direction::Short), Offset::Close, 100.0, 5.0), Ok(()));
        assert!(books.reserve(&dce, leg(2, Direction::Short), Offset::CloseYesterday, 100.0, 2.0).is_err());
        books.apply(&trade(Exchange::DCE, Direction::Short, Offset::Close, 100.0, 4.0));
        let position = books.position(&dce, Direction::Long);
        assert_eq!((position.volume, position.yd_volume), (2.0, 0.0));
    }

    #[test]
    fn an_order_needs_its_money_and_gives_it_back() {
        let mut books = books();
        let shfe = instrument(Exchange::SHFE);
        assert_eq!(books.reserve(&shfe, leg(1, Direction::Short), Offset::Open, 1000.0, 49.0), Ok(()));
        let frozen = 490_000.0 * 0.2 + 490_000.0 * 0.0001 + 98.0;
        assert_eq!(books.account().frozen, frozen);
        let message =
            books.reserve(&shfe, leg(2, Direction::Long), Offset::Open, 1000.0, 2.0).expect_err("too little is left");
        assert_eq!(message, "insufficient funds: needs 2006.00, available 1853.00");
        assert!(books.check_reprice(&shfe, leg(1, Direction::Short), 1001.0).is_ok());
        assert!(books.check_reprice(&shfe, leg(1, Direction::Short), 1100.0).is_err());
        books.settle(&shfe, leg(1, Direction::Short), 0.1);
        books.release(&shfe, leg(1, Direction::Short));
        assert_eq!(books.account().frozen, 0.0);
        assert_eq!(books.account().available, 100_000.0);
    }

    #[test]
    fn only_what_changed_is_reported() {
        let mut books = books();
        let shfe = instrument(Exchange::SHFE);
        assert!(!books.mark(&shfe, 100.0), "nothing is held");
        let (positions, account) = books.report();
        assert!(positions.is_empty() && account.is_some());
        assert_eq!(books.report(), (vec![], None));
        books.apply(&trade(Exchange::SHFE, Direction::Long, Offset::Open, 100.0, 1.0));
        let (positions, account) = books.report();
        assert_eq!((positions.len(), account.is_some()), (1, true));
        assert!(books.mark(&shfe, 101.0) && !books.mark(&shfe, 101.0));
        let (positions, account) = books.report();
        assert!(positions.is_empty(), "a price alone waits for report_all");
        assert!(account.is_some_and(|account| account.position_profit == Some(10.0)));
        assert_eq!(books.report_all().0.len(), 1);
        assert_eq!(books.report_all(), (vec![], None));
    }

    #[test]
    fn books_survive_in_their_own_reports() {
        let mut old = books();
        let shfe = instrument(Exchange::SHFE);
        old.begin_day(&shfe, day(2));
        old.apply(&trade(Exchange::SHFE, Direction::Long, Offset::Open, 100.0, 2.0));
        old.begin_day(&shfe, day(3));
        old.apply(&trade(Exchange::SHFE, Direction::Long, Offset::Open, 102.0, 2.0));
        old.apply(&trade(Exchange::SHFE, Direction::Short, Offset::Close, 104.0, 1.0));
        old.mark(&shfe, 103.0);
        old.reserve(&shfe, leg(1, Direction::Long), Offset::Open, 100.0, 1.0).expect("affordable");
        let mut new = books();
        assert_eq!(new.restore(&old.positions(), &[old.account()]), Vec::<String>::new());
        old.release(&shfe, leg(1, Direction::Long));
        assert_eq!(new.positions(), old.positions());
        assert_eq!(new.account(), old.account());
        new.begin_day(&shfe, day(4));
        assert_eq!(new.position(&shfe, Direction::Long).yd_volume, 3.0, "a day ended in between");
    }

    #[test]
    fn what_cannot_be_restored_is_named() {
        let mut old = books();
        let gone = InstrumentId::new("gone", Exchange::SHFE);
        let mut position = old.position(&gone, Direction::Long);
        position.volume = 1.0;
        let net = Position { direction: Direction::Net, symbol: "x2410".into(), ..position.clone() };
        let warnings = old.restore(&[position, net], &[]);
        assert!(warnings.len() == 2 && warnings[0].contains("gone.SHFE") && warnings[1].contains("net"));
        assert_eq!(old.account().balance, 100_000.0);
    }
}
