//! Typed streams of journalled events: orders, trades, quotes, positions, accounts. Nothing is ever skipped.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use protocol::subject::Filter;
use protocol::{Account, Event, InstrumentId, Name, OmsEvent, Order, Position, Quote, Trade};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::warn;

use crate::client::Client;
use crate::connection::Link;
use crate::error::Error;
use crate::follower::{CAPACITY, Followed, Follower, Start};
use crate::stream::{Missed, MissedCause, Update, link_updates};
use crate::task::Task;

/// Orders: see [`Client::orders`].
pub type OrderStream = JournalStream<Order>;
/// Trades: see [`Client::trades`].
pub type TradeStream = JournalStream<Trade>;
/// Quotes: see [`Client::quotes`].
pub type QuoteStream = JournalStream<Quote>;
/// Positions: see [`Client::positions`].
pub type PositionStream = JournalStream<Position>;
/// Accounts: see [`Client::accounts`].
pub type AccountStream = JournalStream<Account>;
/// Everything that is journalled: see [`Client::oms_events`].
pub type OmsStream = JournalStream<OmsEvent>;

/// Journalled events of one kind, from one gateway or all: each once, in the journal's order for each gateway.
///
/// Events lost on the way (a slow network, a reconnect, a user slower than 4,096 waiting events) are read again from
/// the journal; one found missing by a heartbeat comes after later ones of other subjects. [`Update::Missed`] comes
/// only where the journal no longer goes back so far, or is another one than before.
#[derive(Debug)]
pub struct JournalStream<T> {
    followed: mpsc::Receiver<Followed>,
    filter: Filter,
    link: Link,
    link_told: std::collections::VecDeque<Update<T>>,
    undecodable: Arc<AtomicU64>,
    _followers: Task,
    _client: Client,
    _kind: PhantomData<fn() -> T>,
}

impl<T: Journalled> JournalStream<T> {
    /// Returns when every gateway that runs is followed for certain.
    pub(crate) async fn open(client: &Client, filter: Filter) -> Result<JournalStream<T>, Error> {
        let (sender, followed) = mpsc::channel(CAPACITY);
        let undecodable = Arc::new(AtomicU64::new(0));
        let mut followers = Followers {
            client: client.clone(),
            out: sender,
            undecodable: Arc::clone(&undecodable),
            running: JoinSet::new(),
            known: BTreeSet::new(),
            // Nobody waits for a position.
            wanted: watch::Sender::new(0),
        };
        let link = *client.calls().link.borrow();
        match &filter.gateway {
            Some(gateway) => followers.follow(gateway).await?,
            None => {
                for info in client.gateways().await? {
                    followers.follow(&info.name).await?;
                }
            }
        }
        let discovers = filter.gateway.is_none();
        Ok(JournalStream {
            followed,
            filter,
            link,
            link_told: std::collections::VecDeque::new(),
            undecodable,
            _followers: Task::spawn(followers.run(discovers)),
            _client: client.clone(),
            _kind: PhantomData,
        })
    }

    /// The next update; `None` when the client's connection has been closed for good.
    pub async fn next(&mut self) -> Option<Update<T>> {
        StreamExt::next(self).await
    }

    /// How many events this stream could not decode and skipped; the first is logged.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable.load(Ordering::Relaxed)
    }

    fn wants(&self, event: Event<OmsEvent>) -> Option<Event<T>> {
        let Event { gateway, epoch, seq, time, data } = event;
        let owner = data.owner().cloned();
        let data = T::of(data)?;
        let wanted = match data.instrument() {
            Some(instrument) => self.filter.matches(&instrument, &gateway, owner.as_deref()),
            None => self.filter.gateway.as_ref().is_none_or(|wanted| *wanted == gateway),
        };
        wanted.then_some(Event { gateway, epoch, seq, time, data })
    }
}

