//! A `gateway-node` with a CTP account at LocalCTP, a counter that lives in the process that loads its library, and
//! clients of it on a real nats-server. Only the market is made: by the fake market data library, which tells LocalCTP of
//! each tick before it tells the node.
//!
//! `cargo xtask test` fetches what is needed. To run these alone:
//!
//! ```text
//! cargo build --workspace --lib --bins
//! export GATEMESH_LOCALCTP=$(cargo xtask fetch-localctp) GATEMESH_NATS_SERVER=$(cargo xtask fetch-nats)
//! cargo test -p integration-tests localctp
//! ```

mod desk;

use std::collections::HashSet;

use protocol::{
    Account, CancelRequest, Direction, ErrorCode, Exchange, InstrumentId, Level, Offset, OptionType, OrderRequest,
    OrderStatus, OrderType, Position, Product,
};

use self::desk::{Desk, delivery};

fn buy(price: f64, volume: f64) -> OrderRequest {
    OrderRequest::limit(desk::rebar(), Direction::Long, Offset::Open, price, volume)
}

fn sell(offset: Offset, price: f64, volume: f64) -> OrderRequest {
    OrderRequest::limit(desk::rebar(), Direction::Short, offset, price, volume)
}

/// Direction, lots, lots that working orders close, average price.
fn held(positions: &[Position]) -> Vec<(Direction, f64, f64, f64)> {
    let mut held: Vec<_> = positions.iter().map(|p| (p.direction, p.volume, p.frozen, p.price)).collect();
    held.sort_by_key(|(direction, ..)| *direction != Direction::Long);
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counters_instruments_become_contracts() {
    let Some(desk) = Desk::open().await else { return };
    let (status, month) = (desk.gateway.get_status().await.expect("a status"), delivery());
    assert!(status.venue.starts_with("CTP LocalCTP V1.0.0"), "{}", status.venue);
    assert!(status.trading_day.is_some());
    let contract = async |symbol: String, exchange| {
        let instrument = InstrumentId::new(symbol, exchange);
        desk.gateway.get_contract(&instrument).await.expect("an answer").expect("a contract")
    };
    let rebar = contract(format!("rb{month}"), Exchange::SHFE).await;
    assert_eq!((rebar.product, rebar.size, rebar.pricetick), (Product::Futures, 10.0, 1.0));
    assert_eq!(rebar.name, format!("螺纹钢{month}"), "its GB18030 is read");
    assert_eq!((rebar.max_volume, rebar.long_margin_ratio), (Some(500.0), Some(0.13)));
    let meal = contract(format!("m{month}"), Exchange::DCE).await;
    assert_eq!((meal.product, meal.max_volume), (Product::Futures, Some(1000.0)));
    let call = contract(format!("rb{month}C3000"), Exchange::SHFE).await;
    assert_eq!(
        (call.product, call.option_type, call.option_strike),
        (Product::Option, Some(OptionType::Call), Some(3000.0))
    );
    assert_eq!(call.option_underlying.as_deref(), Some(rebar.symbol.as_str()));
    assert_eq!(desk.gateway.get_all_contracts().await.expect("a list").len(), 3);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_ticks_and_trades_at_the_counter() {
    let Some(mut desk) = Desk::open().await else { return };
    desk.subscribe().await;
    let tick = desk.market(3000.0, 3001.0).await;
    assert_eq!((tick.data.best_bid(), tick.data.best_ask()), (Some(Level(3000.0, 5.0)), Some(Level(3001.0, 6.0))));
    assert_eq!((tick.seq, tick.data.limit_up, tick.data.limit_down), (1, Some(3300.0), Some(2700.0)));

    // Filled at once, at the market's price.
    let bought = desk.send(&buy(3005.0, 2.0), OrderStatus::AllTraded).await;
    assert_eq!(bought.traded, 2.0);
    let trades = desk.gateway.get_all_trades().await.expect("a list");
    assert_eq!((trades.len(), trades[0].price, trades[0].volume), (1, 3001.0, 2.0));
    assert_eq!(trades[0].orderid, bought.orderid);
    // LocalCTP takes a tenth as margin, and one a lot.
    let account = desk.account().await;
    let Account { balance, available, margin, commission, .. } = account;
    assert_eq!((balance, available), (19_999_998.0, 19_999_998.0 - 6002.0));
    assert_eq!((margin, commission), (Some(6002.0), Some(2.0)));

    // Rests, and is filled when the market comes to it: LocalCTP tells of that trade before it tells of the order.
    let short = sell(Offset::Open, 3010.0, 1.0);
    desk.send(&short, OrderStatus::NotTraded).await;
    desk.market(3010.0, 3011.0).await;
    desk.until(&short.orderid, OrderStatus::AllTraded).await;
    let positions = desk.gateway.query_position().await.expect("positions");
    assert_eq!(held(&positions), [(Direction::Long, 2.0, 0.0, 3001.0), (Direction::Short, 1.0, 0.0, 3010.0)]);
    let long = positions.iter().find(|position| position.direction == Direction::Long).expect("there is one");
    assert_eq!(long.pnl, (3010.0 - 3001.0) * 10.0 * 2.0);

    // Closes, rests, and is taken back.
    let close = sell(Offset::CloseToday, 3020.0, 1.0);
    desk.send(&close, OrderStatus::NotTraded).await;
    let positions = desk.gateway.query_position().await.expect("positions");
    assert_eq!(held(&positions)[0], (Direction::Long, 2.0, 1.0, 3001.0), "a lot is frozen");
    desk.gateway.cancel_order(&CancelRequest::new(close.orderid.clone())).await.expect("taken");
    desk.until(&close.orderid, OrderStatus::Cancelled).await;
    let positions = desk.gateway.query_position().await.expect("positions");
    assert_eq!(held(&positions)[0], (Direction::Long, 2.0, 0.0, 3001.0), "and free again");

    // At once or never.
    let fok = OrderRequest { r#type: OrderType::Fok, ..buy(3009.0, 1.0) };
    assert_eq!(desk.send(&fok, OrderStatus::Cancelled).await.traded, 0.0);
    let fak = OrderRequest { r#type: OrderType::Fak, ..sell(Offset::CloseToday, 3010.0, 2.0) };
    assert_eq!(desk.send(&fak, OrderStatus::AllTraded).await.traded, 2.0);

    // What the counter refuses, in its own words.
    let market = OrderRequest::market(desk::rebar(), Direction::Long, Offset::Open, 1.0);
    let refused = desk.send(&market, OrderStatus::Rejected).await;
    assert!(
        refused.reason.as_deref().is_some_and(|why| why.contains("交易所不支持的价格类型")),
        "{:?}",
        refused.reason
    );
    let too_much = desk.send(&sell(Offset::CloseToday, 3020.0, 10.0), OrderStatus::Rejected).await;
    assert!(too_much.reason.as_deref().is_some_and(|why| why.contains("不足")), "{:?}", too_much.reason);

    let positions = desk.gateway.query_position().await.expect("positions");
    let open: Vec<_> = held(&positions).into_iter().filter(|(_, volume, ..)| *volume != 0.0).collect();
    assert_eq!(open, [(Direction::Short, 1.0, 0.0, 3010.0)]);
    assert_eq!(desk.account().await.commission, Some(5.0), "five lots in three trades");
    assert_eq!(desk.gateway.get_all_trades().await.expect("a list").len(), 3);
    assert_eq!(desk.gateway.get_all_active_orders().await.expect("a list"), []);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_finds_its_orders_again_and_doubles_nothing() {
    let Some(mut desk) = Desk::open().await else { return };
    desk.subscribe().await;
    desk.market(3000.0, 3001.0).await;
    let filled = buy(3001.0, 2.0);
    desk.send(&filled, OrderStatus::AllTraded).await;
    // LocalCTP writes table by table, in the midst of whatever happens: what it writes from here on has all of the fill.
    desk.until_written(1).await;
    let (rests, taken_back) = (buy(2980.0, 1.0), buy(2981.0, 1.0));
    desk.send(&taken_back, OrderStatus::NotTraded).await;
    desk.gateway.cancel_order(&CancelRequest::new(taken_back.orderid.clone())).await.expect("taken");
    desk.until(&taken_back.orderid, OrderStatus::Cancelled).await;
    let resting = desk.send(&rests, OrderStatus::NotTraded).await;
    let (orders, trades) = desk.orders_and_trades().await;
    assert_eq!((orders.len(), trades.len()), (3, 1));
    let positions = held(&desk.gateway.query_position().await.expect("positions"));
    let account = desk.account().await;

    desk.until_written(3).await;
    desk.kill().await;
    desk.start().await;
    assert_eq!(desk.orders_and_trades().await, (orders.clone(), trades.clone()), "as they were, under their own ids");
    assert_eq!(held(&desk.gateway.query_position().await.expect("positions")), positions);
    assert_eq!(desk.account().await, account);
    let again = desk.gateway.send_order(&rests).await.expect("its state");
    assert_eq!(again, resting, "the same id is no second order");

    // The new session's references begin where the old one's began, and are others all the same.
    desk.subscribe().await;
    desk.market(3000.0, 3001.0).await;
    let later: Vec<OrderRequest> = (0..4).map(|number| buy(2990.0 + f64::from(number), 1.0)).collect();
    for order in &later {
        desk.send(order, OrderStatus::NotTraded).await;
    }
    let (all, _) = desk.orders_and_trades().await;
    let references: HashSet<_> = all.iter().map(|order| order.venue_reference.clone().expect("it was sent")).collect();
    assert_eq!((all.len(), references.len()), (7, 7), "{all:?}");
    let session =
        |order: &protocol::Order| order.venue_reference.clone().map(|r| r.split('/').next().map(str::to_owned));
    let sessions: HashSet<_> = all.iter().map(session).collect();
    assert_eq!(sessions.len(), 2, "{sessions:?}");

    // An order of the old session is cancelled from the new one; and only that one.
    desk.gateway.cancel_order(&CancelRequest::new(rests.orderid.clone())).await.expect("taken");
    desk.until(&rests.orderid, OrderStatus::Cancelled).await;
    assert_eq!(desk.gateway.get_all_active_orders().await.expect("a list").len(), 4);

    // Orders of the new one are filled, each once.
    desk.market(2992.0, 2992.0).await;
    for order in &later[2..] {
        desk.until(&order.orderid, OrderStatus::AllTraded).await;
    }
    let (_, trades) = desk.orders_and_trades().await;
    let ids: HashSet<_> = trades.iter().map(|trade| (trade.tradeid.clone(), trade.orderid.clone())).collect();
    assert_eq!((trades.len(), ids.len()), (3, 3), "{trades:?}");
    let positions = desk.gateway.query_position().await.expect("positions");
    assert_eq!(positions.iter().map(|position| position.volume).collect::<Vec<_>>(), [4.0]);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_and_another_leave_the_orders_as_they_are() {
    let Some(mut desk) = Desk::open().await else { return };
    desk.subscribe().await;
    desk.market(3000.0, 3001.0).await;
    desk.send(&buy(3001.0, 1.0), OrderStatus::AllTraded).await;
    let rests = buy(2980.0, 1.0);
    desk.send(&rests, OrderStatus::NotTraded).await;
    let before = desk.orders_and_trades().await;

    desk.gateway.disconnect().await.expect("disconnects");
    let refused = desk.gateway.send_order(&buy(2980.0, 1.0)).await.expect_err("there is no session");
    assert_eq!(refused.code(), Some(ErrorCode::NotReady));
    desk.connect().await;
    assert_eq!(desk.orders_and_trades().await, before);

    // The library's new object is told of the market, and its session's orders are others.
    desk.subscribe().await;
    desk.market(2990.0, 2991.0).await;
    let bought = desk.send(&buy(2991.0, 1.0), OrderStatus::AllTraded).await;
    assert!(before.0.iter().all(|order| order.venue_reference != bought.venue_reference), "{bought:?}");
    desk.gateway.cancel_order(&CancelRequest::new(rests.orderid.clone())).await.expect("taken");
    desk.until(&rests.orderid, OrderStatus::Cancelled).await;
    let positions = desk.gateway.query_position().await.expect("positions");
    assert_eq!(held(&positions), [(Direction::Long, 2.0, 0.0, 2996.0)]);
    desk.stop().await;
}
