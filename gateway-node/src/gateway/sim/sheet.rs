//! One instrument's page in the books: what is held long and short, of today and of earlier days, and what working
//! orders keep of it.

use std::collections::BTreeMap;

use protocol::{Direction, Offset};

use super::market::{Leg, lots, sign};

/// What one lot is worth, and which rule closes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    pub(super) size: f64,
    pub(super) long_margin: f64,
    pub(super) short_margin: f64,
    pub(super) days_apart: bool,
}

/// One instrument's part of the books.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    pub(super) spec: Spec,
    pub(super) day: Option<chrono::NaiveDate>,
    pub(super) last: Option<f64>,
    pub(super) long: Holding,
    pub(super) short: Holding,
    pub(super) working: BTreeMap<Leg, Reservation>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Holding {
    pub(super) today: f64,
    pub(super) yesterday: f64,
    pub(super) price: f64,
}

/// What a working order keeps from others: money if it opens, lots if it closes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reservation {
    pub(super) offset: Offset,
    pub(super) volume: f64,
    pub(super) price: f64,
}

impl Sheet {
    pub(super) fn new(spec: Spec) -> Self {
        let (long, short) = (Holding::default(), Holding::default());
        Sheet { spec, day: None, last: None, long, short, working: BTreeMap::new() }
    }

    pub(super) fn holding(&self, direction: Direction) -> &Holding {
        if direction == Direction::Short { &self.short } else { &self.long }
    }

    pub(super) fn holding_mut(&mut self, direction: Direction) -> &mut Holding {
        if direction == Direction::Short { &mut self.short } else { &mut self.long }
    }

    /// Lots of this position that working orders, of offsets that count, will close.
    pub(super) fn frozen(&self, direction: Direction, counts: impl Fn(Offset) -> bool) -> f64 {
        let closing = self.working.iter().filter(|(leg, own)| {
            !is_open(own.offset) && held(leg.direction, own.offset) == direction && counts(own.offset)
        });
        lots(closing.fold(0.0, |sum, (_, own)| sum + own.volume))
    }

    /// Lots that a new order of this offset could close.
    pub(super) fn closable(&self, direction: Direction, offset: Offset) -> f64 {
        let holding = self.holding(direction);
        let is_today = |offset| offset == Offset::CloseToday;
        let days_apart = self.spec.days_apart;
        let today = holding.today - self.frozen(direction, is_today);
        let yesterday = holding.yesterday
            - self.frozen(direction, |o| o == Offset::CloseYesterday || (days_apart && o == Offset::Close));
        let all = holding.volume() - self.frozen(direction, |_| true);
        let free = match offset {
            Offset::CloseToday => today.min(all),
            Offset::CloseYesterday => yesterday.min(all),
            Offset::Close if days_apart => yesterday,
            Offset::Close | Offset::Open | Offset::None => all,
        };
        lots(free.max(0.0))
    }

    pub(super) fn margin(&self) -> f64 {
        let value = |holding: &Holding| holding.volume() * holding.price.abs() * self.spec.size;
        value(&self.long) * self.spec.long_margin + value(&self.short) * self.spec.short_margin
    }

    pub(super) fn pnl(&self, direction: Direction) -> f64 {
        let holding = self.holding(direction);
        let Some(last) = self.last else { return 0.0 };
        // Adding 0 turns -0 into 0.
        (last - holding.price) * holding.volume() * self.spec.size * sign(direction) + 0.0
    }
}

impl Spec {
    pub(super) fn margin(&self, direction: Direction) -> f64 {
        if direction == Direction::Short { self.short_margin } else { self.long_margin }
    }
}

impl Holding {
    pub(super) fn volume(&self) -> f64 {
        lots(self.today + self.yesterday)
    }

    pub(super) fn open(&mut self, price: f64, volume: f64) {
        let before = self.volume();
        self.today = lots(self.today + volume);
        self.price = (self.price * before + price * volume) / self.volume();
    }

    /// Takes out up to `volume` lots and says how many there were.
    pub(super) fn close(&mut self, offset: Offset, days_apart: bool, volume: f64) -> f64 {
        let (first, second) = match offset {
            Offset::CloseToday => (&mut self.today, &mut self.yesterday),
            Offset::Close | Offset::CloseYesterday | Offset::Open | Offset::None => {
                (&mut self.yesterday, &mut self.today)
            }
        };
        let of_first = volume.min(*first);
        let of_second = if days_apart { 0.0 } else { (volume - of_first).min(*second) };
        *first = lots(*first - of_first);
        *second = lots(*second - of_second);
        if self.volume() == 0.0 {
            self.price = 0.0;
        }
        of_first + of_second
    }
}

pub(super) fn is_open(offset: Offset) -> bool {
    matches!(offset, Offset::Open | Offset::None)
}

/// The side of the position that an order or a trade changes: buying closes what is short.
pub(super) fn held(direction: Direction, offset: Offset) -> Direction {
    if is_open(offset) { direction } else { direction.opposite() }
}

pub(super) fn fee((rate, per_lot): (f64, f64), price: f64, volume: f64, size: f64) -> f64 {
    price.abs() * volume * size * rate + per_lot * volume
}
