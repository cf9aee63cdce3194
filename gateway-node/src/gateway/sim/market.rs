//! One instrument's market as the simulated venue sees it: what the last tick showed, what our orders have already
//! taken of it, and our own resting orders in their queues. It leaves order states and money to the exchange.
//!
//! The tick stream is the only liquidity. Its rules err against us:
//! - A level's size is taken once: what we took stays taken until the instrument's next tick.
//! - A resting order waits behind everything displayed at its price when it arrived. Where the book does not reach,
//!   that queue is unknown and counts as endless until the level shows.
//! - Volume traded at our price (by the last price of a tick, the only one we see) serves that queue, then us;
//!   volume traded through our price serves us at once; an opposite price that crosses ours fills us against its size.
//! - Our orders share what there is by price, then by time, and never trade with each other.

use protocol::market::Depth;
use protocol::{Contract, Direction, Product, Tick, Timestamp};

/// A working order, or one side of a working quote: `entry` counts arrivals, so it is also the time priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leg {
    /// The order or the quote, in order of arrival.
    pub entry: u64,
    /// The side.
    pub direction: Direction,
}

/// Some of a leg was filled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fill {
    /// What was filled.
    pub leg: Leg,
    /// At which price.
    pub price: f64,
    /// How much, in lots.
    pub volume: f64,
}

/// A stop order that waits for its trigger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stop {
    /// Whose.
    pub leg: Leg,
    /// The last price that sets it off.
    pub trigger: f64,
    /// Lots.
    pub volume: f64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Market {
    /// Prices nearer to each other than this are the same: binary fractions cannot write a multiple of 0.2.
    tolerance: f64,
    /// Fills are whole multiples of this, in lots.
    step: f64,
    /// Combinations trade at prices of zero and below; of anything else, such a price means "none".
    any_sign: bool,
    time: Option<Timestamp>,
    trading_day: Option<chrono::NaiveDate>,
    last: Option<f64>,
    limit_up: Option<f64>,
    limit_down: Option<f64>,
    /// Cumulative volume of the day.
    volume: Option<f64>,
    buyers: Side,
    sellers: Side,
    stops: Vec<Stop>,
}

#[derive(Debug, Clone, Default)]
struct Side {
    /// Best price first.
    shown: Vec<Shown>,
    /// Best price first, then oldest.
    resting: Vec<Resting>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    price: f64,
    volume: f64,
    taken: f64,
}

#[derive(Debug, Clone, Copy)]
struct Resting {
    leg: Leg,
    price: f64,
    remaining: f64,
    /// Lots of others that are served before us; infinite where the queue cannot be seen.
    ahead: f64,
}

impl Market {
    /// An empty market.
    #[must_use]
    pub fn new(contract: &Contract) -> Self {
        let positive = |value: f64| Some(value).filter(|v| v.is_finite() && *v > 0.0);
        Market {
            tolerance: positive(contract.pricetick).unwrap_or(1e-6) * 1e-3,
            step: positive(contract.min_volume).unwrap_or(1.0).min(1.0),
            any_sign: contract.product == Product::Spread,
            time: None,
            trading_day: None,
            last: None,
            limit_up: None,
            limit_down: None,
            volume: None,
            buyers: Side::default(),
            sellers: Side::default(),
            stops: Vec::new(),
        }
    }

    /// The venue's time: that of the last tick.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// The trading day of the last tick that named one.
    #[must_use]
    pub fn trading_day(&self) -> Option<chrono::NaiveDate> {
        self.trading_day
    }

    /// The last price.
    #[must_use]
    pub fn last(&self) -> Option<f64> {
        self.last
    }

    /// Takes the tick's prices and book; own orders are matched afterwards. Returns the volume traded since the
    /// tick before: 0 for the first tick, and where the day's count began again.
    pub fn absorb(&mut self, tick: &Tick) -> f64 {
        self.time = Some(tick.datetime);
        self.trading_day = tick.trading_day.or(self.trading_day);
        self.last = self.price(tick.last_price).or(self.last);
        self.limit_up = self.price(tick.limit_up).or(self.limit_up);
        self.limit_down = self.price(tick.limit_down).or(self.limit_down);
        let (tolerance, any_sign) = (self.tolerance, self.any_sign);
        let lowest = self.limit_down.unwrap_or(f64::NEG_INFINITY) - tolerance;
        let highest = self.limit_up.unwrap_or(f64::INFINITY) + tolerance;
        let is_price = |price: f64| is_price(price, any_sign) && lowest <= price && price <= highest;
        self.buyers.show(&tick.bids, Direction::Long, is_price, tolerance);
        self.sellers.show(&tick.asks, Direction::Short, is_price, tolerance);
        let Some(volume) = tick.volume.filter(|v| v.is_finite() && *v >= 0.0) else { return 0.0 };
        let before = self.volume.replace(volume);
        before.map_or(0.0, |before| (volume - before).max(0.0))
    }

