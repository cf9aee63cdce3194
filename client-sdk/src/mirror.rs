//! A live copy of one gateway's trading state: the same `OmsState::apply` over the same events as in the node.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use protocol::rpc::JournalEvent;
use protocol::{Name, OmsState};
use tokio::sync::{broadcast, mpsc, watch};

use crate::client::Client;
use crate::error::Error;
use crate::follower::{CAPACITY, Followed, Follower, Start};
use crate::snapshot::Snapshot;
use crate::task::Task;

/// Changes that may wait for a slow reader of [`OmsMirror::changes`]; beyond that it is told how many it missed.
const CHANGES: usize = 4_096;
/// How long the first snapshot may take.
const FIRST_SNAPSHOT: Duration = Duration::from_secs(30);

/// A gateway's orders, trades, quotes, positions and accounts, kept up to date by a task of its own through losses,
/// reconnects and failovers. Cheap to clone; the last clone dropped ends it. At any quiet moment it equals the node's
/// state (or the part of it that this client may see).
#[derive(Debug, Clone)]
pub struct OmsMirror {
    gateway: Name,
    copy: watch::Receiver<Copy>,
    changes: broadcast::WeakSender<Change>,
    wanted: Arc<watch::Sender<u64>>,
    undecodable: Arc<AtomicU64>,
    _tasks: Arc<[Task; 2]>,
    _client: Client,
}

/// The state, and where in the journal it stands.
#[derive(Debug, Clone, Default)]
struct Copy {
    state: Arc<OmsState>,
    /// Position of the last event applied.
    journal_seq: u64,
    /// Everything up to here is applied for certain.
    complete_to: u64,
}

impl Copy {
    fn replace(&mut self, snapshot: Snapshot) {
        self.state = Arc::new(snapshot.state);
        self.journal_seq = snapshot.journal_seq;
        self.complete_to = snapshot.journal_seq;
    }
}

/// A change of a mirror.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// This event was applied.
    Event(Arc<JournalEvent>),
    /// The state was replaced as a whole, because the journal no longer reached back far enough, or is another one:
    /// events were missed.
    Replaced,
    /// A new trading day: orders, quotes and trades that ended on earlier ones have left the state. No event was missed,
    /// and those that were told are in it.
    NewDay,
    /// So many changes were missed, because this reader is too slow: read [`OmsMirror::state`] again.
    Lagged(u64),
}

impl OmsMirror {
    pub(crate) async fn open(client: &Client, gateway: &Name) -> Result<OmsMirror, Error> {
        let (sender, mut followed) = mpsc::channel(CAPACITY);
        let wanted = watch::Sender::new(0);
        let undecodable = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&undecodable);
        let opening = Follower::open(client, gateway, Start::Snapshot, wanted.subscribe(), sender, counter);
        let timed_out = |_| Error::Timeout {
            gateway: gateway.clone(),
            method: "the first snapshot".to_owned(),
            timeout: FIRST_SNAPSHOT,
            maybe_executed: false,
        };
        let follower = tokio::time::timeout(FIRST_SNAPSHOT, opening).await.map_err(timed_out)??;
        if !follower.has_begun() {
            return Err(Error::GatewayNotRunning { gateway: gateway.clone(), method: "get_all_orders".to_owned() });
        }
        let (copies, copy) = watch::channel(Copy::default());
        let (changes, _) = broadcast::channel(CHANGES);
        let weak = changes.downgrade();
        // The snapshot is waiting already: a mirror is never seen empty.
        if let Ok(first) = followed.try_recv() {
            take(&copies, &changes, vec![first]);
        }
        let keeper = Task::spawn(keep(followed, copies, changes));
        Ok(OmsMirror {
            gateway: gateway.clone(),
            copy,
            changes: weak,
            wanted: Arc::new(wanted),
            undecodable,
            _tasks: Arc::new([Task::spawn(follower.run()), keeper]),
            _client: client.clone(),
        })
    }

    /// The gateway that it mirrors.
    #[must_use]
    pub fn gateway(&self) -> &Name {
        &self.gateway
    }

    /// The state now, consistent in itself. Holding on to it costs the mirror one copy at its next change.
    #[must_use]
    pub fn state(&self) -> Arc<OmsState> {
        Arc::clone(&self.copy.borrow().state)
    }

    /// Journal position of the last event applied.
    #[must_use]
    pub fn journal_seq(&self) -> u64 {
        self.copy.borrow().journal_seq
    }

    /// Waits until everything up to a journal position is applied for certain, reading the journal if need be: for
    /// example up to the `journal_seq` of [`crate::GatewayHandle::get_status`]. Waits as long as the gateway is away.
    pub async fn caught_up_to(&self, journal_seq: u64) {
        self.wanted.send_if_modified(|wanted| {
            let more = journal_seq > *wanted;
            *wanted = (*wanted).max(journal_seq);
            more
        });
        // The keeper lives as long as `self`.
        let _ = self.copy.clone().wait_for(|copy| copy.complete_to >= journal_seq).await;
    }

    /// Waits until a condition holds for the state, and returns that state.
    pub async fn wait_for(&self, mut condition: impl FnMut(&OmsState) -> bool) -> Arc<OmsState> {
        let mut copy = self.copy.clone();
        match copy.wait_for(|copy| condition(&copy.state)).await {
            Ok(copy) => Arc::clone(&copy.state),
            Err(_) => self.state(),
        }
    }

    /// What changes from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes::new(self.changes.upgrade().map(|sender| sender.subscribe()), self.clone())
    }

    /// How many events it could not decode and skipped; the first is logged.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable.load(Ordering::Relaxed)
    }
}

