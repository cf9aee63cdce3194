//! Who is alive: gateways by their heartbeats, and the connection itself.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use protocol::{GatewayState, Name};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::board::Heartbeats;
use crate::client::Client;
use crate::connection::Link;
use crate::task::Task;

/// How often silence is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Events that may wait for the user. Full: the watcher waits, and then reports how things are by that time.
const CAPACITY: usize = 1_024;

/// A change in who is alive.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum HealthEvent {
    /// Three heartbeats of a gateway are missing.
    GatewayLost {
        /// Which.
        gateway: Name,
        /// How long ago its last heartbeat came.
        silent_for: Duration,
    },
    /// A lost gateway's heartbeat is back.
    GatewayRecovered {
        /// Which.
        gateway: Name,
        /// Its epoch: another one than before means that another node leads.
        epoch: u64,
    },
    /// A gateway is heard of for the first time, or its state has changed.
    GatewayState {
        /// Which.
        gateway: Name,
        /// The state before; `None` at the first heartbeat.
        from: Option<GatewayState>,
        /// The state now.
        to: GatewayState,
        /// Why, in the node's words.
        reason: Option<String>,
    },
    /// Another node (or the same one, restarted) leads the gateway now. A lower epoch than before means that another
    /// cluster answers, or that the old one's leases were wiped.
    EpochChanged {
        /// Which.
        gateway: Name,
        /// The epoch before.
        from: u64,
        /// The epoch now.
        to: u64,
    },
    /// The connection to the server is lost; it is made again by itself.
    Disconnected,
    /// The connection is back.
    Reconnected,
}

/// Changes in who is alive, beginning with every gateway known: see [`Client::health`].
#[derive(Debug)]
pub struct HealthStream {
    events: mpsc::Receiver<HealthEvent>,
    _watcher: Task,
    _client: Client,
}

impl HealthStream {
    pub(crate) fn open(client: &Client) -> HealthStream {
        let (sender, events) = mpsc::channel(CAPACITY);
        let tracker = Tracker::new(client.patience());
        let watcher = watch_over(tracker, client.heartbeats(), client.calls().link.clone(), sender);
        HealthStream { events, _watcher: Task::spawn(watcher), _client: client.clone() }
    }

    /// The next change; `None` when the client is gone.
    pub async fn next(&mut self) -> Option<HealthEvent> {
        self.events.recv().await
    }
}

impl Stream for HealthStream {
    type Item = HealthEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<HealthEvent>> {
        self.events.poll_recv(context)
    }
}

