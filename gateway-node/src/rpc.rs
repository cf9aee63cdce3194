//! Calls on NATS: all methods of a gateway in one subscription, those that stop trading once more in subscriptions of
//! their own. Requests are decoded here and handed to the gateway's loop; answers come back as bytes.

mod answer;
mod discovery;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, HeaderMap, HeaderName, Message, Subscriber};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::SelectAll;
use futures::{FutureExt, StreamExt};
use protocol::rpc::{Deadline, HEADER_CLIENT, HEADER_DEADLINE, HEADER_DEADLINE_EPOCH, HEADER_TRACEPARENT, Method};
use protocol::{ErrorCode, Name, RpcError, codec, subject};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::debug;

pub use self::answer::{Leads, Responder};
use self::answer::{Outbox, is_inbox};
use self::discovery::{Endpoint, Service};
use crate::engine::{Caller, Reply, Request};

/// Most calls of one gateway under way at a time; one more is answered OVERLOADED at once.
const MAX_ORDINARY_CALLS: usize = 1_024;
/// Places of their own for what stops trading: whoever wants to get out never queues behind those who only ask.
const MAX_STOPPING_CALLS: usize = 256;
/// Every queue behind the places holds as many, so that none of them can be full.
pub const MAX_CALLS: usize = MAX_ORDINARY_CALLS + MAX_STOPPING_CALLS;
/// Most calls of added methods under way at a time.
const MAX_ADDED_CALLS: usize = 64;
/// How long a service that stops takes in what has arrived already.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

// Made once: a name that is given as text is compared with every name that the library knows, and copied.
static CLIENT: HeaderName = HeaderName::from_static(HEADER_CLIENT);
static TRACEPARENT: HeaderName = HeaderName::from_static(HEADER_TRACEPARENT);
static DEADLINE: HeaderName = HeaderName::from_static(HEADER_DEADLINE);
static DEADLINE_EPOCH: HeaderName = HeaderName::from_static(HEADER_DEADLINE_EPOCH);

/// What an added method is told about its call.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The gateway that was called.
    pub gateway: Name,
    /// Who calls.
    pub caller: Caller,
}

/// A method added to every gateway of a node: parameters in, result out, both JSON.
pub type Handler = Arc<
    dyn Fn(CallContext, serde_json::Value) -> BoxFuture<'static, Result<serde_json::Value, RpcError>> + Send + Sync,
>;

/// A decoded call and the way to answer it.
pub struct Incoming {
    /// Who calls.
    pub caller: Caller,
    /// Not later than this.
    pub deadline: Option<Deadline>,
    /// The trace that it belongs to (W3C `trace-id`).
    pub traceid: Option<Name>,
    /// What is wanted.
    pub request: Request,
    /// The way to answer.
    pub responder: Responder,
}

/// Whether a method only ever takes risk away.
const fn stops_trading(method: Method) -> bool {
    matches!(method, Method::CancelOrder | Method::CancelAll | Method::CancelQuote | Method::Halt | Method::Disconnect)
}

/// The answers of a gateway's loop, on their way out.
pub type Answers = mpsc::Sender<(Responder, Reply)>;

/// A gateway's service while it runs.
pub struct RpcServer {
    stop: oneshot::Sender<()>,
    discovery: JoinHandle<()>,
    requests: JoinHandle<()>,
    answers: JoinHandle<()>,
}

