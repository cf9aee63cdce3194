//! Calls: deadlines on the node's clock, errors that say what may have happened, nothing sent late.

use std::time::Duration;

use client_sdk::protocol::{CancelRequest, ErrorCode, Status};
use client_sdk::{Client, ConnectOptions, Error};
use tokio::time::Instant;

use crate::support::{AHEAD_MS, Answer, Gateway, Server, contract, eventually, now_ms, order_of, rb, request, soon};

fn accepted(id: &str) -> Answer {
    Answer::Json(serde_json::to_string(&order_of(&request(id), 0.0)).expect("encodes"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_is_an_error_that_says_what_to_do() {
    let options = ConnectOptions::new("nats://127.0.0.1:1").connect_timeout(Duration::from_secs(2));
    let error = soon("the failure", Client::connect(options)).await.expect_err("nobody is there");
    let text = error.to_string();
    assert!(matches!(error, Error::Connect { .. }), "{text}");
    assert!(text.contains("nats://127.0.0.1:1") && text.contains("start a gateway-node"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_run_says_so_at_once() {
    let Some(server) = Server::start().await else { return };
    let client = Client::connect(server.url()).await.expect("connects");
    let error = soon("the error", client.gateway("nobody").get_status()).await.expect_err("not there");
    assert!(matches!(error, Error::GatewayNotRunning { .. }), "{error}");
    assert!(!error.maybe_executed() && error.is_retryable());
    let error = client.gateway("nobody").send_order(&request("o1")).await.expect_err("not there");
    assert!(!error.maybe_executed(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_carry_a_deadline_on_the_nodes_clock_and_reads_none() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", accepted("o1"));
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_secs(10));
    handle.get_status().await.expect("a status");
    handle.send_order(&request("o1")).await.expect("accepted");
    handle.send_order(&request("o1")).await.expect("accepted");
    let deadlines = gateway.calls_of("send_order");
    let expected = now_ms() + AHEAD_MS + 10_000;
    assert!(deadlines.iter().all(|d| d.is_some_and(|d| d.abs_diff(expected) < 5_000)), "{deadlines:?} {expected}");
    assert_eq!(gateway.calls_of("get_status"), [None, None], "the clock is measured once");

    // Another epoch may be another machine.
    gateway.with(|script| script.epoch = 2);
    let mut statuses = client.statuses(None).await.expect("subscribed");
    gateway.beat().await;
    soon("the heartbeat", statuses.next()).await;
    eventually("the clock to be measured again", async || {
        handle.send_order(&request("o1")).await.expect("accepted");
        gateway.calls_of("get_status").len() == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_sent_again_on_the_clock_of_a_leader_that_nobody_told_of() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("cancel_order", Answer::Json("{}".to_owned()));
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_secs(10));
    let cancel = CancelRequest::new(request("o1").orderid);
    handle.cancel_order(&cancel).await.expect("cancelled");
    gateway.with(|script| (script.epoch, script.ahead_ms) = (2, 2 * AHEAD_MS));
    gateway.answer("cancel_order", Answer::Error(ErrorCode::DeadlineExceeded, "an hour ago"));
    let error = handle.cancel_order(&cancel).await.expect_err("refused by this script, whatever comes");
    assert!(error.code() == Some(ErrorCode::DeadlineExceeded) && !error.maybe_executed(), "{error}");
    let deadlines: Vec<_> = gateway.deadlines_of("cancel_order").into_iter().flatten().collect();
    assert_eq!(deadlines.iter().map(|d| d.epoch).collect::<Vec<_>>(), [Some(1), Some(1), Some(2)]);
    let expected = now_ms() + 2 * AHEAD_MS + 10_000;
    assert!(deadlines[2].ms.abs_diff(expected) < 5_000, "{deadlines:?} {expected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_leaves_an_order_unknown_and_a_read_not() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_millis(400));
    gateway.answer("send_order", Answer::Silence);
    gateway.answer("get_order", Answer::Silence);
    let error = handle.send_order_once(&request("o1")).await.expect_err("no answer");
    assert!(matches!(error, Error::Timeout { .. }) && error.maybe_executed() && !error.is_retryable(), "{error}");
    let error = handle.resolve(&request("o1").orderid).await.expect_err("no answer");
    assert!(!error.maybe_executed() && error.is_retryable(), "{error}");
    gateway.answer("get_order", accepted("o1"));
    assert!(handle.resolve(&request("o1").orderid).await.expect("answers").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_typed_and_a_broken_number_never_leaves() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", Answer::Error(ErrorCode::RiskRejected, "order_volume: 2 > 1"));
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1");
    let error = handle.send_order(&request("o1")).await.expect_err("refused");
    assert_eq!(error.code(), Some(ErrorCode::RiskRejected));
    assert_eq!(error.to_string(), "RISK_REJECTED: order_volume: 2 > 1");
    let sent = gateway.calls_of("send_order").len();
    let mut broken = request("o2");
    broken.price = Some(f64::NAN);
    assert!(matches!(handle.send_order(&broken).await, Err(Error::InvalidRequest(_))));
    broken = request("x-2");
    assert!(matches!(handle.send_order(&broken).await, Err(Error::InvalidRequest(_))));
    assert_eq!(gateway.calls_of("send_order").len(), sent);
    gateway.answer("get_status", Answer::Json("{}".to_owned()));
    let error = handle.get_status().await.expect_err("no status");
    assert!(matches!(error, Error::Reply { .. }), "{error}");
    let raw = handle.call("get_status", serde_json::json!({}), None).await.expect("any JSON");
    assert_eq!(raw, serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_while_disconnected_and_everything_works_again_afterwards() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1");
    let _: Status = handle.get_status().await.expect("a status");
    gateway.answer("send_order", Answer::Silence);
    let pending = tokio::spawn({
        let handle = handle.clone();
        async move { handle.send_order_once(&request("o1")).await }
    });
    eventually("the order to arrive", async || !gateway.calls_of("send_order").is_empty()).await;

    let port = server.kill();
    let error = soon("the pending call", pending).await.expect("no panic").expect_err("the connection broke");
    assert!(matches!(error, Error::ConnectionLost { .. }) && error.maybe_executed(), "{error}");
    eventually("the outage to be noticed", async || !client.is_connected()).await;
    let began = Instant::now();
    let error = handle.send_order(&request("o2")).await.expect_err("no connection");
    assert_eq!(error, Error::Disconnected);
    assert!(began.elapsed() < Duration::from_secs(1));

    let _server = Server::start_at(port).await.expect("it was there before");
    eventually("a status again", async || handle.get_status().await.is_ok()).await;
    assert_eq!(gateway.calls_of("send_order").len(), 1, "the refused order never came");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_routed_by_contract() {
    let Some(server) = Server::start().await else { return };
    let one = Gateway::start(&server, "sim1").await;
    let two = Gateway::start(&server, "sim2").await;
    one.with(|script| script.contracts = vec![contract("sim1", "rb2410"), contract("sim1", "cu2501")]);
    two.with(|script| script.contracts = vec![contract("sim2", "rb2410")]);
    let client = Client::connect(server.url()).await.expect("connects");
    // These nodes are no NATS services: their heartbeats tell of them.
    eventually("both to be known", async || {
        one.beat().await;
        two.beat().await;
        client.gateways().await.is_ok_and(|gateways| gateways.len() == 2)
    })
    .await;
    let cu = "cu2501.SHFE".parse().expect("an instrument");
    assert_eq!(client.route(&cu).await.expect("one trades it").name(), "sim1");
    let error = client.route(&rb()).await.expect_err("two do");
    assert!(matches!(&error, Error::AmbiguousRoute { gateways, .. } if gateways.len() == 2), "{error}");
    client.prefer(rb(), "sim2");
    assert_eq!(client.route(&rb()).await.expect("preferred").name(), "sim2");
    let error = client.route(&"RB2410.SHFE".parse().expect("an instrument")).await.expect_err("misspelt");
    assert!(error.to_string().contains("did you mean rb2410.SHFE?"), "{error}");
}
