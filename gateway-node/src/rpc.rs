//! Calls on NATS: one service per gateway, one endpoint per method. Requests are decoded here and handed to the
//! gateway's loop; answers come back as bytes.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::service::{self, ServiceExt};
use async_nats::{Client, HeaderMap, Message};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::SelectAll;
use futures::{FutureExt, StreamExt};
use protocol::rpc::{
    Deadline, HEADER_CLIENT, HEADER_DEADLINE, HEADER_DEADLINE_EPOCH, HEADER_ERROR, HEADER_ERROR_CODE,
    HEADER_TRACEPARENT, Method,
};
use protocol::{ErrorCode, Name, RpcError, codec, subject};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::engine::{Caller, Reply, Request};
use crate::lease::Limit;

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
/// Error answers are counted by the service API only together with an answer of its own making, which has no body.
/// Ours goes to the caller; the service's goes here, where nobody listens.
const VOID: &str = "_GATEMESH.void";

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

/// Whether this node leads: who answers looks immediately before.
#[derive(Clone)]
pub struct Leads {
    /// Until when.
    pub limit: Limit,
    /// The time.
    pub clock: Clock,
}

impl Leads {
    fn now(&self) -> bool {
        self.limit.may_act(self.clock.mono())
    }
}

/// The way to answer one call; holds its place among [`MAX_CALLS`].
pub struct Responder {
    request: service::Request,
    client: Client,
    leads: Leads,
    _place: Option<OwnedSemaphorePermit>,
}

impl Responder {
    /// A former leader stays silent: its successor was given the same call, and may do what this one refuses.
    async fn send(mut self, reply: Reply) {
        if !self.leads.now() {
            return;
        }
        let sent = match fitting(reply, self.client.max_payload()) {
            Ok(bytes) => self.request.respond(Ok(bytes.into())).await,
            Err(error) => {
                let Some(inbox) = self.request.message.reply.clone() else { return };
                let sent = self.client.publish_with_headers(inbox, error_headers(&error), error_body(&error)).await;
                self.request.message.reply = Some(VOID.into());
                let counted = service::error::Error {
                    code: usize::from(error.code.number()),
                    status: one_line(&error.to_string()),
                };
                if let Err(error) = self.request.respond(Err(counted)).await {
                    debug!(%error, "an error answer was not counted");
                }
                sent
            }
        };
        if let Err(error) = sent {
            debug!(%error, "an answer was not sent");
        }
    }
}

/// Whether a method only ever takes risk away.
const fn stops_trading(method: Method) -> bool {
    matches!(method, Method::CancelOrder | Method::CancelAll | Method::CancelQuote | Method::Halt | Method::Disconnect)
}

/// Whether an answer may go there. The node may publish what its callers may not: a reply subject that it could be made
/// to write its own journal, events or calls with is none.
fn is_inbox(reply: &str) -> bool {
    !["journal.", "evt.", "rpc.", "$"].iter().any(|prefix| reply.starts_with(prefix))
}

/// An answer that the server would not take is an error that says so, rather than silence.
fn fitting(reply: Reply, max_payload: usize) -> Reply {
    match reply {
        Ok(bytes) if bytes.len() > max_payload => Err(RpcError::new(
            ErrorCode::Internal,
            format!(
                "the answer has {} bytes and the NATS server takes {max_payload}: ask for less, or raise its max_payload",
                bytes.len()
            ),
        )),
        reply => reply,
    }
}

fn error_headers(error: &RpcError) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Cut: the whole of it is in the body, and headers have to fit beside that.
    let line: String = one_line(&error.to_string()).chars().take(512).collect();
    headers.insert(HEADER_ERROR, line.as_str());
    headers.insert(HEADER_ERROR_CODE, error.code.number().to_string().as_str());
    headers
}

fn error_body(error: &RpcError) -> Bytes {
    codec::encode(error).unwrap_or_default().into()
}

/// Header values end at a line's end.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The answers of a gateway's loop, on their way out.
pub type Answers = mpsc::Sender<(Responder, Reply)>;

