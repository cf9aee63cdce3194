//! The client: connections, discovery, routing, and the doors to everything else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use protocol::rpc::Method;
use protocol::subject::{self, Filter, Kind};
use protocol::{Contract, ErrorCode, GatewayState, InstrumentId, LogLevel, Name, RpcError, Status, Tick, codec};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::board::{Board, Heartbeats};
use crate::call::Call;
use crate::clock::NodeClock;
use crate::connection::Connection;
use crate::error::Error;
use crate::feed::Feeds;
use crate::gateway::GatewayHandle;
use crate::health::HealthStream;
use crate::journal_stream::{
    AccountStream, JournalStream, OmsStream, OrderStream, PositionStream, QuoteStream, TradeStream,
};
use crate::mirror::OmsMirror;
use crate::options::ConnectOptions;
use crate::route::{Preference, Routes};
use crate::stream::{ContractStream, EventStream, LogStream, StatusStream, TickStream};
use crate::task::Task;

/// After the first answer to a discovery, how long others have to follow.
const DISCOVERY_QUIET: Duration = Duration::from_millis(150);
/// A heartbeat comes every second: who has not been heard by then is not there.
const DISCOVERY_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Contracts are asked for again for an unknown symbol, but not more often than this.
const ROUTES_REFRESH_PAUSE: Duration = Duration::from_secs(2);

/// A connection to Gatemesh: cheap to clone, usable from any number of tasks. It closes when the last clone, handle,
/// stream and mirror is dropped.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    timeout: Duration,
    patience: Duration,
    calls: Connection,
    /// Market data's own connection, unless the options say one.
    market: Option<Connection>,
    board: Board,
    /// What streams of ticks share.
    ticks: Feeds<Tick>,
    clocks: watch::Sender<HashMap<Name, NodeClock>>,
    routes: watch::Sender<Routes>,
    /// Held while contracts are asked for: a hundred orders for an unknown symbol ask once. It holds when that was.
    refresh: Mutex<Refresh>,
}

#[derive(Debug, Default)]
struct Refresh {
    at: Option<Instant>,
    /// Follows `evt.contract` from the first use of routing on.
    listener: Option<Task>,
}

/// A gateway, as discovery finds it.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayInfo {
    /// Its name.
    pub name: Name,
    /// How it is doing; `None` if it serves methods but says nothing.
    pub status: Option<Status>,
    /// The methods that it serves; empty where the server hides service discovery from us.
    pub methods: Vec<String>,
    /// How long ago its last heartbeat came; `None` if none has come since this client connected.
    pub last_seen: Option<Duration>,
}

impl GatewayInfo {
    /// Its state, if it says one.
    #[must_use]
    pub fn state(&self) -> Option<GatewayState> {
        self.status.as_ref().map(|status| status.state)
    }

    /// Its leadership epoch, if it says one.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.status.as_ref().map(|status| status.epoch)
    }
}

