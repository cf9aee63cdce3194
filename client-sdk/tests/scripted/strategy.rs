//! Strategies: callbacks in order, state as of the event, a clean end.

use std::sync::Arc;

use client_sdk::protocol::{OmsEvent, Order, OrderRequest, Tick, Trade};
use client_sdk::strategy::{self, Context, Options, Outcome};
use client_sdk::{Client, Strategy};
use tokio::sync::{Notify, mpsc};

use crate::support::{Answer, Gateway, Server, eventually, order_of, rb, request, soon, trade_of};

/// Buys at its first tick and tells what happens.
struct Buyer {
    told: mpsc::Sender<String>,
    bought: bool,
    fails: bool,
}

impl Buyer {
    async fn tell(&self, what: String) {
        self.told.send(what).await.expect("the test listens");
    }
}

impl Strategy for Buyer {
    async fn on_start(&mut self, context: &mut Context) -> Outcome {
        self.tell(format!("start {} {}", context.instruments()[0], context.position(&rb()))).await;
        Ok(())
    }

    async fn on_tick(&mut self, context: &mut Context, tick: &Tick) -> Outcome {
        anyhow::ensure!(!self.fails, "no good");
        if !self.bought {
            self.bought = true;
            let order = context.buy(&rb(), tick.last_price.unwrap_or_default(), 2.0).await?;
            self.tell(format!("sent {} working {}", order.status, context.active_orders().count())).await;
        }
        Ok(())
    }

    async fn on_order(&mut self, context: &mut Context, order: &Order) -> Outcome {
        self.tell(format!("order {} held {}", order.status, context.filled(&rb()))).await;
        Ok(())
    }

    async fn on_trade(&mut self, _context: &mut Context, trade: &Trade) -> Outcome {
        self.tell(format!("trade {}", trade.volume)).await;
        Ok(())
    }

    async fn on_new_day(&mut self, context: &mut Context) -> Outcome {
        self.tell(format!("new day working {}", context.active_orders().count())).await;
        Ok(())
    }

    async fn on_stop(&mut self, _context: &mut Context) -> Outcome {
        self.tell("stop".to_owned()).await;
        Ok(())
    }
}

/// The order that the strategy sends, as the node would answer it.
fn bought() -> OrderRequest {
    let mut request = request("o1");
    request.reference = "buyer".into();
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_trades_and_ends_when_told() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    let accepted = order_of(&bought(), 0.0);
    gateway.answer("send_order", Answer::Json(serde_json::to_string(&accepted).expect("encodes")));
    let client = Client::connect(server.url()).await.expect("connects");
    let (told, mut heard) = mpsc::channel(64);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn({
        let client = client.clone();
        let strategy = Buyer { told, bought: false, fails: false };
        async move {
            let options = Options::new("buyer", "sim1", [rb()]);
            strategy::run(&client, strategy, options, async {
                let _ = stopped.await;
            })
            .await
        }
    });
    assert_eq!(soon("on_start", heard.recv()).await.as_deref(), Some("start rb2410.SHFE 0"));
    assert_eq!(gateway.calls_of("subscribe").len(), 1);
    gateway.tick(1, 1, 3500.0).await;
    assert_eq!(soon("the order", heard.recv()).await.as_deref(), Some("sent NOTTRADED working 1"));
    // Somebody else's fill is none of its business.
    gateway.append(OmsEvent::Order(order_of(&request("other"), 2.0)), false).await;
    let filled = order_of(&bought(), 2.0);
    gateway.append(OmsEvent::Order(filled.clone()), false).await;
    gateway.append(trade_of(&filled, "t1", 2.0), false).await;
    assert_eq!(soon("on_order", heard.recv()).await.as_deref(), Some("order ALLTRADED held 2"));
    assert_eq!(soon("on_trade", heard.recv()).await.as_deref(), Some("trade 2"));
    stop.send(()).expect("it runs");
    assert_eq!(soon("on_stop", heard.recv()).await.as_deref(), Some("stop"));
    let strategy = soon("the end", running).await.expect("no panic").expect("no error");
    assert!(strategy.bought);
    assert!(gateway.calls_of("cancel_order").is_empty(), "nothing was working");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_hears_of_its_fills_while_the_trading_day_rolls() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    let mut ended = request("ended");
    ended.reference = "buyer".into();
    let mut works = request("works");
    works.reference = "buyer".into();
    let works = order_of(&works, 1.0);
    gateway.append(OmsEvent::Order(order_of(&ended, 2.0)), false).await;
    gateway.append(OmsEvent::Order(works.clone()), false).await;
    let accepted = order_of(&bought(), 0.0);
    gateway.answer("send_order", Answer::Json(serde_json::to_string(&accepted).expect("encodes")));
    let client = Client::connect(server.url()).await.expect("connects");
    let (told, mut heard) = mpsc::channel(64);
    let strategy = Buyer { told, bought: false, fails: false };
    let running = tokio::spawn(async move {
        let options = Options::new("buyer", "sim1", [rb()]);
        strategy::run(&client, strategy, options, std::future::pending()).await.map(|_| ())
    });
    soon("on_start", heard.recv()).await;
    let lists = Arc::new(Notify::new());
    gateway.answer("get_all_accounts", Answer::After(Arc::clone(&lists)));
    gateway.append(trade_of(&works, "lost", 1.0), true).await;
    gateway.roll(&["ended"]);
    gateway.beat().await;
    eventually("the last list to be asked for", async || gateway.calls_of("get_all_accounts").len() == 2).await;
    gateway.append(trade_of(&works, "live", 0.5), false).await;
    assert_eq!(soon("the lost one", heard.recv()).await.as_deref(), Some("trade 1"));
    assert_eq!(soon("the live one", heard.recv()).await.as_deref(), Some("trade 0.5"));
    // An order that was answered, and whose event has not come yet, is not forgotten for the new day's state.
    gateway.tick(1, 1, 3500.0).await;
    assert_eq!(soon("the order", heard.recv()).await.as_deref(), Some("sent NOTTRADED working 2"));
    lists.notify_one();
    assert_eq!(soon("the new day", heard.recv()).await.as_deref(), Some("new day working 2"));
    gateway.append(trade_of(&works, "afterwards", 0.25), false).await;
    assert_eq!(soon("a later one", heard.recv()).await.as_deref(), Some("trade 0.25"));
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_stops_a_strategy_and_cancels_what_it_left_working() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    gateway.append(OmsEvent::Order(order_of(&bought(), 0.0)), false).await;
    gateway.append(OmsEvent::Order(order_of(&request("other"), 0.0)), false).await;
    let cancelled = serde_json::to_string(&order_of(&bought(), 2.0)).expect("encodes");
    gateway.answer("cancel_order", Answer::Json(cancelled));
    let client = Client::connect(server.url()).await.expect("connects");
    let (told, mut heard) = mpsc::channel(64);
    let strategy = Buyer { told, bought: true, fails: true };
    let running = tokio::spawn(async move {
        let options = Options::new("buyer", "sim1", [rb()]);
        strategy::run(&client, strategy, options, std::future::pending()).await.map(|_| ())
    });
    soon("on_start", heard.recv()).await;
    gateway.tick(1, 1, 3500.0).await;
    assert_eq!(soon("on_stop", heard.recv()).await.as_deref(), Some("stop"));
    let error = soon("the end", running).await.expect("no panic").expect_err("the callback's error");
    assert_eq!(format!("{error:#}"), "on_tick: no good");
    eventually("the cancel", async || gateway.calls_of("cancel_order").len() == 1).await;
}
