//! Follows one gateway's journal: every event once, in order, whatever is lost on the way.
//!
//! Events come live from NATS; [`Verification`] decides whether something is missing, and then `get_events` is asked.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::header::{NATS_LAST_SEQUENCE, NATS_SEQUENCE};
use async_nats::{Message, Subscriber};
use futures::{Stream, StreamExt};
use protocol::rpc::JournalEvent;
use protocol::subject::{self, Filter, Kind};
use protocol::{ErrorCode, Event, Head, Name, OmsEvent, RpcError, Subject, codec};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::board::Heartbeats;
use crate::client::Client;
use crate::connection::Link;
use crate::error::Error;
use crate::gateway::{GatewayHandle, is_too_old};
use crate::snapshot::{self, Snapshot};
use crate::verification::{Place, Verification};

/// How long one call of a refill may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a refill that failed (or did not reach the position wanted) is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Messages taken from one subscription at a time.
const BATCH: usize = 4_096;
/// Events that may wait for the user. Full: the follower waits; what NATS drops meanwhile is read from the journal.
pub(crate) const CAPACITY: usize = 4_096;

/// What a follower tells.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The next event.
    Event(Box<JournalEvent>),
    /// The state as a whole: first of all, and again where the journal no longer reaches back far enough.
    Snapshot(Box<Snapshot>),
    /// The state as a whole behind everything told so far: a new trading day has begun, and what ended on earlier ones
    /// has left it.
    NewDay(Box<Snapshot>),
    /// The journal no longer reaches back far enough, and events were missed.
    TooOld(Name),
    /// Everything up to this position has been told.
    CompleteTo(u64),
    /// The connection changed (only told by a stream's own task).
    Link(Link),
}

/// Where a follower begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With what happens from now on.
    Now,
    /// With the state as a whole.
    Snapshot,
}

/// A snapshot on its way.
type Taking = Pin<Box<dyn Future<Output = Result<Snapshot, Error>> + Send>>;

/// One gateway's journal, followed.
pub(crate) struct Follower {
    client: Client,
    gateway: GatewayHandle,
    start: Start,
    arrivals: Arrivals,
    heads: Subscriber,
    heartbeats: watch::Receiver<Heartbeats>,
    link: watch::Receiver<Link>,
    /// Position that somebody waits for.
    wanted: watch::Receiver<u64>,
    /// The epoch of the last heartbeat.
    heard_epoch: u64,
    /// Epochs may have begun anew: then this is another journal.
    anew: bool,
    /// `None` until it is known where to begin.
    verification: Option<Verification>,
    /// The trading day's snapshot that the state told last belongs to.
    day_seq: u64,
    /// A new trading day's snapshot, read beside the live events: no fill waits for it.
    taking: Option<Taking>,
    /// It, once it is here: told when it stands behind everything that has been told.
    taken: Option<Snapshot>,
    out: mpsc::Sender<Followed>,
    retry_at: Instant,
    undecodable: Arc<AtomicU64>,
}

impl Follower {
    /// Subscribes first, and then finds out where to begin, if the gateway runs.
    pub(crate) async fn open(
        client: &Client,
        gateway: &Name,
        start: Start,
        wanted: watch::Receiver<u64>,
        out: mpsc::Sender<Followed>,
        undecodable: Arc<AtomicU64>,
    ) -> Result<Follower, Error> {
        let connection = client.calls();
        let link = connection.link.clone();
        let all = Filter::all().gateway(gateway.clone());
        let mut subscriptions = Vec::with_capacity(5);
        for kind in [Kind::Order, Kind::Trade, Kind::Quote, Kind::Position] {
            subscriptions.push(connection.subscribe(all.subject(kind)).await?);
        }
        subscriptions.push(connection.subscribe(subject::accounts_filter(Some(gateway))).await?);
        let heads = connection.subscribe(subject::heads_filter(gateway, None)).await?;
        connection.sync().await?;
        let mut follower = Follower {
            client: client.clone(),
            gateway: client.gateway(gateway.clone()).with_timeout(CALL_TIMEOUT),
            start,
            arrivals: Arrivals { subscriptions, held: Vec::new() },
            heads,
            heartbeats: client.heartbeats(),
            link,
            wanted,
            heard_epoch: client.heard_epoch(gateway).unwrap_or(0),
            anew: false,
            verification: None,
            day_seq: 0,
            taking: None,
            taken: None,
            out,
            retry_at: Instant::now(),
            undecodable,
        };
        match follower.begin().await {
            Ok(()) => Ok(follower),
            // It is waited for.
            Err(error) if error.is_retryable() => Ok(follower),
            Err(error) => Err(error),
        }
    }

