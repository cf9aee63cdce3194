//! What the rows of one position query mean as positions: CTP tells today's from yesterday's and each hedge flag apart.

use std::collections::BTreeMap;

use compact_str::CompactString;
use protocol::{Contract, Direction, Name, Position};

use crate::records::PositionRecord;

/// What a whole query comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Positions {
    /// By symbol and direction, flat ones too: that nothing is left must be told.
    pub positions: Vec<Position>,
    /// Rows that are in no position, and why. They are holdings that are not shown: tell the operator.
    pub unread: Vec<(PositionRecord, UnreadRow)>,
}

/// Why a row is in no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadRow {
    /// The instrument query did not have it.
    #[error("no contract of `{0}` is known; query the instruments again")]
    Instrument(CompactString),
    /// The row and the contract differ.
    #[error("{symbol}: the position is at `{found}`, the contract at {expected}")]
    Exchange {
        /// The instrument.
        symbol: CompactString,
        /// The row's.
        found: CompactString,
        /// The contract's.
        expected: protocol::Exchange,
    },
    /// `PosiDirection` is none.
    #[error("{symbol}: unknown position direction {:?}, expected 1 (net), 2 (long) or 3 (short)", char::from(*.found))]
    Direction {
        /// The instrument.
        symbol: CompactString,
        /// As CTP has it.
        found: u8,
    },
}

/// The positions that the rows of one query add up to, whatever their order. `contract` finds an instrument's contract:
/// it gives the exchange, which some counters leave out of the rows, and the size.
///
/// - Lots of earlier days: on SHFE and INE what rows hold that had a position yesterday and have none of today,
///   elsewhere what is held beyond today's.
/// - Frozen: of a long position what orders to sell will close, of a short one what orders to buy will.
/// - Price: the cost of all rows by their lots and the size; lots whose cost is missing do not count in it, and a flat
///   position has 0.
#[must_use]
pub fn positions<'c>(
    gateway_name: &Name,
    rows: &[PositionRecord],
    contract: impl Fn(&str) -> Option<&'c Contract>,
) -> Positions {
    let mut found = Positions::default();
    let mut groups: BTreeMap<(&str, Direction), (&Contract, Vec<&PositionRecord>)> = BTreeMap::new();
    for row in rows {
        match place(row, &contract) {
            Ok((contract, direction)) => {
                groups.entry((&row.symbol, direction)).or_insert_with(|| (contract, Vec::new())).1.push(row);
            }
            Err(why) => found.unread.push((row.clone(), why)),
        }
    }
    let sums =
        groups.into_iter().map(|((_, direction), (contract, rows))| sum(gateway_name, contract, direction, &rows));
    found.positions = sums.collect();
    found
}

fn place<'c>(
    row: &PositionRecord,
    contract: impl Fn(&str) -> Option<&'c Contract>,
) -> Result<(&'c Contract, Direction), UnreadRow> {
    let contract = contract(&row.symbol).ok_or_else(|| UnreadRow::Instrument(row.symbol.clone()))?;
    let expected = contract.exchange;
    if !row.exchange.is_empty() && row.exchange != expected.as_str() {
        return Err(UnreadRow::Exchange { symbol: row.symbol.clone(), found: row.exchange.clone(), expected });
    }
    let direction = match row.direction {
        b'1' => Direction::Net,
        b'2' => Direction::Long,
        b'3' => Direction::Short,
        found => return Err(UnreadRow::Direction { symbol: row.symbol.clone(), found }),
    };
    Ok((contract, direction))
}

fn sum(gateway_name: &Name, contract: &Contract, direction: Direction, rows: &[&PositionRecord]) -> Position {
    let lots = |of: &dyn Fn(&PositionRecord) -> i64| rows.iter().map(|row| of(row)).sum::<i64>() as f64;
    let yesterday = |row: &PositionRecord| {
        let (held, today) = (i64::from(row.position), i64::from(row.today_position));
        if !contract.exchange.closes_today_separately() {
            held - today
        } else if row.yd_position != 0 && today == 0 {
            held
        } else {
            0
        }
    };
    let frozen = |row: &PositionRecord| match direction {
        Direction::Long => i64::from(row.short_frozen),
        Direction::Short => i64::from(row.long_frozen),
        Direction::Net if row.position < 0 => i64::from(row.long_frozen),
        Direction::Net => i64::from(row.short_frozen),
    };
    let priced = lots(&|row| if row.position_cost.is_some() { i64::from(row.position) } else { 0 });
    let cost = money(rows.iter().filter_map(|row| row.position_cost));
    Position {
        gateway_name: gateway_name.clone(),
        symbol: contract.symbol.clone(),
        exchange: contract.exchange,
        direction,
        volume: lots(&|row| row.position.into()),
        frozen: lots(&frozen),
        price: if priced == 0.0 { 0.0 } else { cost / (priced * contract.size) },
        pnl: money(rows.iter().filter_map(|row| row.position_profit)),
        yd_volume: lots(&yesterday),
        extra: None,
    }
}

