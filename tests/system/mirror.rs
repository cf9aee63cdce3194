//! A client's mirror equals the node at every quiet moment, whatever happened in between.

use std::collections::HashSet;

use client_sdk::{Change, Client, Filter, GatewayHandle};
use protocol::oms::OrderKey;
use protocol::{
    CancelRequest, Direction, Exchange, InstrumentId, Offset, OmsEvent, OmsState, OrderRequest, OrderType, QuoteRequest,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{PATIENCE, TestBroker, TestNode, eventually, sim, until_ready};

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for: {what}"))
}

/// The node's own state, by its lists.
async fn node_state(gateway: &GatewayHandle) -> Option<OmsState> {
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

/// Trading days of 3 s, and an order at every tick through several of them.
#[tokio::test(flavor = "multi_thread")]
async fn no_fill_is_missed_and_what_has_ended_leaves_while_trading_days_roll() {
    let broker = TestBroker::start().await;
    let plain = broker.client().await;
    let client = Client::connect(broker.url().as_str()).await.expect("connects");
    let days = "[[gateways]]\nname = \"sim1\"\nkind = \"sim\"\nsubscribe = [\"*\"]\n\
                [gateways.sim]\n[gateways.sim.feed]\nkind = \"synthetic\"\n\
                interval_ms = 1000\nspeed = 12\ntrading_day_hours = 0.01\n";
    let node = TestNode::start(&broker.url(), days).await;
    until_ready(&plain, "sim1").await;
    let gateway = client.gateway("sim1");
    let instrument = InstrumentId::new("rb2410", Exchange::SHFE);
    let mut ticks = client.ticks(Filter::instrument(&instrument)).await.expect("subscribed");
    let mirror = client.mirror("sim1").await.expect("a mirror");
    let mut changes = mirror.changes();
    let (mut told, mut filled, mut rolls, mut first) = (HashSet::new(), 0, 0, None);
    // The first order to be filled leaves at the second roll behind it.
    let first = loop {
        within("a tick", ticks.next()).await;
        let order = OrderRequest::market(instrument.clone(), Direction::Long, Offset::Open, 1.0);
        let Ok(sent) = gateway.send_order(&order).await else { continue };
        let (mut ended, mut traded) = (!sent.is_active(), 0.0);
        let mut volume = sent.traded;
        while !ended || traded < volume {
            match within("the order's end and its fills", changes.next()).await.expect("the mirror lives") {
                Change::Event(item) => {
                    assert!(told.insert(item.journal_seq), "{} was told twice", item.journal_seq);
                    match &item.event.data {
                        OmsEvent::Order(order) if order.orderid == sent.orderid => {
                            ended |= !order.is_active();
                            volume = f64::max(volume, order.traded);
                        }
                        OmsEvent::Trade(trade) if trade.orderid == sent.orderid => traded += trade.volume,
                        _ => {}
                    }
                }
                Change::NewDay => rolls += 1,
                other => panic!("{other:?}"),
            }
        }
        filled += usize::from(volume > 0.0);
        assert!(filled < 500, "{rolls} rolls, and the first order is still there");
        if volume > 0.0 && first.is_none() {
            first = Some(OrderKey::from(&sent));
        }
        match &first {
            Some(first) if rolls >= 2 && mirror.state().order(first).is_none() => break first.clone(),
            _ => {}
        }
    };
    println!("{filled} orders filled through {rolls} rolls");
    assert!(filled > 10, "the run was no empty one");
    assert_equal(&gateway, &mirror).await;
    assert!(mirror.state().order(&first).is_none() && !mirror.state().orders().is_empty());
    node.stop().await;
}