    /// Matches what rests with what the last tick brought: `traded` lots at `last`, then the book it shows.
    /// Resting orders are filled at their own price.
    pub fn match_resting(&mut self, traded: f64, last: Option<f64>, fills: &mut Vec<Fill>) {
        let mut pool = traded;
        for direction in [Direction::Long, Direction::Short] {
            if let Some(last) = self.price(last).filter(|_| pool > 0.0) {
                self.serve_traded(direction, last, &mut pool, fills);
            }
        }
        for direction in [Direction::Long, Direction::Short] {
            self.serve_crossed(direction, fills);
            self.see_queues(direction);
            self.side(direction).resting.retain(|resting| resting.remaining > 0.0);
        }
    }

    fn serve_traded(&mut self, direction: Direction, last: f64, pool: &mut f64, fills: &mut Vec<Fill>) {
        let (tolerance, step) = (self.tolerance, self.step);
        // What was served of the others at this price: whoever of us comes later stood behind the same lots.
        let mut served = 0.0;
        for resting in &mut self.side(direction).resting {
            let through = sign(direction) * (resting.price - last);
            if through < -tolerance {
                break;
            }
            if through > tolerance {
                resting.ahead = 0.0;
            } else {
                let queue = (resting.ahead - served).min(*pool).max(0.0);
                *pool -= queue;
                served += queue;
                resting.ahead = lots(resting.ahead - served).max(0.0);
            }
            if resting.ahead == 0.0 {
                let volume = whole(pool.min(resting.remaining), step);
                resting.fill(volume, fills);
                *pool = (*pool - volume).max(0.0);
            }
        }
    }

    fn serve_crossed(&mut self, direction: Direction, fills: &mut Vec<Fill>) {
        let (tolerance, step) = (self.tolerance, self.step);
        let (own, other) = match direction {
            Direction::Short => (&mut self.sellers, &mut self.buyers),
            Direction::Long | Direction::Net => (&mut self.buyers, &mut self.sellers),
        };
        for resting in &mut own.resting {
            let mut volume = 0.0;
            for level in &mut other.shown {
                if sign(direction) * (resting.price - level.price) < -tolerance {
                    break;
                }
                volume += level.take(resting.remaining - volume, step);
                resting.ahead = 0.0;
            }
            resting.fill(lots(volume), fills);
        }
    }

    /// A queue is never longer than what is displayed.
    fn see_queues(&mut self, direction: Direction) {
        for index in 0..self.side(direction).resting.len() {
            let price = self.side(direction).resting[index].price;
            let displayed = self.displayed(direction, price);
            let resting = &mut self.side(direction).resting[index];
            resting.ahead = resting.ahead.min(displayed.unwrap_or(f64::INFINITY));
        }
    }

    /// What others show at this price; `None` where the book does not reach.
    fn displayed(&self, direction: Direction, price: f64) -> Option<f64> {
        let (own, other) = match direction {
            Direction::Short => (&self.sellers.shown, &self.buyers.shown),
            Direction::Long | Direction::Net => (&self.buyers.shown, &self.sellers.shown),
        };
        let Some(worst) = own.last() else {
            // A side that is missing beside one that is there is empty; if both are missing, nothing is known.
            return (!other.is_empty()).then_some(0.0);
        };
        if let Some(level) = own.iter().find(|level| (level.price - price).abs() <= self.tolerance) {
            return Some(level.volume);
        }
        (sign(direction) * (price - worst.price) > 0.0).then_some(0.0)
    }