async fn watch_over(
    mut tracker: Tracker,
    mut heartbeats: watch::Receiver<Heartbeats>,
    mut link: watch::Receiver<Link>,
    sender: mpsc::Sender<HealthEvent>,
) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = heartbeats.changed() => if changed.is_err() { return },
            changed = link.changed() => if changed.is_err() { return },
            _ = looks.tick() => {}
        }
        let now_linked = *link.borrow_and_update();
        let events = tracker.look(&heartbeats.borrow_and_update(), now_linked, Instant::now());
        for event in events {
            if sender.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// Decides from what is seen, and when, what has changed.
#[derive(Debug)]
struct Tracker {
    patience: Duration,
    link: Option<Link>,
    /// Since when heartbeats could arrive at all.
    listening_since: Option<Instant>,
    known: BTreeMap<Name, Known>,
}

#[derive(Debug)]
struct Known {
    epoch: u64,
    state: GatewayState,
    lost: bool,
}

impl Tracker {
    fn new(patience: Duration) -> Tracker {
        Tracker { patience, link: None, listening_since: None, known: BTreeMap::new() }
    }

    fn look(&mut self, heartbeats: &Heartbeats, link: Link, now: Instant) -> Vec<HealthEvent> {
        let mut events = Vec::new();
        self.look_at_link(link, now, &mut events);
        for (gateway, heard) in heartbeats {
            let status = &heard.status;
            // Silence counts from when we could hear; while we cannot, nobody is to blame.
            let since = self.listening_since.map_or(heard.at, |listening| listening.max(heard.at));
            let silent = now.saturating_duration_since(since) > self.patience && link.connected;
            let fresh = now.saturating_duration_since(heard.at) <= self.patience;
            match self.known.get_mut(gateway) {
                None => {
                    events.push(HealthEvent::GatewayState {
                        gateway: gateway.clone(),
                        from: None,
                        to: status.state,
                        reason: status.reason.clone(),
                    });
                    let known = Known { epoch: status.epoch, state: status.state, lost: false };
                    self.known.insert(gateway.clone(), known);
                }
                Some(known) => {
                    if known.lost && fresh {
                        known.lost = false;
                        events.push(HealthEvent::GatewayRecovered { gateway: gateway.clone(), epoch: status.epoch });
                    }
                    if status.epoch != known.epoch {
                        events.push(HealthEvent::EpochChanged {
                            gateway: gateway.clone(),
                            from: known.epoch,
                            to: status.epoch,
                        });
                        known.epoch = status.epoch;
                    }
                    if status.state != known.state {
                        events.push(HealthEvent::GatewayState {
                            gateway: gateway.clone(),
                            from: Some(known.state),
                            to: status.state,
                            reason: status.reason.clone(),
                        });
                        known.state = status.state;
                    }
                }
            }
            let known = self.known.get_mut(gateway).expect("entered above");
            if silent && !known.lost {
                known.lost = true;
                let silent_for = now.saturating_duration_since(heard.at);
                events.push(HealthEvent::GatewayLost { gateway: gateway.clone(), silent_for });
            }
        }
        events
    }

    fn look_at_link(&mut self, link: Link, now: Instant, events: &mut Vec<HealthEvent>) {
        if let Some(before) = self.link {
            let again = before.generation != link.generation;
            if before.connected && (again || !link.connected) {
                events.push(HealthEvent::Disconnected);
            }
            if link.connected && (again || !before.connected) {
                events.push(HealthEvent::Reconnected);
                self.listening_since = Some(now);
            }
        }
        self.link = Some(link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Heard;
    use crate::board::tests::status;

    const UP: Link = Link { connected: true, generation: 1 };
    const DOWN: Link = Link { connected: false, generation: 1 };
    const UP_AGAIN: Link = Link { connected: true, generation: 2 };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn heard(epoch: u64, state: GatewayState, at: Instant) -> Heartbeats {
        Heartbeats::from([("sim1".into(), Heard::new(status("sim1", epoch, state), at))])
    }

    fn tracker() -> Tracker {
        Tracker::new(seconds(3))
    }

    #[tokio::test]
    async fn three_missed_heartbeats_lose_a_gateway_and_the_first_one_back_recovers_it() {
        let mut tracker = tracker();
        let t = Instant::now();
        let first = heard(1, GatewayState::Ready, t);
        assert_eq!(tracker.look(&first, UP, t).len(), 1);
        assert_eq!(tracker.look(&first, UP, t + seconds(3)), []);
        let lost = tracker.look(&first, UP, t + seconds(4));
        assert_eq!(lost, [HealthEvent::GatewayLost { gateway: "sim1".into(), silent_for: seconds(4) }]);
        assert_eq!(tracker.look(&first, UP, t + seconds(5)), [], "told once");
        let back = heard(1, GatewayState::Ready, t + seconds(6));
        let events = tracker.look(&back, UP, t + seconds(6));
        assert_eq!(events, [HealthEvent::GatewayRecovered { gateway: "sim1".into(), epoch: 1 }]);
    }

    #[tokio::test]
    async fn our_own_outage_is_not_the_gateways() {
        let mut tracker = tracker();
        let t = Instant::now();
        let first = heard(1, GatewayState::Ready, t);
        tracker.look(&first, UP, t);
        assert_eq!(tracker.look(&first, DOWN, t + seconds(1)), [HealthEvent::Disconnected]);
        assert_eq!(tracker.look(&first, DOWN, t + seconds(20)), []);
        assert_eq!(tracker.look(&first, UP_AGAIN, t + seconds(21)), [HealthEvent::Reconnected]);
        assert_eq!(tracker.look(&first, UP_AGAIN, t + seconds(23)), [], "it has had no time to beat yet");
        let events = tracker.look(&first, UP_AGAIN, t + seconds(25));
        assert!(matches!(events[..], [HealthEvent::GatewayLost { .. }]), "{events:?}");
    }

    #[tokio::test]
    async fn epochs_that_begin_anew_are_a_change_of_leader() {
        let mut tracker = tracker();
        let t = Instant::now();
        tracker.look(&heard(7, GatewayState::Ready, t), UP, t);
        let events = tracker.look(&heard(1, GatewayState::Ready, t), UP, t);
        assert_eq!(events, [HealthEvent::EpochChanged { gateway: "sim1".into(), from: 7, to: 1 }]);
    }

    #[tokio::test]
    async fn a_change_of_leader_and_of_state_is_told() {
        let mut tracker = tracker();
        let t = Instant::now();
        tracker.look(&heard(1, GatewayState::Ready, t), UP, t);
        let events = tracker.look(&heard(2, GatewayState::Connecting, t), UP, t);
        assert_eq!(
            events,
            [
                HealthEvent::EpochChanged { gateway: "sim1".into(), from: 1, to: 2 },
                HealthEvent::GatewayState {
                    gateway: "sim1".into(),
                    from: Some(GatewayState::Ready),
                    to: GatewayState::Connecting,
                    reason: None,
                },
            ]
        );
    }
}
