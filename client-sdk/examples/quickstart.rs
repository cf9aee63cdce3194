//! Connects, lists the gateways, watches one instrument, sends a limit order and prints its fills.

use anyhow::Context;
use client_sdk::protocol::{Direction, Offset, OrderRequest};
use client_sdk::{Client, ConnectOptions, Filter, Update};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(ConnectOptions::from_env().name("quickstart")).await?;

    for gateway in client.gateways().await? {
        println!("gateway {} {:?}, {} methods", gateway.name, gateway.state(), gateway.methods.len());
    }
    let info = client.gateways().await?.into_iter().next().context("no gateway is running: start a gateway-node")?;
    let gateway = client.gateway(info.name.clone());

    let contracts = gateway.get_all_contracts().await?;
    let contract = contracts.first().context("the gateway knows no contracts")?;
    let instrument = contract.instrument();

    // Streams first, then what makes them flow.
    let mut ticks = client.ticks(Filter::instrument(&instrument)).await?;
    let mut trades = client.trades(Filter::instrument(&instrument).gateway(info.name)).await?;
    gateway.subscribe(&instrument).await?;
    let price = loop {
        if let Some(Update::Event(event)) = ticks.next().await {
            let tick = &event.data;
            println!("{instrument} {:?} bid {:?} ask {:?}", tick.last_price, tick.best_bid(), tick.best_ask());
            if let Some(ask) = tick.best_ask() {
                break ask.0;
            }
        }
    };

    let request = OrderRequest::limit(instrument, Direction::Long, Offset::Open, price, contract.min_volume);
    let order = gateway.send_order(&request).await?;
    println!("order {} {}", order.orderid, order.status);
    while let Some(update) = trades.next().await {
        match update {
            Update::Event(event) if event.data.orderid == request.orderid => {
                println!("filled {} at {}", event.data.volume, event.data.price);
                break;
            }
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
