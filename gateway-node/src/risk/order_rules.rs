//! Limits of single orders, and of how many there are: size, price, rate, repetition, trading with oneself.

use protocol::{Direction, InstrumentId, Name, OmsState, OrderType, RpcError, Timestamp};

use super::{Counters, Leg, Level, View};

/// Holds an order, or both sides of a quote, against the limits of one level.
///
/// # Errors
/// `RISK_REJECTED` naming the rule that it breaks.
pub(super) fn check(legs: &[Leg], view: &View<'_>, level: &Level<'_>) -> Result<(), RpcError> {
    for leg in legs {
        check_volume(leg, level)?;
        check_value(leg, view, level)?;
        check_band(leg, view, level)?;
        check_self_trade(leg, view, level)?;
    }
    check_active(legs.len(), view, level)?;
    check_rates(legs.len(), view, level)?;
    legs.iter().try_for_each(|leg| check_alike(leg, view, level))
}

fn check_volume(leg: &Leg, level: &Level<'_>) -> Result<(), RpcError> {
    match level.rules.max_order_volume {
        Some(most) if leg.volume > most => {
            Err(level.refuse("max_order_volume", format_args!("{} lots, the most is {most}", leg.volume)))
        }
        _ => Ok(()),
    }
}

fn check_value(leg: &Leg, view: &View<'_>, level: &Level<'_>) -> Result<(), RpcError> {
    let Some(most) = level.rules.max_order_value else { return Ok(()) };
    let price = match (leg.kind, leg.price, view.last_price) {
        (OrderType::Market, _, last) | (_, None, last) => last.ok_or_else(|| {
            level.refuse(
                "max_order_value",
                format_args!("{} has no last price yet, and a MARKET order has no price to reckon with", name(view)),
            )
        })?,
        // Who sells below the market gets the market's price.
        (_, Some(price), Some(last)) if leg.direction == Direction::Short && last > price => last,
        (_, Some(price), _) => price,
    };
    let value = price.abs() * leg.volume * view.contract.size;
    if value <= most {
        return Ok(());
    }
    let (lots, size) = (leg.volume, view.contract.size);
    Err(level.refuse("max_order_value", format_args!("{value} ({price} x {lots} lots x {size}), the most is {most}")))
}

fn check_band(leg: &Leg, view: &View<'_>, level: &Level<'_>) -> Result<(), RpcError> {
    let (Some(band), Some(price)) = (level.rules.price_band, leg.price.filter(|_| leg.kind != OrderType::Market))
    else {
        return Ok(());
    };
    let Some(last) = view.last_price else {
        return Err(
            level.refuse("price_band", format_args!("{} has no last price yet to compare {price} with", name(view)))
        );
    };
    let away = (price - last).abs();
    // A share of 0.02 is no binary fraction: a price that is exactly at the band's edge is inside.
    if away <= band * last.abs() + view.contract.pricetick.abs() * 1e-6 {
        return Ok(());
    }
    let share = if last == 0.0 { f64::INFINITY } else { (away / last.abs() * 1e6).round() / 1e6 };
    Err(level.refuse("price_band", format_args!("{price} is {share} from the last price {last}, the most is {band}")))
}

/// Whether the leg could trade with what works on the other side. What has no price trades at any.
fn check_self_trade(leg: &Leg, view: &View<'_>, level: &Level<'_>) -> Result<(), RpcError> {
    if level.rules.forbid_self_trade != Some(true) || leg.kind == OrderType::Stop {
        return Ok(());
    }
    let instrument = view.contract.instrument();
    let crosses = |other: &Leg| match (limit_of(leg), limit_of(other)) {
        (Some(mine), Some(theirs)) if leg.direction == Direction::Long => mine >= theirs,
        (Some(mine), Some(theirs)) => mine <= theirs,
        _ => true,
    };
    let met = working(view.state, &instrument).find(|(owner, other)| {
        level.counts(owner)
            && other.kind != OrderType::Stop
            && other.direction == leg.direction.opposite()
            && crosses(other)
    });
    let Some((owner, other)) = met else { return Ok(()) };
    let price = other.price.map_or_else(|| "MARKET".to_owned(), |price| price.to_string());
    Err(level.refuse(
        "forbid_self_trade",
        format_args!("{} would trade with the working {} of {owner} at {price}", leg.direction, other.direction),
    ))
}

