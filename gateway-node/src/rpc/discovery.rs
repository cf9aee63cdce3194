//! What a gateway says of itself to those who look for services: `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, as
//! <https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md> has it.
//!
//! The service API of async-nats would do this too, at the price of a subscription and a stream for each method, which
//! every call pays for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::service::endpoint::{Info as EndpointInfo, Stats as EndpointStats};
use async_nats::service::{Info, PingResponse, error};
use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use futures::stream::SelectAll;
use protocol::{RpcError, Timestamp, codec};
use serde::Serialize;
use tokio::task::JoinHandle;
use tracing::debug;

/// A method that is served, and what came of its calls.
pub struct Endpoint {
    /// The method's name.
    pub name: String,
    /// Where it is called.
    pub subject: String,
    /// The group of those who serve it.
    pub queue_group: String,
    tally: Mutex<Tally>,
}

#[derive(Default, Clone)]
struct Tally {
    requests: usize,
    errors: usize,
    processing_time: Duration,
    last_error: Option<error::Error>,
}

impl Endpoint {
    /// One that was not called yet.
    pub fn new(name: String, subject: String, queue_group: String) -> Endpoint {
        Endpoint { name, subject, queue_group, tally: Mutex::default() }
    }

    /// Counts a call that took so long, and what it failed with.
    pub fn count(&self, took: Duration, failure: Option<&RpcError>) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.requests += 1;
        tally.processing_time += took;
        if let Some(failure) = failure {
            tally.errors += 1;
            let code = usize::from(failure.code.number());
            tally.last_error = Some(error::Error { code, status: failure.to_string() });
        }
    }

    fn info(&self) -> EndpointInfo {
        EndpointInfo {
            name: self.name.clone(),
            subject: self.subject.clone(),
            queue_group: self.queue_group.clone(),
            metadata: HashMap::new(),
        }
    }

    fn stats(&self) -> EndpointStats {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let calls = u32::try_from(tally.requests).unwrap_or(u32::MAX);
        EndpointStats {
            name: self.name.clone(),
            subject: self.subject.clone(),
            requests: tally.requests,
            errors: tally.errors,
            processing_time: tally.processing_time,
            average_processing_time: tally.processing_time.checked_div(calls).unwrap_or_default(),
            last_error: tally.last_error,
            data: None,
            queue_group: self.queue_group.clone(),
        }
    }
}

/// A gateway as a service.
pub struct Service {
    name: String,
    id: String,
    started: Timestamp,
    endpoints: Vec<Arc<Endpoint>>,
}

#[derive(Clone, Copy)]
enum Verb {
    Ping,
    Info,
    Stats,
}

#[derive(Serialize)]
struct Stats<'a> {
    r#type: &'static str,
    name: &'a str,
    id: &'a str,
    version: &'a str,
    started: Timestamp,
    endpoints: Vec<EndpointStats>,
}

impl Service {
    /// A service with an id of its own.
    pub fn new(name: String, started: Timestamp, endpoints: Vec<Arc<Endpoint>>) -> Service {
        Service { name, id: uuid::Uuid::now_v7().simple().to_string(), started, endpoints }
    }

    /// Begins to answer who looks for it, until the task is aborted.
    ///
    /// # Errors
    /// If NATS does not take the subscriptions.
    pub async fn start(self, client: Client) -> anyhow::Result<JoinHandle<()>> {
        let mut questions = SelectAll::new();
        for (word, verb) in [("PING", Verb::Ping), ("INFO", Verb::Info), ("STATS", Verb::Stats)] {
            let (name, id) = (&self.name, &self.id);
            let everybody = format!("$SRV.{word}");
            for subject in [format!("{everybody}.{name}.{id}"), format!("{everybody}.{name}"), everybody] {
                let asked: Subscriber =
                    client.subscribe(subject.clone()).await.with_context(|| format!("answering {subject}"))?;
                questions.push(asked.map(move |question| (verb, question)));
            }
        }
        Ok(tokio::spawn(async move {
            while let Some((verb, Message { reply, .. })) = questions.next().await {
                let Some(reply) = reply else { continue };
                if let Err(error) = client.publish(reply, self.answer(verb).into()).await {
                    debug!(%error, "nobody was told of a service");
                }
            }
        }))
    }

    fn answer(&self, verb: Verb) -> Vec<u8> {
        let version = env!("CARGO_PKG_VERSION");
        let (name, id) = (&self.name, &self.id);
        let written = match verb {
            Verb::Ping => codec::encode(&PingResponse {
                kind: "io.nats.micro.v1.ping_response".to_owned(),
                name: name.clone(),
                id: id.clone(),
                version: version.to_owned(),
                metadata: HashMap::new(),
            }),
            Verb::Info => codec::encode(&Info {
                kind: "io.nats.micro.v1.info_response".to_owned(),
                name: name.clone(),
                id: id.clone(),
                description: "a Gatemesh trading gateway".to_owned(),
                version: version.to_owned(),
                metadata: HashMap::new(),
                endpoints: self.endpoints.iter().map(|endpoint| endpoint.info()).collect(),
            }),
            Verb::Stats => codec::encode(&Stats {
                r#type: "io.nats.micro.v1.stats_response",
                name,
                id,
                version,
                started: self.started,
                endpoints: self.endpoints.iter().map(|endpoint| endpoint.stats()).collect(),
            }),
        };
        written.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ErrorCode;

    #[test]
    fn who_asks_is_told_of_methods_and_of_what_came_of_their_calls() {
        let endpoint = Arc::new(Endpoint::new("halt".into(), "rpc.sim1.halt".into(), "sim1-7".into()));
        endpoint.count(Duration::from_nanos(100), None);
        endpoint.count(Duration::from_nanos(300), Some(&RpcError::new(ErrorCode::NotFound, "nobody")));
        let started = chrono::DateTime::from_timestamp(1_000, 0).expect("a time").fixed_offset();
        let service = Service::new("sim1".into(), started, vec![endpoint]);
        let read = |verb| codec::decode::<serde_json::Value>(&service.answer(verb)).expect("JSON");
        let (ping, info, stats) = (read(Verb::Ping), read(Verb::Info), read(Verb::Stats));
        for (answer, kind) in [(&ping, "ping"), (&info, "info"), (&stats, "stats")] {
            assert_eq!(answer["type"], format!("io.nats.micro.v1.{kind}_response"));
            assert_eq!((&answer["name"], &answer["id"]), (&ping["name"], &ping["id"]));
        }
        assert_eq!(info["endpoints"][0]["subject"], "rpc.sim1.halt");
        let halt = &stats["endpoints"][0];
        assert_eq!((&halt["num_requests"], &halt["num_errors"]), (&2.into(), &1.into()), "{halt}");
        assert_eq!(halt["average_processing_time"], 200, "{halt}");
        assert!(halt["last_error"].as_str().is_some_and(|text| text.starts_with("404:")), "{halt}");
    }
}
