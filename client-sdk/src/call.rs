//! One request and its answer: headers, timeouts, and what a failure means.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{HeaderMap, HeaderName, Message};
use bytes::Bytes;
use protocol::rpc::{self, Deadline, Method};
use protocol::{Name, RpcError, subject};
use tokio::sync::watch;

use crate::connection::{Connection, Link};
use crate::error::Error;

// Made once: a name that is given as text is compared with every name that the library knows, and copied.
static CLIENT: HeaderName = HeaderName::from_static(rpc::HEADER_CLIENT);
static TRACEPARENT: HeaderName = HeaderName::from_static(rpc::HEADER_TRACEPARENT);
static DEADLINE: HeaderName = HeaderName::from_static(rpc::HEADER_DEADLINE);
static DEADLINE_EPOCH: HeaderName = HeaderName::from_static(rpc::HEADER_DEADLINE_EPOCH);

/// What is asked of whom, and how long it may take.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub gateway: &'a Name,
    pub method: &'a str,
    pub timeout: Duration,
    pub deadline: Option<Deadline>,
    pub traceparent: Option<&'a str>,
}

impl Call<'_> {
    /// Sends the request once and waits for its answer.
    ///
    /// It refuses while disconnected (the library would keep the request and send it after the reconnect) and fails
    /// as soon as the connection breaks (the answer goes to an inbox that is gone by then).
    pub(crate) async fn send(&self, connection: &Connection, client: &str, payload: Bytes) -> Result<Bytes, Error> {
        let mut link = connection.link.clone();
        let generation = link.borrow_and_update().generation;
        if !connection.is_connected() {
            return Err(Error::Disconnected);
        }
        let subject = subject::rpc(self.gateway, self.method);
        let request = connection.nats.request_with_headers(subject, self.headers(client), payload);
        let answer = tokio::select! {
            biased;
            // Our own timeout around the library's: its command channel can block for longer than any timeout of its own.
            answer = tokio::time::timeout(self.timeout, request) => answer,
            () = broken(&mut link, generation) => return Err(self.connection_lost()),
        };
        match answer {
            Ok(Ok(message)) => read_answer(message).map_err(Error::Rpc),
            Ok(Err(error)) => Err(self.request_error(error.kind(), &error.to_string())),
            Err(_) => Err(self.timed_out()),
        }
    }

    pub(crate) fn timed_out(&self) -> Error {
        Error::Timeout {
            gateway: self.gateway.clone(),
            method: self.method.to_owned(),
            timeout: self.timeout,
            maybe_executed: has_effect(self.method),
        }
    }

    pub(crate) fn unreadable(&self, reason: impl ToString) -> Error {
        Error::Reply {
            gateway: self.gateway.clone(),
            method: self.method.to_owned(),
            reason: reason.to_string(),
            maybe_executed: has_effect(self.method),
        }
    }

    fn connection_lost(&self) -> Error {
        Error::ConnectionLost {
            gateway: self.gateway.clone(),
            method: self.method.to_owned(),
            maybe_executed: has_effect(self.method),
        }
    }

    fn request_error(&self, kind: RequestErrorKind, text: &str) -> Error {
        match kind {
            RequestErrorKind::NoResponders => {
                Error::GatewayNotRunning { gateway: self.gateway.clone(), method: self.method.to_owned() }
            }
            RequestErrorKind::TimedOut => self.timed_out(),
            RequestErrorKind::InvalidSubject => Error::InvalidRequest(format!(
                "gateway `{}` and method `{}` make no subject",
                self.gateway, self.method
            )),
            RequestErrorKind::MaxPayloadExceeded => {
                Error::InvalidRequest(format!("the parameters of {} are larger than a message may be", self.method))
            }
            RequestErrorKind::Other => {
                tracing::debug!(text, "request failed inside the library");
                self.connection_lost()
            }
        }
    }

    fn headers(&self, client: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CLIENT.clone(), client);
        headers.insert(TRACEPARENT.clone(), self.traceparent.map_or_else(new_traceparent, str::to_owned));
        if let Some(deadline) = self.deadline {
            headers.insert(DEADLINE.clone(), deadline.ms.to_string());
            if let Some(epoch) = deadline.epoch {
                headers.insert(DEADLINE_EPOCH.clone(), epoch.to_string());
            }
        }
        headers
    }
}