    /// Fills as much of `volume` as the book shows at `limit` or better (any price without one), never beyond the
    /// day's price limits. Returns what is left.
    pub fn take(&mut self, leg: Leg, limit: Option<f64>, volume: f64, fills: &mut Vec<Fill>) -> f64 {
        let (bound, step, tolerance) = (self.bound(leg.direction, limit), self.step, self.tolerance);
        let mut left = volume;
        for level in &mut self.side(leg.direction.opposite()).shown {
            if left <= 0.0 || sign(leg.direction) * (bound - level.price) < -tolerance {
                break;
            }
            let volume = level.take(left, step);
            if volume > 0.0 {
                fills.push(Fill { leg, price: level.price, volume });
                left = lots(left - volume);
            }
        }
        left
    }

    /// What [`Market::take`] would fill of `volume`, and the worst price that it would meet.
    #[must_use]
    pub fn reach(&self, direction: Direction, limit: Option<f64>, volume: f64) -> (f64, Option<f64>) {
        let mut copy = self.opposite(direction).clone();
        let bound = self.bound(direction, limit);
        let (mut left, mut worst) = (volume, None);
        for level in &mut copy {
            if left <= 0.0 || sign(direction) * (bound - level.price) < -self.tolerance {
                break;
            }
            let volume = level.take(left, self.step);
            if volume > 0.0 {
                left = lots(left - volume);
                worst = Some(level.price);
            }
        }
        (lots(volume - left), worst)
    }

    /// The best price of the other side.
    #[must_use]
    pub fn best_opposite(&self, direction: Direction) -> Option<f64> {
        self.opposite(direction).first().map(|level| level.price)
    }

    /// Queues a leg at its price, behind what is displayed there.
    pub fn rest(&mut self, leg: Leg, price: f64, volume: f64) {
        let ahead = self.displayed(leg.direction, price).unwrap_or(f64::INFINITY);
        let resting = &mut self.side(leg.direction).resting;
        let rank = |other: &Resting| {
            let better = sign(leg.direction) * (other.price - price);
            better > 0.0 || (better == 0.0 && other.leg.entry < leg.entry)
        };
        let index = resting.partition_point(rank);
        resting.insert(index, Resting { leg, price, remaining: volume, ahead });
    }

    /// Keeps a stop order until [`Market::take_triggered`] hands it out.
    pub fn wait(&mut self, stop: Stop) {
        self.stops.push(stop);
    }

    /// Whether the last price has reached this trigger.
    #[must_use]
    pub fn is_triggered(&self, direction: Direction, trigger: f64) -> bool {
        self.last.is_some_and(|last| sign(direction) * (last - trigger) >= -self.tolerance)
    }

    /// The stop orders that the last price sets off, oldest first; they wait here no longer.
    pub fn take_triggered(&mut self) -> Vec<Stop> {
        let all = std::mem::take(&mut self.stops);
        let (triggered, waiting) = all.into_iter().partition(|s| self.is_triggered(s.leg.direction, s.trigger));
        self.stops = waiting;
        triggered
    }

    /// Takes a leg out, if it works here.
    pub fn remove(&mut self, leg: Leg) {
        self.side(leg.direction).resting.retain(|resting| resting.leg != leg);
        self.stops.retain(|stop| stop.leg != leg);
    }

    /// Takes all of our orders out: the entries that worked here, oldest first.
    pub fn clear(&mut self) -> Vec<u64> {
        let resting = self.buyers.resting.drain(..).chain(self.sellers.resting.drain(..)).map(|r| r.leg.entry);
        let mut entries: Vec<u64> = resting.chain(self.stops.drain(..).map(|stop| stop.leg.entry)).collect();
        entries.sort_unstable();
        entries.dedup();
        entries
    }

    /// Takes over the trading day that an earlier process was in.
    pub fn resume_day(&mut self, day: chrono::NaiveDate) {
        self.trading_day = Some(day);
    }

    /// A new day: its volume counts from nothing, and its price limits and book are not yet known.
    pub fn begin_day(&mut self) {
        self.volume = None;
        self.limit_up = None;
        self.limit_down = None;
        self.buyers.shown.clear();
        self.sellers.shown.clear();
    }