impl RpcServer {
    /// Begins to serve. Calls go to `calls`; its answers are taken from the returned sender.
    ///
    /// # Errors
    /// If NATS does not take the subscriptions.
    pub async fn start(
        client: Client,
        gateway: Name,
        epoch: u64,
        methods: &HashMap<String, Handler>,
        calls: mpsc::Sender<Incoming>,
        leads: Leads,
        workers: tokio::runtime::Handle,
    ) -> anyhow::Result<(RpcServer, Answers)> {
        // A queue group of its own per epoch: in a shared one, a frozen former leader would swallow half the calls.
        let group = format!("{gateway}-{epoch}");
        let routes = routes(&gateway, &group, methods);
        let everything = client.queue_subscribe(format!("rpc.{}.*", subject::token(&gateway)), group.clone()).await?;
        // They come twice, and only this one counts: what stops trading does not queue behind what only asks.
        let mut stopping = SelectAll::new();
        for (_, endpoint) in routes.values().filter(|(route, _)| route.stops_trading()) {
            let (subject, group) = (endpoint.subject.clone(), endpoint.queue_group.clone());
            stopping.push(client.queue_subscribe(subject, group).await?);
        }
        let endpoints = routes.values().map(|(_, endpoint)| endpoint.clone()).collect();
        let service = Service::new(gateway.to_string(), leads.clock.now().wall, endpoints);
        let discovery = service.start(client.clone()).await.context("starting the service")?;
        let (answers, mut outgoing) = mpsc::channel::<(Responder, Reply)>(MAX_CALLS + MAX_ADDED_CALLS);
        let answers_task = tokio::spawn(async move {
            while let Some((responder, reply)) = outgoing.recv().await {
                responder.send(reply).await;
            }
        });
        let desk = Desk {
            outbox: Arc::new(Outbox { client, leads }),
            workers,
            gateway,
            calls,
            answers: answers.clone(),
            places: Arc::new(Semaphore::new(MAX_ORDINARY_CALLS)),
            stopping_places: Arc::new(Semaphore::new(MAX_STOPPING_CALLS)),
            added_places: Arc::new(Semaphore::new(MAX_ADDED_CALLS)),
            routes,
        };
        let (stop, stopped) = oneshot::channel();
        let requests = tokio::spawn(desk.run(everything, stopping, stopped));
        Ok((RpcServer { stop, discovery, requests, answers: answers_task }, answers))
    }

    /// Takes no more calls. The answers that are under way still go out: see [`AnswersOnly::finish`].
    pub async fn stop_taking(self) -> AnswersOnly {
        self.discovery.abort();
        let _ = self.stop.send(());
        // What has arrived already is still taken in and answered; then the subscriptions end.
        let abort = self.requests.abort_handle();
        if tokio::time::timeout(LAST_REQUESTS, self.requests).await.is_err() {
            abort.abort();
        }
        AnswersOnly { answers: self.answers }
    }
}

/// What is left of a service that takes no more calls.
pub struct AnswersOnly {
    answers: JoinHandle<()>,
}

impl AnswersOnly {
    /// Waits until every answer is out; all senders must be dropped before.
    pub async fn finish(self, patience: Duration) {
        let abort = self.answers.abort_handle();
        if tokio::time::timeout(patience, self.answers).await.is_err() {
            abort.abort();
        }
    }
}

#[derive(Clone)]
enum Route {
    Method(Method),
    Added(Handler),
}

impl Route {
    const fn stops_trading(&self) -> bool {
        matches!(self, Route::Method(method) if stops_trading(*method))
    }
}

/// Every method that is served, by the last token of its subject.
type Routes = HashMap<String, (Route, Arc<Endpoint>)>;

fn routes(gateway: &str, group: &str, added: &HashMap<String, Handler>) -> Routes {
    let methods = Method::ALL.iter().map(|&method| (method.as_str(), Route::Method(method)));
    let added = added.iter().map(|(name, handler)| (name.as_str(), Route::Added(handler.clone())));
    methods
        .chain(added)
        .map(|(name, route)| {
            let group = if route.stops_trading() { format!("{group}-stopping") } else { group.to_owned() };
            let endpoint = Endpoint::new(name.to_owned(), subject::rpc(gateway, name), group);
            (subject::token(name), (route, Arc::new(endpoint)))
        })
        .collect()
}

/// Takes requests in.
struct Desk {
    outbox: Arc<Outbox>,
    /// Where added methods run: nobody knows what they do to a thread.
    workers: tokio::runtime::Handle,
    gateway: Name,
    calls: mpsc::Sender<Incoming>,
    answers: Answers,
    places: Arc<Semaphore>,
    stopping_places: Arc<Semaphore>,
    added_places: Arc<Semaphore>,
    routes: Routes,
}

impl Desk {
    async fn run(
        self,
        mut everything: Subscriber,
        mut stopping: SelectAll<Subscriber>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let mut is_stopped = false;
        loop {
            // Neither of the two keeps the other waiting.
            tokio::select! {
                Some(message) = stopping.next() => self.take(message, true).await,
                message = everything.next() => match message {
                    Some(message) => self.take(message, false).await,
                    None => break,
                },
                _ = &mut stop, if !is_stopped => {
                    is_stopped = true;
                    for subscription in stopping.iter_mut().chain([&mut everything]) {
                        if let Err(error) = subscription.unsubscribe().await {
                            debug!(%error, "a subscription did not end cleanly");
                        }
                    }
                }
            }
        }
        while let Some(message) = stopping.next().await {
            self.take(message, true).await;
        }
    }

