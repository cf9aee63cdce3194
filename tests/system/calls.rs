//! Methods: every one is served, discoverable, counted, and can be added to.

use protocol::rpc::Method;
use protocol::{Direction, ErrorCode, Offset, OrderRequest, RpcError};
use serde_json::json;

use crate::support::{TestBroker, TestNode, call, eventually, sim, until_ready};

#[tokio::test(flavor = "multi_thread")]
async fn every_method_of_the_design_is_served() {
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    let client = broker.client().await;
    until_ready(&client, "sim1").await;
    for method in Method::ALL {
        let answer = call(&client, "sim1", method.as_str(), "{}").await;
        if let Err(error) = answer {
            let expected = [ErrorCode::BadRequest, ErrorCode::DeadlineRequired];
            assert!(expected.contains(&error.code), "{}: {error}", method.as_str());
        }
        if *method == Method::Disconnect {
            call(&client, "sim1", "connect", "{}").await.expect("connects again");
            until_ready(&client, "sim1").await;
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_are_discovered_and_their_calls_counted() {
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    let client = broker.client().await;
    until_ready(&client, "sim1").await;
    call(&client, "sim1", "get_account", "{}").await.expect_err("a field is missing");
    call(&client, "sim1", "get_account", r#"{"accountid":"none"}"#).await.expect("null");
    let info = call_service(&client, "$SRV.INFO.sim1").await;
    let names: Vec<&str> =
        info["endpoints"].as_array().expect("endpoints").iter().filter_map(|e| e["name"].as_str()).collect();
    for method in Method::ALL {
        assert!(names.contains(&method.as_str()), "{} is not listed", method.as_str());
    }
    let stats = call_service(&client, "$SRV.STATS.sim1").await;
    let endpoint = stats["endpoints"].as_array().expect("endpoints").iter().find(|e| e["name"] == "get_account");
    let endpoint = endpoint.expect("get_account");
    assert_eq!((endpoint["num_requests"].as_u64(), endpoint["num_errors"].as_u64()), (Some(2), Some(1)), "{endpoint}");
    node.stop().await;
}

async fn call_service(client: &async_nats::Client, subject: &'static str) -> serde_json::Value {
    let reply = client.request(subject, "".into()).await.expect("answered");
    serde_json::from_slice(&reply.payload).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_not_there_answers_at_once() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let asked = client.request("rpc.nobody.get_status", "".into());
    let error = asked.await.expect_err("nobody is there");
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_can_be_added_to_a_node() {
    let broker = TestBroker::start().await;
    let node = TestNode::start_with(&broker.url(), &sim("sim1"), |node| {
        node.register("add", |context, params| async move {
            let (Some(a), Some(b)) = (params["a"].as_f64(), params["b"].as_f64()) else {
                return Err(RpcError::new(ErrorCode::BadRequest, "a and b must be numbers"));
            };
            Ok(json!({ "sum": a + b, "gateway": context.gateway }))
        })
        .expect("registered");
        node.register("explode", |_, _| async { panic!("a handler's own bug") }).expect("registered");
        node.register("add", |_, _| async { Ok(json!({})) }).expect_err("a name is given once");
        node.register("send_order", |_, _| async { Ok(json!({})) }).expect_err("ours stay ours");
    })
    .await;
    let client = broker.client().await;
    until_ready(&client, "sim1").await;
    assert_eq!(call(&client, "sim1", "add", r#"{"a":1,"b":2}"#).await, Ok(json!({"sum": 3.0, "gateway": "sim1"})));
    assert_eq!(call(&client, "sim1", "add", "{}").await.expect_err("refused").code, ErrorCode::BadRequest);
    assert_eq!(call(&client, "sim1", "explode", "{}").await.expect_err("caught").code, ErrorCode::Internal);
    assert_eq!(call(&client, "sim1", "add", r#"{"a":1,"b":1}"#).await.expect("lives on")["sum"], json!(2.0));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_calls_is_answered_to_the_last_one() {
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    let client = broker.client().await;
    until_ready(&client, "sim1").await;
    let calls = (0..5_000).map(|n| {
        let client = client.clone();
        async move {
            let method = if n % 2 == 0 { "get_status" } else { "get_all_orders" };
            match call(&client, "sim1", method, "{}").await {
                Ok(_) => true,
                Err(error) if error.code == ErrorCode::Overloaded => false,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let answers = futures::future::join_all(calls).await;
    assert_eq!(answers.len(), 5_000, "every call is answered, if only with OVERLOADED");
    assert!(answers.iter().filter(|served| **served).count() > 500);
    call(&client, "sim1", "get_status", "{}").await.expect("and then served as ever");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_comes_in_bars_and_pages() {
    let broker = TestBroker::start().await;
    let gateways = sim("sim1").replace("speed = 1", "speed = 100");
    let node = TestNode::start(&broker.url(), &gateways).await;
    let client = broker.client().await;
    until_ready(&client, "sim1").await;
    let request = |cursor: &serde_json::Value, limit: usize| {
        json!({
            "symbol": "rb2410", "exchange": "SHFE", "interval": "MINUTE",
            "start": "2000-01-01T00:00:00+08:00", "cursor": cursor, "limit": limit,
        })
        .to_string()
    };
    eventually("four bars", || async {
        let page = call(&client, "sim1", "query_history", &request(&json!(null), 100)).await.ok()?;
        (page["items"].as_array()?.len() >= 4).then_some(())
    })
    .await;
    let first = call(&client, "sim1", "query_history", &request(&json!(null), 2)).await.expect("a page");
    let second = call(&client, "sim1", "query_history", &request(&first["next"], 1)).await.expect("a page");
    let both = call(&client, "sim1", "query_history", &request(&json!(null), 3)).await.expect("a page");
    let times = |page: &serde_json::Value| {
        page["items"].as_array().expect("items").iter().map(|b| b["datetime"].clone()).collect::<Vec<_>>()
    };
    assert_eq!([times(&first), times(&second)].concat(), times(&both));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_fill_and_cancel_and_the_books_follow() {
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    let client = broker.client().await;
    until_ready(&client, "sim1").await;
    let instrument = crate::support::script::instrument();
    let tick = eventually("a tick", || async {
        let tick = call(&client, "sim1", "get_tick", r#"{"symbol":"rb2410","exchange":"SHFE"}"#).await.ok()?;
        (!tick.is_null()).then_some(tick)
    })
    .await;
    let down = tick["data"]["limit_down"].as_f64().expect("a limit");
    let buy = OrderRequest::market(instrument.clone(), Direction::Long, Offset::Open, 1.0);
    crate::support::send_order(&client, "sim1", &buy).await.expect("taken");
    let rest = OrderRequest::limit(instrument, Direction::Long, Offset::Open, down, 1.0);
    crate::support::send_order(&client, "sim1", &rest).await.expect("taken");
    eventually("a fill, a position and a resting order", || async {
        let trades: Vec<protocol::Trade> = crate::support::list(&client, "sim1", "get_all_trades").await;
        let positions: Vec<protocol::Position> = crate::support::list(&client, "sim1", "get_all_positions").await;
        let active: Vec<protocol::Order> = crate::support::list(&client, "sim1", "get_all_active_orders").await;
        let filled = trades.iter().any(|t| t.orderid == buy.orderid);
        let held = positions.iter().any(|p| p.volume == 1.0 && p.direction == Direction::Long);
        let resting = active.iter().any(|o| o.orderid == rest.orderid && o.status == protocol::OrderStatus::NotTraded);
        (filled && held && resting).then_some(())
    })
    .await;
    let cancel = json!({ "orderid": rest.orderid }).to_string();
    let answer =
        crate::support::call_with(&client, "sim1", "cancel_order", cancel.as_bytes(), crate::support::in_ms(5_000))
            .await
            .expect("on its way");
    assert_eq!(answer, json!({}), "on its way; the order's events tell how it went");
    eventually("the cancel", || async {
        let order = call(&client, "sim1", "get_order", &cancel).await.ok()?;
        (order["status"] == "CANCELLED").then_some(())
    })
    .await;
    node.stop().await;
}
