//! Bad input gets its own clear error; nothing dies and nothing is lost.

use async_nats::HeaderMap;
use protocol::rpc::{HEADER_DEADLINE, HEADER_DEADLINE_EPOCH};
use protocol::{Direction, ErrorCode, Offset, OrderId, OrderRequest};
use serde_json::json;

use crate::support::script::instrument;
use crate::support::{TestBroker, TestNode, call, call_with, in_ms, send_order, sim, until_ready};

fn order() -> serde_json::Value {
    json!({
        "orderid": OrderId::generate(), "symbol": "rb2410", "exchange": "SHFE", "direction": "LONG",
        "type": "LIMIT", "volume": 1, "price": 3500, "offset": "OPEN",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_bad_input_has_its_own_error() {
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    let client = broker.client().await;
    until_ready(&client, "sim1").await;

    let with = |field: &str, value: serde_json::Value| {
        let mut order = order();
        order[field] = value;
        order.to_string().into_bytes()
    };
    let without = |field: &str| {
        let mut order = order();
        order.as_object_mut().expect("an object").remove(field);
        order.to_string().into_bytes()
    };
    let nan = order().to_string().replace("\"volume\":1", "\"volume\":NaN").into_bytes();
    let huge = order().to_string().replace("\"volume\":1", "\"volume\":1e999").into_bytes();
    let oversize = format!("{}{}", order(), " ".repeat(100_000)).into_bytes();
    let cases: Vec<(&str, Vec<u8>, ErrorCode, &str)> = vec![
        ("malformed", b"{\"orderid\":".to_vec(), ErrorCode::BadRequest, "malformed JSON"),
        ("not text", vec![0xff, 0xfe, 0x00], ErrorCode::BadRequest, "malformed JSON"),
        ("an array", b"[1,2]".to_vec(), ErrorCode::BadRequest, "named"),
        ("wrong type", with("volume", json!("ten")), ErrorCode::BadRequest, "volume"),
        ("missing field", without("direction"), ErrorCode::BadRequest, "direction"),
        ("no id", without("orderid"), ErrorCode::BadRequest, "orderid"),
        ("reserved id", with("orderid", json!("x-1")), ErrorCode::BadRequest, "orderid"),
        ("bad id", with("orderid", json!("a b")), ErrorCode::BadRequest, "orderid"),
        ("unknown member", with("direction", json!("UP")), ErrorCode::BadRequest, "LONG, SHORT, NET"),
        ("negative volume", with("volume", json!(-1)), ErrorCode::InvalidOrder, "volume"),
        ("zero volume", with("volume", json!(0)), ErrorCode::InvalidOrder, "volume"),
        ("NaN volume", nan, ErrorCode::BadRequest, "malformed JSON"),
        ("infinite volume", huge, ErrorCode::BadRequest, ""),
        ("off the tick", with("price", json!(3500.5)), ErrorCode::InvalidOrder, "price"),
        ("no price", without("price"), ErrorCode::InvalidOrder, "price"),
        ("unknown symbol", with("symbol", json!("zz9999")), ErrorCode::UnknownContract, "zz9999"),
        ("misspelt symbol", with("symbol", json!("RB2410")), ErrorCode::UnknownContract, "did you mean rb2410.SHFE?"),
        ("oversize", oversize, ErrorCode::BadRequest, "bytes"),
        ("long note", with("reference", json!("x".repeat(1000))), ErrorCode::BadRequest, "reference"),
    ];
    for (name, payload, code, text) in cases {
        let error = call_with(&client, "sim1", "send_order", &payload, in_ms(10_000)).await.expect_err(name);
        assert_eq!(error.code, code, "{name}: {error}");
        assert!(error.message.contains(text), "{name}: {error}");
    }

    let bytes = order().to_string().into_bytes();
    let none = call_with(&client, "sim1", "send_order", &bytes, HeaderMap::new()).await.expect_err("no deadline");
    assert_eq!(none.code, ErrorCode::DeadlineRequired);
    let late = call_with(&client, "sim1", "send_order", &bytes, in_ms(-1_000)).await.expect_err("past");
    assert_eq!(late.code, ErrorCode::DeadlineExceeded);
    let mut headers = HeaderMap::new();
    headers.insert(HEADER_DEADLINE, "tomorrow");
    let odd = call_with(&client, "sim1", "send_order", &bytes, headers).await.expect_err("no number");
    assert_eq!((odd.code, odd.message.contains("tomorrow")), (ErrorCode::BadRequest, true));

    let status = call(&client, "sim1", "get_status", "{}").await.expect("a status");
    let epoch = status["epoch"].as_u64().expect("a number");
    let in_epoch = |epoch: u64| {
        let mut headers = in_ms(10_000);
        headers.insert(HEADER_DEADLINE_EPOCH, epoch.to_string().as_str());
        headers
    };
    let earlier = call_with(&client, "sim1", "send_order", &bytes, in_epoch(epoch - 1)).await.expect_err("replaced");
    assert_eq!(earlier.code, ErrorCode::EpochChanged, "{earlier}");
    call_with(&client, "sim1", "cancel_all", b"{}", in_epoch(epoch - 1)).await.expect("cancels flow");
    call_with(&client, "sim1", "send_order", &bytes, in_epoch(epoch)).await.expect("the same id is taken");

    let request = OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3500.0, 1.0);
    send_order(&client, "sim1", &request).await.expect("taken");
    let reused = send_order(&client, "sim1", &OrderRequest { volume: 2.0, ..request.clone() }).await;
    assert_eq!(reused.expect_err("other content").code, ErrorCode::OrderIdReused);
    send_order(&client, "sim1", &request).await.expect("the same again answers its state");

    let unknown = call(&client, "sim1", "send_ordr", "{}").await.expect_err("unknown");
    assert_eq!(unknown.code, ErrorCode::UnknownMethod);
    assert!(unknown.message.contains("did you mean send_order?"), "{unknown}");
    let odd = call(&client, "sim1", "%20%E2%82%AC", "{}").await.expect_err("odd tokens");
    assert_eq!(odd.code, ErrorCode::UnknownMethod);
    let misspelt = call(&client, "sim1", "subscribe", r#"{"symbol":"RB2410","exchange":"SHFE"}"#).await;
    assert!(misspelt.expect_err("unknown").message.contains("rb2410.SHFE"));
    let cursor = call(&client, "sim1", "get_all_orders", r#"{"cursor":"nonsense"}"#).await.expect_err("refused");
    assert_eq!(cursor.code, ErrorCode::BadRequest);

    until_ready(&client, "sim1").await;
    let orders: Vec<protocol::Order> = crate::support::list(&client, "sim1", "get_all_orders").await;
    assert!(orders.iter().any(|o| o.orderid == request.orderid));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_every_subject_kills_nothing() {
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    let client = broker.client().await;
    until_ready(&client, "sim1").await;
    let garbage: [&[u8]; 5] = [b"", b"\0\0", b"{", b"[[[[[[[[", &[0xff; 3000]];
    for method in protocol::rpc::Method::ALL {
        for payload in garbage {
            // Without a reply subject nobody can be answered; with one everybody is.
            client.publish(format!("rpc.sim1.{}", method.as_str()), payload.to_vec().into()).await.expect("sent");
            let reply = client.request(format!("rpc.sim1.{}", method.as_str()), payload.to_vec().into()).await;
            let reply = reply.expect("answered");
            assert!(reply.headers.is_some() || serde_json::from_slice::<serde_json::Value>(&reply.payload).is_ok());
        }
    }
    for subject in
        ["evt.tick.rb2410.SHFE", "evt.order.x.y.z.w", "evt.status.sim1", "rpc.sim1.send_order.forged", "rpc.sim1"]
    {
        client.publish(subject, "garbage".into()).await.expect("sent");
    }
    call(&client, "sim1", "connect", "{}").await.expect("still there");
    until_ready(&client, "sim1").await;
    node.stop().await;
}
