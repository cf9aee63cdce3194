//! Limits, from the configuration to the sentence in the terminal.

use protocol::{Order, OrderStatus};

use crate::support::program::{Ended, built, run};
use crate::support::{TestBroker, TestNode, call, eventually, list, sim, until_ready};

const LIMITS: &str = "
[gateways.risk]
max_order_volume = 20
price_band = 0.15
max_cancels_per_day = 1
[gateways.risk.owners.\"*\"]
max_order_volume = 5
max_active_orders = 2
forbid_self_trade = true
";

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept_and_said_and_outlive_the_node() {
    if !built(&["gatectl"]) {
        return;
    }
    let broker = TestBroker::start().await;
    let (url, client) = (broker.url(), broker.client().await);
    let gateways = format!("{}{LIMITS}", sim("sim1"));
    let node = TestNode::start(&url, &gateways).await;
    until_ready(&client, "sim1").await;
    let ctl = async |line: &str| -> Ended {
        let words = ["--server", &url].into_iter().chain(line.split_whitespace());
        run("gatectl", &words.collect::<Vec<_>>()).await
    };
    // A band refuses everything until there is a last price.
    eventually("a tick", || async {
        let tick = call(&client, "sim1", "get_tick", r#"{"symbol":"rb2410","exchange":"SHFE"}"#).await;
        tick.ok().filter(|tick| !tick["data"]["last_price"].is_null())
    })
    .await;
    let refused = async |line: &str, rule: &str| {
        let said = ctl(line).await.failed(1);
        assert!(said.contains(&format!("RISK_REJECTED: {rule}")), "{line}: {said}");
        said
    };
    let said =
        refused("send rb2410.SHFE buy 6 --price 3300 --id large", "max_order_volume: 6 lots, the most is 5").await;
    assert!(said.contains("(gateway sim1, owner default)"), "{said}");
    let said = refused("send rb2410.SHFE buy 21 --price 3300", "max_order_volume: 21 lots, the most is 20").await;
    assert!(said.trim_end().ends_with("(gateway sim1)"), "{said}");
    refused("send rb2410.SHFE buy 1 --price 2000", "price_band: 2000 is 0.").await;
    let orders: Vec<Order> = list(&client, "sim1", "get_all_orders").await;
    let large = orders.iter().find(|order| order.orderid.as_str() == "large").expect("journalled");
    assert_eq!(large.status, OrderStatus::Rejected);
    assert!(large.reason.as_deref().is_some_and(|reason| reason.starts_with("max_order_volume")));

    ctl("send rb2410.SHFE buy 1 --price 3300 --id one").await.ok();
    refused("send rb2410.SHFE sell 1 --price 3290", "forbid_self_trade: SHORT would trade with the working LONG").await;
    ctl("send rb2410.SHFE buy 1 --price 3300 --id two").await.ok();
    refused("send rb2410.SHFE buy 1 --price 3300", "max_active_orders: 2 work already, the most is 2").await;
    ctl("cancel one").await.ok();
    refused("cancel two", "max_cancels_per_day: 1 cancels today, the most is 1").await;

    // What was counted before counts after: the successor reads it from the journal.
    node.stop().await;
    let node = TestNode::start(&url, &gateways).await;
    until_ready(&client, "sim1").await;
    ctl("-g sim1 send rb2410.SHFE buy 1 --type market --id three").await.ok();
    eventually("a price again", || async {
        let sent = ctl("-g sim1 send rb2410.SHFE buy 1 --price 3300 --id four").await;
        (sent.code == 0).then_some(())
    })
    .await;
    refused("-g sim1 cancel four", "max_cancels_per_day: 1 cancels today").await;
    assert_eq!(ctl("-g sim1 cancel-all").await.ok().trim(), "four", "nobody is kept from getting out");
    node.stop().await;
}
