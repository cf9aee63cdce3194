//! Runs a command: connects, finds the gateway that is meant, hands over to the command's family.

mod history;
mod interrupt;
pub mod journal;
mod lists;
mod operate;
mod order;
mod ticks;
mod urgent;

use std::time::Duration;

use client_sdk::{Client, ConnectOptions, Error, GatewayHandle};
use futures::future::join_all;
use protocol::{InstrumentId, Name, OrderId, Timestamp};

use self::interrupt::Interrupt;
use crate::args::{Command, Global, Subscribe, nearest};
use crate::exit::Failure;
use crate::format::Decimals;
use crate::out::{Out, note};

/// Price steps are looked up for so many instruments of a list; beyond, prices are shown with the digits they have.
const PRICE_STEPS: usize = 64;

/// How long a command that handles Ctrl-C itself may take over it (a subscription is given back, an answer that is
/// awaited is given up) before it is ended all the same.
const GRACE: Duration = Duration::from_secs(2);

/// A connection, and what was asked for on the command line.
pub struct Session {
    pub client: Client,
    pub global: Global,
    pub out: Out,
    pub interrupt: Interrupt,
}

/// Runs every command but `watch` and `completions`.
pub async fn run(global: Global, command: Command, colored: bool) -> Result<(), Failure> {
    // What is wrong on the command line is said before anything is connected.
    let command = Checked::new(command, now())?;
    let mut interrupt = Interrupt::listen();
    let client = tokio::select! {
        client = connect(&global) => client?,
        () = interrupt.pressed() => return Err(Failure::Interrupted),
    };
    let out = Out::new(global.json, colored);
    let mut session = Session { client, global, out, interrupt: interrupt.clone() };
    let grace = if command.ends_on_ctrl_c() { GRACE } else { Duration::ZERO };
    let outcome = tokio::select! {
        outcome = session.dispatch(command) => outcome,
        () = async { interrupt.pressed().await; tokio::time::sleep(grace).await } => Err(Failure::Interrupted),
    };
    match outcome {
        Err(Failure::NotServed { gateway, method, sentence }) => {
            Err(session.not_served(&gateway, &method, sentence).await)
        }
        outcome => outcome,
    }
}

/// A command whose values are known to be well-formed.
enum Checked {
    Send { request: protocol::OrderRequest, wait: bool },
    History(protocol::HistoryRequest),
    Other(Command),
}

impl Checked {
    fn new(command: Command, now: Timestamp) -> Result<Checked, Failure> {
        Ok(match command {
            Command::Send(args) => Checked::Send { request: args.request().map_err(Failure::Usage)?, wait: args.wait },
            Command::Ticks(args) if args.subscribe == Subscribe::Yes && args.instrument().is_none() => {
                return Err(Failure::Usage(
                    "--subscribe yes needs a filter that names one instrument, for example rb2410.SHFE".into(),
                ));
            }
            Command::History(args) => Checked::History(args.request(now).map_err(Failure::Usage)?),
            other => Checked::Other(other),
        })
    }

    /// Whether Ctrl-C is how the command ends, or needs an answer of its own.
    fn ends_on_ctrl_c(&self) -> bool {
        match self {
            Checked::Send { .. } => true,
            Checked::History(_) => false,
            Checked::Other(command) => match command {
                Command::Ticks(_) | Command::Logs(_) => true,
                Command::Status(args) => args.follow,
                Command::Orders(args) => args.list.follow,
                Command::Trades(args) => args.list.follow,
                Command::Quotes(args) => args.list.follow,
                _ => false,
            },
        }
    }
}

impl Session {
    async fn dispatch(&mut self, command: Checked) -> Result<(), Failure> {
        let command = match command {
            Checked::Send { request, wait } => return self.send(request, wait).await,
            Checked::History(request) => return self.history(request).await,
            Checked::Other(command) => command,
        };
        match command {
            Command::Status(args) => self.status(args).await,
            Command::Ticks(args) => self.ticks(args).await,
            Command::Orders(args) => self.orders(args).await,
            Command::Trades(args) => self.trades(args).await,
            Command::Quotes(args) => self.quotes(args).await,
            Command::Positions(args) => self.positions(args).await,
            Command::Accounts(args) => self.accounts(args).await,
            Command::Contracts(args) => self.contracts(args).await,
            Command::Cancel(args) => self.cancel(args).await,
            Command::CancelAll(args) => self.cancel_all(args).await,
            Command::Logs(args) => self.logs(args).await,
            Command::Call(args) => self.call(args).await,
            Command::Halt(args) => self.halt(args).await,
            Command::Resume(args) => self.resume(args).await,
            Command::Journal { command } => self.journal(command).await,
            Command::Connect => self.connect_venue().await,
            Command::Disconnect => self.disconnect_venue().await,
            Command::Send(_) | Command::History(_) | Command::Watch(_) | Command::Completions { .. } => {
                unreachable!("taken by Checked::new and by main")
            }
        }
    }