    async fn take(&self, message: Message, stops_trading: bool) {
        let Message { subject, reply, payload, headers, .. } = message;
        let Some(inbox) = reply.filter(|reply| is_inbox(reply)) else {
            debug!(gateway = %self.gateway, %subject, "a call that cannot be answered is ignored");
            return;
        };
        let name = subject.rsplit('.').next().unwrap_or_default();
        let Some((route, endpoint)) = self.routes.get(name) else {
            return self.outbox.refuse(inbox, &self.unknown(name)).await;
        };
        if route.stops_trading() != stops_trading {
            // Comes in a subscription of its own.
            return;
        }
        let places = match route {
            Route::Method(_) if stops_trading => &self.stopping_places,
            Route::Method(_) => &self.places,
            Route::Added(_) => &self.added_places,
        };
        let place = places.clone().try_acquire_owned().ok();
        let has_place = place.is_some();
        let responder = Responder {
            inbox,
            endpoint: endpoint.clone(),
            since: self.outbox.leads.clock.mono(),
            outbox: self.outbox.clone(),
            _place: place,
        };
        if !has_place {
            let error = RpcError::new(ErrorCode::Overloaded, "too many calls are under way; nothing was done");
            return responder.send(Err(error)).await;
        }
        let headers = headers.as_ref();
        let caller = Caller::anonymous(client_name(header(headers, &CLIENT).unwrap_or_default()));
        match route {
            Route::Method(method) => self.take_call(*method, caller, headers, &payload, responder).await,
            Route::Added(handler) => self.take_added(handler, caller, payload, responder),
        }
    }

    async fn take_call(
        &self,
        method: Method,
        caller: Caller,
        headers: Option<&HeaderMap>,
        payload: &[u8],
        responder: Responder,
    ) {
        let decoded = deadline(headers).and_then(|deadline| Ok((deadline, Request::decode(method, payload)?)));
        match decoded {
            Err(error) => responder.send(Err(error)).await,
            Ok((deadline, request)) => {
                let traceid = header(headers, &TRACEPARENT).and_then(trace_of);
                let incoming = Incoming { caller, deadline, traceid, request, responder };
                // Holds as many as there are places: only a gateway that is gone can refuse.
                if let Err(refused) = self.calls.try_send(incoming) {
                    let error = RpcError::new(ErrorCode::ShuttingDown, format!("{} is stopping", self.gateway));
                    refused.into_inner().responder.send(Err(error)).await;
                }
            }
        }
    }

    fn take_added(&self, handler: &Handler, caller: Caller, payload: Bytes, responder: Responder) {
        let params = if payload.is_empty() {
            Ok(serde_json::Value::Object(serde_json::Map::new()))
        } else {
            codec::decode(&payload).map_err(|error| RpcError::new(ErrorCode::BadRequest, error.to_string()))
        };
        let context = CallContext { gateway: self.gateway.clone(), caller };
        let answers = self.answers.clone();
        let handler = handler.clone();
        // One task per call of an added method: nobody knows how long it takes. Bounded by its places.
        self.workers.spawn(async move {
            let work = async move {
                let result = handler(context, params?).await?;
                codec::encode(&result).map_err(|error| RpcError::new(ErrorCode::Internal, error.to_string()))
            };
            let reply = std::panic::AssertUnwindSafe(work)
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(RpcError::new(ErrorCode::Internal, "the method's handler panicked")));
            if answers.send((responder, reply)).await.is_err() {
                debug!("an added method's answer came after the end");
            }
        });
    }

    fn unknown(&self, name: &str) -> RpcError {
        let shown: String = name.chars().take(64).collect();
        let nearest = self
            .routes
            .values()
            .map(|(_, endpoint)| endpoint.name.as_str())
            .map(|known| (strsim::normalized_damerau_levenshtein(&shown, known), known))
            .filter(|(score, _)| *score > 0.5)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = nearest.map(|(_, known)| format!("; did you mean {known}?")).unwrap_or_default();
        RpcError::new(ErrorCode::UnknownMethod, format!("{} has no method {shown}{hint}", self.gateway))
    }
}