impl Client {
    /// Connects. One address is enough, or [`ConnectOptions`] for more. From then on it reconnects by itself.
    ///
    /// # Errors
    /// [`Error::Connect`] if no server answers within the connect timeout, saying which address was tried and what to
    /// do; [`Error::Options`] for what can never work.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), client_sdk::Error> {
    /// let client = client_sdk::Client::connect("nats://127.0.0.1:4222").await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect(options: impl Into<ConnectOptions>) -> Result<Client, Error> {
        let options = options.into();
        let name = match &options.name {
            Some(name) => checked_name(name)?,
            None => format!("client-{}", uuid::Uuid::now_v7().simple()),
        };
        let calls = Connection::open(&options, &name).await?;
        let market = match options.one_connection {
            true => None,
            false => Some(Connection::open(&options, &format!("{name} market data")).await?),
        };
        let board = Board::open(&calls).await?;
        calls.sync().await?;
        let inner = Inner {
            name,
            timeout: options.timeout,
            patience: options.patience,
            calls,
            market,
            board,
            ticks: Feeds::default(),
            clocks: watch::Sender::new(HashMap::new()),
            routes: watch::Sender::new(Routes::default()),
            refresh: Mutex::new(Refresh::default()),
        };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// The program's name, given or generated: gateways count market data subscriptions under it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Whether the connection for calls stands now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.calls.is_connected()
    }

    /// A gateway by name. Nothing is asked: a gateway that does not run says so at the first call.
    #[must_use]
    pub fn gateway(&self, name: impl Into<Name>) -> GatewayHandle {
        GatewayHandle::new(self.clone(), name.into(), self.inner.timeout)
    }

    /// Every gateway that serves or beats, with its state and methods, sorted by name. Takes a few hundred
    /// milliseconds.
    ///
    /// # Errors
    /// [`Error::Disconnected`]; [`Error::Nats`] if the server cannot be asked.
    pub async fn gateways(&self) -> Result<Vec<GatewayInfo>, Error> {
        let began = Instant::now();
        let mut methods = self.discover().await?;
        if methods.is_empty() && self.inner.board.watch().borrow().is_empty() {
            // Service discovery may be hidden from us: then the first heartbeat tells.
            let mut heartbeats = self.inner.board.watch();
            let first = heartbeats.wait_for(|heartbeats| !heartbeats.is_empty());
            let _ = tokio::time::timeout_at(began + DISCOVERY_TIMEOUT, first).await;
        }
        let heartbeats = self.inner.board.watch().borrow().clone();
        for gateway in heartbeats.keys() {
            methods.entry(gateway.clone()).or_default();
        }
        let infos = methods.into_iter().map(|(name, methods)| {
            let heard = heartbeats.get(&name).cloned();
            async move {
                let status = match &heard {
                    Some(heard) => Some(heard.status.clone()),
                    None => self.gateway(name.clone()).with_timeout(DISCOVERY_TIMEOUT).get_status().await.ok(),
                };
                let last_seen = heard.map(|heard| heard.at.elapsed());
                GatewayInfo { name, status, methods: methods.into_iter().collect(), last_seen }
            }
        });
        Ok(join_all(infos).await)
    }

    /// Ticks of every gateway, or of the filter's. An instrument has ticks once somebody has asked its gateway for
    /// them, see [`GatewayHandle::subscribe`].
    ///
    /// A filter for one instrument that no gateway knows logs a warning that names the nearest known symbol.
    ///
    /// # Errors
    /// [`Error::Disconnected`], [`Error::Nats`].
    pub async fn ticks(&self, filter: Filter) -> Result<TickStream, Error> {
        let connection = self.inner.market.as_ref().unwrap_or(&self.inner.calls);
        let feed = self.inner.ticks.open(self, connection, filter.subject(Kind::Tick)).await?;
        let stream = EventStream::of(self, feed, filter.gateway.clone());
        Ok(match (filter.symbol, filter.exchange) {
            (Some(symbol), Some(exchange)) => {
                let instrument = InstrumentId { symbol, exchange };
                stream.with_companion(Task::spawn(warn_of_unknown(self.clone(), instrument)))
            }
            _ => stream,
        })
    }

    /// Orders as they change, from now on, of every gateway or of the filter's: none is skipped.
    ///
    /// # Errors
    /// As [`Self::ticks`]. A gateway that does not run is followed from its first event on.
    pub async fn orders(&self, filter: Filter) -> Result<OrderStream, Error> {
        JournalStream::open(self, filter).await
    }

    /// Fills, from now on; as [`Self::orders`].
    ///
    /// # Errors
    /// As [`Self::orders`].
    pub async fn trades(&self, filter: Filter) -> Result<TradeStream, Error> {
        JournalStream::open(self, filter).await
    }

    /// Quotes as they change, from now on; as [`Self::orders`].
    ///
    /// # Errors
    /// As [`Self::orders`].
    pub async fn quotes(&self, filter: Filter) -> Result<QuoteStream, Error> {
        JournalStream::open(self, filter).await
    }

    /// Positions as they change, from now on; as [`Self::orders`]. They have no owner.
    ///
    /// # Errors
    /// As [`Self::orders`].
    pub async fn positions(&self, filter: Filter) -> Result<PositionStream, Error> {
        JournalStream::open(self, filter).await
    }

    /// Accounts as they change, from now on, of one gateway or of all; as [`Self::orders`].
    ///
    /// # Errors
    /// As [`Self::orders`].
    pub async fn accounts(&self, gateway: Option<&str>) -> Result<AccountStream, Error> {
        JournalStream::open(self, Filter { gateway: gateway.map(Name::from), ..Filter::all() }).await
    }

    /// Everything that is journalled, in one order for each gateway; as [`Self::orders`].
    ///
    /// # Errors
    /// As [`Self::orders`].
    pub async fn oms_events(&self, filter: Filter) -> Result<OmsStream, Error> {
        JournalStream::open(self, filter).await
    }

    /// A live copy of a gateway's trading state.
    ///
    /// # Errors
    /// [`Error::GatewayNotRunning`] if the gateway cannot be asked for its state now; otherwise as [`Self::ticks`].
    pub async fn mirror(&self, gateway: impl Into<Name>) -> Result<OmsMirror, Error> {
        OmsMirror::open(self, &gateway.into()).await
    }

    /// Heartbeats of one gateway, or of all.
    ///
    /// # Errors
    /// As [`Self::ticks`].
    pub async fn statuses(&self, gateway: Option<&str>) -> Result<StatusStream, Error> {
        EventStream::open(self, &self.inner.calls, subject::status_filter(gateway)).await
    }

    /// Log lines of one level and gateway, or of all.
    ///
    /// # Errors
    /// As [`Self::ticks`].
    pub async fn logs(&self, level: Option<LogLevel>, gateway: Option<&str>) -> Result<LogStream, Error> {
        EventStream::open(self, &self.inner.calls, subject::logs_filter(level, gateway)).await
    }

    /// Contracts, as gateways learn of them; the full set is [`GatewayHandle::get_all_contracts`].
    ///
    /// # Errors
    /// As [`Self::ticks`].
    pub async fn contracts(&self, filter: Filter) -> Result<ContractStream, Error> {
        EventStream::open(self, &self.inner.calls, filter.subject(Kind::Contract)).await
    }

    /// Who is alive: lost and recovered gateways, their states, and the connection itself.
    #[must_use]
    pub fn health(&self) -> HealthStream {
        HealthStream::open(self)
    }

    /// The gateway that trades a contract: the only one, or the preferred one of several.
    ///
    /// # Errors
    /// [`Error::AmbiguousRoute`] if several do and none is preferred; [`Error::NoRoute`], naming the nearest known
    /// symbol, if none does.
    pub async fn route(&self, instrument: &InstrumentId) -> Result<GatewayHandle, Error> {
        if !self.inner.routes.borrow().knows(instrument) {
            self.refresh_routes(instrument).await?;
        }
        let gateway = self.inner.routes.borrow().choose(instrument)?;
        Ok(self.gateway(gateway))
    }

    /// Where several gateways trade the same, prefers one of them: for a contract, an exchange, or everything.
    pub fn prefer(&self, what: impl Into<Preference>, gateway: impl Into<Name>) {
        self.inner.routes.send_modify(|routes| routes.prefer(what.into(), gateway.into()));
    }

    pub(crate) fn calls(&self) -> &Connection {
        &self.inner.calls
    }

    pub(crate) fn patience(&self) -> Duration {
        self.inner.patience
    }

    pub(crate) fn heartbeats(&self) -> watch::Receiver<Heartbeats> {
        self.inner.board.watch()
    }

    /// The epoch under which a gateway is led, as heartbeats tell.
    pub(crate) fn heard_epoch(&self, gateway: &Name) -> Option<u64> {
        self.inner.board.heard(gateway).map(|heard| heard.status.epoch)
    }

    /// The gateway's clock, measured again if its epoch or our connection has changed, or a heartbeat says another time.
    pub(crate) async fn node_clock(&self, gateway: &Name, timeout: Duration) -> Result<NodeClock, Error> {
        let generation = self.inner.calls.link.borrow().generation;
        let known = self.inner.clocks.borrow().get(gateway).copied();
        if let Some(clock) = known.filter(|clock| clock.is_of_connection(generation)) {
            let heard = self.inner.board.heard(gateway);
            let agrees = heard.is_none_or(|heard| clock.agrees_with(heard.status.epoch, heard.status.time, heard.at));
            if agrees {
                return Ok(clock);
            }
        }
        let sent = Instant::now();
        let method = Method::GetStatus.as_str();
        let call = Call { gateway, method, timeout, deadline: None, traceparent: None };
        let answer = call.send(&self.inner.calls, &self.inner.name, bytes::Bytes::from_static(b"{}")).await?;
        let status: Status = codec::decode(&answer).map_err(|error| call.unreadable(error))?;
        if let Some(leads) = self.heard_epoch(gateway).filter(|heard| *heard > status.epoch) {
            return Err(Error::Rpc(RpcError::new(
                ErrorCode::NotReady,
                format!("a node of epoch {} answered, but epoch {leads} leads: nothing was sent", status.epoch),
            )));
        }
        let clock = NodeClock::measured(status.epoch, generation, status.time, sent, Instant::now());
        self.inner.clocks.send_modify(|clocks| {
            clocks.insert(gateway.clone(), clock);
        });
        Ok(clock)
    }

    /// The clock is measured again before it is used once more, unless that was done meanwhile.
    pub(crate) fn forget_clock(&self, gateway: &Name, clock: NodeClock) {
        self.inner.clocks.send_if_modified(|clocks| {
            let is_kept = clocks.get(gateway) == Some(&clock);
            is_kept && clocks.remove(gateway).is_some()
        });
    }

    /// Asks every service what it is. Gateways are known by the subjects of their methods.
    async fn discover(&self) -> Result<BTreeMap<Name, BTreeSet<String>>, Error> {
        let connection = &self.inner.calls;
        if !connection.is_connected() {
            return Err(Error::Disconnected);
        }
        let inbox = connection.nats.new_inbox();
        let mut answers = connection.subscribe(inbox.clone()).await?;
        let ask = connection.nats.publish_with_reply("$SRV.INFO", inbox, bytes::Bytes::new());
        ask.await.map_err(|error| Error::Nats(error.to_string()))?;
        let mut found: BTreeMap<Name, BTreeSet<String>> = BTreeMap::new();
        let mut wait = DISCOVERY_TIMEOUT;
        while let Ok(Some(message)) = tokio::time::timeout(wait, answers.next()).await {
            if message.status.is_some() {
                // Nobody offers any service.
                break;
            }
            wait = DISCOVERY_QUIET;
            match codec::decode::<async_nats::service::Info>(&message.payload) {
                Ok(info) => {
                    for endpoint in info.endpoints {
                        if let Some((gateway, method)) = gateway_method(&endpoint.subject) {
                            found.entry(gateway).or_default().insert(method);
                        }
                    }
                }
                Err(error) => debug!(%error, "a service describes itself in words that are not understood"),
            }
        }
        Ok(found)
    }

    /// Asks every gateway for its contracts, unless that has just been done.
    async fn refresh_routes(&self, instrument: &InstrumentId) -> Result<(), Error> {
        let mut refresh = self.inner.refresh.lock().await;
        let just_done = refresh.at.is_some_and(|at| at.elapsed() < ROUTES_REFRESH_PAUSE);
        if just_done || self.inner.routes.borrow().knows(instrument) {
            return Ok(());
        }
        if refresh.listener.is_none() {
            refresh.listener = Some(self.listen_to_contracts().await?);
        }
        let gateways = self.gateways().await?;
        let asked = gateways.into_iter().map(|info| async move {
            let contracts = self.gateway(info.name.clone()).get_all_contracts().await;
            (info.name, contracts)
        });
        for (gateway, contracts) in join_all(asked).await {
            match contracts {
                Ok(contracts) => self.inner.routes.send_modify(|routes| {
                    routes.learn(&gateway, contracts.iter().map(Contract::instrument));
                }),
                Err(error) => warn!(%gateway, %error, "no contracts: nothing is routed to it for now"),
            }
        }
        refresh.at = Some(Instant::now());
        Ok(())
    }

    async fn listen_to_contracts(&self) -> Result<Task, Error> {
        let connection = &self.inner.calls;
        let mut subscription = connection.subscribe(Filter::all().subject(Kind::Contract)).await?;
        connection.sync().await?;
        let routes = self.inner.routes.clone();
        Ok(Task::spawn(async move {
            while let Some(message) = subscription.next().await {
                if let Ok(event) = codec::decode::<protocol::Event<Contract>>(&message.payload) {
                    routes.send_modify(|routes| routes.add(&event.gateway, event.data.instrument()));
                }
            }
        }))
    }

    fn nearest(&self, instrument: &InstrumentId) -> Option<InstrumentId> {
        self.inner.routes.borrow().nearest(instrument)
    }
}