    /// Names of the gateways that are running, sorted.
    async fn running(&self) -> Result<Vec<Name>, Failure> {
        Ok(self.client.gateways().await?.into_iter().map(|gateway| gateway.name).collect())
    }

    /// The one gateway to act on. One that was asked for is not looked for first: if it is not there, the call says
    /// so at once.
    async fn gateway(&self) -> Result<GatewayHandle, Failure> {
        if let Some(name) = &self.global.gateway {
            return Ok(self.client.gateway(name.clone()));
        }
        let running = self.running().await?;
        Ok(self.client.gateway(choose(&running, None, &self.global.server)?))
    }

    /// The gateways to list from: the one asked for, or all.
    async fn gateways(&self) -> Result<Vec<GatewayHandle>, Failure> {
        if self.global.gateway.is_some() {
            return Ok(vec![self.gateway().await?]);
        }
        let running = self.running().await?;
        if running.is_empty() {
            return Err(Failure::NotReachable(nothing_runs(&self.global.server)));
        }
        Ok(running.into_iter().map(|name| self.client.gateway(name)).collect())
    }

    /// The gateway asked for, or the one that trades the contract.
    async fn gateway_of(&self, instrument: &InstrumentId) -> Result<GatewayHandle, Failure> {
        gateway_for(&self.client, self.global.gateway.as_ref(), instrument).await
    }

    /// Tells a gateway that is not there from a method that it does not have.
    async fn not_served(&self, gateway: &Name, method: &str, sentence: String) -> Failure {
        let Ok(gateways) = self.client.gateways().await else { return Failure::NotReachable(sentence) };
        let running: Vec<_> = gateways.iter().map(|gateway| gateway.name.clone()).collect();
        if let Err(failure) = choose(&running, Some(gateway), &self.global.server) {
            return failure;
        }
        let methods = gateways.into_iter().filter(|g| g.name == *gateway).flat_map(|g| g.methods);
        no_method(gateway, method, methods.collect(), sentence)
    }

    /// The price steps of these instruments. A look-up that fails only costs decimals.
    async fn decimals(&self, gateway: &GatewayHandle, instruments: impl Iterator<Item = InstrumentId>) -> Decimals {
        let distinct: std::collections::BTreeSet<_> = instruments.take(10_000).collect();
        let asked = distinct.iter().take(PRICE_STEPS).map(|instrument| gateway.get_contract(instrument));
        let mut decimals = Decimals::default();
        for contract in join_all(asked).await.into_iter().filter_map(Result::ok).flatten() {
            decimals.learn(&contract);
        }
        decimals
    }
}

/// Connects under a name of its own, so that what one `gatectl` unsubscribes is never another's.
pub async fn connect(global: &Global) -> Result<Client, Failure> {
    let mut options = ConnectOptions::new(&global.server)
        .name(format!("gatectl-{}", OrderId::generate()))
        .timeout(global.timeout)
        .connect_timeout(global.timeout.min(Duration::from_secs(5)));
    if let Some(path) = &global.credentials {
        options = options.credentials_file(path);
    }
    if let Some(path) = &global.ca {
        options = options.root_certificates(path);
    }
    Ok(Client::connect(options).await?)
}

/// The gateway asked for, or the one that trades the contract.
pub async fn gateway_for(
    client: &Client,
    asked: Option<&Name>,
    instrument: &InstrumentId,
) -> Result<GatewayHandle, Failure> {
    if let Some(name) = asked {
        return Ok(client.gateway(name.clone()));
    }
    match client.route(instrument).await {
        // In the midst of a takeover nobody trades anything: that is no mistake on the command line.
        Err(Error::NoRoute { .. }) if client.gateways().await?.is_empty() => Err(Failure::NotReachable(format!(
            "no gateway answers now: {instrument} cannot be routed. Name the gateway with -g, and the command waits for it"
        ))),
        route => Ok(route?),
    }
}

