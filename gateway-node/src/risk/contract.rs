//! The contract's own rules: what an order's values must be before any limit is looked at.

use protocol::{Contract, Direction, ErrorCode, Offset, OrderRequest, OrderType, QuoteRequest, RpcError};

fn invalid(message: String) -> RpcError {
    RpcError::new(ErrorCode::InvalidOrder, message)
}

/// Checks an order against its contract.
///
/// # Errors
/// `INVALID_ORDER` naming the field, the value and what is allowed.
pub(super) fn check_order(request: &OrderRequest, contract: &Contract) -> Result<(), RpcError> {
    check_volume("volume", request.volume, contract)?;
    match (request.r#type, request.price) {
        (OrderType::Market, _) => {}
        (OrderType::Limit | OrderType::Fak | OrderType::Fok | OrderType::Stop, Some(price)) => {
            check_price("price", price, contract)?;
        }
        (OrderType::Limit | OrderType::Fak | OrderType::Fok | OrderType::Stop, None) => {
            return Err(invalid(format!("price: a {} order needs one", request.r#type)));
        }
        (OrderType::Rfq | OrderType::Etf, _) => {
            return Err(RpcError::new(
                ErrorCode::NotSupported,
                format!("type: {} orders are not served", request.r#type),
            ));
        }
    }
    if request.r#type == OrderType::Stop && !contract.stop_supported {
        return Err(RpcError::new(
            ErrorCode::NotSupported,
            format!("type: the venue takes no STOP orders for {}", contract.instrument()),
        ));
    }
    if request.direction == Direction::Net {
        return Err(invalid("direction: NET is a position's; an order is LONG or SHORT".to_owned()));
    }
    check_offset("offset", request.offset, contract)
}

/// Checks a two-sided quote against its contract.
///
/// # Errors
/// As [`check_order`].
pub(super) fn check_quote(request: &QuoteRequest, contract: &Contract) -> Result<(), RpcError> {
    check_volume("bid_volume", request.bid_volume, contract)?;
    check_volume("ask_volume", request.ask_volume, contract)?;
    check_price("bid_price", request.bid_price, contract)?;
    check_price("ask_price", request.ask_price, contract)?;
    if request.bid_price >= request.ask_price {
        return Err(invalid(format!("bid_price: {} must be below ask_price {}", request.bid_price, request.ask_price)));
    }
    check_offset("bid_offset", request.bid_offset, contract)?;
    check_offset("ask_offset", request.ask_offset, contract)
}

/// Where the venue nets, any offset is taken and says nothing: strategies that are written for venues of both kinds name
/// one with every order.
fn check_offset(field: &str, offset: Offset, contract: &Contract) -> Result<(), RpcError> {
    if offset == Offset::None && !contract.net_position {
        return Err(invalid(format!(
            "{field}: {} needs OPEN, CLOSE, CLOSETODAY or CLOSEYESTERDAY",
            contract.instrument()
        )));
    }
    Ok(())
}

fn check_volume(field: &str, volume: f64, contract: &Contract) -> Result<(), RpcError> {
    if !volume.is_finite() || volume <= 0.0 {
        return Err(invalid(format!("{field}: {volume} must be a positive number of lots")));
    }
    if volume < contract.min_volume || !is_multiple(volume, contract.min_volume) {
        return Err(invalid(format!("{field}: {volume} must be a multiple of {}", contract.min_volume)));
    }
    if let Some(max) = contract.max_volume.filter(|max| volume > *max) {
        return Err(invalid(format!("{field}: {volume} is above {max}, the most that the venue takes in one order")));
    }
    Ok(())
}

fn check_price(field: &str, price: f64, contract: &Contract) -> Result<(), RpcError> {
    if !price.is_finite() {
        return Err(invalid(format!("{field}: {price} is no price")));
    }
    if !is_multiple(price, contract.pricetick) {
        let nearest = (price / contract.pricetick).round() * contract.pricetick;
        return Err(invalid(format!(
            "{field}: {price} is off the price tick {} of {}; the nearest price is {}",
            contract.pricetick,
            contract.instrument(),
            round_decimals(nearest)
        )));
    }
    Ok(())
}

/// Whether `value` is a whole number of steps, within what binary fractions can tell: 5806.4 is 29,032 steps of 0.2
/// although no binary fraction is exactly either. A sum of a few hundred such steps is off by 1e-10 of a step at most.
fn is_multiple(value: f64, step: f64) -> bool {
    if step <= 0.0 {
        return true;
    }
    let steps = value / step;
    (steps - steps.round()).abs() <= 1e-9_f64.max(steps.abs() * 1e-14)
}

fn round_decimals(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Exchange, InstrumentId, Product};

    fn contract() -> Contract {
        let mut contract =
            Contract::new("sim1", InstrumentId::new("IF2101", Exchange::CFFEX), Product::Futures, 300.0, 0.2);
        contract.max_volume = Some(20.0);
        contract
    }

    fn order(price: f64, volume: f64) -> OrderRequest {
        OrderRequest::limit(contract().instrument(), Direction::Long, Offset::Open, price, volume)
    }

    fn message(request: OrderRequest) -> String {
        check_order(&request, &contract()).expect_err("refused").message
    }

    #[test]
    fn prices_on_the_tick_pass_whatever_their_binary_noise() {
        let summed = (0..1000).fold(5226.6, |price, _| price + 0.2);
        for price in [5806.4, 5806.400000000001, 0.2, 5226.6, -0.2, summed] {
            assert!(check_order(&order(price, 1.0), &contract()).is_ok(), "{price}");
        }
    }

    #[test]
    fn what_is_no_whole_number_of_steps_is_refused_however_close() {
        for volume in [1.0000005, 0.9999995, 1.00000001, 2.5] {
            assert!(check_order(&order(5806.4, volume), &contract()).is_err(), "{volume}");
        }
        for price in [5806.4001, 5806.40001, 5806.400001] {
            assert!(check_order(&order(price, 1.0), &contract()).is_err(), "{price}");
        }
    }

    #[test]
    fn what_breaks_the_contract_is_refused_by_field() {
        assert_eq!(
            message(order(5806.45, 1.0)),
            "price: 5806.45 is off the price tick 0.2 of IF2101.CFFEX; the nearest price is 5806.4"
        );
        assert!(message(order(5806.4, -1.0)).starts_with("volume: -1"));
        assert!(message(order(5806.4, f64::NAN)).starts_with("volume: NaN"));
        assert!(message(order(5806.4, 1.5)).contains("multiple of 1"));
        assert!(message(order(5806.4, 21.0)).contains("above 20"));
        assert!(message(order(f64::INFINITY, 1.0)).contains("no price"));
        assert!(message(OrderRequest { price: None, ..order(1.0, 1.0) }).contains("needs one"));
        assert!(message(OrderRequest { offset: Offset::None, ..order(1.0, 1.0) }).starts_with("offset"));
        assert!(message(OrderRequest { direction: Direction::Net, ..order(1.0, 1.0) }).starts_with("direction"));
        assert!(message(OrderRequest { r#type: OrderType::Stop, ..order(1.0, 1.0) }).contains("STOP"));
        assert!(message(OrderRequest { r#type: OrderType::Rfq, ..order(1.0, 1.0) }).contains("RFQ"));
    }
}
