//! The newest heartbeat of every gateway, kept by one task per client.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use protocol::{Event, Name, Status, codec, subject};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::connection::Connection;
use crate::error::Error;
use crate::task::Task;

/// For so long after a heartbeat, one of a lower epoch is taken for a former leader's: several leases, and what a
/// stopped process may still have had on its way. Later, epochs have begun anew: the leases were wiped, or another
/// cluster answers at this address.
const FORMER_LEADER: Duration = Duration::from_secs(15);

/// A heartbeat and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub status: Status,
    pub at: Instant,
    /// The highest epoch that was heard before epochs began anew, if they ever did.
    pub given_up: Option<u64>,
}

impl Heard {
    pub(crate) fn new(status: Status, at: Instant) -> Heard {
        Heard { status, at, given_up: None }
    }

    /// Whether what is told under this epoch replaces what was told under a higher one.
    pub(crate) fn begins_anew(&self, epoch: u64, higher: u64) -> bool {
        self.status.epoch == epoch && self.given_up.is_some_and(|given_up| higher <= given_up)
    }
}

/// Every gateway heard of since the client connected.
pub(crate) type Heartbeats = BTreeMap<Name, Heard>;

/// The heartbeats, and the task that listens to them.
#[derive(Debug)]
pub(crate) struct Board {
    heartbeats: watch::Receiver<Heartbeats>,
    _listener: Task,
}

impl Board {
    pub(crate) async fn open(connection: &Connection) -> Result<Board, Error> {
        let mut subscription = connection.subscribe(subject::status_filter(None)).await?;
        let (sender, heartbeats) = watch::channel(Heartbeats::new());
        let listener = Task::spawn(async move {
            let mut told = false;
            while let Some(message) = subscription.next().await {
                match codec::decode::<Event<Status>>(&message.payload) {
                    Ok(event) => {
                        let heard = Heard::new(event.data, Instant::now());
                        sender.send_if_modified(|heartbeats| post(heartbeats, heard));
                    }
                    Err(error) if !told => {
                        told = true;
                        warn!(subject = %message.subject, %error, "a heartbeat does not decode; such are skipped");
                    }
                    Err(_) => {}
                }
            }
        });
        Ok(Board { heartbeats, _listener: listener })
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Heartbeats> {
        self.heartbeats.clone()
    }

    /// The gateway's newest heartbeat.
    pub(crate) fn heard(&self, gateway: &str) -> Option<Heard> {
        self.heartbeats.borrow().get(gateway).cloned()
    }
}

/// Keeps the newest; soon behind a higher epoch, one of a lower epoch comes from a node that leads no more.
fn post(heartbeats: &mut Heartbeats, mut heard: Heard) -> bool {
    let name = heard.status.gateway_name.clone();
    if let Some(known) = heartbeats.get(&name) {
        heard.given_up = known.given_up;
        if heard.status.epoch < known.status.epoch {
            if heard.at.saturating_duration_since(known.at) < FORMER_LEADER {
                return false;
            }
            let (from, to) = (known.status.epoch, heard.status.epoch);
            warn!(gateway = %name, from, to, "epochs have begun anew: the leases were wiped, or this is another cluster");
            heard.given_up = heard.given_up.max(Some(from));
        }
    }
    heartbeats.insert(name, heard);
    true
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use protocol::{GatewayState, PROTOCOL_VERSION};

    pub(crate) fn status(gateway: &str, epoch: u64, state: GatewayState) -> Status {
        Status {
            gateway_name: gateway.into(),
            state,
            reason: None,
            epoch,
            journal_seq: 0,
            time: chrono::DateTime::UNIX_EPOCH.fixed_offset(),
            protocol_version: PROTOCOL_VERSION,
            version: "0.1.0".into(),
            node: "n1".into(),
            venue: "sim".into(),
            trading_day: None,
            halted: Vec::new(),
            halts: Vec::new(),
            subscriptions: 0,
            contracts: 0,
            ticks: 0,
            ticks_conflated: 0,
            journal_pending: 0,
            snapshot_seq: 0,
        }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[tokio::test]
    async fn a_former_leader_is_not_heard() {
        let mut board = Heartbeats::new();
        let at = Instant::now();
        assert!(post(&mut board, Heard::new(status("sim1", 7, GatewayState::Ready), at)));
        assert!(!post(&mut board, Heard::new(status("sim1", 6, GatewayState::Closing), at)));
        assert!(!post(&mut board, Heard::new(status("sim1", 6, GatewayState::Closing), at + seconds(14))));
        assert_eq!(board["sim1"].status.state, GatewayState::Ready);
        assert!(post(&mut board, Heard::new(status("sim1", 8, GatewayState::Starting), at)));
        assert_eq!((board["sim1"].status.epoch, board["sim1"].given_up), (8, None));
    }

    #[tokio::test]
    async fn epochs_that_begin_anew_are_heard_once_the_higher_one_is_silent() {
        let mut board = Heartbeats::new();
        let at = Instant::now();
        post(&mut board, Heard::new(status("sim1", 7, GatewayState::Ready), at));
        post(&mut board, Heard::new(status("sim1", 7, GatewayState::Ready), at + seconds(10)));
        let new = |epoch, after| Heard::new(status("sim1", epoch, GatewayState::Ready), at + seconds(after));
        assert!(!post(&mut board, new(1, 24)), "the higher one was heard 14 s ago");
        assert!(post(&mut board, new(1, 25)));
        assert!(post(&mut board, new(2, 26)));
        assert!(!post(&mut board, new(1, 27)), "a former leader of the new ones");
        let heard = &board["sim1"];
        assert_eq!(heard.status.epoch, 2);
        assert!(heard.begins_anew(2, 7), "what stands at the old epoch goes on with the new one");
        assert!(!heard.begins_anew(1, 7) && !heard.begins_anew(2, 8));
    }
}