/// The gateway meant: the one asked for, or the only one that runs.
pub fn choose(running: &[Name], asked: Option<&Name>, server: &str) -> Result<Name, Failure> {
    let names = || running.join(", ");
    match (asked, running) {
        (_, []) => Err(Failure::NotReachable(nothing_runs(server))),
        (Some(asked), _) if running.contains(asked) => Ok(asked.clone()),
        (Some(asked), _) => Err(Failure::NotReachable(match nearest(asked, running.iter().map(Name::as_str)) {
            Some(meant) => format!("gateway `{asked}` is not running; did you mean -g {meant}? Running: {}", names()),
            None => format!("gateway `{asked}` is not running; running: {}", names()),
        })),
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(Failure::Ambiguous(format!("several gateways are running, choose one with -g: {}", names()))),
    }
}

/// What to say of a method that a running gateway did not answer to.
fn no_method(gateway: &str, method: &str, mut methods: Vec<String>, sentence: String) -> Failure {
    if methods.is_empty() || methods.iter().any(|known| known == method) {
        // It serves the method (or hides what it serves): it went away in between.
        return Failure::NotReachable(sentence);
    }
    methods.sort_unstable();
    Failure::Usage(match nearest(method, methods.iter().map(String::as_str)) {
        Some(meant) => format!("gateway `{gateway}` has no method `{method}`; did you mean {meant}?"),
        None => format!("gateway `{gateway}` has no method `{method}`; it has {}", methods.join(", ")),
    })
}

fn nothing_runs(server: &str) -> String {
    format!("no gateway is running at {server}: start a gateway-node, or give another --server")
}

/// Tells on standard error what failed of several calls, and gives the first failure as the outcome.
fn first_failure(failures: Vec<Failure>) -> Result<(), Failure> {
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(()) };
    for other in failures {
        note(&format!("gatectl: {other}"));
    }
    Err(first)
}

/// This machine's clock, in its own time zone: for `--start 2d` and for what a person looks at.
#[allow(clippy::disallowed_methods)] // the edge: decisions get it as an argument
pub fn now() -> Timestamp {
    chrono::Local::now().fixed_offset()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(running: &[&str], asked: Option<&str>) -> Result<String, (u8, String)> {
        let running: Vec<_> = running.iter().map(|name| Name::from(*name)).collect();
        choose(&running, asked.map(Name::from).as_ref(), "nats://here")
            .map(|name| name.to_string())
            .map_err(|failure| (failure.code(), failure.to_string()))
    }

    #[test]
    fn the_only_gateway_is_meant_unless_another_is_named() {
        assert_eq!(chosen(&["sim1"], None), Ok("sim1".into()));
        assert_eq!(chosen(&["ctp1", "sim1"], Some("ctp1")), Ok("ctp1".into()));
    }

    #[test]
    fn an_unclear_gateway_is_listed_never_guessed() {
        let (code, sentence) = chosen(&["ctp1", "sim1"], None).expect_err("ambiguous");
        assert_eq!((code, sentence.as_str()), (2, "several gateways are running, choose one with -g: ctp1, sim1"));
        let (code, sentence) = chosen(&["ctp1", "sim1"], Some("ctp")).expect_err("misspelt");
        assert!(code == 3 && sentence.contains("did you mean -g ctp1? Running: ctp1, sim1"), "{sentence}");
        let (code, sentence) = chosen(&["ctp1"], Some("femas")).expect_err("not there");
        assert!(code == 3 && sentence.ends_with("not running; running: ctp1"), "{sentence}");
        let (code, sentence) = chosen(&[], None).expect_err("nothing runs");
        assert!(code == 3 && sentence.contains("nats://here"), "{sentence}");
    }

    #[test]
    fn a_misspelt_method_is_told_from_a_gateway_that_went_away() {
        let methods = || vec!["get_status".to_owned(), "get_tick".to_owned()];
        let failure = no_method("sim1", "get_statu", methods(), "gone".into());
        assert_eq!((failure.code(), failure.to_string().ends_with("did you mean get_status?")), (2, true));
        let failure = no_method("sim1", "dance", methods(), "gone".into());
        assert!(failure.to_string().ends_with("it has get_status, get_tick"), "{failure}");
        assert_eq!(no_method("sim1", "get_tick", methods(), "gone".into()).code(), 3);
        assert_eq!(no_method("sim1", "get_tick", Vec::new(), "gone".into()).code(), 3);
    }
}