    /// Whether it is known where to begin.
    pub(crate) fn has_begun(&self) -> bool {
        self.verification.is_some()
    }

    /// Follows until the reader or the client is gone.
    pub(crate) async fn run(mut self) {
        let mut wanted_open = true;
        loop {
            self.catch_up().await;
            if self.out.is_closed() {
                return;
            }
            let behind = self.is_behind();
            let retry_at = self.retry_at;
            tokio::select! {
                // Events before heartbeats and heads, which speak of them.
                biased;
                batch = self.arrivals.next() => match batch {
                    Some(batch) => for message in batch {
                        if self.on_message(&message).await.is_err() {
                            return;
                        }
                    },
                    None => return,
                },
                head = self.heads.next() => match head {
                    Some(message) => self.on_head(&message),
                    None => return,
                },
                changed = self.heartbeats.changed() => match changed {
                    Ok(()) => self.on_heartbeat(),
                    Err(_) => return,
                },
                changed = self.link.changed() => match changed {
                    Ok(()) => self.on_link().await,
                    Err(_) => return,
                },
                taken = finished(&mut self.taking) => self.on_taken(taken),
                changed = self.wanted.changed(), if wanted_open => {
                    wanted_open = changed.is_ok();
                    self.retry_at = Instant::now();
                }
                () = tokio::time::sleep_until(retry_at), if behind => {}
                () = self.out.closed() => return,
            }
        }
    }

    fn is_behind(&self) -> bool {
        match &self.verification {
            None => self.start == Start::Snapshot,
            Some(verification) => {
                let waited_for = verification.complete_to() < *self.wanted.borrow();
                self.anew || self.taken.is_some() || verification.needs_refill() || waited_for
            }
        }
    }

    /// Finds out where to begin.
    async fn begin(&mut self) -> Result<(), Error> {
        (self.taking, self.taken, self.anew) = (None, None, false);
        match self.start {
            Start::Now => {
                let status = self.gateway.get_status().await?;
                self.verification = Some(Verification::new(status.journal_seq, status.epoch));
            }
            Start::Snapshot => {
                let snapshot = snapshot::take(&self.gateway, &self.undecodable).await?;
                self.verification = Some(Verification::new(snapshot.journal_seq, snapshot.epoch));
                self.day_seq = snapshot.day_seq;
                let _ = self.out.send(Followed::Snapshot(Box::new(snapshot))).await;
            }
        }
        Ok(())
    }

    /// Begins, or refills, if there is need and it is time; a failure is tried again after a pause.
    async fn catch_up(&mut self) {
        if !self.is_behind() || Instant::now() < self.retry_at || !self.client.is_connected() {
            return;
        }
        self.retry_at = Instant::now() + RETRY_PAUSE;
        let result = match self.verification {
            None => self.begin().await,
            Some(_) if self.anew => self.check_epoch().await,
            Some(_) => match self.taken.take() {
                Some(snapshot) => self.begin_day(snapshot).await,
                None => self.refill(None).await,
            },
        };
        match result {
            Ok(()) => {}
            Err(error) if is_too_old(&error) => self.begin_again(&error).await,
            Err(error) => {
                debug!(gateway = %self.gateway.name(), %error, "reading the journal again failed, trying later")
            }
        }
    }

    /// Asks who leads: the heartbeat of a lower epoch may be a former leader's after all, which answers nothing.
    ///
    /// # Errors
    /// `TOO_OLD` if epochs have begun anew.
    async fn check_epoch(&mut self) -> Result<(), Error> {
        let status = self.gateway.get_status().await?;
        self.anew = false;
        match &self.verification {
            Some(verification) if status.epoch < verification.epoch() => {
                let message = format!("epoch {} leads behind {}: another journal", status.epoch, verification.epoch());
                Err(Error::Rpc(RpcError::new(ErrorCode::TooOld, message)))
            }
            _ => Ok(()),
        }
    }

    async fn begin_again(&mut self, error: &Error) {
        info!(gateway = %self.gateway.name(), %error, "events are no longer kept, beginning anew");
        self.verification = None;
        match self.begin().await {
            Ok(()) if self.start == Start::Now => {
                let _ = self.out.send(Followed::TooOld(self.gateway.name().clone())).await;
            }
            Ok(()) => {}
            Err(error) => debug!(gateway = %self.gateway.name(), %error, "beginning anew failed, trying later"),
        }
    }

