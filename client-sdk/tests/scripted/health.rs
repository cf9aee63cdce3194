//! Heartbeats: a silent gateway is lost, the first heartbeat recovers it.

use std::time::Duration;

use client_sdk::protocol::GatewayState;
use client_sdk::{Client, ConnectOptions, HealthEvent};

use crate::support::{Gateway, Server, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_gateway_is_lost_and_recovers_with_its_first_heartbeat() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    let options = ConnectOptions::new(&server.url()).patience(Duration::from_millis(600));
    let client = Client::connect(options).await.expect("connects");
    let mut health = client.health();
    gateway.beat().await;
    let first = soon("its state", health.next()).await;
    assert!(matches!(first, Some(HealthEvent::GatewayState { from: None, to: GatewayState::Ready, .. })), "{first:?}");
    let lost = soon("the loss", health.next()).await;
    assert!(matches!(&lost, Some(HealthEvent::GatewayLost { gateway, .. }) if gateway == "sim1"), "{lost:?}");
    gateway.beat().await;
    let back = soon("the recovery", health.next()).await;
    assert!(matches!(&back, Some(HealthEvent::GatewayRecovered { epoch: 1, .. })), "{back:?}");

    let port = server.kill();
    let mut events = Vec::new();
    while !matches!(events.last(), Some(HealthEvent::Disconnected)) {
        events.push(soon("the outage", health.next()).await.expect("the client lives"));
    }
    let _server = Server::start_at(port).await.expect("it was there before");
    let back = soon("the connection", health.next()).await;
    assert_eq!(back, Some(HealthEvent::Reconnected));
}
