//! One connection to NATS: its options, whether it stands, and the round trip that proves a subscription.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::{ConnectErrorKind, ServerAddr};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use crate::error::Error;
use crate::options::{ConnectOptions, Credentials};
use crate::task::Task;

/// A dead peer is noticed after two of these.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Messages that may wait in each subscription; what comes when it is full is dropped and shows as a gap.
const SUBSCRIPTION_CAPACITY: usize = 65_536;
/// The library's events can be dropped when they come in bursts, so its state is also looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Longest pause between two attempts to reconnect.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Longest wait for the answer to a round trip.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the connection stands, and how often it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub connected: bool,
    /// Rises at every reconnect: a reader that sees it rise may have missed something.
    pub generation: u64,
}

/// One connection and the task that watches over it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub nats: async_nats::Client,
    pub link: watch::Receiver<Link>,
    _monitor: Task,
}

impl Connection {
    /// Connects, or fails with what to do about it; it never keeps trying behind the caller's back.
    pub(crate) async fn open(options: &ConnectOptions, name: &str) -> Result<Connection, Error> {
        let addresses = addresses(&options.servers)?;
        // Full: the event is dropped, and the next look at the state makes up for it.
        let (events, received) = mpsc::channel(64);
        let nats_options = nats_options(options, name).await?.event_callback(move |event| {
            let events = events.clone();
            async move {
                let _ = events.try_send(event);
            }
        });
        let servers = options.servers.join(", ");
        let attempt = nats_options.connect(addresses);
        let nats = match tokio::time::timeout(options.connect_timeout, attempt).await {
            Ok(Ok(nats)) => nats,
            Ok(Err(error)) => return Err(connect_error(servers, error.kind(), error.to_string())),
            Err(_) => {
                let reason = format!("no answer within {:?}", options.connect_timeout);
                return Err(connect_error(servers, ConnectErrorKind::TimedOut, reason));
            }
        };
        let (sender, link) = watch::channel(look(&nats));
        let monitor = Task::spawn(monitor(name.to_owned(), nats.clone(), received, sender));
        Ok(Connection { nats, link, _monitor: monitor })
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.nats.connection_state() == State::Connected
    }

    pub(crate) async fn subscribe(&self, subject: String) -> Result<async_nats::Subscriber, Error> {
        self.nats.subscribe(subject).await.map_err(|error| Error::Nats(error.to_string()))
    }

    /// Returns when the server has handled everything sent before. A flush would not: it ends when the bytes are
    /// written. A request that nobody answers is answered by the server itself, at once.
    pub(crate) async fn sync(&self) -> Result<(), Error> {
        let subject = format!("_GATEMESH.sync.{}", uuid::Uuid::now_v7().simple());
        let request = self.nats.request(subject, bytes::Bytes::new());
        match tokio::time::timeout(SYNC_TIMEOUT, request).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
            Ok(Err(error)) => Err(Error::Nats(format!("confirming a subscription: {error}"))),
            Err(_) if !self.is_connected() => Err(Error::Disconnected),
            Err(_) => Err(Error::Nats(
                "the server did not confirm a subscription: the user needs the right to publish on `_GATEMESH.sync.>`"
                    .to_owned(),
            )),
        }
    }
}

fn look(nats: &async_nats::Client) -> Link {
    let generation = nats.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
    Link { connected: nats.connection_state() == State::Connected, generation }
}

