//! The bare side of every comparison: an async-nats client that publishes ticks' bytes, and answers.

use anyhow::Context as _;
use async_nats::jetstream;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use protocol::{Subject, codec};

use crate::clock::now_ns;
use crate::feed::{Feed, Window};
use crate::recorded::tick_event;
use crate::venue;

/// Where it publishes; the last token is the instrument, as in a tick's subject.
pub const BARE_TICKS: &str = "bare.tick.>";
/// Answered with what was asked, at once.
pub const BARE_ECHO: &str = "bare.echo";
/// Answered with a tick's bytes, at once.
pub const BARE_GET_TICK: &str = "bare.get-tick";
/// As [`BARE_ECHO`], once JetStream has stored it.
pub const BARE_STORE: &str = "bare.store";
/// As [`BARE_STORE`], and stored once more behind the answer, as an order's report is.
pub const BARE_STORE_TWICE: &str = "bare.store-twice";
/// Stored by JetStream.
pub const BARE_JOURNAL: &str = "bare.journal";

/// Ticks' bytes, ready to be published.
pub struct BareTicks {
    client: async_nats::Client,
    ready: Vec<(async_nats::Subject, Bytes)>,
}

impl BareTicks {
    /// Encodes them, one of each of so many instruments.
    ///
    /// # Errors
    /// If one cannot be.
    pub fn new(client: async_nats::Client, instruments: usize) -> anyhow::Result<BareTicks> {
        let ready = venue::instruments(instruments)
            .map(|instrument| {
                let event = protocol::Event { data: venue::tick(venue::GATEWAY, &instrument), ..tick_event() };
                let subject = Subject::tick(&instrument).to_string().replacen("evt", "bare", 1);
                Ok((subject.into(), codec::encode(&event)?.into()))
            })
            .collect::<Result<_, codec::EncodeError>>()?;
        Ok(BareTicks { client, ready })
    }

    /// Publishes a feed. Where latencies are measured, the first eight bytes are the time.
    pub fn send(&self, runtime: &tokio::runtime::Handle, feed: Feed, window: &Window) {
        feed.run(window, |number| {
            let (subject, ready) = &self.ready[number as usize % self.ready.len()];
            let bytes = match feed.per_second {
                None => ready.clone(),
                Some(_) => {
                    let mut stamped = BytesMut::with_capacity(ready.len());
                    stamped.put_u64(now_ns());
                    stamped.extend_from_slice(&ready[8..]);
                    stamped.freeze()
                }
            };
            runtime.block_on(self.client.publish(subject.clone(), bytes)).is_ok()
        });
    }
}

/// Answers requests that need no store.
///
/// # Errors
/// If the connection is gone.
pub fn serve(client: &async_nats::Client) -> anyhow::Result<()> {
    tokio::spawn(answer(client.clone(), BARE_ECHO, None));
    tokio::spawn(answer(client.clone(), BARE_GET_TICK, Some(codec::encode(&tick_event())?.into())));
    Ok(())
}

/// Answers those that do.
///
/// # Errors
/// If the stream cannot be made.
pub async fn serve_stores(client: &async_nats::Client) -> anyhow::Result<()> {
    let context = jetstream::new(client.clone());
    let config = jetstream::stream::Config {
        name: "BARE".to_owned(),
        subjects: vec![BARE_JOURNAL.to_owned()],
        storage: jetstream::stream::StorageType::File,
        ..Default::default()
    };
    context.create_stream(config).await.context("making the bare stream")?;
    tokio::spawn(store(client.clone(), context.clone(), BARE_STORE, 1));
    tokio::spawn(store(client.clone(), context, BARE_STORE_TWICE, 2));
    Ok(())
}

/// Answers with what is ready, or else with what was asked.
async fn answer(client: async_nats::Client, subject: &'static str, ready: Option<Bytes>) -> anyhow::Result<()> {
    let mut requests = client.subscribe(subject).await?;
    while let Some(request) = requests.next().await {
        if let Some(inbox) = request.reply {
            client.publish(inbox, ready.clone().unwrap_or(request.payload)).await?;
        }
    }
    Ok(())
}

/// Stores what is asked and then answers with it, any number at a time; what is stored more than once is stored again
/// behind the answer.
async fn store(
    client: async_nats::Client,
    context: jetstream::Context,
    subject: &'static str,
    times: u32,
) -> anyhow::Result<()> {
    let mut requests = client.subscribe(subject).await?;
    while let Some(request) = requests.next().await {
        let Some(inbox) = request.reply else { continue };
        let stored = context.publish(BARE_JOURNAL, request.payload.clone()).await?;
        let (client, context) = (client.clone(), context.clone());
        tokio::spawn(async move {
            // Whoever asked would wait in vain and say so.
            if stored.await.is_err() || client.publish(inbox, request.payload.clone()).await.is_err() {
                return;
            }
            for _ in 1..times {
                if let Ok(again) = context.publish(BARE_JOURNAL, request.payload.clone()).await {
                    let _ = again.await;
                }
            }
        });
    }
    Ok(())
}