/// Whether a call of that name may do something that outlives it: then a lost answer leaves the outcome unknown.
/// A method of somebody else's is thought capable of anything.
pub(crate) fn has_effect(method: &str) -> bool {
    match Method::from_name(method) {
        None => true,
        Some(method) => matches!(
            method,
            Method::Subscribe
                | Method::Unsubscribe
                | Method::SendOrder
                | Method::CancelOrder
                | Method::CancelAll
                | Method::SendQuote
                | Method::CancelQuote
                | Method::Halt
                | Method::Resume
                | Method::Connect
                | Method::Disconnect
        ),
    }
}

/// Ends when the connection that stood at `generation` does not stand any more.
async fn broken(link: &mut watch::Receiver<Link>, generation: u64) {
    let gone = link.wait_for(|link| !link.connected || link.generation != generation).await.is_err();
    if gone {
        // The client itself is being dropped; the timeout ends the call.
        std::future::pending::<()>().await;
    }
}

/// An error reply arrives as an ordinary message: only its headers tell.
fn read_answer(message: Message) -> Result<Bytes, RpcError> {
    let Some(headers) = &message.headers else { return Ok(message.payload) };
    match (headers.get(rpc::HEADER_ERROR), headers.get(rpc::HEADER_ERROR_CODE)) {
        (None, None) => Ok(message.payload),
        (text, number) => Err(rpc::read_error(
            text.map_or("", |value| value.as_str()),
            number.map_or("", |value| value.as_str()),
            &message.payload,
        )),
    }
}

/// A trace of its own for a call that belongs to none: <https://www.w3.org/TR/trace-context/#traceparent-header>.
pub(crate) fn new_traceparent() -> String {
    let trace = uuid::Uuid::now_v7();
    let mut digits = [0; 32];
    let trace = trace.simple().encode_lower(&mut digits);
    // The only span of its trace: the trace's second half, which is random and, with the variant in it, never zero.
    let span = &trace[16..];
    ["00-", trace, "-", span, "-00"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ErrorCode;

    fn message(headers: Option<HeaderMap>, payload: &str) -> Message {
        Message {
            subject: "reply".into(),
            reply: None,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            headers,
            status: None,
            description: None,
            length: payload.len(),
        }
    }

    #[test]
    fn an_error_reply_is_an_error() {
        assert_eq!(read_answer(message(None, "{}")).expect("a result"), "{}");
        let mut headers = HeaderMap::new();
        headers.insert(rpc::HEADER_ERROR, "halted");
        headers.insert(rpc::HEADER_ERROR_CODE, "423");
        let body = r#"{"code":"HALTED","message":"by the desk"}"#;
        let error = read_answer(message(Some(headers.clone()), body)).expect_err("an error");
        assert_eq!(error, RpcError::new(ErrorCode::Halted, "by the desk"));
        headers.insert(rpc::HEADER_ERROR_CODE, "404");
        let error = read_answer(message(Some(headers), "")).expect_err("an error of somebody else's node");
        assert_eq!(error.code, ErrorCode::NotFound);
    }

    #[test]
    fn what_reads_is_never_of_unknown_outcome() {
        assert!(has_effect("send_order") && has_effect("halt") && has_effect("rebalance"));
        for &method in Method::ALL {
            assert!(!method.needs_deadline() || has_effect(method.as_str()), "{method:?}");
            let reads = method.as_str().starts_with("get_") || method.as_str().starts_with("query_");
            assert_eq!(has_effect(method.as_str()), !reads, "{method:?}");
        }
    }

    #[test]
    fn a_trace_has_the_shape_that_w3c_asks_for() {
        let text = new_traceparent();
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(lengths, [2, 32, 16, 2]);
        assert!(text.split('-').skip(1).take(2).all(|id| id.bytes().any(|byte| byte != b'0')), "{text}");
        assert_ne!(text, new_traceparent());
    }
}