    /// Whether an order may name this price: the day's price limits allow it.
    ///
    /// # Errors
    /// Says which limit it breaks.
    pub fn check_price(&self, name: &str, price: f64) -> Result<(), String> {
        if !is_price(price, self.any_sign) {
            return Err(format!("{name} {price} is no price"));
        }
        match (self.limit_down, self.limit_up) {
            (_, Some(up)) if price > up + self.tolerance => {
                Err(format!("{name} {price} is above the day's upper limit {up}"))
            }
            (Some(down), _) if price < down - self.tolerance => {
                Err(format!("{name} {price} is below the day's lower limit {down}"))
            }
            _ => Ok(()),
        }
    }

    /// The worst price that an order may trade at.
    fn bound(&self, direction: Direction, limit: Option<f64>) -> f64 {
        match direction {
            Direction::Short => limit.unwrap_or(f64::NEG_INFINITY).max(self.limit_down.unwrap_or(f64::NEG_INFINITY)),
            Direction::Long | Direction::Net => {
                limit.unwrap_or(f64::INFINITY).min(self.limit_up.unwrap_or(f64::INFINITY))
            }
        }
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Short => &mut self.sellers,
            Direction::Long | Direction::Net => &mut self.buyers,
        }
    }

    fn opposite(&self, direction: Direction) -> &Vec<Shown> {
        match direction {
            Direction::Short => &self.buyers.shown,
            Direction::Long | Direction::Net => &self.sellers.shown,
        }
    }

    fn price(&self, price: Option<f64>) -> Option<f64> {
        price.filter(|price| is_price(*price, self.any_sign))
    }
}

impl Side {
    /// Replaces what is displayed. A level without a size, without a price or with one that the day does not allow is
    /// none, and one price is one level, so that a broken book offers nothing twice.
    fn show(&mut self, depth: &Depth, direction: Direction, is_price: impl Fn(f64) -> bool, tolerance: f64) {
        let levels = depth.iter().filter(|level| is_price(level.0) && level.1.is_finite() && level.1 > 0.0);
        self.shown.clear();
        self.shown.extend(levels.map(|level| Shown { price: level.0, volume: level.1, taken: 0.0 }));
        self.shown.sort_by(|a, b| (sign(direction) * b.price).total_cmp(&(sign(direction) * a.price)));
        self.shown.dedup_by(|a, b| (a.price - b.price).abs() <= tolerance);
    }
}

impl Shown {
    fn take(&mut self, wanted: f64, step: f64) -> f64 {
        let volume = whole((self.volume - self.taken).min(wanted), step);
        self.taken = lots(self.taken + volume);
        volume
    }
}

impl Resting {
    fn fill(&mut self, volume: f64, fills: &mut Vec<Fill>) {
        if volume > 0.0 {
            self.remaining = lots(self.remaining - volume);
            fills.push(Fill { leg: self.leg, price: self.price, volume });
        }
    }
}

/// +1 for who buys, -1 for who sells: multiplied by it, a higher price is the better bid and the better ask alike.
#[must_use]
pub fn sign(direction: Direction) -> f64 {
    match direction {
        Direction::Short => -1.0,
        Direction::Long | Direction::Net => 1.0,
    }
}

/// A sum of volumes without the noise of binary fractions (0.1 + 0.2), so that what is all filled is exactly so.
#[must_use]
pub fn lots(volume: f64) -> f64 {
    if volume.fract() == 0.0 || !volume.is_finite() { volume } else { (volume * 1e8).round() / 1e8 }
}

/// The whole steps in a volume: a half lot on display is nothing that one could hold.
fn whole(volume: f64, step: f64) -> f64 {
    lots(((volume / step) + 1e-9).floor().max(0.0) * step)
}

