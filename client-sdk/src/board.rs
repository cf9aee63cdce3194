//! The newest heartbeat of every gateway, kept by one task per client.

use std::collections::BTreeMap;

use futures::StreamExt;
use protocol::{Event, Name, Status, codec, subject};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::connection::Connection;
use crate::error::Error;
use crate::task::Task;

/// A heartbeat and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub status: Status,
    pub at: Instant,
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
                        let heard = Heard { status: event.data, at: Instant::now() };
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

/// Keeps the newest; one of a lower epoch comes from a node that leads no more.
fn post(heartbeats: &mut Heartbeats, heard: Heard) -> bool {
    let name = heard.status.gateway_name.clone();
    let stale = heartbeats.get(&name).is_some_and(|known| heard.status.epoch < known.status.epoch);
    if !stale {
        heartbeats.insert(name, heard);
    }
    !stale
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

    #[tokio::test]
    async fn a_former_leader_is_not_heard() {
        let mut board = Heartbeats::new();
        let at = Instant::now();
        assert!(post(&mut board, Heard { status: status("sim1", 7, GatewayState::Ready), at }));
        assert!(!post(&mut board, Heard { status: status("sim1", 6, GatewayState::Closing), at }));
        assert_eq!(board["sim1"].status.state, GatewayState::Ready);
        assert!(post(&mut board, Heard { status: status("sim1", 8, GatewayState::Starting), at }));
        assert_eq!(board["sim1"].status.epoch, 8);
    }
}