/// What a client calls itself, cut.
fn client_name(text: &str) -> Name {
    match text.char_indices().nth(64) {
        Some((end, _)) => text[..end].into(),
        None => text.into(),
    }
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &HeaderName) -> Option<&'a str> {
    headers?.get(name.clone()).map(|value| value.as_str())
}

/// The trace of a `traceparent`: <https://www.w3.org/TR/trace-context/#traceparent-header>. One that is none is nobody's
/// trace; it is no reason to refuse an order.
fn trace_of(traceparent: &str) -> Option<Name> {
    let trace = traceparent.trim().split('-').nth(1)?;
    let is_trace = trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    (is_trace && trace.bytes().any(|b| b != b'0')).then(|| trace.into())
}

/// An epoch without a deadline says nothing.
fn deadline(headers: Option<&HeaderMap>) -> Result<Option<Deadline>, RpcError> {
    let Some(ms) = number(headers, &DEADLINE, "no number of milliseconds")? else { return Ok(None) };
    let epoch = number(headers, &DEADLINE_EPOCH, "no epoch: get_status tells it")?;
    Ok(Some(Deadline { ms, epoch }))
}

fn number<N: FromStr>(headers: Option<&HeaderMap>, name: &HeaderName, wrong: &str) -> Result<Option<N>, RpcError> {
    let Some(text) = header(headers, name) else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        RpcError::new(ErrorCode::BadRequest, format!("header {name}: `{shown}` is {wrong}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_route_and_what_stops_trading_a_group_of_its_own() {
        let handler: Handler = Arc::new(|_, _| futures::future::ready(Ok(serde_json::Value::Null)).boxed());
        let routes = routes("sim1", "sim1-7", &HashMap::from([("re balance".to_owned(), handler)]));
        assert_eq!(routes.len(), Method::ALL.len() + 1);
        for (token, (route, endpoint)) in &routes {
            assert_eq!(endpoint.subject, format!("rpc.sim1.{token}"));
            let group = if route.stops_trading() { "sim1-7-stopping" } else { "sim1-7" };
            assert_eq!(endpoint.queue_group, group, "{token}");
        }
        assert!(routes["halt"].0.stops_trading() && !routes["resume"].0.stops_trading());
        assert_eq!(routes["re%20balance"].1.name, "re balance");
    }

    #[test]
    fn a_clients_name_is_cut_between_letters() {
        assert_eq!(client_name("desk"), "desk");
        assert_eq!(client_name(&"é".repeat(65)), "é".repeat(64));
    }

    #[test]
    fn a_trace_is_read_and_nonsense_is_none() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_of(&format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        for nonsense in ["", "00", "00-00000000000000000000000000000000-0-0", "00-4BF92F3577B34DA6A3CE929D0E0E4736-0-0"]
        {
            assert_eq!(trace_of(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_deadline_may_name_its_epoch_and_nonsense_is_refused_by_name() {
        let read = |said: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            said.iter().for_each(|(name, text)| headers.insert(*name, *text));
            deadline(Some(&headers))
        };
        assert_eq!(deadline(None), Ok(None));
        let ms = (HEADER_DEADLINE, "1000");
        assert_eq!(read(&[ms]), Ok(Some(Deadline { ms: 1_000, epoch: None })));
        assert_eq!(read(&[ms, (HEADER_DEADLINE_EPOCH, " 7 ")]), Ok(Some(Deadline { ms: 1_000, epoch: Some(7) })));
        assert_eq!(read(&[(HEADER_DEADLINE_EPOCH, "7")]), Ok(None));
        for (said, name) in [
            (vec![(HEADER_DEADLINE, "tomorrow")], HEADER_DEADLINE),
            (vec![ms, (HEADER_DEADLINE_EPOCH, "the last")], HEADER_DEADLINE_EPOCH),
            (vec![ms, (HEADER_DEADLINE_EPOCH, "-1")], HEADER_DEADLINE_EPOCH),
        ] {
            let error = read(&said).expect_err("nonsense");
            assert!(error.code == ErrorCode::BadRequest && error.message.contains(&format!("{name}:")), "{error}");
        }
    }
}