    /// Reads the journal behind the last position that is known to be complete, and tells what was missing. A snapshot
    /// that is given comes along to the position that was read to.
    async fn refill(&mut self, mut snapshot: Option<&mut Snapshot>) -> Result<(), Error> {
        let Some(verification) = &mut self.verification else { return Ok(()) };
        let complete_to = verification.complete_to();
        let from = snapshot.as_ref().map_or(complete_to, |snapshot| snapshot.journal_seq.min(complete_to));
        let mut after = from;
        let mut found = 0_u64;
        loop {
            let page = snapshot::events_after(&self.gateway, after, &self.undecodable).await?;
            for item in page.items {
                if let Some(snapshot) = &mut snapshot {
                    snapshot.take_in(&item);
                }
                if verification.on_refilled(item.journal_seq, item.event.epoch, item.event.data.owner()) {
                    found += 1;
                    let _ = self.out.send(Followed::Event(Box::new(item))).await;
                }
            }
            after = after.max(page.scanned);
            if let Some(snapshot) = &mut snapshot {
                snapshot.journal_seq = snapshot.journal_seq.max(after);
            }
            if after >= page.last {
                break;
            }
        }
        verification.on_refill_done(after);
        debug!(gateway = %self.gateway.name(), from, to = after, found, "journal read again");
        let _ = self.out.send(Followed::CompleteTo(verification.complete_to())).await;
        Ok(())
    }

    /// Tells a new trading day's state, once every event in front of it has been told and none behind it.
    async fn begin_day(&mut self, mut snapshot: Snapshot) -> Result<(), Error> {
        let result = self.refill(Some(&mut snapshot)).await;
        let told_to = self.verification.as_ref().map_or(0, Verification::told_to);
        if result.is_err() || snapshot.journal_seq < told_to {
            // An event may be here before the node knows that it is stored: the next attempt finds it.
            self.taken = Some(snapshot);
            return result;
        }
        self.day_seq = snapshot.day_seq;
        let _ = self.out.send(Followed::NewDay(Box::new(snapshot))).await;
        Ok(())
    }

    fn on_taken(&mut self, taken: Result<Snapshot, Error>) {
        self.taking = None;
        match taken {
            Ok(snapshot) => {
                self.taken = Some(snapshot);
                self.retry_at = Instant::now();
            }
            // The next heartbeat is the next attempt.
            Err(error) => debug!(gateway = %self.gateway.name(), %error, "no snapshot of the new trading day yet"),
        }
    }

    /// `Err` when nobody listens any more.
    async fn on_message(&mut self, message: &Message) -> Result<(), ()> {
        let Some(journalled) = self.read(message) else { return Ok(()) };
        let Live { previous, event } = journalled;
        let verification = match &mut self.verification {
            Some(verification) => verification,
            // The snapshot that is still to come will hold it.
            None if self.start == Start::Snapshot => return Ok(()),
            // The gateway was not running when we subscribed: this is the first that it says.
            none => none.insert(Verification::new(event.journal_seq.saturating_sub(1), event.event.epoch)),
        };
        let place = Place {
            seq: event.journal_seq,
            previous,
            subject: &message.subject,
            epoch: event.event.epoch,
            owner: event.event.data.owner(),
        };
        if verification.on_event(place) {
            self.out.send(Followed::Event(Box::new(event))).await.map_err(|_| ())?;
        }
        Ok(())
    }

    fn on_head(&mut self, message: &Message) {
        match codec::decode::<Event<Head>>(&message.payload) {
            Ok(head) => {
                if let Some(verification) = &mut self.verification {
                    verification.on_head(&head.data);
                }
            }
            Err(error) => self.complain(message, &error.to_string()),
        }
    }

    fn on_heartbeat(&mut self) {
        let heartbeats = self.heartbeats.borrow_and_update();
        let Some(heard) = heartbeats.get(self.gateway.name()) else { return };
        if heard.status.epoch < self.heard_epoch && self.verification.is_some() {
            self.anew = true;
            self.retry_at = Instant::now();
        }
        self.heard_epoch = heard.status.epoch;
        let is_new_day = heard.status.snapshot_seq > self.day_seq;
        let is_under_way = self.taking.is_some() || self.taken.is_some();
        if self.start == Start::Snapshot && self.verification.is_some() && is_new_day && !is_under_way {
            // What ended on earlier days has left the node's state, which no event tells.
            debug!(gateway = %self.gateway.name(), "a new trading day: taking a snapshot");
            let (gateway, undecodable) = (self.gateway.clone(), Arc::clone(&self.undecodable));
            self.taking = Some(Box::pin(async move { snapshot::take(&gateway, &undecodable).await }));
        }
        match &mut self.verification {
            Some(verification) => verification.on_epoch(heard.status.epoch),
            None if self.start == Start::Now => {
                self.verification = Some(Verification::new(heard.status.journal_seq, heard.status.epoch));
            }
            None => {}
        }
    }