/// Some venues write "none" as the largest float. Nothing that large is a price: money would overflow.
fn is_price(price: f64, any_sign: bool) -> bool {
    price.abs() < 1e12 && (any_sign || price > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Exchange, InstrumentId, Level};

    fn contract() -> Contract {
        Contract::new("sim1", InstrumentId::new("rb2410", Exchange::SHFE), Product::Futures, 10.0, 1.0)
    }

    fn tick(last: f64, volume: f64, bids: &[(f64, f64)], asks: &[(f64, f64)]) -> Tick {
        let time = chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time");
        let mut tick = Tick::new("sim1", contract().instrument(), time);
        (tick.last_price, tick.volume) = (Some(last), Some(volume));
        tick.bids = bids.iter().map(|&(price, volume)| Level(price, volume)).collect();
        tick.asks = asks.iter().map(|&(price, volume)| Level(price, volume)).collect();
        tick
    }

    fn buy(entry: u64) -> Leg {
        Leg { entry, direction: Direction::Long }
    }

    /// Absorbs a tick and returns (entry, price, volume) of what it fills.
    fn step(market: &mut Market, tick: &Tick) -> Vec<(u64, f64, f64)> {
        let traded = market.absorb(tick);
        let mut fills = Vec::new();
        market.match_resting(traded, tick.last_price, &mut fills);
        fills.iter().map(|fill| (fill.leg.entry, fill.price, fill.volume)).collect()
    }

    fn opened() -> Market {
        let mut market = Market::new(&contract());
        assert_eq!(step(&mut market, &tick(101.0, 1000.0, &[(100.0, 10.0), (99.0, 20.0)], &[(101.0, 10.0)])), []);
        market
    }

    #[test]
    fn traded_volume_serves_the_queue_first_then_us() {
        let mut market = opened();
        market.rest(buy(1), 100.0, 5.0);
        let book: &[(f64, f64)] = &[(100.0, 10.0)];
        assert_eq!(step(&mut market, &tick(100.0, 1007.0, book, &[(101.0, 1.0)])), [], "7 of the 10 ahead");
        assert_eq!(step(&mut market, &tick(100.0, 1012.0, book, &[(101.0, 1.0)])), [(1, 100.0, 2.0)]);
        assert_eq!(step(&mut market, &tick(101.0, 1099.0, book, &[(101.0, 1.0)])), [], "traded at another price");
        assert_eq!(step(&mut market, &tick(100.0, 1200.0, book, &[(101.0, 1.0)])), [(1, 100.0, 3.0)]);
    }

    #[test]
    fn our_orders_share_by_price_then_time_and_behind_the_same_queue() {
        let mut market = opened();
        market.rest(buy(1), 100.0, 5.0);
        market.absorb(&tick(101.0, 1000.0, &[(100.0, 15.0)], &[(101.0, 1.0)]));
        market.rest(buy(2), 100.0, 5.0);
        // 10 ahead of the first, 5 more between the two.
        let fills = step(&mut market, &tick(100.0, 1022.0, &[(100.0, 15.0)], &[(101.0, 1.0)]));
        assert_eq!(fills, [(1, 100.0, 5.0), (2, 100.0, 2.0)]);
    }

    #[test]
    fn a_queue_is_never_longer_than_what_is_displayed() {
        let mut market = opened();
        market.rest(buy(1), 100.0, 5.0);
        assert_eq!(step(&mut market, &tick(101.0, 1000.0, &[(100.0, 2.0)], &[(101.0, 1.0)])), []);
        assert_eq!(step(&mut market, &tick(100.0, 1003.0, &[(99.0, 2.0)], &[(101.0, 1.0)])), [(1, 100.0, 1.0)]);
    }

    #[test]
    fn a_price_inside_the_spread_and_one_gone_from_the_book_have_nobody_ahead() {
        let mut market = Market::new(&contract());
        market.absorb(&tick(101.0, 0.0, &[(100.0, 10.0), (98.0, 1.0)], &[(103.0, 1.0)]));
        market.rest(buy(1), 102.0, 1.0);
        market.rest(buy(2), 99.0, 1.0);
        let book: &[(f64, f64)] = &[(98.0, 1.0)];
        assert_eq!(step(&mut market, &tick(102.0, 1.0, book, &[(103.0, 1.0)])), [(1, 102.0, 1.0)]);
        assert_eq!(step(&mut market, &tick(99.0, 2.0, book, &[(103.0, 1.0)])), [(2, 99.0, 1.0)]);
    }

    #[test]
    fn a_queue_out_of_sight_is_endless_until_it_shows() {
        let mut market = opened();
        market.rest(buy(1), 90.0, 1.0);
        let far: &[(f64, f64)] = &[(100.0, 10.0)];
        assert_eq!(step(&mut market, &tick(90.0, 9000.0, far, &[(101.0, 1.0)])), []);
        assert_eq!(step(&mut market, &tick(91.0, 9000.0, &[(90.0, 4.0)], &[(91.0, 1.0)])), []);
        assert_eq!(step(&mut market, &tick(90.0, 9005.0, &[(90.0, 4.0)], &[(91.0, 1.0)])), [(1, 90.0, 1.0)]);
    }

    #[test]
    fn a_price_through_ours_fills_up_to_what_traded() {
        let mut market = opened();
        market.rest(buy(1), 100.0, 5.0);
        let book: &[(f64, f64)] = &[(98.0, 1.0)];
        assert_eq!(step(&mut market, &tick(99.0, 1003.0, book, &[(101.0, 1.0)])), [(1, 100.0, 3.0)]);
    }

    #[test]
    fn an_opposite_price_that_crosses_fills_at_our_price_up_to_its_size() {
        let mut market = opened();
        market.rest(buy(1), 100.0, 5.0);
        market.rest(buy(2), 99.0, 5.0);
        let fills = step(&mut market, &tick(101.0, 1000.0, &[(98.0, 1.0)], &[(99.0, 6.0), (100.0, 1.0)]));
        assert_eq!(fills, [(1, 100.0, 5.0), (2, 99.0, 1.0)]);
    }

    #[test]
    fn what_was_taken_stays_taken_until_the_next_tick() {
        let mut market = opened();
        let mut fills = Vec::new();
        assert_eq!(market.take(buy(1), Some(101.0), 7.0, &mut fills), 0.0);
        assert_eq!(market.reach(Direction::Long, None, 7.0), (3.0, Some(101.0)));
        assert_eq!(market.take(buy(2), None, 7.0, &mut fills), 4.0);
        market.absorb(&tick(101.0, 1000.0, &[(100.0, 10.0)], &[(101.0, 10.0)]));
        assert_eq!(market.take(buy(3), None, 7.0, &mut fills), 0.0);
    }

    #[test]
    fn nothing_trades_beyond_the_price_limits() {
        let mut market = Market::new(&contract());
        let mut first = tick(101.0, 0.0, &[(100.0, 1.0)], &[(101.0, 1.0), (111.0, 1.0)]);
        first.limit_up = Some(110.0);
        market.absorb(&first);
        assert_eq!(market.take(buy(1), None, 2.0, &mut Vec::new()), 1.0);
        assert!(market.check_price("price", 110.0).is_ok());
        assert!(market.check_price("price", 111.0).expect_err("above").contains("upper limit 110"));
    }

    #[test]
    fn the_days_count_beginning_again_is_no_trade() {
        let mut market = opened();
        market.rest(buy(1), 100.0, 5.0);
        assert_eq!(step(&mut market, &tick(99.0, 3.0, &[(98.0, 1.0)], &[(101.0, 1.0)])), []);
        assert_eq!(step(&mut market, &tick(99.0, 5.0, &[(98.0, 1.0)], &[(101.0, 1.0)])), [(1, 100.0, 2.0)]);
    }

    #[test]
    fn levels_that_are_none_offer_nothing() {
        let mut market = Market::new(&contract());
        let asks = [
            (0.0, 5.0),
            (f64::NAN, 5.0),
            (101.0, 0.0),
            (102.0, f64::INFINITY),
            (-1.0, 2.0),
            (103.0, 1.5),
            (103.0, 9.0),
        ];
        market.absorb(&tick(f64::NAN, f64::NAN, &[], &asks));
        assert_eq!(market.reach(Direction::Long, None, 100.0), (1.0, Some(103.0)));
        assert_eq!(market.last(), None);
    }

    #[test]
    fn stops_go_off_at_their_trigger_oldest_first() {
        let mut market = opened();
        let stop = |entry, direction, trigger| Stop { leg: Leg { entry, direction }, trigger, volume: 1.0 };
        for waiting in
            [stop(1, Direction::Long, 103.0), stop(2, Direction::Long, 102.0), stop(3, Direction::Short, 99.0)]
        {
            assert!(!market.is_triggered(waiting.leg.direction, waiting.trigger));
            market.wait(waiting);
        }
        market.absorb(&tick(103.0, 1000.0, &[], &[]));
        let entries = |stops: Vec<Stop>| stops.iter().map(|stop| stop.leg.entry).collect::<Vec<_>>();
        assert_eq!(entries(market.take_triggered()), [1, 2]);
        market.absorb(&tick(99.0, 1000.0, &[], &[]));
        assert_eq!(entries(market.take_triggered()), [3]);
    }
}
