//! Core events on their way to NATS: ticks, status, heads, contracts, logs. Encoded once into a reused buffer, with
//! no flush and no task per message, and never waiting: when the connection takes no more, the publisher says so and
//! the tick queue conflates behind it.

use std::collections::HashMap;

use async_nats::{Client, Subject};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use protocol::event::{Event, Head, Log, Status};
use protocol::{Contract, InstrumentId, Name, Tick, codec};
use tracing::warn;

/// Buffer that events go out of; a new one is taken when it is used up.
const BUFFER: usize = 256 * 1024;

/// See the module.
pub struct Publisher {
    client: Client,
    gateway: Name,
    epoch: u64,
    /// Events are encoded here and then copied: writing JSON piece by piece into a `BytesMut` takes a third longer.
    encoded: Vec<u8>,
    buffer: BytesMut,
    tick_subjects: HashMap<InstrumentId, Subject>,
    seqs: HashMap<protocol::Subject, u64>,
    /// The publish that found the connection's queue full.
    stuck: Option<BoxFuture<'static, ()>>,
    /// Events that were dropped while it was full: heartbeats and logs, which the next one replaces.
    dropped: u64,
}

impl Publisher {
    /// A publisher for one gateway under one epoch.
    #[must_use]
    pub fn new(client: Client, gateway: Name, epoch: u64) -> Self {
        Publisher {
            client,
            gateway,
            epoch,
            encoded: Vec::new(),
            buffer: BytesMut::with_capacity(BUFFER),
            tick_subjects: HashMap::new(),
            seqs: HashMap::new(),
            stuck: None,
            dropped: 0,
        }
    }

    /// Whether ticks are taken: not while the connection's queue is full.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.stuck.is_none()
    }

    /// Waits until the connection takes more. Safe to cancel.
    pub async fn room(&mut self) {
        if let Some(stuck) = &mut self.stuck {
            stuck.await;
            self.stuck = None;
        }
    }

    /// Publishes a tick. Call it only while there is room; the one tick that finds the queue full is kept and goes
    /// out first.
    pub fn tick(&mut self, event: &Event<Tick>) {
        let instrument = event.data.instrument();
        let subject = self
            .tick_subjects
            .entry(instrument)
            .or_insert_with_key(|instrument| Subject::from(protocol::Subject::tick(instrument).to_string()))
            .clone();
        if let Some(bytes) = self.encode(event) {
            self.send(subject, bytes, true);
        }
    }

    /// Publishes the heartbeat.
    pub fn status(&mut self, status: Status) {
        let time = status.time;
        let subject = protocol::Subject::Status { gateway: self.gateway.clone() };
        self.event(subject, time, status);
    }

    /// Tells an owner how far its events have come.
    pub fn head(&mut self, head: Head, time: protocol::Timestamp) {
        let subject = protocol::Subject::Head { gateway: self.gateway.clone(), owner: head.owner.clone() };
        self.event(subject, time, head);
    }

    /// Publishes a line for people.
    pub fn log(&mut self, log: Log) {
        let time = log.time;
        let subject = protocol::Subject::Log { level: log.level, gateway: self.gateway.clone() };
        self.event(subject, time, log);
    }

    /// Publishes an instrument that can be traded; its envelope is the engine's.
    pub fn contract(&mut self, event: &Event<Contract>) {
        let subject = protocol::Subject::Contract {
            symbol: event.data.symbol.clone(),
            exchange: event.data.exchange,
            gateway: self.gateway.clone(),
        };
        if let Some(bytes) = self.encode(event) {
            self.send(Subject::from(subject.to_string()), bytes, false);
        }
    }

    fn event<T: serde::Serialize>(&mut self, subject: protocol::Subject, time: protocol::Timestamp, data: T) {
        let text = subject.to_string();
        let seq = self.seqs.entry(subject).or_insert(0);
        *seq += 1;
        let event = Event { gateway: self.gateway.clone(), epoch: self.epoch, seq: *seq, time, data };
        if let Some(bytes) = self.encode(&event) {
            self.send(Subject::from(text), bytes, false);
        }
    }

    fn encode<T: serde::Serialize>(&mut self, event: &Event<T>) -> Option<Bytes> {
        self.encoded.clear();
        if let Err(error) = codec::encode_into(&mut self.encoded, event) {
            warn!(gateway = %self.gateway, %error, "an event cannot be encoded");
            return None;
        }
        if self.buffer.capacity() < self.encoded.len() {
            self.buffer = BytesMut::with_capacity(BUFFER.max(self.encoded.len()));
        }
        self.buffer.extend_from_slice(&self.encoded);
        Some(self.buffer.split().freeze())
    }

    /// Hands the bytes to the connection's own bounded queue without waiting. If that is full, a tick is kept as the
    /// stuck one; anything else is dropped, since its successor follows within a second.
    fn send(&mut self, subject: Subject, bytes: Bytes, keep: bool) {
        if self.stuck.is_none() {
            let publish = self.client.publish(subject.clone(), bytes.clone());
            // The cooperative budget would report a full queue where there is none.
            match tokio::task::unconstrained(publish).now_or_never() {
                Some(Ok(())) => return,
                Some(Err(error)) => {
                    warn!(gateway = %self.gateway, %subject, %error, "an event was not published");
                    return;
                }
                None if keep => {
                    let client = self.client.clone();
                    self.stuck = Some(
                        async move {
                            // An error here is a closed client: there is nobody left to tell.
                            let _ = client.publish(subject, bytes).await;
                        }
                        .boxed(),
                    );
                    return;
                }
                None => {}
            }
        }
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            warn!(gateway = %self.gateway, dropped = self.dropped, "NATS takes no more: heartbeats and logs are dropped");
        }
    }
}
