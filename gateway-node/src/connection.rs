//! Connections to NATS, with the settings that every one of them needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use rand::RngExt as _;
use tracing::{info, warn};

use crate::config::Login;

/// Where the brokers are, and who we are to them.
#[derive(Debug, Clone)]
pub struct Brokers {
    /// At least one address.
    pub servers: Vec<ServerAddr>,
    /// How to log in.
    pub login: Login,
}

/// Longest wait before another try to reconnect.
const LAST_RETRY: Duration = Duration::from_secs(2);

impl Brokers {
    /// Connects. A connection that is lost later comes back by itself, for as long as it takes.
    ///
    /// # Errors
    /// If no server answers, or it refuses the login; the message names the addresses.
    pub async fn connect(&self, name: String) -> anyhow::Result<Client> {
        // Host and port only: an address may hold a password.
        let address = |server: &ServerAddr| format!("{}:{}", server.host(), server.port());
        let addresses = || self.servers.iter().map(address).collect::<Vec<_>>().join(", ");
        let label = name.clone();
        // One event a lost message: told at each doubling, or a flood of calls would be a flood of lines too.
        let lost = Arc::new(AtomicU64::new(0));
        let options = ConnectOptions::new()
            .name(name)
            .ping_interval(Duration::from_secs(3))
            .connection_timeout(Duration::from_secs(5))
            .subscription_capacity(65_536)
            // Subjects are built by one module that escapes what needs it.
            .skip_subject_validation(true)
            .reconnect_delay_callback(|attempt| {
                let longest = Duration::from_millis(50).saturating_mul(1 << attempt.min(6)).min(LAST_RETRY);
                // Jitter, so that a thousand clients do not come back in the same millisecond.
                longest.mul_f64(rand::rng().random_range(0.5..1.0))
            })
            .event_callback(move |event| {
                let (label, lost) = (label.clone(), lost.clone());
                async move {
                    match event {
                        Event::Connected => info!(connection = %label, "connected to NATS"),
                        Event::Disconnected => warn!(connection = %label, "disconnected from NATS"),
                        Event::SlowConsumer(id) => {
                            let lost = lost.fetch_add(1, Ordering::Relaxed) + 1;
                            if lost.is_power_of_two() {
                                warn!(connection = %label, id, lost, "a subscription is too slow: messages are lost");
                            }
                        }
                        other => info!(connection = %label, event = %other, "NATS"),
                    }
                }
            });
        let options = match &self.login {
            Login::Nobody => options,
            Login::User { user, password } => options.user_and_password(user.clone(), password.reveal().to_owned()),
            Login::Token(token) => options.token(token.reveal().to_owned()),
            Login::Credentials(file) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("reading the credentials file {}", file.display()))?;
                options.credentials(&text).with_context(|| format!("in the credentials file {}", file.display()))?
            }
        };
        options
            .connect(self.servers.clone())
            .await
            .with_context(|| format!("connecting to NATS at {}: is a nats-server running there?", addresses()))
    }
}