/// A gateway's service while it runs.
pub struct RpcServer {
    service: service::Service,
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
        let service = client
            .service_builder()
            .description("a Gatemesh trading gateway")
            .queue_group(&group)
            .start(gateway.as_str(), env!("CARGO_PKG_VERSION"))
            .await
            .map_err(|e| anyhow::anyhow!(e))
            .context("starting the service")?;
        let mut endpoints = SelectAll::new();
        let names = Method::ALL.iter().map(|m| m.as_str()).chain(methods.keys().map(String::as_str));
        for name in names {
            let endpoint = service
                .endpoint_builder()
                .name(name)
                .add(subject::rpc(&gateway, name))
                .await
                .map_err(|e| anyhow::anyhow!(e))
                .with_context(|| format!("serving {name}"))?;
            let route = match (Method::from_name(name), methods.get(name)) {
                (_, Some(handler)) => Route::Added(handler.clone()),
                (Some(method), None) => Route::Method(method),
                (None, None) => continue,
            };
            endpoints.push(endpoint.map(move |request| (route.clone(), request)).boxed());
        }
        // Whatever other name is called is told so, by the same group.
        let unknown =
            client.queue_subscribe(format!("rpc.{}.*", subject::token(&gateway)), format!("{group}-unknown")).await?;
        let (answers, mut outgoing) = mpsc::channel::<(Responder, Reply)>(MAX_CALLS + MAX_ADDED_CALLS);
        let answers_task = tokio::spawn(async move {
            while let Some((responder, reply)) = outgoing.recv().await {
                responder.send(reply).await;
            }
        });
        let desk = Desk {
            client,
            leads,
            workers,
            gateway,
            calls,
            answers: answers.clone(),
            places: Arc::new(Semaphore::new(MAX_ORDINARY_CALLS)),
            stopping_places: Arc::new(Semaphore::new(MAX_STOPPING_CALLS)),
            added_places: Arc::new(Semaphore::new(MAX_ADDED_CALLS)),
            added: methods.keys().cloned().collect(),
        };
        let requests = tokio::spawn(desk.run(endpoints, unknown));
        Ok((RpcServer { service, requests, answers: answers_task }, answers))
    }

    /// Takes no more calls. The answers that are under way still go out: see [`AnswersOnly::finish`].
    pub async fn stop_taking(self) -> AnswersOnly {
        if let Err(error) = self.service.stop().await {
            debug!(%error, "the service did not stop cleanly");
        }
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

/// Takes requests in.
struct Desk {
    client: Client,
    leads: Leads,
    /// Where added methods run: nobody knows what they do to a thread.
    workers: tokio::runtime::Handle,
    gateway: Name,
    calls: mpsc::Sender<Incoming>,
    answers: Answers,
    places: Arc<Semaphore>,
    stopping_places: Arc<Semaphore>,
    added_places: Arc<Semaphore>,
    added: std::collections::HashSet<String>,
}

type Endpoints = SelectAll<futures::stream::BoxStream<'static, (Route, service::Request)>>;

impl Desk {
    async fn run(self, mut endpoints: Endpoints, mut unknown: async_nats::Subscriber) {
        loop {
            tokio::select! {
                request = endpoints.next() => match request {
                    Some((route, request)) => self.take(route, request).await,
                    None => return,
                },
                Some(message) = unknown.next() => self.refuse_unknown(message).await,
            }
        }
    }

    async fn take(&self, route: Route, request: service::Request) {
        let reply = request.message.reply.as_deref();
        if !reply.is_some_and(is_inbox) {
            debug!(gateway = %self.gateway, subject = %request.message.subject, reply, "a call that cannot be answered is ignored");
            return;
        }
        let places = match route {
            Route::Method(method) if stops_trading(method) => &self.stopping_places,
            Route::Method(_) => &self.places,
            Route::Added(_) => &self.added_places,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            let error = RpcError::new(ErrorCode::Overloaded, "too many calls are under way; nothing was done");
            self.responder(request, None).send(Err(error)).await;
            return;
        };
        let caller = Caller::anonymous(
            header(request.message.headers.as_ref(), HEADER_CLIENT)
                .unwrap_or_default()
                .chars()
                .take(64)
                .collect::<String>(),
        );
        match route {
            Route::Method(method) => self.take_call(method, caller, request, place).await,
            Route::Added(handler) => self.take_added(&handler, caller, request, place),
        }
    }

    async fn take_call(&self, method: Method, caller: Caller, request: service::Request, place: OwnedSemaphorePermit) {
        let decoded = deadline(request.message.headers.as_ref())
            .and_then(|deadline| Ok((deadline, Request::decode(method, &request.message.payload)?)));
        let traceid = header(request.message.headers.as_ref(), HEADER_TRACEPARENT).and_then(trace_of);
        let responder = self.responder(request, Some(place));
        match decoded {
            Err(error) => responder.send(Err(error)).await,
            Ok((deadline, request)) => {
                let incoming = Incoming { caller, deadline, traceid, request, responder };
                // Holds as many as there are places: only a gateway that is gone can refuse.
                if let Err(refused) = self.calls.try_send(incoming) {
                    let error = RpcError::new(ErrorCode::ShuttingDown, format!("{} is stopping", self.gateway));
                    refused.into_inner().responder.send(Err(error)).await;
                }
            }
        }
    }

    fn take_added(&self, handler: &Handler, caller: Caller, request: service::Request, place: OwnedSemaphorePermit) {
        let payload = request.message.payload.clone();
        let responder = self.responder(request, Some(place));
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

    async fn refuse_unknown(&self, message: Message) {
        let name = message.subject.rsplit('.').next().unwrap_or_default();
        if Method::from_name(name).is_some() || self.added.contains(name) {
            return;
        }
        let Some(inbox) = message.reply.clone().filter(|reply| is_inbox(reply) && self.leads.now()) else { return };
        let shown: String = name.chars().take(64).collect();
        let known: Vec<&str> =
            Method::ALL.iter().map(|m| m.as_str()).chain(self.added.iter().map(String::as_str)).collect();
        let nearest = known
            .iter()
            .map(|k| (strsim::normalized_damerau_levenshtein(&shown, k), *k))
            .filter(|(score, _)| *score > 0.5)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = nearest.map(|(_, k)| format!("; did you mean {k}?")).unwrap_or_default();
        let error = RpcError::new(ErrorCode::UnknownMethod, format!("{} has no method {shown}{hint}", self.gateway));
        if let Err(error) = self.client.publish_with_headers(inbox, error_headers(&error), error_body(&error)).await {
            warn!(%error, "an answer was not sent");
        }
    }

    fn responder(&self, request: service::Request, place: Option<OwnedSemaphorePermit>) -> Responder {
        Responder { request, client: self.client.clone(), leads: self.leads.clone(), _place: place }
    }
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(|value| value.as_str())
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
    let Some(ms) = number(headers, HEADER_DEADLINE, "no number of milliseconds")? else { return Ok(None) };
    let epoch = number(headers, HEADER_DEADLINE_EPOCH, "no epoch: get_status tells it")?;
    Ok(Some(Deadline { ms, epoch }))
}

fn number<N: FromStr>(headers: Option<&HeaderMap>, name: &str, wrong: &str) -> Result<Option<N>, RpcError> {
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
    fn answers_go_to_inboxes_only() {
        for inbox in ["_INBOX.abc.1", "_R_.x.y", "strategies.a.inbox"] {
            assert!(is_inbox(inbox), "{inbox}");
        }
        for forged in ["journal.sim1.pub.order.a.SHFE.sim1.default", "evt.status.sim1", "rpc.sim1.resume", "$JS.API.x"]
        {
            assert!(!is_inbox(forged), "{forged}");
        }
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

    #[test]
    fn an_answer_that_is_too_large_says_so() {
        assert_eq!(fitting(Ok(vec![b' '; 10]), 10), Ok(vec![b' '; 10]));
        assert_eq!(fitting(Ok(vec![b' '; 11]), 10).expect_err("too large").code, ErrorCode::Internal);
    }

    #[test]
    fn an_errors_header_is_one_short_line() {
        let error = RpcError::new(ErrorCode::NotFound, format!("a\r\nNats-Sequence: 7\0{}", "o".repeat(16_000)));
        let headers = error_headers(&error);
        let line = headers.get(HEADER_ERROR).expect("a line").as_str();
        assert!(line.len() <= 512 && !line.contains(char::is_control), "{line}");
    }
}