async fn monitor(
    name: String,
    nats: async_nats::Client,
    mut events: mpsc::Receiver<async_nats::Event>,
    link: watch::Sender<Link>,
) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            event = events.recv() => match event {
                Some(event) => Some(event),
                None => return,
            },
            _ = looks.tick() => None,
        };
        match event {
            // The server is about to stop and will cut us off: go to another one now, on our own terms.
            Some(async_nats::Event::LameDuckMode) => {
                info!("the server is shutting down, changing to another");
                let _ = tokio::time::timeout(LOOK_INTERVAL, nats.force_reconnect()).await;
            }
            // Violated permissions arrive here only; publish and subscribe have returned Ok.
            Some(async_nats::Event::ServerError(error)) => warn!(%error, "the server refused something"),
            // One for each failed attempt to reconnect.
            Some(async_nats::Event::ClientError(error)) => debug!(%error, "connection trouble"),
            _ => {}
        }
        let now = look(&nats);
        link.send_if_modified(|before| {
            match (before.connected, now.connected, before.generation == now.generation) {
                (true, false, _) => warn!(connection = name, "connection lost, it is made again by itself"),
                (_, true, false) => info!(connection = name, "connected again"),
                _ => {}
            }
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}

async fn nats_options(options: &ConnectOptions, name: &str) -> Result<async_nats::ConnectOptions, Error> {
    let mut nats = async_nats::ConnectOptions::new()
        .name(name)
        .connection_timeout(options.connect_timeout)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        // Our own timeouts decide; the library's would only cut long calls short.
        .request_timeout(None)
        .reconnect_delay_callback(|attempts| reconnect_pause(attempts, random_share()));
    if let Some(prefix) = &options.inbox_prefix {
        nats = nats.custom_inbox_prefix(prefix);
    }
    if let Some(path) = &options.root_certificates {
        nats = nats.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &options.client_certificate {
        nats = nats.add_client_certificate(certificate.clone(), key.clone());
    }
    if options.tls_first {
        nats = nats.tls_first();
    }
    Ok(match &options.credentials {
        Credentials::None => nats,
        Credentials::File(path) => nats.credentials_file(path).await.map_err(|error| {
            Error::Options(format!("credentials file `{}` cannot be read: {error}", path.display()))
        })?,
        Credentials::Nkey(seed) => nats.nkey(seed.clone()),
        Credentials::UserPassword(user, password) => nats.user_and_password(user.clone(), password.clone()),
        Credentials::Token(token) => nats.token(token.clone()),
    })
}

fn addresses(servers: &[String]) -> Result<Vec<ServerAddr>, Error> {
    if servers.is_empty() {
        return Err(Error::Options(
            "no server given: write nats://HOST:PORT, for example nats://127.0.0.1:4222".into(),
        ));
    }
    let parse = |server: &String| {
        server.parse::<ServerAddr>().map_err(|error| {
            Error::Options(format!("`{server}` is no server address ({error}): write nats://HOST:PORT"))
        })
    };
    servers.iter().map(parse).collect()
}

fn connect_error(servers: String, kind: ConnectErrorKind, reason: String) -> Error {
    let advice = match kind {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            "check user, password, token or credentials file"
        }
        ConnectErrorKind::Tls => "check certificates, and whether the server speaks TLS",
        ConnectErrorKind::Dns => "check the host name",
        _ => "start a gateway-node or a nats-server there, or give the right address (GATEMESH_SERVER, --server)",
    };
    Error::Connect { servers, reason, advice: advice.to_owned() }
}

/// Doubles from 100 ms up to two seconds; of that between half and all, so that a thousand clients do not come back at once.
fn reconnect_pause(attempts: usize, share: f64) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(5);
    let full = (Duration::from_millis(100) * 2_u32.pow(doublings)).min(RECONNECT_PAUSE_MAX);
    full.mul_f64(0.5 + share / 2.0)
}

/// Between 0 and 1. The last 32 bits of a UUID v7 are random, which is random enough for a pause.
fn random_share() -> f64 {
    let [.., a, b, c, d] = uuid::Uuid::now_v7().into_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        assert_eq!(reconnect_pause(1, 0.0), Duration::from_millis(50));
        assert_eq!(reconnect_pause(1, 1.0), Duration::from_millis(100));
        assert_eq!(reconnect_pause(1_000, 1.0), RECONNECT_PAUSE_MAX);
        assert_eq!(reconnect_pause(1_000, 0.0), RECONNECT_PAUSE_MAX / 2);
        assert!((0.0..=1.0).contains(&random_share()));
    }

    #[test]
    fn a_wrong_address_is_named() {
        let message = addresses(&["http://a b".to_owned()]).expect_err("no address").to_string();
        assert!(message.contains("http://a b") && message.contains("nats://HOST:PORT"), "{message}");
        assert!(addresses(&[]).is_err());
    }
}
