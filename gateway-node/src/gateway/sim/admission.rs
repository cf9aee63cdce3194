//! What the simulated exchange lets in: the values of an order or a quote, and the price that its margin is taken at.
//! Risk has checked most of it before; a venue takes nobody's word for it.

use protocol::{Direction, Offset, OrderRequest, OrderType, QuoteRequest};

use super::market::{Market, sign};

pub(super) fn check_order(market: &Market, request: &OrderRequest) -> Result<(), String> {
    check_volume(request.volume)?;
    check_offset(request.offset)?;
    if request.direction == Direction::Net {
        return Err("direction NET is a position's; an order is LONG or SHORT".to_owned());
    }
    match (request.r#type, request.price) {
        (OrderType::Market, _) => Ok(()),
        (OrderType::Limit | OrderType::Fak | OrderType::Fok | OrderType::Stop, Some(price)) => {
            market.check_price("price", price)
        }
        (OrderType::Limit | OrderType::Fak | OrderType::Fok | OrderType::Stop, None) => {
            Err(format!("a {} order needs a price", request.r#type))
        }
        (OrderType::Rfq | OrderType::Etf, _) => Err(format!("the venue takes no {} orders", request.r#type)),
    }
}

pub(super) fn check_quote(market: &Market, request: &QuoteRequest) -> Result<(), String> {
    check_volume(request.bid_volume)?;
    check_volume(request.ask_volume)?;
    check_offset(request.bid_offset)?;
    check_offset(request.ask_offset)?;
    market.check_price("bid_price", request.bid_price)?;
    market.check_price("ask_price", request.ask_price)?;
    if request.bid_price >= request.ask_price {
        return Err(format!("bid_price {} must be below ask_price {}", request.bid_price, request.ask_price));
    }
    Ok(())
}

fn check_volume(volume: f64) -> Result<(), String> {
    if volume.is_finite() && volume > 0.0 { Ok(()) } else { Err(format!("{volume} is no volume")) }
}

fn check_offset(offset: Offset) -> Result<(), String> {
    if offset == Offset::None {
        return Err("offset NONE: the simulated venue keeps long and short apart; use OPEN or one of CLOSE".to_owned());
    }
    Ok(())
}

pub(super) fn quote_sides(request: &QuoteRequest) -> [(Direction, f64, f64); 2] {
    [
        (Direction::Long, request.bid_price, request.bid_volume),
        (Direction::Short, request.ask_price, request.ask_volume),
    ]
}

/// The price whose margin covers whatever the order may open at.
pub(super) fn estimate(market: &Market, request: &OrderRequest) -> f64 {
    let price = match request.r#type {
        OrderType::Market => market.reach(request.direction, None, request.volume).1,
        _ => request.price,
    };
    worst_for_margin(market, request.direction, price)
}

/// Who sells may get more than was asked for, and then needs more margin: the best bid counts if it is higher.
/// Without any price, the last one must do; without even that, nothing can be filled.
pub(super) fn worst_for_margin(market: &Market, direction: Direction, price: Option<f64>) -> f64 {
    let best = market.best_opposite(direction).filter(|_| sign(direction) < 0.0);
    let worst = match (price, best) {
        (Some(price), Some(best)) => Some(price.max(best)),
        (price, best) => price.or(best),
    };
    worst.or(market.last()).unwrap_or(0.0)
}
