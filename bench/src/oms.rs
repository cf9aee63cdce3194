//! What taking an event into the trading state costs, with a day's orders in it.

use std::hint::black_box;

use protocol::{Direction, Exchange, InstrumentId, Offset, OmsEvent, OmsState, OrderId, OrderRequest, OrderStatus};

use crate::measure::Case;

/// Orders of a busy day.
const ORDERS: u32 = 20_000;

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![apply()]
}

/// An order's report of a fill, and the next one's; each changes the state.
fn apply() -> Case {
    let mut state = OmsState::default();
    let mut reports: Vec<OmsEvent> = (0..ORDERS).map(|number| OmsEvent::Order(order(number))).collect();
    for report in &reports {
        state.apply(report);
    }
    let mut next = 0;
    Case::new("apply an order's fill to 20,000 orders", move || {
        let OmsEvent::Order(order) = &mut reports[next] else { unreachable!("only orders here") };
        order.traded += 1.0;
        black_box(state.apply(black_box(&reports[next])));
        // Far apart, as orders' ids are.
        next = (next + 7_919) % reports.len();
    })
}

fn order(number: u32) -> protocol::Order {
    let id = InstrumentId::new(format!("rb{}", 2401 + number % 12), Exchange::SHFE);
    let mut request = OrderRequest::limit(id, Direction::Long, Offset::Open, 3_500.0, 1e15);
    request.orderid = OrderId::new(format!("0192f0c1-7d5e-7cc3-98a4-{number:012x}"));
    let mut order = request.to_order(&"ctp1".into(), &"default".into());
    order.status = OrderStatus::PartTraded;
    order.venue_reference = Some(format!("1-1804-17/{number}").into());
    order
}
