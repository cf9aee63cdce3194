//! What every scenario needs: a broker, nodes, plain calls, and waiting for conditions.

pub mod node_process;
pub mod program;
pub mod script;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use gateway_node::Node;
use gateway_node::broker::Broker;
use gateway_node::config::{Config, EmbeddedBroker};
use protocol::rpc::{HEADER_DEADLINE, HEADER_ERROR_CODE};
use protocol::{GatewayState, OrderRequest, RpcError, Status, codec};
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest wait for anything that must happen: generous, since these machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition gives a value.
pub async fn eventually<T, F, Fut>(what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited {} s for: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A nats-server of the test's own, on a free port with a directory of its own.
pub struct TestBroker {
    pub broker: Broker,
    pub directory: TempDir,
}

impl TestBroker {
    pub async fn start() -> TestBroker {
        let directory = TempDir::new().expect("a temporary directory");
        let broker = Broker::start(&embedded(directory.path(), 0)).await.expect("a nats-server");
        TestBroker { broker, directory }
    }

    pub fn url(&self) -> String {
        self.broker.url().to_owned()
    }

    pub fn port(&self) -> u16 {
        self.url().rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port")
    }

    /// Stops the server and starts it again on the same port and store.
    pub async fn restart(self) -> TestBroker {
        let TestBroker { broker, directory } = self;
        let port = broker.url().rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
        broker.stop().await.expect("stops");
        let broker = Broker::start(&embedded(directory.path(), port)).await.expect("starts again");
        TestBroker { broker, directory }
    }

    pub async fn client(&self) -> Client {
        async_nats::connect(self.url()).await.expect("connects")
    }
}

fn embedded(directory: &Path, port: u16) -> EmbeddedBroker {
    EmbeddedBroker { data_dir: directory.to_owned(), port, ..EmbeddedBroker::default() }
}

/// A node in this process.
pub struct TestNode {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl TestNode {
    /// Starts a node from the gateways' part of a configuration, joined to `url`.
    pub async fn start(url: &str, gateways: &str) -> TestNode {
        TestNode::start_with(url, gateways, |_| {}).await
    }

    pub async fn start_with(url: &str, gateways: &str, change: impl FnOnce(&mut Node)) -> TestNode {
        let mut node = Node::new(config(url, gateways)).expect("the configuration works");
        change(&mut node);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(node.run(async {
            let _ = stopped.await;
        }));
        TestNode { stop: Some(stop), task }
    }

    /// Drains and stops it.
    pub async fn stop(mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        tokio::time::timeout(PATIENCE, self.task).await.expect("stops in time").expect("no panic").expect("no error");
    }
}

pub fn config(url: &str, gateways: &str) -> Config {
    let text =
        format!("[node]\nname = \"test\"\n[broker]\naddress = \"{url}\"\n[journal]\nmax_bytes = 67108864\n{gateways}");
    Config::parse(&text, "test.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// A simulated venue on a fast synthetic market.
pub fn sim(name: &str) -> String {
    format!(
        "[[gateways]]\nname = \"{name}\"\nkind = \"sim\"\nsubscribe = [\"*\"]\n\
         [gateways.sim]\n[gateways.sim.feed]\nkind = \"synthetic\"\ninterval_ms = 100\nspeed = 1\n"
    )
}

/// Calls a method as a plain client does: JSON in, JSON out, errors in headers.
pub async fn call(client: &Client, gateway: &str, method: &str, params: &str) -> Result<serde_json::Value, RpcError> {
    call_with(client, gateway, method, params.as_bytes(), HeaderMap::new()).await
}

pub async fn call_with(
    client: &Client,
    gateway: &str,
    method: &str,
    params: &[u8],
    headers: HeaderMap,
) -> Result<serde_json::Value, RpcError> {
    let subject = format!("rpc.{gateway}.{method}");
    let request = client.request_with_headers(subject, headers, params.to_vec().into());
    let message = tokio::time::timeout(PATIENCE, request).await.expect("answered in time").expect("answered");
    read(&message)
}

pub fn read(message: &Message) -> Result<serde_json::Value, RpcError> {
    let failed = message.headers.as_ref().is_some_and(|h| h.get(HEADER_ERROR_CODE).is_some());
    if failed {
        return Err(codec::decode(&message.payload).expect("an error's body"));
    }
    Ok(codec::decode(&message.payload).expect("JSON"))
}

#[allow(clippy::disallowed_methods)] // a test is an edge
pub fn in_ms(ms: i64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HEADER_DEADLINE, (chrono::Utc::now().timestamp_millis() + ms).to_string().as_str());
    headers
}

/// Sends an order as a plain client does.
pub async fn send_order(client: &Client, gateway: &str, request: &OrderRequest) -> Result<protocol::Order, RpcError> {
    let bytes = codec::encode(request).expect("encodes");
    let value = call_with(client, gateway, "send_order", &bytes, in_ms(30_000)).await?;
    Ok(serde_json::from_value(value).expect("an order"))
}

/// Waits until a gateway answers with this state.
pub async fn until_state(client: &Client, gateway: &str, state: GatewayState) -> Status {
    eventually(&format!("{gateway} to be {state}"), || async {
        let reply = client.request(format!("rpc.{gateway}.get_status"), "".into()).await.ok()?;
        let status: Status = codec::decode(&reply.payload).ok()?;
        (status.state == state).then_some(status)
    })
    .await
}

pub async fn until_ready(client: &Client, gateway: &str) -> Status {
    until_state(client, gateway, GatewayState::Ready).await
}

/// The pages of a list together.
pub async fn list<T: DeserializeOwned>(client: &Client, gateway: &str, method: &str) -> Vec<T> {
    let mut items = Vec::new();
    let mut cursor = serde_json::Value::Null;
    loop {
        let params = serde_json::json!({ "cursor": cursor });
        let page = call(client, gateway, method, &params.to_string()).await.expect("a page");
        for item in page["items"].as_array().expect("items") {
            items.push(serde_json::from_value(item.clone()).expect("an item"));
        }
        match page.get("next") {
            Some(next) if !next.is_null() => cursor = next.clone(),
            _ => return items,
        }
    }
}

/// The recorded market data, if it is there; says so if not.
pub fn recorded(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GATEMESH_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let path = root.join(file);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("SKIPPED: no recorded market data at {}", path.display());
    None
}
