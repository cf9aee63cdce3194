//! Numbers, times and texts as people read them.

use std::collections::HashMap;

use protocol::{Contract, Direction, InstrumentId, Offset, Timestamp};

/// How many decimals an instrument's prices have, from its contract's price step.
#[must_use]
pub fn decimals_of(pricetick: f64) -> Option<usize> {
    if !(pricetick.is_finite() && pricetick > 0.0) {
        return None;
    }
    let text = format!("{pricetick}");
    Some(text.split_once('.').map_or(0, |(_, digits)| digits.len()).min(10))
}

/// Decimals of the instruments whose contracts are known.
#[derive(Debug, Clone, Default)]
pub struct Decimals(HashMap<InstrumentId, usize>);

impl Decimals {
    /// Remembers a contract's price step.
    pub fn learn(&mut self, contract: &Contract) {
        if let Some(decimals) = decimals_of(contract.pricetick) {
            self.0.insert(contract.instrument(), decimals);
        }
    }

    /// Takes over what the other knows.
    pub fn extend(&mut self, other: Decimals) {
        self.0.extend(other.0);
    }

    /// The instrument's decimals; `None` if its contract is not known.
    #[must_use]
    pub fn of(&self, instrument: &InstrumentId) -> Option<usize> {
        self.0.get(instrument).copied()
    }
}

/// A price with its contract's decimals; all of its digits if they are not known or do not suffice.
#[must_use]
pub fn price(value: f64, decimals: Option<usize>) -> String {
    let shortest = format!("{value}");
    match decimals {
        // A price off its step must not be shown as another price.
        Some(decimals) if fraction_digits(&shortest) <= decimals => format!("{value:.decimals$}"),
        _ => shortest,
    }
}

/// An average of prices: two decimals more than a price has.
#[must_use]
pub fn average(value: f64, decimals: Option<usize>) -> String {
    let most = decimals.unwrap_or(2) + 2;
    let shortest = format!("{value}");
    if fraction_digits(&shortest) <= most { price(value, decimals) } else { format!("{value:.most$}") }
}

fn fraction_digits(text: &str) -> usize {
    text.split_once('.').map_or(0, |(_, digits)| digits.len())
}

/// Lots, in as few digits as they take.
#[must_use]
pub fn lots(value: f64) -> String {
    format!("{value}")
}

/// Money with two decimals and separated thousands.
#[must_use]
pub fn money(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let text = format!("{:.2}", value.abs());
    let (whole, cents) = text.split_once('.').unwrap_or((&text, "00"));
    let negative = value < 0.0 && text.bytes().any(|b| b.is_ascii_digit() && b != b'0');
    format!("{}{}.{cents}", if negative { "-" } else { "" }, thousands(whole))
}

/// A count with separated thousands.
#[must_use]
pub fn count(value: u64) -> String {
    thousands(&value.to_string())
}

fn thousands(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Time of day, to the millisecond, as the venue's clock on the wall shows it.
#[must_use]
pub fn time_of_day(instant: Timestamp) -> String {
    instant.format("%H:%M:%S%.3f").to_string()
}

/// Date and time, to the second.
#[must_use]
pub fn date_and_time(instant: Timestamp) -> String {
    instant.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// `BUY` or `SELL`, as traders say it of an order or a trade.
#[must_use]
pub fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Long => "BUY",
        Direction::Short => "SELL",
        Direction::Net => "NET",
    }
}

/// The offset; `-` where the venue has none.
#[must_use]
pub fn offset(offset: Offset) -> &'static str {
    match offset {
        Offset::None => "-",
        other => other.as_str(),
    }
}

/// A text from elsewhere on one line: what would move the cursor, or command a terminal, becomes a blank.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_bidi_control(c) { ' ' } else { c }).collect()
}

/// Characters that turn the writing direction would let one column pass for another.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_take_the_contracts_decimals() {
        assert_eq!(decimals_of(1.0), Some(0));
        assert_eq!(decimals_of(0.2), Some(1));
        assert_eq!(decimals_of(0.005), Some(3));
        assert_eq!(decimals_of(0.0), None);
        assert_eq!(decimals_of(f64::NAN), None);
        assert_eq!(price(3500.0, Some(1)), "3500.0");
        assert_eq!(price(3500.0, None), "3500");
        assert_eq!(price(3500.25, Some(1)), "3500.25", "a price off its step is shown whole");
        assert_eq!(price(-3.5, Some(2)), "-3.50");
    }

    #[test]
    fn averages_are_cut_two_digits_behind_the_price() {
        assert_eq!(average(10_501.0 / 3.0, Some(0)), "3500.33");
        assert_eq!(average(3500.0, Some(1)), "3500.0");
        assert_eq!(average(1.0 / 3.0, None), "0.3333");
    }

    #[test]
    fn money_has_separators_and_cents() {
        assert_eq!(money(1_000_000.0), "1,000,000.00");
        assert_eq!(money(-1234.567), "-1,234.57");
        assert_eq!(money(-0.001), "0.00");
        assert_eq!(money(999.999), "1,000.00");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
    }

    #[test]
    fn a_venues_text_cannot_command_the_terminal() {
        assert_eq!(one_line("bad\u{1b}[2Jnews\nnext\u{202e}"), "bad [2Jnews next ");
        assert_eq!(one_line("螺纹钢"), "螺纹钢");
    }
}