fn limit_of(leg: &Leg) -> Option<f64> {
    leg.price.filter(|_| leg.kind != OrderType::Market)
}

fn check_active(more: usize, view: &View<'_>, level: &Level<'_>) -> Result<(), RpcError> {
    let Some(most) = level.rules.max_active_orders else { return Ok(()) };
    let orders = view.state.active_orders().filter(|order| level.counts(&order.owner)).count();
    let quotes = view.state.active_quotes().filter(|quote| level.counts(&quote.owner)).count();
    let working = orders + 2 * quotes;
    if working + more <= most as usize {
        return Ok(());
    }
    Err(level.refuse("max_active_orders", format_args!("{working} work already, the most is {most}")))
}

fn check_rates(more: usize, view: &View<'_>, level: &Level<'_>) -> Result<(), RpcError> {
    if let Some(most) = level.rules.max_orders_per_second {
        let sent = view.counters.orders_in_a_second(level.owner, view.now);
        if sent + more > most as usize {
            return Err(level.refuse(
                "max_orders_per_second",
                format_args!("{sent} orders within the last second, the most is {most}"),
            ));
        }
    }
    if let Some(most) = level.rules.max_orders_per_day {
        let sent = view.counters.orders_today(level.owner);
        if sent.saturating_add(more as u64) > u64::from(most) {
            return Err(level.refuse("max_orders_per_day", format_args!("{sent} orders today, the most is {most}")));
        }
    }
    Ok(())
}

fn check_alike(leg: &Leg, view: &View<'_>, level: &Level<'_>) -> Result<(), RpcError> {
    let (Some(most), Some(seconds)) = (level.rules.max_duplicates, level.rules.duplicate_seconds) else {
        return Ok(());
    };
    let instrument = view.contract.instrument();
    match view.counters.alike(view.owner, &instrument, leg, seconds, view.now) {
        Some(alike) if alike < most as usize => Ok(()),
        Some(alike) => Err(level.refuse(
            "max_duplicates",
            format_args!("{alike} orders like this one within the last {seconds} s, the most is {most}"),
        )),
        None => Err(level.refuse(
            "max_duplicates",
            format_args!("more orders within the last {seconds} s than can be compared, the most alike is {most}"),
        )),
    }
}

/// Holds a cancel against the limits of one level.
///
/// # Errors
/// `RISK_REJECTED` naming the rule that it breaks.
pub(super) fn check_cancel(counters: &Counters, level: &Level<'_>, now: Timestamp) -> Result<(), RpcError> {
    if let Some(most) = level.rules.max_cancels_per_second {
        let sent = counters.cancels_in_a_second(level.owner, now);
        if sent >= most as usize {
            return Err(level.refuse(
                "max_cancels_per_second",
                format_args!("{sent} cancels within the last second, the most is {most}"),
            ));
        }
    }
    if let Some(most) = level.rules.max_cancels_per_day {
        let sent = counters.cancels_today(level.owner);
        if sent >= u64::from(most) {
            return Err(level.refuse("max_cancels_per_day", format_args!("{sent} cancels today, the most is {most}")));
        }
    }
    Ok(())
}

/// What works of an instrument, with its owner: orders, and quotes as their two sides. Sides that are filled are none.
pub(super) fn working<'a>(
    state: &'a OmsState,
    instrument: &'a InstrumentId,
) -> impl Iterator<Item = (&'a Name, Leg)> + 'a {
    let orders = state
        .active_orders()
        .filter(|o| o.symbol == instrument.symbol && o.exchange == instrument.exchange)
        .flat_map(|o| Leg::of_working(o).map(|leg| (&o.owner, leg, o.volume - o.traded)));
    let quotes = state
        .active_quotes()
        .filter(|q| q.symbol == instrument.symbol && q.exchange == instrument.exchange)
        .flat_map(|q| {
            let [bid, ask] = Leg::of_working_quote(q);
            [(&q.owner, bid, q.bid_volume - q.bid_traded), (&q.owner, ask, q.ask_volume - q.ask_traded)]
        });
    orders
        .chain(quotes)
        .filter(|(_, _, left)| *left > 0.0)
        .map(|(owner, leg, left)| (owner, Leg { volume: left, ..leg }))
}

fn name(view: &View<'_>) -> InstrumentId {
    view.contract.instrument()
}
