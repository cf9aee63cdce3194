//! Orders whose answer is lost: found out within the caller's deadline and a little longer, or told as unknown.

use std::time::Duration;

use client_sdk::protocol::{ErrorCode, InstrumentId, Offset, OmsEvent, OrderStatus, QuoteRequest};
use client_sdk::{Client, Error};

use crate::support::{Answer, Gateway, Server, eventually, now_ms, order_of, rb, request, soon};

const LOST: Answer = Answer::Silence;

fn accepted(id: &str) -> Answer {
    Answer::Json(serde_json::to_string(&order_of(&request(id), 0.0)).expect("encodes"))
}

async fn until_sent(gateway: &Gateway, method: &str) {
    eventually("an attempt", async || !gateway.calls_of(method).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_under_the_same_id_and_deadline() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", LOST);
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_secs(6));
    let wanted = request("o1");
    let answering = async {
        until_sent(&gateway, "send_order").await;
        gateway.answer("send_order", accepted("o1"));
    };
    let (sent, ()) = tokio::join!(handle.send_order(&wanted), answering);
    assert_eq!(sent.expect("resolved").orderid, wanted.orderid);
    let deadlines = gateway.calls_of("send_order");
    assert!(deadlines.len() > 1 && deadlines[0].is_some(), "{deadlines:?}");
    assert!(deadlines.iter().all(|deadline| *deadline == deadlines[0]), "never extended: {deadlines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_is_asked_on_its_own_clock() {
    let Some(server) = Server::start().await else { return };
    let first = Gateway::start(&server, "sim1").await;
    first.answer("send_order", LOST);
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_secs(20));
    let began = now_ms();
    let sending = tokio::spawn({
        let handle = handle.clone();
        async move { handle.send_order(&request("o1")).await }
    });
    until_sent(&first, "send_order").await;
    drop(first);
    eventually("the first node to be gone", async || {
        matches!(
            handle.clone().with_timeout(Duration::from_secs(1)).get_status().await,
            Err(Error::GatewayNotRunning { .. })
        )
    })
    .await;

    let second = Gateway::start(&server, "sim1").await;
    let behind_ms = -7_200_000;
    second.with(|script| (script.epoch, script.ahead_ms) = (2, behind_ms));
    second.answer("send_order", accepted("o1"));
    second.beat().await;
    soon("the answer", sending).await.expect("no panic").expect("resolved");
    let expected = began + behind_ms + 20_000;
    let deadlines = second.calls_of("send_order");
    assert!(!deadlines.is_empty());
    assert!(deadlines.iter().all(|d| d.is_some_and(|d| d.abs_diff(expected) < 5_000)), "{deadlines:?} {expected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_that_no_heartbeat_has_told_of_is_asked_on_its_own_clock() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", accepted("o1"));
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_secs(20));
    handle.send_order(&request("o1")).await.expect("accepted");
    gateway.with(|script| (script.epoch, script.ahead_ms) = (2, -7_200_000));
    let expected = now_ms() - 7_200_000 + 20_000;
    handle.send_order(&request("o1")).await.expect("accepted by the new leader");
    let deadlines: Vec<_> = gateway.deadlines_of("send_order").into_iter().flatten().collect();
    assert_eq!(deadlines.iter().map(|d| d.epoch).collect::<Vec<_>>(), [Some(1), Some(1), Some(2)]);
    assert!(deadlines[2].ms.abs_diff(expected) < 5_000, "{deadlines:?} {expected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_of_another_epoch_is_never_the_last_word() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", Answer::Error(ErrorCode::EpochChanged, "another epoch leads"));
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_millis(700));
    let error = handle.send_order(&request("o1")).await.expect_err("never taken");
    assert!(matches!(error, Error::NotExecuted { .. }), "proven by the leader past the deadline: {error}");
    assert!(gateway.calls_of("send_order").len() > 1, "the same id was sent again");
    assert!(!gateway.calls_of("get_order").is_empty());

    gateway.append(OmsEvent::Order(order_of(&request("o2"), 2.0)), false).await;
    assert_eq!(handle.send_order(&request("o2")).await.expect("found").status, OrderStatus::AllTraded);
    gateway.answer("get_order", Answer::Silence);
    let error = handle.send_order(&request("o3")).await.expect_err("nobody says");
    assert!(error.maybe_executed(), "{error}");
    let error = handle.send_order_once(&request("o4")).await.expect_err("refused");
    assert!(error.code() == Some(ErrorCode::EpochChanged) && !error.maybe_executed(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_under_an_epoch_that_is_over_proves_nothing() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", LOST);
    gateway.with(|script| script.epoch = 2);
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_millis(600));
    let falling_back = async {
        until_sent(&gateway, "send_order").await;
        gateway.with(|script| script.epoch = 1);
    };
    let wanted = request("o1");
    let (sent, ()) = tokio::join!(handle.send_order(&wanted), falling_back);
    let error = sent.expect_err("the leader of epoch 2 may have it");
    assert!(error.maybe_executed(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_deadline_no_order_means_not_executed() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", LOST);
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_millis(1_500));
    let refusing = async {
        until_sent(&gateway, "send_order").await;
        // A gateway that cannot look now has not said that the order does not exist.
        gateway.answer("send_order", Answer::Error(ErrorCode::NotReady, "logging in"));
    };
    let wanted = request("o1");
    let (sent, ()) = tokio::join!(handle.send_order(&wanted), refusing);
    let error = sent.expect_err("it was never taken");
    assert!(matches!(error, Error::NotExecuted { .. }) && !error.maybe_executed(), "{error}");
    let asked_at = now_ms();
    let deadline = gateway.calls_of("send_order")[0].expect("a deadline");
    assert!(asked_at + gateway.with(|script| script.ahead_ms) > deadline, "not before its deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_before_the_deadline_on_the_nodes_clock_proves_nothing() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", LOST);
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_millis(600));
    let setting_back = async {
        until_sent(&gateway, "send_order").await;
        gateway.with(|script| script.ahead_ms -= 3_600_000);
    };
    let wanted = request("o1");
    let (sent, ()) = tokio::join!(handle.send_order(&wanted), setting_back);
    let error = sent.expect_err("nobody knows");
    assert!(error.maybe_executed(), "{error}");
    assert!(gateway.calls_of("get_order").len() > 1, "it was looked up again and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_found_past_its_deadline_is_returned_as_it_is() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", LOST);
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_millis(600));
    gateway.append(OmsEvent::Order(order_of(&request("o1"), 2.0)), false).await;
    let order = handle.send_order(&request("o1")).await.expect("found");
    assert_eq!((order.status, order.traded), (OrderStatus::AllTraded, 2.0));
    // Under the same id, but not what was sent.
    let mut other = request("o1");
    other.volume = 5.0;
    let error = handle.send_order(&other).await.expect_err("another's");
    assert_eq!(error.code(), Some(ErrorCode::OrderIdReused));
    assert!(!error.maybe_executed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_id_is_the_last_word_even_in_doubt() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", LOST);
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_secs(6));
    let refusing = async {
        until_sent(&gateway, "send_order").await;
        gateway.answer("send_order", Answer::Error(ErrorCode::OrderIdReused, "another order's"));
    };
    let wanted = request("o1");
    let (sent, ()) = tokio::join!(handle.send_order(&wanted), refusing);
    assert_eq!(sent.expect_err("refused").code(), Some(ErrorCode::OrderIdReused));
    assert!(gateway.calls_of("get_order").is_empty(), "nothing was left to find out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_an_epoch_that_is_over_is_sent_nothing() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_order", accepted("o1"));
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1");
    let mut statuses = client.statuses(None).await.expect("subscribed");
    gateway.with(|script| script.epoch = 2);
    gateway.beat().await;
    soon("the heartbeat", statuses.next()).await;
    gateway.with(|script| script.epoch = 1);
    eventually("the new epoch to be known", async || {
        let sent = handle.send_order(&request("o1")).await;
        sent.is_err_and(|error| error.code() == Some(ErrorCode::NotReady) && error.to_string().contains("epoch 2"))
    })
    .await;
    let earlier = gateway.calls_of("send_order").len();
    handle.send_order(&request("o2")).await.expect_err("refused here");
    assert_eq!(gateway.calls_of("send_order").len(), earlier);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_is_found_out_like_an_order() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.answer("send_quote", LOST);
    let client = Client::connect(server.url()).await.expect("connects");
    let handle = client.gateway("sim1").with_timeout(Duration::from_millis(600));
    let InstrumentId { symbol, exchange } = rb();
    let wanted = QuoteRequest {
        quoteid: client_sdk::protocol::OrderId::new("q1"),
        symbol,
        exchange,
        bid_price: 3499.0,
        bid_volume: 1.0,
        ask_price: 3501.0,
        ask_volume: 1.0,
        bid_offset: Offset::Open,
        ask_offset: Offset::Open,
        reference: "".into(),
    };
    let error = handle.send_quote(&wanted).await.expect_err("never taken");
    assert!(matches!(error, Error::NotExecuted { .. }), "{error}");
    gateway.append(OmsEvent::Quote(wanted.to_quote(&"sim1".into(), &"default".into())), false).await;
    assert_eq!(handle.send_quote(&wanted).await.expect("found").quoteid, wanted.quoteid);
}
