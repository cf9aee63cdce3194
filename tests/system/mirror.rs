//! A client's mirror equals the node at every quiet moment, whatever happened in between.

use client_sdk::{Client, GatewayHandle};
use protocol::{
    CancelRequest, Direction, Exchange, InstrumentId, Offset, OmsState, OrderRequest, OrderType, QuoteRequest,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{TestBroker, TestNode, eventually, sim, until_ready};

/// The node's own state, by its lists.
async fn node_state(gateway: &GatewayHandle) -> Option<OmsState> {
    use protocol::OmsEvent;
    let mut state = OmsState::default();
    let mut apply = |event: OmsEvent| {
        state.apply(&event);
    };
    gateway.get_all_orders().await.ok()?.into_iter().for_each(|x| apply(OmsEvent::Order(x)));
    gateway.get_all_trades().await.ok()?.into_iter().for_each(|x| apply(OmsEvent::Trade(x)));
    gateway.get_all_quotes().await.ok()?.into_iter().for_each(|x| apply(OmsEvent::Quote(x)));
    gateway.get_all_positions().await.ok()?.into_iter().for_each(|x| apply(OmsEvent::Position(x)));
    gateway.get_all_accounts().await.ok()?.into_iter().for_each(|x| apply(OmsEvent::Account(x)));
    Some(state)
}

/// Some random trading; what the venue refuses is part of it.
async fn trade(gateway: &GatewayHandle, random: &mut ChaCha8Rng, steps: usize) {
    let instruments = [InstrumentId::new("rb2410", Exchange::SHFE), InstrumentId::new("m2409", Exchange::DCE)];
    let mut ids = Vec::new();
    for _ in 0..steps {
        let instrument = instruments[random.random_range(0..instruments.len())].clone();
        let Ok(Some(tick)) = gateway.get_tick(&instrument).await else { continue };
        let last = tick.data.last_price.unwrap_or(3600.0);
        let price = last + f64::from(random.random_range(-6..=6));
        let direction = if random.random_bool(0.5) { Direction::Long } else { Direction::Short };
        let offset = [Offset::Open, Offset::Open, Offset::CloseToday, Offset::Close][random.random_range(0..4)];
        let volume = f64::from(random.random_range(1..5));
        match random.random_range(0..10) {
            0 if !ids.is_empty() => {
                let id = ids[random.random_range(0..ids.len())];
                let _ = gateway.cancel_order(&CancelRequest::new(protocol::OrderId::new(format!("o{id}")))).await;
            }
            1 => {
                let quote = QuoteRequest {
                    quoteid: protocol::OrderId::generate(),
                    symbol: instrument.symbol,
                    exchange: instrument.exchange,
                    bid_price: price - 2.0,
                    bid_volume: volume,
                    ask_price: price + 2.0,
                    ask_volume: volume,
                    bid_offset: Offset::Open,
                    ask_offset: Offset::Open,
                    reference: "quote".into(),
                };
                let _ = gateway.send_quote(&quote).await;
            }
            2 => {
                let _ = gateway.cancel_all(None).await;
            }
            kind => {
                let types = [OrderType::Limit, OrderType::Limit, OrderType::Market, OrderType::Fak, OrderType::Fok];
                let mut order = OrderRequest::limit(instrument, direction, offset, price, volume);
                order.r#type = types[kind % types.len()];
                let id: u32 = random.random();
                order.orderid = protocol::OrderId::new(format!("o{id}"));
                ids.push(id);
                let _ = gateway.send_order(&order).await;
            }
        }
    }
}

/// Waits for a quiet moment: the market's marks go on for ever, so the venue is logged out first.
async fn assert_equal(gateway: &GatewayHandle, mirror: &client_sdk::OmsMirror) {
    let _ = gateway.disconnect().await;
    let found = eventually("the mirror to equal the node", || async {
        let node = node_state(gateway).await?;
        let held = mirror.state();
        (*held == node).then(|| (node.orders().len(), node.trades().len()))
    })
    .await;
    println!("equal with {} orders and {} trades", found.0, found.1);
    gateway.connect().await.expect("connects");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_equals_the_node_through_trading_restarts_and_outages() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let broker = TestBroker::start().await;
    let plain = broker.client().await;
    let client = Client::connect(broker.url().as_str()).await.expect("connects");
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    until_ready(&plain, "sim1").await;
    let gateway = client.gateway("sim1");
    eventually("ticks", || async { gateway.get_tick(&"rb2410.SHFE".parse().ok()?).await.ok()? }).await;
    let mirror = client.mirror("sim1").await.expect("a mirror");
    trade(&gateway, &mut random, 60).await;
    assert_equal(&gateway, &mirror).await;

    // A mirror that begins in the middle is no different.
    let late = client.mirror("sim1").await.expect("a mirror");
    until_ready(&plain, "sim1").await;
    trade(&gateway, &mut random, 30).await;
    assert_equal(&gateway, &mirror).await;
    assert_equal(&gateway, &late).await;

    node.stop().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    until_ready(&plain, "sim1").await;
    trade(&gateway, &mut random, 30).await;
    assert_equal(&gateway, &mirror).await;

    let broker = broker.restart().await;
    let plain = broker.client().await;
    until_ready(&plain, "sim1").await;
    trade(&gateway, &mut random, 30).await;
    assert_equal(&gateway, &mirror).await;
    assert_equal(&gateway, &late).await;
    let state = mirror.state();
    assert!(state.orders().len() > 40 && !state.trades().is_empty(), "the run was no empty one");
    node.stop().await;
}