/// The sum, the same whatever the order: additions of floats depend on it.
fn money(parts: impl Iterator<Item = f64>) -> f64 {
    let mut parts: Vec<f64> = parts.collect();
    parts.sort_by(f64::total_cmp);
    parts.into_iter().fold(0.0, |sum, part| sum + part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::{Exchange, InstrumentId, Product};

    fn contracts() -> Vec<Contract> {
        let contract = |symbol: &str, exchange, size| {
            Contract::new("ctp1", InstrumentId::new(symbol, exchange), Product::Futures, size, 1.0)
        };
        vec![
            contract("rb2410", Exchange::SHFE, 10.0),
            contract("sc2410", Exchange::INE, 1000.0),
            contract("m2409", Exchange::DCE, 10.0),
            contract("SR409", Exchange::CZCE, 10.0),
        ]
    }

    fn convert(rows: &[PositionRecord]) -> Positions {
        let contracts = contracts();
        positions(&"ctp1".into(), rows, |symbol| contracts.iter().find(|contract| contract.symbol == symbol))
    }

    fn one(rows: &[PositionRecord]) -> Position {
        let Positions { mut positions, unread } = convert(rows);
        assert!(unread.is_empty(), "{unread:?}");
        assert_eq!(positions.len(), 1);
        positions.remove(0)
    }

    fn row(symbol: &str, direction: u8, date: u8, (yd, held, today): (i32, i32, i32), cost: f64) -> PositionRecord {
        PositionRecord {
            symbol: symbol.into(),
            direction,
            position_date: date,
            hedge: b'1',
            yd_position: yd,
            position: held,
            today_position: today,
            position_cost: Some(cost),
            position_profit: Some(0.0),
            ..PositionRecord::default()
        }
    }

    #[test]
    fn today_and_yesterday_of_shfe_are_one_position() {
        let mut yesterday = row("rb2410", b'2', b'2', (5, 3, 0), 105_000.0);
        yesterday.exchange = "SHFE".into();
        yesterday.position_profit = Some(300.0);
        yesterday.short_frozen = 1;
        yesterday.long_frozen = 9;
        let mut today = row("rb2410", b'2', b'1', (0, 2, 2), 70_200.0);
        today.position_profit = Some(-40.0);
        today.short_frozen = 2;
        let position = one(&[yesterday, today]);
        assert_eq!((position.symbol.as_str(), position.exchange), ("rb2410", Exchange::SHFE));
        assert_eq!((position.direction, position.gateway_name.as_str()), (Direction::Long, "ctp1"));
        assert_eq!((position.volume, position.yd_volume, position.frozen), (5.0, 3.0, 3.0));
        assert_eq!((position.price, position.pnl), (3504.0, 260.0));
    }

    #[test]
    fn elsewhere_one_row_holds_both_days() {
        let mut both = row("m2409", b'3', b'1', (6, 7, 2), 210_000.0);
        both.long_frozen = 4;
        both.short_frozen = 9;
        let position = one(&[both]);
        assert_eq!((position.exchange, position.direction), (Exchange::DCE, Direction::Short));
        assert_eq!((position.volume, position.yd_volume, position.frozen, position.price), (7.0, 5.0, 4.0, 3000.0));
    }

    #[test]
    fn what_shfe_did_not_hold_yesterday_is_not_of_yesterday() {
        let position = one(&[row("rb2410", b'2', b'1', (0, 2, 0), 70_000.0)]);
        assert_eq!((position.volume, position.yd_volume), (2.0, 0.0));
        let both_days_in_a_row = one(&[row("sc2410", b'2', b'1', (4, 6, 2), 0.0)]);
        assert_eq!((both_days_in_a_row.volume, both_days_in_a_row.yd_volume), (6.0, 0.0));
    }

    #[test]
    fn hedge_flags_are_one_position() {
        for symbol in ["sc2410", "SR409"] {
            let speculation = row(symbol, b'2', b'2', (4, 4, 0), 0.0);
            let hedge = PositionRecord { hedge: b'3', ..row(symbol, b'2', b'2', (2, 2, 0), 0.0) };
            let position = one(&[speculation, hedge]);
            assert_eq!((position.volume, position.yd_volume), (6.0, 6.0), "{symbol}");
        }
    }

    #[test]
    fn a_flat_position_is_told_as_flat() {
        let mut closed = row("rb2410", b'2', b'2', (5, 0, 0), 0.0);
        closed.position_profit = None;
        let position = one(&[closed, row("rb2410", b'2', b'1', (0, 0, 0), 0.0)]);
        assert_eq!((position.volume, position.yd_volume, position.price, position.pnl), (0.0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn lots_without_a_cost_do_not_count_in_the_price() {
        let unknown = PositionRecord { position_cost: None, ..row("m2409", b'2', b'1', (0, 5, 5), 0.0) };
        assert_eq!(one(std::slice::from_ref(&unknown)).price, 0.0);
        let position = one(&[unknown, row("m2409", b'2', b'1', (0, 2, 2), 60_000.0)]);
        assert_eq!((position.volume, position.price), (7.0, 3000.0));
    }

    #[test]
    fn net_positions_freeze_what_their_closing_side_freezes() {
        let frozen = |held| {
            let row = PositionRecord { long_frozen: 2, short_frozen: 3, ..row("m2409", b'1', b'1', (0, held, 0), 0.0) };
            let position = one(&[row]);
            assert_eq!(position.direction, Direction::Net);
            position.frozen
        };
        assert_eq!((frozen(5), frozen(-5)), (3.0, 2.0));
    }

    #[test]
    fn a_row_that_cannot_be_read_is_handed_back() {
        let unknown = row("zz9999", b'2', b'1', (0, 1, 1), 1.0);
        let elsewhere = PositionRecord { exchange: "DCE".into(), ..row("rb2410", b'2', b'1', (0, 1, 1), 1.0) };
        let sideways = row("rb2410", b'9', b'1', (0, 1, 1), 1.0);
        let good = row("rb2410", b'2', b'1', (0, 1, 1), 1.0);
        let found = convert(&[unknown.clone(), elsewhere.clone(), good, sideways.clone()]);
        assert_eq!(found.positions.len(), 1);
        let rows: Vec<_> = found.unread.iter().map(|(row, _)| row.clone()).collect();
        assert_eq!(rows, [unknown, elsewhere, sideways]);
        let words: Vec<_> = found.unread.iter().map(|(_, why)| why.to_string()).collect();
        assert_eq!(
            words,
            [
                "no contract of `zz9999` is known; query the instruments again",
                "rb2410: the position is at `DCE`, the contract at SHFE",
                "rb2410: unknown position direction '9', expected 1 (net), 2 (long) or 3 (short)",
            ]
        );
    }

    #[test]
    fn nothing_held_is_no_position() {
        assert_eq!(convert(&[]), Positions::default());
    }

    fn any_row() -> impl Strategy<Value = PositionRecord> {
        let symbol = prop::sample::select(vec!["rb2410", "sc2410", "m2409", "SR409", "zz9999"]);
        let lots = (0..1000i32, 0..1000i32, 0..1000i32, 0..1000i32);
        let money = (prop::option::of(-1e9..1e9f64), prop::option::of(-1e7..1e7f64));
        (symbol, b'0'..=b'3', b'1'..=b'2', b'1'..=b'3', lots, money, 0..1000i32).prop_map(
            |(symbol, direction, position_date, hedge, (yd, a, b, long_frozen), (cost, profit), short_frozen)| {
                let today = if position_date == b'1' { a.min(b) } else { 0 };
                PositionRecord {
                    hedge,
                    position_cost: cost,
                    position_profit: profit,
                    long_frozen,
                    short_frozen,
                    ..row(symbol, direction, position_date, (yd, a.max(b), today), 0.0)
                }
            },
        )
    }

    fn both_orders() -> impl Strategy<Value = (Vec<PositionRecord>, Vec<PositionRecord>)> {
        prop::collection::vec(any_row(), 0..30).prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle()))
    }

    proptest! {
        #[test]
        fn any_order_of_rows_gives_the_same((rows, shuffled) in both_orders()) {
            let (one, other) = (convert(&rows), convert(&shuffled));
            prop_assert_eq!(&one.positions, &other.positions);
            let texts = |found: &Positions| {
                let mut texts: Vec<_> = found.unread.iter().map(|row| format!("{row:?}")).collect();
                texts.sort();
                texts
            };
            prop_assert_eq!(texts(&one), texts(&other));
        }

        #[test]
        fn no_lot_is_lost((rows, _) in both_orders()) {
            let found = convert(&rows);
            for symbol in ["rb2410", "sc2410", "m2409", "SR409"] {
                for (byte, direction) in [(b'1', Direction::Net), (b'2', Direction::Long), (b'3', Direction::Short)] {
                    let rows: Vec<_> =
                        rows.iter().filter(|row| row.symbol == symbol && row.direction == byte).collect();
                    let position =
                        found.positions.iter().find(|found| found.symbol == symbol && found.direction == direction);
                    prop_assert_eq!(position.is_some(), !rows.is_empty());
                    let Some(position) = position else { continue };
                    let volume: i32 = rows.iter().map(|row| row.position).sum();
                    prop_assert_eq!(position.volume, f64::from(volume));
                    prop_assert!((0.0..=position.volume).contains(&position.yd_volume));
                    let profit: f64 = rows.iter().filter_map(|row| row.position_profit).sum();
                    prop_assert!((position.pnl - profit).abs() < 1.0);
                    let cost: f64 = rows.iter().filter_map(|row| row.position_cost).sum();
                    let priced: i32 =
                        rows.iter().filter(|row| row.position_cost.is_some()).map(|row| row.position).sum();
                    let size = if symbol == "sc2410" { 1000.0 } else { 10.0 };
                    if priced > 0 {
                        prop_assert!((position.price * f64::from(priced) * size - cost).abs() < 1.0);
                    }
                }
            }
            let known = found.positions.iter().map(|position| (position.symbol.clone(), position.direction));
            let mut known: Vec<_> = known.collect();
            known.dedup();
            prop_assert_eq!(known.len(), found.positions.len());
            let unread = rows.iter().filter(|row| row.symbol == "zz9999" || row.direction == b'0').count();
            prop_assert_eq!(found.unread.len(), unread);
        }
    }
}
