//! Journalled streams and mirrors: nothing is skipped, whatever is lost on the way.

use std::sync::Arc;

use client_sdk::protocol::{Account, ErrorCode, OmsEvent, OmsState};
use client_sdk::{Change, Changes, Client, Filter, OmsMirror, OrderStream, Update};
use tokio::sync::Notify;

use crate::support::{Answer, Gateway, Server, eventually, order, order_of, request, soon, trade_of};

async fn traded(stream: &mut OrderStream) -> f64 {
    match soon("an order", stream.next()).await {
        Some(Update::Event(event)) => event.data.traded,
        other => panic!("{other:?} instead of an order"),
    }
}

fn account(balance: f64) -> OmsEvent {
    OmsEvent::Account(Account {
        gateway_name: "sim1".into(),
        accountid: "a1".into(),
        balance,
        frozen: 0.0,
        available: balance,
        margin: None,
        commission: None,
        close_profit: None,
        position_profit: None,
        currency: None,
        extra: None,
    })
}

/// The node's state, read under the lock.
fn state_of(gateway: &Gateway) -> OmsState {
    gateway.with(|script| script.state.clone())
}

async fn equal(gateway: &Gateway, mirror: &OmsMirror) {
    let end = gateway.with(|script| script.end);
    soon("the mirror to catch up", mirror.caught_up_to(end)).await;
    assert_eq!(*mirror.state(), state_of(gateway));
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_events_come_before_those_that_follow_them() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.append(order("old", 0.0), false).await;
    let client = Client::connect(server.url()).await.expect("connects");
    let mut orders = client.orders(Filter::all().gateway("sim1")).await.expect("subscribed");
    for (traded, lost) in [(0.0, false), (0.25, true), (0.5, true), (0.75, true), (1.0, false)] {
        gateway.append(order("o1", traded), lost).await;
    }
    for expected in [0.0, 0.25, 0.5, 0.75, 1.0] {
        assert_eq!(traded(&mut orders).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_at_the_end_is_found_by_the_heads() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    let client = Client::connect(server.url()).await.expect("connects");
    let mut orders = client.orders(Filter::all().gateway("sim1")).await.expect("subscribed");
    gateway.append(order("o1", 0.0), false).await;
    assert_eq!(traded(&mut orders).await, 0.0);
    gateway.append(order("o1", 2.0), true).await;
    let beats = async {
        loop {
            gateway.head("default").await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        traded = traded(&mut orders) => assert_eq!(traded, 2.0),
        () = beats => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_appears_later_is_followed() {
    let Some(server) = Server::start().await else { return };
    let client = Client::connect(server.url()).await.expect("connects");
    let mut orders = client.orders(Filter::all()).await.expect("subscribed");
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.beat().await;
    eventually("it to be asked where it stands", async || !gateway.calls_of("get_status").is_empty()).await;
    let mut amount = 0.0;
    let appending = async {
        loop {
            amount += 0.0625;
            gateway.append(order("o1", amount), false).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        traded = traded(&mut orders) => assert!(traded > 0.0),
        () = appending => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_equals_the_node_through_losses_and_a_change_of_leader() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.append(order("before", 1.0), false).await;
    gateway.append(account(100.0), false).await;
    let client = Client::connect(server.url()).await.expect("connects");
    let mirror = client.mirror("sim1").await.expect("a mirror");
    equal(&gateway, &mirror).await;
    let mut changes = mirror.changes();
    for n in 0..20_u32 {
        let request = request(&format!("o{n}"));
        let order = order_of(&request, f64::from(n % 3));
        gateway.append(OmsEvent::Order(order.clone()), n % 4 == 1).await;
        gateway.append(trade_of(&order, &n.to_string(), 1.0), n % 5 == 1).await;
        gateway.append(account(100.0 + f64::from(n)), n % 3 == 1).await;
        if n == 10 {
            gateway.with(|script| script.epoch = 2);
            gateway.beat().await;
        }
    }
    equal(&gateway, &mirror).await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 60 {
        match soon("a change", changes.next()).await {
            Some(Change::Event(item)) => assert!(seen.insert(item.journal_seq), "told twice"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_kept_is_replaced_by_a_snapshot() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    let client = Client::connect(server.url()).await.expect("connects");
    let mirror = client.mirror("sim1").await.expect("a mirror");
    let mut changes = mirror.changes();
    let mut orders = client.orders(Filter::all().gateway("sim1")).await.expect("subscribed");
    for n in 0..4 {
        gateway.append(order(&format!("o{n}"), 0.0), true).await;
    }
    gateway.with(|script| {
        script.purged = 3;
        script.journal.retain(|seq, _| *seq > 3);
    });
    gateway.append(order("o5", 0.0), false).await;
    equal(&gateway, &mirror).await;
    assert!(matches!(soon("the change", changes.next()).await, Some(Change::Replaced)));
    match soon("the loss", orders.next()).await {
        Some(Update::Missed(missed)) => assert_eq!((missed.gateway.as_str(), missed.count), ("sim1", None)),
        other => panic!("{other:?}"),
    }
}

/// What a mirror tells next: a trade by its id, or the new day.
async fn told(changes: &mut Changes) -> String {
    match soon("a change", changes.next()).await {
        Some(Change::Event(item)) => match &item.event.data {
            OmsEvent::Trade(trade) => trade.tradeid.to_string(),
            other => panic!("{other:?} instead of a trade"),
        },
        Some(Change::NewDay) => "new day".to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_trading_day_costs_no_event() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.append(order("ended", 2.0), false).await;
    let works = order_of(&request("works"), 1.0);
    gateway.append(OmsEvent::Order(works.clone()), false).await;
    let client = Client::connect(server.url()).await.expect("connects");
    let mirror = client.mirror("sim1").await.expect("a mirror");
    let mut changes = mirror.changes();
    let mut trades = client.trades(Filter::all().gateway("sim1")).await.expect("subscribed");
    // Lost, and then inside of what the snapshot says.
    gateway.append(trade_of(&works, "in front of the roll", 1.0), true).await;
    gateway.roll(&["ended"]);
    let (first, last) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    gateway.answer("get_all_orders", Answer::After(Arc::clone(&first)));
    gateway.answer("get_all_accounts", Answer::After(Arc::clone(&last)));
    gateway.beat().await;
    eventually("the first list to be asked for", async || gateway.calls_of("get_all_orders").len() == 2).await;
    gateway.append(trade_of(&works, "in front of the lists", 1.0), false).await;
    assert_eq!(told(&mut changes).await, "in front of the roll");
    assert_eq!(told(&mut changes).await, "in front of the lists", "nothing waits for a snapshot");
    first.notify_one();
    eventually("the last list to be asked for", async || gateway.calls_of("get_all_accounts").len() == 2).await;
    // Behind the list of trades, and under another leader.
    gateway.with(|script| script.epoch = 2);
    gateway.append(trade_of(&works, "behind the lists", 1.0), true).await;
    gateway.beat().await;
    assert_eq!(told(&mut changes).await, "behind the lists");
    assert_eq!(mirror.state().orders().len(), 2, "the snapshot is not here yet");
    last.notify_one();
    assert_eq!(told(&mut changes).await, "new day");
    assert_eq!(*mirror.state(), state_of(&gateway));
    assert_eq!(mirror.state().orders().len(), 1);
    gateway.append(trade_of(&works, "afterwards", 1.0), false).await;
    assert_eq!(told(&mut changes).await, "afterwards");
    equal(&gateway, &mirror).await;
    for expected in ["in front of the roll", "in front of the lists", "behind the lists", "afterwards"] {
        match soon("a trade", trades.next()).await {
            Some(Update::Event(event)) => assert_eq!(event.data.tradeid.as_str(), expected),
            other => panic!("{other:?} instead of a trade"),
        }
    }
    // The same day's heartbeats ask for nothing more.
    gateway.beat().await;
    equal(&gateway, &mirror).await;
    assert_eq!(gateway.calls_of("get_all_orders").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_the_new_day_that_fails_is_asked_for_again() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.append(order("ended", 2.0), false).await;
    let client = Client::connect(server.url()).await.expect("connects");
    let mirror = client.mirror("sim1").await.expect("a mirror");
    gateway.answer("get_all_quotes", Answer::Error(ErrorCode::NotReady, "another leads"));
    gateway.roll(&["ended"]);
    gateway.beat().await;
    eventually("an attempt", async || gateway.calls_of("get_all_quotes").len() == 2).await;
    assert_eq!(mirror.state().orders().len(), 1);
    gateway.with(|script| script.answers.clear());
    eventually("the new day", async || {
        gateway.beat().await;
        *mirror.state() == state_of(&gateway)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_recovers_by_itself_from_an_outage() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    let client = Client::connect(server.url()).await.expect("connects");
    let mirror = client.mirror("sim1").await.expect("a mirror");
    gateway.append(order("o1", 0.0), false).await;
    equal(&gateway, &mirror).await;
    let port = server.kill();
    eventually("the outage to be noticed", async || !client.is_connected()).await;
    for n in 2..6 {
        gateway.append_unheard(order(&format!("o{n}"), 1.0));
    }
    let _server = Server::start_at(port).await.expect("it was there before");
    soon("the mirror to recover", mirror.wait_for(|state| state.orders().len() == 5)).await;
    equal(&gateway, &mirror).await;
}

/// Another cluster behind the address: its journal is already longer than the old one was.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_made_anew_with_lower_epochs_is_gone_over_to() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.with(|script| script.epoch = 7);
    let client = Client::connect(server.url()).await.expect("connects");
    gateway.append(order("old", 0.0), false).await;
    let mirror = client.mirror("sim1").await.expect("a mirror");
    let mut changes = mirror.changes();
    let mut ticks = client.ticks(Filter::all()).await.expect("subscribed");
    let mut statuses = client.statuses(None).await.expect("subscribed");
    let accepted = serde_json::to_string(&order_of(&request("o1"), 0.0)).expect("encodes");
    gateway.answer("send_order", Answer::Json(accepted));
    let handle = client.gateway("sim1");
    gateway.beat().await;
    assert!(matches!(soon("the heartbeat", statuses.next()).await, Some(Update::Event(event)) if event.epoch == 7));
    gateway.tick(7, 100, 3500.0).await;
    assert!(matches!(soon("the tick", ticks.next()).await, Some(Update::Event(_))));

    gateway.make_anew();
    for n in 0..5 {
        gateway.append(order(&format!("new{n}"), 0.0), true).await;
    }
    eventually("an order to be taken", async || {
        gateway.beat().await;
        handle.send_order(&request("o1")).await.is_ok()
    })
    .await;
    eventually("the mirror to begin anew", async || {
        gateway.beat().await;
        *mirror.state() == state_of(&gateway)
    })
    .await;
    assert!(matches!(soon("the change", changes.next()).await, Some(Change::Replaced)));
    gateway.append(order("live", 0.0), false).await;
    equal(&gateway, &mirror).await;
    assert!(matches!(soon("the order", changes.next()).await, Some(Change::Event(_))), "no refill is needed any more");
    gateway.tick(1, 1, 3501.0).await;
    match soon("the tick", ticks.next()).await {
        Some(Update::Event(event)) => assert_eq!((event.epoch, event.data.last_price), (1, Some(3501.0))),
        other => panic!("{other:?} instead of a tick"),
    }
    match soon("a heartbeat", statuses.next()).await {
        Some(Update::Event(event)) => assert_eq!(event.epoch, 1),
        other => panic!("{other:?} instead of a heartbeat"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_nobody_is_an_error() {
    let Some(server) = Server::start().await else { return };
    let client = Client::connect(server.url()).await.expect("connects");
    let error = soon("the error", client.mirror("nobody")).await.expect_err("nobody is there");
    assert!(matches!(error, client_sdk::Error::GatewayNotRunning { .. }), "{error}");
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("get_all_quotes", Answer::Json("[]".to_owned()));
    let error = soon("the error", client.mirror("sim1")).await.expect_err("no page");
    assert!(matches!(error, client_sdk::Error::Reply { .. }), "{error}");
}