async fn keep(mut followed: mpsc::Receiver<Followed>, copies: watch::Sender<Copy>, changes: broadcast::Sender<Change>) {
    let mut batch = Vec::new();
    while followed.recv_many(&mut batch, 256).await > 0 {
        take(&copies, &changes, std::mem::take(&mut batch));
    }
}

/// Applies a batch; readers see all of it or nothing.
fn take(copies: &watch::Sender<Copy>, changes: &broadcast::Sender<Change>, batch: Vec<Followed>) {
    let mut told = Vec::with_capacity(batch.len());
    copies.send_modify(|copy| {
        for followed in batch {
            match followed {
                Followed::Event(item) => {
                    Arc::make_mut(&mut copy.state).apply(&item.event.data);
                    copy.journal_seq = copy.journal_seq.max(item.journal_seq);
                    told.push(Change::Event(item.into()));
                }
                Followed::Snapshot(snapshot) => {
                    copy.replace(*snapshot);
                    told.push(Change::Replaced);
                }
                Followed::NewDay(snapshot) => {
                    copy.replace(*snapshot);
                    told.push(Change::NewDay);
                }
                Followed::CompleteTo(seq) => copy.complete_to = seq,
                Followed::TooOld(_) | Followed::Link(_) => {}
            }
        }
    });
    for change in told {
        // Nobody may be listening.
        let _ = changes.send(change);
    }
}

type Received = (Result<Change, broadcast::error::RecvError>, broadcast::Receiver<Change>);

/// The changes of a mirror, in order: see [`OmsMirror::changes`].
pub struct Changes {
    receiving: Option<Pin<Box<dyn Future<Output = Received> + Send>>>,
    _mirror: OmsMirror,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl Changes {
    fn new(receiver: Option<broadcast::Receiver<Change>>, mirror: OmsMirror) -> Changes {
        Changes { receiving: receiver.map(receive), _mirror: mirror }
    }

    /// The next change; `None` when the client is gone.
    pub async fn next(&mut self) -> Option<Change> {
        futures::StreamExt::next(self).await
    }
}

fn receive(mut receiver: broadcast::Receiver<Change>) -> Pin<Box<dyn Future<Output = Received> + Send>> {
    Box::pin(async move { (receiver.recv().await, receiver) })
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        let Some(receiving) = &mut self.receiving else { return Poll::Ready(None) };
        let (received, receiver) = std::task::ready!(receiving.as_mut().poll(context));
        let change = match received {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(count)) => Change::Lagged(count),
            Err(broadcast::error::RecvError::Closed) => {
                self.receiving = None;
                return Poll::Ready(None);
            }
        };
        self.receiving = Some(receive(receiver));
        Poll::Ready(Some(change))
    }
}