/// Says so if nobody knows the instrument: its ticks will never come.
async fn warn_of_unknown(client: Client, instrument: InstrumentId) {
    if let Err(Error::NoRoute { .. }) = client.route(&instrument).await {
        match client.nearest(&instrument) {
            Some(nearest) => {
                warn!(%instrument, %nearest, "no gateway knows this instrument; is the nearest one meant?")
            }
            None => warn!(%instrument, "no gateway knows this instrument"),
        }
    }
}

/// `rpc.<gateway>.<method>`, perhaps with a caller's token behind.
fn gateway_method(endpoint: &str) -> Option<(Name, String)> {
    let mut tokens = endpoint.split('.');
    if tokens.next() != Some("rpc") {
        return None;
    }
    let (gateway, method) = (tokens.next()?, tokens.next()?);
    Some((subject::untoken(gateway).ok()?.into(), subject::untoken(method).ok()?))
}

fn checked_name(name: &str) -> Result<String, Error> {
    let printable = !name.is_empty() && name.len() <= 128 && name.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    match printable {
        true => Ok(name.to_owned()),
        false => Err(Error::Options(format!("client name {name:?} must be 1 to 128 printable ASCII characters"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_known_by_their_methods_subjects() {
        assert_eq!(gateway_method("rpc.ctp1.send_order"), Some(("ctp1".into(), "send_order".to_owned())));
        assert_eq!(gateway_method("rpc.ctp1.send_order.*"), Some(("ctp1".into(), "send_order".to_owned())));
        assert_eq!(gateway_method("rpc.*.send_order"), None);
        assert_eq!(gateway_method("billing.ctp1.send_order"), None);
        assert_eq!(gateway_method("rpc.ctp1"), None);
    }

    #[test]
    fn a_name_that_no_header_can_carry_is_refused() {
        assert!(checked_name("double ma").is_ok());
        for bad in ["", "a\nb", "é"] {
            assert!(matches!(checked_name(bad), Err(Error::Options(_))), "{bad:?}");
        }
    }
}