impl<T: Journalled> Stream for JournalStream<T> {
    type Item = Update<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update<T>>> {
        loop {
            if let Some(update) = self.link_told.pop_front() {
                return Poll::Ready(Some(update));
            }
            let update = match std::task::ready!(self.followed.poll_recv(context)) {
                None => return Poll::Ready(None),
                Some(Followed::Event(item)) => self.wants(item.event).map(|event| Update::Event(Arc::new(event))),
                Some(Followed::TooOld(gateway)) => {
                    Some(Update::Missed(Missed { gateway, instrument: None, count: None, cause: MissedCause::TooOld }))
                }
                Some(Followed::Link(link)) => {
                    let told = link_updates(self.link, link);
                    self.link = link;
                    self.link_told.extend(told);
                    None
                }
                Some(Followed::Snapshot(_) | Followed::NewDay(_) | Followed::CompleteTo(_)) => None,
            };
            if update.is_some() {
                return Poll::Ready(update);
            }
        }
    }
}

/// The followers of one stream, one for each gateway.
struct Followers {
    client: Client,
    out: mpsc::Sender<Followed>,
    undecodable: Arc<AtomicU64>,
    running: JoinSet<()>,
    known: BTreeSet<Name>,
    wanted: watch::Sender<u64>,
}

impl Followers {
    async fn follow(&mut self, gateway: &Name) -> Result<(), Error> {
        if self.known.contains(gateway) {
            return Ok(());
        }
        let out = self.out.clone();
        let wanted = self.wanted.subscribe();
        let undecodable = Arc::clone(&self.undecodable);
        let follower = Follower::open(&self.client, gateway, Start::Now, wanted, out, undecodable).await?;
        self.known.insert(gateway.clone());
        self.running.spawn(follower.run());
        Ok(())
    }

    /// Tells of the connection, and follows gateways that appear later, if `discovers`.
    async fn run(mut self, discovers: bool) {
        let mut link = self.client.calls().link.clone();
        let mut heartbeats = self.client.heartbeats();
        loop {
            if discovers {
                let new: Vec<Name> =
                    heartbeats.borrow_and_update().keys().filter(|name| !self.known.contains(*name)).cloned().collect();
                for gateway in new {
                    if let Err(error) = self.follow(&gateway).await {
                        // Its next heartbeat is the next attempt.
                        warn!(%gateway, %error, "a gateway that appeared cannot be followed yet");
                    }
                }
            }
            tokio::select! {
                changed = link.changed() => {
                    let now = *link.borrow_and_update();
                    if changed.is_err() || self.out.send(Followed::Link(now)).await.is_err() {
                        return;
                    }
                }
                changed = heartbeats.changed(), if discovers => if changed.is_err() { return },
                () = self.out.closed() => return,
            }
        }
    }
}

/// What a [`JournalStream`] can carry.
pub trait Journalled: sealed::Sealed + Send + Unpin + Sized + 'static {
    /// The event, if it is of this kind.
    fn of(event: OmsEvent) -> Option<Self>;
    /// The instrument that it is about, where it is about one.
    fn instrument(&self) -> Option<InstrumentId>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! journalled {
    ($($kind:ident),+) => {$(
        impl sealed::Sealed for $kind {}

        impl Journalled for $kind {
            fn of(event: OmsEvent) -> Option<Self> {
                match event {
                    OmsEvent::$kind(object) => Some(object),
                    _ => None,
                }
            }

            fn instrument(&self) -> Option<InstrumentId> {
                Some(self.instrument())
            }
        }
    )+};
}

journalled!(Order, Trade, Quote, Position);

impl sealed::Sealed for Account {}

impl Journalled for Account {
    fn of(event: OmsEvent) -> Option<Self> {
        match event {
            OmsEvent::Account(account) => Some(account),
            _ => None,
        }
    }

    fn instrument(&self) -> Option<InstrumentId> {
        None
    }
}

impl sealed::Sealed for OmsEvent {}

impl Journalled for OmsEvent {
    fn of(event: OmsEvent) -> Option<Self> {
        Some(event)
    }

    fn instrument(&self) -> Option<InstrumentId> {
        match self {
            OmsEvent::Order(order) => Some(order.instrument()),
            OmsEvent::Trade(trade) => Some(trade.instrument()),
            OmsEvent::Quote(quote) => Some(quote.instrument()),
            OmsEvent::Position(position) => Some(position.instrument()),
            OmsEvent::Account(_) => None,
        }
    }
}
