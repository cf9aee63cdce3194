//! The `sim` gateway's way to a venue of another process: one TCP connection per login, with a thread that reads and
//! one that writes.
//!
//! Commands wait in a bounded queue for the writing thread; when it is full they are refused as `Busy`. A command that
//! could not be written within a second gives the connection up instead: the node checked it a moment ago, and what it
//! checked may not hold any more. Whatever happened to commands that were taken, `Disconnected` follows, and the
//! snapshot of the next session says what became of them.

use std::io::{BufReader, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use protocol::defect::{Defect, LOSES_EVERY, is_planted};
use protocol::{HistoryRequest, InstrumentId, Name, OrderRequest, QuoteRequest};
use tracing::{debug, error, warn};

use super::link::{self, Ask, Say};
use crate::gateway::{
    Answer, Gateway, GatewayError, QueryToken, SessionStart, VenueEvent, VenueReference, VenueSink, VenueSnapshot,
};
use crate::risk::Approved;

/// Commands that may wait for the writing thread.
const COMMANDS: usize = 4096;
/// Longest wait of a command for the writing thread.
const LATE: Duration = Duration::from_secs(1);
/// How long making the connection may take, per address.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the venue may take to answer a login.
const LOGIN: Duration = Duration::from_secs(10);
/// How long an event waits for room in the node's queue.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a closed connection's threads are waited for: one that is still connecting, or writes to a venue that reads
/// nothing, ends by itself later and is heard no more.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Instruments in one message, so that it stays far below [`link::LONGEST_ASK`].
const INSTRUMENTS: usize = 256;

/// See the module.
pub struct RemoteVenue {
    gateway: Name,
    address: String,
    sink: VenueSink,
    line: Option<Line>,
    threads: Vec<JoinHandle<()>>,
}

/// The node's end of a login.
struct Line {
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
}

struct Command {
    at: Instant,
    bytes: Vec<u8>,
}

/// What the node's thread and the line's threads know of each other.
struct Shared {
    /// Held while an event is handed over, so that nothing of a line comes after the end of it was asked for.
    is_live: Mutex<bool>,
    /// Known once the venue has accepted the login.
    session: OnceLock<Name>,
    /// Set when the connection is found dead: commands would go nowhere.
    is_dead: AtomicBool,
}

impl RemoteVenue {
    /// A way to the venue at `HOST:PORT`; nothing is connected before `connect`.
    #[must_use]
    pub fn new(gateway: Name, address: String, sink: VenueSink) -> RemoteVenue {
        RemoteVenue { gateway, address, sink, line: None, threads: Vec::new() }
    }

    fn send(&self, ask: &Ask) -> Result<(), GatewayError> {
        let line = self.line.as_ref().filter(|line| line.shared.session.get().is_some());
        let line = line.filter(|line| !line.shared.is_dead.load(Ordering::Acquire));
        line.ok_or(GatewayError::NotConnected)?.send(ask)
    }

    fn send_instruments(
        &self,
        instruments: &[InstrumentId],
        ask: fn(Vec<InstrumentId>) -> Ask,
    ) -> Result<(), GatewayError> {
        instruments.chunks(INSTRUMENTS).try_for_each(|some| self.send(&ask(some.to_vec())))
    }

    fn check_session(&self, reference: &VenueReference) -> Result<(), GatewayError> {
        match self.line.as_ref().and_then(|line| line.shared.session.get()) {
            None => Err(GatewayError::NotConnected),
            Some(session) if *session == reference.session => Ok(()),
            Some(_) => Err(GatewayError::SessionChanged),
        }
    }

    /// Joins the threads that have ended.
    fn tidy(&mut self) {
        let (ended, running) = std::mem::take(&mut self.threads).into_iter().partition(JoinHandle::is_finished);
        self.threads = running;
        join(ended);
    }
}

impl Gateway for RemoteVenue {
    fn connect(&mut self, start: SessionStart) -> Result<(), GatewayError> {
        self.disconnect();
        self.tidy();
        let (commands, waiting) = sync_channel(COMMANDS);
        let shared =
            Arc::new(Shared { is_live: Mutex::new(true), session: OnceLock::new(), is_dead: AtomicBool::new(false) });
        let login = Ask::LogIn { version: link::VERSION, node: who(&self.gateway), epoch: start.epoch };
        let reader = Reader {
            gateway: self.gateway.clone(),
            sink: self.sink.clone(),
            shared: shared.clone(),
            seen: 0,
            is_ready: false,
            is_patient: true,
            began: Instant::now(),
        };
        let address = self.address.clone();
        let thread = std::thread::Builder::new()
            .name(format!("venue-{}", self.gateway))
            .spawn(move || reader.run(&address, &login, waiting))
            .map_err(|error| GatewayError::Refused(format!("no thread for the venue's connection: {error}")))?;
        self.threads.push(thread);
        self.line = Some(Line { commands, shared });
        Ok(())
    }

    fn disconnect(&mut self) {
        let Some(line) = self.line.take() else { return };
        *line.shared.live() = false;
        // If the queue is full, the end of it is as clear a word.
        let _ = line.send(&Ask::LogOut);
    }

    fn subscribe(&mut self, instruments: &[InstrumentId]) -> Result<(), GatewayError> {
        self.send_instruments(instruments, Ask::Subscribe)
    }

    fn unsubscribe(&mut self, instruments: &[InstrumentId]) -> Result<(), GatewayError> {
        self.send_instruments(instruments, Ask::Unsubscribe)
    }

    fn submit(&mut self, reference: &VenueReference, order: &Approved<OrderRequest>) -> Result<(), GatewayError> {
        self.check_session(reference)?;
        if is_planted(Defect::Submit) && reference.number.is_multiple_of(LOSES_EVERY) {
            return Ok(());
        }
        self.send(&Ask::Submit { number: reference.number, request: Box::new(order.get().clone()) })
    }

    fn cancel(&mut self, reference: &VenueReference) -> Result<(), GatewayError> {
        self.send(&Ask::Cancel(reference.clone()))
    }

    fn submit_quote(&mut self, reference: &VenueReference, quote: &Approved<QuoteRequest>) -> Result<(), GatewayError> {
        self.check_session(reference)?;
        self.send(&Ask::SubmitQuote { number: reference.number, request: Box::new(quote.get().clone()) })
    }

    fn cancel_quote(&mut self, reference: &VenueReference) -> Result<(), GatewayError> {
        self.send(&Ask::CancelQuote(reference.clone()))
    }

    fn query_history(&mut self, token: QueryToken, request: &HistoryRequest) -> Result<(), GatewayError> {
        self.send(&Ask::History { token, request: Box::new(request.clone()) })
    }

    fn query_account(&mut self, token: QueryToken) -> Result<(), GatewayError> {
        self.send(&Ask::Account(token))
    }

    fn query_position(&mut self, token: QueryToken) -> Result<(), GatewayError> {
        self.send(&Ask::Positions(token))
    }

    fn request_snapshot(&mut self) -> Result<(), GatewayError> {
        self.send(&Ask::Snapshot)
    }

    fn close(&mut self) {
        self.disconnect();
        let until = Instant::now() + LAST_WORDS;
        while !self.threads.iter().all(JoinHandle::is_finished) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.tidy();
    }
}

impl Drop for RemoteVenue {
    fn drop(&mut self) {
        self.close();
    }
}

impl Line {
    fn send(&self, ask: &Ask) -> Result<(), GatewayError> {
        let bytes = link::encode(ask);
        if bytes.len() > link::LONGEST_ASK {
            let (len, most) = (bytes.len(), link::LONGEST_ASK);
            return Err(GatewayError::Refused(format!(
                "the command takes {len} bytes, the venue reads {most} at most"
            )));
        }
        self.commands.try_send(Command { at: Instant::now(), bytes }).map_err(|error| match error {
            TrySendError::Full(_) => GatewayError::Busy,
            TrySendError::Disconnected(_) => GatewayError::NotConnected,
        })
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, bool> {
        self.is_live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that connects and reads.
struct Reader {
    gateway: Name,
    sink: VenueSink,
    shared: Arc<Shared>,
    /// The last number that came.
    seen: u64,
    is_ready: bool,
    /// Lost when the node took nothing for the whole patience: one stuck node is waited for once, not at each event.
    is_patient: bool,
    began: Instant,
}

/// Why a line ended.
enum End {
    /// As [`VenueEvent::Disconnected`].
    Lost(String),
    /// As [`VenueEvent::Refused`].
    Refused(String),
    /// The node asked for it.
    Asked,
}

impl Reader {
    fn run(mut self, address: &str, login: &Ask, commands: Receiver<Command>) {
        let end = match connect(address, login) {
            Ok(stream) => self.serve(stream, commands),
            Err(reason) => End::Lost(reason),
        };
        self.shared.is_dead.store(true, Ordering::Release);
        self.is_patient = true;
        match end {
            End::Lost(reason) => self.tell(VenueEvent::Disconnected { reason }),
            End::Refused(reason) => self.tell(VenueEvent::Refused { reason }),
            End::Asked => {}
        }
    }

    fn serve(&mut self, stream: TcpStream, commands: Receiver<Command>) -> End {
        let writing = match stream.try_clone() {
            Ok(stream) => stream,
            Err(error) => return End::Lost(format!("the connection to the venue cannot be shared: {error}")),
        };
        let shared = self.shared.clone();
        let writer = std::thread::Builder::new()
            .name(format!("venue-{}-out", self.gateway))
            .spawn(move || write(&writing, &commands, &shared));
        let writer = match writer {
            Ok(writer) => writer,
            Err(error) => return End::Lost(format!("no thread for the venue's connection: {error}")),
        };
        let end = self.read(&stream);
        self.shared.is_dead.store(true, Ordering::Release);
        // The writer finds the connection shut down at its next heartbeat, if not before.
        let _ = stream.shutdown(Shutdown::Both);
        join(vec![writer]);
        end
    }

    fn read(&mut self, stream: &TcpStream) -> End {
        let mut reader = BufReader::with_capacity(64 << 10, stream);
        let mut line = Vec::new();
        loop {
            match link::read_line(&mut reader, &mut line, link::LONGEST_SAY) {
                Ok(true) => {}
                Ok(false) => return End::Lost("the venue closed the connection".to_owned()),
                Err(error) if is_timeout(&error) => {
                    return End::Lost(format!("the venue was silent for {} s", link::SILENCE.as_secs()));
                }
                Err(error) => return End::Lost(format!("the connection to the venue is lost: {error}")),
            }
            let taken = link::decode(&line).map_err(|problem| End::Lost(format!("the venue's message {problem}")));
            if let Err(end) = taken.and_then(|say| self.take(say)) {
                return end;
            }
            if !*self.shared.live() {
                return End::Asked;
            }
            if self.shared.session.get().is_none() && self.began.elapsed() > LOGIN {
                return End::Lost(format!("the venue did not answer the login within {} s", LOGIN.as_secs()));
            }
        }
    }

    fn take(&mut self, say: Say) -> Result<(), End> {
        match say {
            Say::Event { n, .. } if n <= self.seen => {
                debug!(gateway = %self.gateway, n, "the venue repeated itself");
                Ok(())
            }
            Say::Event { n, event } => {
                self.check_gap(n - 1)?;
                self.seen = n;
                self.take_event(event)
            }
            Say::Heartbeat { last } => self.check_gap(last),
            Say::Tick(mut tick) => {
                tick.gateway_name = self.gateway.clone();
                let is_live = self.shared.live();
                if *is_live && self.is_ready {
                    self.sink.ticks().push(*tick);
                }
                Ok(())
            }
            Say::LoginRefused { reason, is_final: true } => Err(End::Refused(reason)),
            Say::LoginRefused { reason, is_final: false } => Err(End::Lost(reason)),
            Say::Done | Say::NotDone { .. } | Say::Counts(_) => Ok(()),
        }
    }

    /// Whether everything up to this number has come. What is missing makes the gateway DIRTY; missing before the
    /// login is complete, it would leave a gateway without contracts, so the login begins again.
    fn check_gap(&mut self, last: u64) -> Result<(), End> {
        if last <= self.seen {
            return Ok(());
        }
        let missing = last - self.seen;
        self.seen = last;
        if !self.is_ready {
            return Err(End::Lost(format!("{missing} of the venue's messages were lost during the login")));
        }
        warn!(gateway = %self.gateway, missing, "messages of the venue were lost");
        let is_live = self.shared.live();
        if *is_live {
            self.sink.lost();
        }
        Ok(())
    }

    fn take_event(&mut self, mut event: VenueEvent) -> Result<(), End> {
        let end = match &mut event {
            VenueEvent::Disconnected { reason } => return Err(End::Lost(std::mem::take(reason))),
            VenueEvent::Refused { reason } => return Err(End::Refused(std::mem::take(reason))),
            VenueEvent::Connected { session, .. } => {
                let is_first = self.shared.session.set(session.clone()).is_ok();
                if is_first { Ok(()) } else { Err(End::Lost("the venue began a second session".to_owned())) }
            }
            VenueEvent::Ready => {
                self.is_ready = true;
                Ok(())
            }
            _ => Ok(()),
        };
        rename(&mut event, &self.gateway);
        self.tell(event);
        end
    }

    /// Tells the node, for as long as it wants to hear of this login.
    fn tell(&mut self, event: VenueEvent) {
        let mut event = Box::new(event);
        let began = Instant::now();
        loop {
            {
                let is_live = self.shared.live();
                if !*is_live || self.sink.is_closed() {
                    return;
                }
                match self.sink.try_send(*event) {
                    Ok(()) => {
                        self.is_patient = true;
                        return;
                    }
                    Err(back) => event = back,
                }
                if !self.is_patient || began.elapsed() > PATIENCE {
                    self.is_patient = false;
                    self.sink.lost();
                    return;
                }
            }
            // A tokio channel has no blocking send that ends; the node empties the queue in far less than this.
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn connect(address: &str, login: &Ask) -> Result<TcpStream, String> {
    let context = |error: std::io::Error| format!("the venue at {address} cannot be reached: {error}");
    let mut outcome = Err(format!("the venue at {address} cannot be reached: the name has no address"));
    for resolved in address.to_socket_addrs().map_err(context)? {
        outcome = TcpStream::connect_timeout(&resolved, CONNECT).map_err(context);
        if outcome.is_ok() {
            break;
        }
    }
    let mut stream = outcome?;
    stream.set_nodelay(true).map_err(context)?;
    stream.set_read_timeout(Some(link::SILENCE)).map_err(context)?;
    stream.set_write_timeout(Some(link::SILENCE)).map_err(context)?;
    stream.write_all(&link::encode(login)).map_err(context)?;
    Ok(stream)
}

/// Writes commands and heartbeats until the node is done with the line, or the connection is dead.
fn write(mut stream: &TcpStream, commands: &Receiver<Command>, shared: &Shared) {
    let heartbeat = link::encode(&Ask::Heartbeat);
    loop {
        let written = match commands.recv_timeout(link::HEARTBEAT) {
            Ok(command) if command.at.elapsed() > LATE => {
                warn!("the venue's connection took no command for too long: it is given up");
                break;
            }
            Ok(command) => stream.write_all(&command.bytes),
            Err(RecvTimeoutError::Timeout) => stream.write_all(&heartbeat),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Err(error) = written {
            debug!(%error, "writing to the venue failed");
            break;
        }
    }
    shared.is_dead.store(true, Ordering::Release);
    let _ = stream.shutdown(Shutdown::Both);
}

/// The gateway's own name, in place of whatever the venue calls it.
fn rename(event: &mut VenueEvent, gateway: &Name) {
    match event {
        VenueEvent::Contract(contract) => contract.gateway_name = gateway.clone(),
        VenueEvent::Position(position) => position.gateway_name = gateway.clone(),
        VenueEvent::Account(account) => account.gateway_name = gateway.clone(),
        VenueEvent::Snapshot(snapshot) => {
            let VenueSnapshot { positions, accounts, .. } = &mut **snapshot;
            positions.iter_mut().for_each(|position| position.gateway_name = gateway.clone());
            accounts.iter_mut().for_each(|account| account.gateway_name = gateway.clone());
        }
        VenueEvent::Answer { answer: Ok(Answer::History(bars)), .. } => {
            bars.iter_mut().for_each(|bar| bar.gateway_name = gateway.clone());
        }
        _ => {}
    }
}

/// Which gateway of which process this is, for the venue's ledger.
fn who(gateway: &Name) -> Name {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{gateway}@{}/{}", host.as_deref().unwrap_or("?"), std::process::id()).into()
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            error!("a thread of the venue's connection panicked");
        }
    }
}

#[cfg(test)]
mod tests;