    async fn on_link(&mut self) {
        let link = *self.link.borrow_and_update();
        if !link.connected {
            return;
        }
        // The library has subscribed again by itself; a round trip makes sure that the server knows.
        if let Err(error) = self.client.calls().sync().await {
            debug!(%error, "subscriptions are not confirmed yet");
        }
        if let Some(verification) = &mut self.verification {
            verification.doubt();
        }
        self.retry_at = Instant::now();
    }

    /// What cannot be read is counted and skipped; heads and refill bring back whatever of it this version understands.
    fn read(&mut self, message: &Message) -> Option<Live> {
        match read(message) {
            Ok(live) => Some(live),
            Err(reason) => {
                self.complain(message, &reason);
                None
            }
        }
    }

    fn complain(&mut self, message: &Message, reason: &str) {
        if self.undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!(subject = %message.subject, reason, "an event does not decode; such are counted and skipped");
        }
    }
}

/// Waits for what is under way, or for ever.
async fn finished(taking: &mut Option<Taking>) -> Result<Snapshot, Error> {
    match taking {
        Some(taking) => taking.await,
        None => std::future::pending().await,
    }
}

/// A live event and its predecessor's position.
struct Live {
    previous: u64,
    event: JournalEvent,
}

fn read(message: &Message) -> Result<Live, String> {
    let position = |name| {
        let value = message.headers.as_ref().and_then(|headers| headers.get_last(name));
        value.and_then(|value| value.as_str().parse::<u64>().ok())
    };
    let journal_seq = position(NATS_SEQUENCE).ok_or("no journal position: it was not republished by the server")?;
    let previous = position(NATS_LAST_SEQUENCE).unwrap_or(0);
    fn event<T: serde::de::DeserializeOwned>(
        message: &Message,
        wrap: impl FnOnce(T) -> OmsEvent,
    ) -> Result<Event<OmsEvent>, String> {
        let event = codec::decode::<Event<T>>(&message.payload).map_err(|error| error.to_string())?;
        Ok(event.map(wrap))
    }
    let event = match message.subject.parse::<Subject>().map_err(|error| error.to_string())? {
        Subject::Order { .. } => event(message, OmsEvent::Order)?,
        Subject::Trade { .. } => event(message, OmsEvent::Trade)?,
        Subject::Quote { .. } => event(message, OmsEvent::Quote)?,
        Subject::Position { .. } => event(message, OmsEvent::Position)?,
        Subject::Account { .. } => event(message, OmsEvent::Account)?,
        _ => return Err("nothing that is journalled".to_owned()),
    };
    Ok(Live { previous, event: JournalEvent { journal_seq, event } })
}

/// The live events of several subscriptions in the journal's order.
struct Arrivals {
    subscriptions: Vec<Subscriber>,
    held: Vec<Message>,
}

impl Arrivals {
    /// A batch in the journal's order; `None` when a subscription has ended.
    async fn next(&mut self) -> Option<Vec<Message>> {
        // Tokio's budget would make a subscription look empty that is not, and put the order at risk.
        tokio::task::unconstrained(poll_fn(|context| self.poll_next(context))).await
    }

    /// The connection hands messages to the subscriptions in the order of the wire, so what precedes a message that
    /// was taken in one pass over all subscriptions is taken in the next pass at the latest. What only the second pass
    /// found, and lies behind all of the first, is held for the next batch.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<Message>>> {
        let mut first = std::mem::take(&mut self.held);
        if !self.pass(context, &mut first) {
            return Poll::Ready(None);
        }
        if first.is_empty() {
            return Poll::Pending;
        }
        let horizon = first.iter().map(sequence_of).max().unwrap_or(0);
        if !self.pass(context, &mut first) {
            return Poll::Ready(None);
        }
        first.sort_by_key(sequence_of);
        let end = first.partition_point(|message| sequence_of(message) <= horizon);
        self.held = first.split_off(end);
        Poll::Ready(Some(first))
    }

    /// Takes what is ready; `false` when a subscription has ended.
    fn pass(&mut self, context: &mut Context<'_>, into: &mut Vec<Message>) -> bool {
        for subscription in &mut self.subscriptions {
            for _ in 0..BATCH {
                match Pin::new(&mut *subscription).poll_next(context) {
                    Poll::Ready(Some(message)) => into.push(message),
                    Poll::Ready(None) => return false,
                    Poll::Pending => break,
                }
            }
        }
        true
    }
}

fn sequence_of(message: &Message) -> u64 {
    let header = message.headers.as_ref().and_then(|headers| headers.get_last(NATS_SEQUENCE));
    header.and_then(|value| value.as_str().parse().ok()).unwrap_or(0)
}
