//! The node's configuration: one struct per section, as `deploy/node.example.toml` documents it. A mistake is refused
//! with its file, line and key, and what to write instead.

mod complaint;
mod risk;
mod secret;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::ServerAddr;
use protocol::Name;
use protocol::subject::{Filter, is_gateway_name};
use serde::{Deserialize, Deserializer, de};

use crate::gateway::ctp::config::CtpConfig;
use crate::gateway::sim::SimConfig;
use crate::risk::Rules;
use complaint::Document;
pub use complaint::{ConfigError, nearest};
pub use secret::Secret;

/// The whole file.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[node]`
    pub node: NodeConfig,
    /// `[broker]`
    pub broker: BrokerConfig,
    /// `[journal]`
    pub journal: JournalConfig,
    /// `[lease]`
    pub lease: LeaseConfig,
    /// `[[gateways]]`: at least one, each under a name of its own.
    pub gateways: Vec<GatewayConfig>,
}

/// `[node]`: who this process is.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Names the process in logs, status and NATS connections. The host's name by default.
    pub name: Name,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives by module such as
    /// `info,gateway_node::journal=debug`. By default `info,async_nats=warn`, since the NATS client repeats what the node
    /// says of its connections. The environment variable `RUST_LOG` wins over it.
    pub log: String,
}

/// `[broker]`: the NATS server that everything travels through.
#[derive(Debug, Clone)]
pub enum BrokerConfig {
    /// No address was given: the node starts a server of its own.
    Embedded(EmbeddedBroker),
    /// The node joins these servers.
    External(ExternalBroker),
}

/// A NATS server that the node starts and stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedBroker {
    /// Where journals, leases and the server's log live; `data` by default, relative to the directory that the node is
    /// started in. One node at a time.
    pub data_dir: PathBuf,
    /// Port on the loopback interface: 4222 by default, 0 for any free one.
    pub port: u16,
    /// The nats-server program, when it is not the one that would be found.
    pub server: Option<PathBuf>,
    /// The server's own configuration, in place of the built-in `nats.conf`.
    pub config: Option<PathBuf>,
}

/// NATS servers that somebody else runs.
#[derive(Debug, Clone)]
pub struct ExternalBroker {
    /// At least one address; more are tried in turn.
    pub servers: Vec<ServerAddr>,
    /// Who the node is to them.
    pub login: Login,
}

/// How the node proves who it is to an external NATS server.
#[derive(Debug, Clone)]
pub enum Login {
    /// The server asks for nothing.
    Nobody,
    /// By user and password.
    User {
        /// The user.
        user: String,
        /// The user's password.
        password: Secret,
    },
    /// By token.
    Token(Secret),
    /// By a credentials file (`.creds`), as operators of NATS hand them out.
    Credentials(PathBuf),
}

/// `[journal]`: the stream of each gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// Most bytes that one gateway's journal may take: 4 GiB by default. When it is full new orders are refused and
    /// nothing old is dropped.
    #[serde(deserialize_with = "bytes")]
    pub max_bytes: u64,
    /// Copies in the cluster: 1 (the default), 3 or 5.
    pub replicas: u8,
    /// Trading days that are kept, 30 by default: each begins with a snapshot, and what lies before the oldest one that
    /// is kept is purged. Days without trading do not count.
    pub keep_days: u16,
    /// For how many trading days the id of an order is remembered once the order has left the state, 5 by default. An
    /// id that is older, and tells its age, is refused.
    pub keep_ids_days: u16,
}

/// `[lease]`: which of several nodes with the same gateway leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseConfig {
    /// How long a leader leads without renewing, 6 s by default: `"6 s"`, `"1500 ms"`. A shorter one takes over sooner,
    /// and gives up sooner when the servers elect a leader of their own. All nodes must say the same: the bucket keeps
    /// what its maker said.
    #[serde(deserialize_with = "duration")]
    pub duration: Duration,
}

/// `[[gateways]]`: one session with a venue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Its name on the wire: 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub name: Name,
    /// Which adapter runs it.
    pub kind: GatewayKind,
    /// Instruments whose ticks the node asks for by itself: `rb2410.SHFE`, `*.SHFE`, `*`. None by default: clients ask.
    #[serde(default, deserialize_with = "filters")]
    pub subscribe: Vec<Filter>,
    /// `[gateways.risk]`: what orders are held to. Nothing by default but the contracts' own rules.
    #[serde(default)]
    pub risk: Rules,
    /// `[gateways.sim]`, for `kind = "sim"`.
    #[serde(default)]
    pub sim: SimConfig,
    /// `[gateways.ctp]`, for `kind = "ctp"`.
    #[serde(default)]
    pub ctp: Option<CtpConfig>,
}

/// The adapters that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayKind {
    /// The simulated venue.
    Sim,
    /// A counter of China's futures exchanges, through its broker's libraries.
    Ctp,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// A sentence that names file, line and key, and says what to write.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let origin = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Config::parse(&text, &origin),
            Err(error) => Err(ConfigError::unreadable(&origin, &error)),
        }
    }

    /// Checks a text; `origin` is what errors call it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
        let document = Document::new(text, origin)?;
        let file: File = toml::from_str(text).map_err(|error| document.explain(&error))?;
        let broker = file.broker.check(&document)?;
        check_node(&file.node, &document)?;
        check_journal(&file.journal, &broker, &document)?;
        check_lease(&file.lease, &document)?;
        check_gateways(&file.gateways, &document)?;
        Ok(Config { node: file.node, broker, journal: file.journal, lease: file.lease, gateways: file.gateways })
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        NodeConfig { name: host_name(), log: "info,async_nats=warn".to_owned() }
    }
}

impl Default for EmbeddedBroker {
    fn default() -> Self {
        EmbeddedBroker { data_dir: PathBuf::from("data"), port: 4222, server: None, config: None }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        JournalConfig { max_bytes: 4 << 30, replicas: 1, keep_days: 30, keep_ids_days: 5 }
    }
}

impl Default for LeaseConfig {
    fn default() -> Self {
        LeaseConfig { duration: Duration::from_secs(6) }
    }
}

/// The file as it is written, before the sections are checked against each other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    node: NodeConfig,
    #[serde(default)]
    broker: BrokerSection,
    #[serde(default)]
    journal: JournalConfig,
    #[serde(default)]
    lease: LeaseConfig,
    #[serde(default)]
    gateways: Vec<GatewayConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BrokerSection {
    #[serde(deserialize_with = "addresses")]
    address: Option<Vec<String>>,
    user: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    credentials: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    port: Option<u16>,
    server: Option<PathBuf>,
    config: Option<PathBuf>,
}

impl BrokerSection {
    fn check(self, document: &Document) -> Result<BrokerConfig, ConfigError> {
        let refuse = |key: &str, message: &str| Err(document.complain(&["broker", key], message));
        let Some(addresses) = self.address else {
            let external_only = [
                ("user", self.user.is_some()),
                ("password", self.password.is_some()),
                ("token", self.token.is_some()),
                ("credentials", self.credentials.is_some()),
            ];
            if let Some((key, _)) = external_only.iter().find(|(_, given)| *given) {
                return refuse(
                    key,
                    "the embedded broker knows no users: remove this line, or name the servers that it is for with \
                     address = \"nats://HOST:4222\"",
                );
            }
            let default = EmbeddedBroker::default();
            for (key, path) in [("data_dir", &self.data_dir), ("server", &self.server), ("config", &self.config)] {
                if path.as_ref().is_some_and(|p| p.as_os_str().is_empty()) {
                    return refuse(key, "is empty: write a path, or remove the line for the default");
                }
            }
            return Ok(BrokerConfig::Embedded(EmbeddedBroker {
                data_dir: self.data_dir.unwrap_or(default.data_dir),
                port: self.port.unwrap_or(default.port),
                server: self.server,
                config: self.config,
            }));
        };
        let embedded_only = [
            ("data_dir", self.data_dir.is_some()),
            ("port", self.port.is_some()),
            ("server", self.server.is_some()),
            ("config", self.config.is_some()),
        ];
        if let Some((key, _)) = embedded_only.iter().find(|(_, given)| *given) {
            return refuse(
                key,
                "is for the embedded broker, but broker.address names servers to join: remove one of the two",
            );
        }
        let servers = addresses
            .iter()
            .map(|text| server_address(text).map_err(|message| document.complain(&["broker", "address"], &message)))
            .collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return refuse(
                "address",
                "the list is empty: write at least one address, or remove the line for the embedded broker",
            );
        }
        let login = match (self.user, self.password, self.token, self.credentials) {
            (None, None, None, None) => Login::Nobody,
            (Some(user), Some(password), None, None) => Login::User { user, password },
            (None, None, Some(token), None) => Login::Token(token),
            (None, None, None, Some(path)) => Login::Credentials(path),
            (Some(_), None, None, None) => return refuse("user", "needs broker.password beside it"),
            (None, Some(_), None, None) => return refuse("password", "needs broker.user beside it"),
            (_, _, Some(_), _) => return refuse("token", "write either token, or user and password, or credentials"),
            (_, _, _, Some(_)) => {
                return refuse("credentials", "write either credentials, or user and password, or token");
            }
        };
        Ok(BrokerConfig::External(ExternalBroker { servers, login }))
    }
}

fn server_address(text: &str) -> Result<ServerAddr, String> {
    // The text is not repeated in these sentences before it is known to hold no password.
    if text.contains('@') {
        return Err("must not hold a user or a password: write them as broker.user and broker.password".to_owned());
    }
    match text.parse::<ServerAddr>() {
        Ok(address) if !address.host().is_empty() => Ok(address),
        _ => Err(format!("`{text}` is no address: write nats://HOST:4222 or tls://HOST:4222")),
    }
}

fn check_node(node: &NodeConfig, document: &Document) -> Result<(), ConfigError> {
    if !is_node_name(&node.name) {
        let message = format!("`{}` is no name: write 1 to 64 of A-Z a-z 0-9 . _ -", node.name);
        return Err(document.complain(&["node", "name"], &message));
    }
    check_log(&node.log).map_err(|message| document.complain(&["node", "log"], &message))
}

fn check_log(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // A bare misspelt level would be taken for the name of a module, and everything else fall silent.
    for word in text.split(',').map(str::trim) {
        let level = word.rsplit_once('=').map_or(word, |(_, level)| level);
        let is_module = !word.contains('=') && word.contains("::");
        if !is_module && !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let hint = nearest(level, LEVELS).map(|l| format!("; did you mean `{l}`?")).unwrap_or_default();
            return Err(format!("`{level}` is no level{hint} Write one of {}", LEVELS.join(", ")));
        }
    }
    tracing_subscriber::EnvFilter::try_new(text)
        .map(drop)
        .map_err(|error| format!("`{text}`: {error}; write a level such as info, or info,gateway_node::journal=debug"))
}

fn check_journal(journal: &JournalConfig, broker: &BrokerConfig, document: &Document) -> Result<(), ConfigError> {
    const LEAST: u64 = 16 << 20;
    let refuse = |key: &str, message: &str| Err(document.complain(&["journal", key], message));
    if journal.max_bytes < LEAST {
        return refuse("max_bytes", "is too little for one trading day: write at least \"16 MiB\"");
    }
    if i64::try_from(journal.max_bytes).is_err() {
        return refuse("max_bytes", "is more than NATS can count: write at most \"8 EiB\" less one byte");
    }
    if journal.keep_days == 0 {
        return refuse("keep_days", "must be 1 or more: the day that is traded is always kept");
    }
    if journal.keep_ids_days == 0 {
        return refuse("keep_ids_days", "must be 1 or more: an order that is sent again must not be a second one");
    }
    if !matches!(journal.replicas, 1 | 3 | 5) {
        return refuse("replicas", "must be 1, 3 or 5: an even number survives no more than the odd one below it");
    }
    if journal.replicas > 1 && matches!(broker, BrokerConfig::Embedded(_)) {
        return refuse(
            "replicas",
            "the embedded broker is one server and keeps one copy: write 1, or name a cluster with broker.address",
        );
    }
    Ok(())
}

fn check_lease(lease: &LeaseConfig, document: &Document) -> Result<(), ConfigError> {
    if (Duration::from_secs(1)..=Duration::from_secs(120)).contains(&lease.duration) {
        return Ok(());
    }
    let message =
        "must be 1 s to 120 s: the shorter, the sooner a standby takes over, and the sooner a leader gives up";
    Err(document.complain(&["lease", "duration"], message))
}

fn check_gateways(gateways: &[GatewayConfig], document: &Document) -> Result<(), ConfigError> {
    if gateways.is_empty() {
        return Err(document.complain(
            &["gateways"],
            "there is no gateway to serve: add a [[gateways]] section with name = \"sim1\" and kind = \"sim\"",
        ));
    }
    for (index, gateway) in gateways.iter().enumerate() {
        let number = index.to_string();
        let refuse = |message: String| Err(document.complain(&["gateways", &number, "name"], &message));
        let name = &gateway.name;
        if !is_gateway_name(name) {
            return refuse(format!("`{name}` cannot name a gateway: write 1 to 32 of A-Z a-z 0-9 _ -"));
        }
        if gateways[..index].iter().any(|earlier| earlier.name == *name) {
            return refuse(format!("`{name}` is the name of an earlier gateway: give each one a name of its own"));
        }
        risk::check(&gateway.risk, &number, document)?;
        check_ctp(gateway, &number, &gateways[..index], document)?;
    }
    Ok(())
}

fn check_ctp(
    gateway: &GatewayConfig,
    number: &str,
    earlier: &[GatewayConfig],
    document: &Document,
) -> Result<(), ConfigError> {
    let refuse =
        |path: &[&str], message: &str| Err(document.complain(&[&["gateways", number], path].concat(), message));
    match (gateway.kind, &gateway.ctp) {
        (GatewayKind::Ctp, None) => refuse(
            &["kind"],
            "needs a [gateways.ctp] section below it: the libraries, the fronts and the account, as deploy/ctp.example.toml \
             shows",
        ),
        (GatewayKind::Sim, Some(_)) => {
            refuse(&["ctp"], "is for kind = \"ctp\", but this gateway is a simulated one: remove one of the two")
        }
        (GatewayKind::Ctp, Some(section)) => {
            if let Some((key, message)) = section.complaint() {
                return refuse(&["ctp", key], &message);
            }
            let flow = section.flow_dir(&gateway.name);
            let has_it = |other: &&GatewayConfig| other.ctp.as_ref().is_some_and(|c| c.flow_dir(&other.name) == flow);
            earlier.iter().find(has_it).map_or(Ok(()), |other| {
                let message = format!("is that of gateway `{}` too: give each a directory of its own", other.name);
                refuse(&["ctp", "flow_dir"], &message)
            })
        }
        (GatewayKind::Sim, None) => Ok(()),
    }
}

fn is_node_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn host_name() -> Name {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| is_node_name(name))
        .map_or_else(|| Name::from("node"), Name::from)
}

/// One address, or a list of them.
fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let wrong = || de::Error::custom("write \"nats://HOST:4222\", or a list of such texts");
    match toml::Value::deserialize(from)? {
        toml::Value::String(one) => Ok(Some(vec![one])),
        toml::Value::Array(many) => many
            .into_iter()
            .map(|value| if let toml::Value::String(text) = value { Ok(text) } else { Err(wrong()) })
            .collect::<Result<_, _>>()
            .map(Some),
        _ => Err(wrong()),
    }
}

/// A text with a unit such as `"6 s"`.
fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let wrong = || de::Error::custom("write a text such as \"6 s\" or \"1500 ms\"");
    let toml::Value::String(text) = toml::Value::deserialize(from)? else { return Err(wrong()) };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    match text[digits.len()..].trim() {
        "s" => Ok(Duration::from_secs(count)),
        "ms" => Ok(Duration::from_millis(count)),
        _ => Err(wrong()),
    }
}

/// A number of bytes, or a text with a unit such as `"4 GiB"`.
fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let wrong = || de::Error::custom("write a number of bytes, or a text such as \"4 GiB\" or \"512 MiB\"");
    match toml::Value::deserialize(from)? {
        toml::Value::Integer(count) => u64::try_from(count).map_err(|_| wrong()),
        toml::Value::String(text) => {
            let digits = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let unit: u64 = match text.trim()[digits.len()..].to_ascii_lowercase().as_str() {
                "kib" => 1 << 10,
                "mib" => 1 << 20,
                "gib" => 1 << 30,
                "tib" => 1 << 40,
                _ => return Err(wrong()),
            };
            let count: u64 = digits.trim().parse().map_err(|_| wrong())?;
            count.checked_mul(unit).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn filters<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Filter>, D::Error> {
    let read = |text: String| match text.as_str() {
        "" => Err(de::Error::custom("an empty text is no instrument: write SYMBOL.EXCHANGE, *.EXCHANGE or *")),
        text => text.parse().map_err(de::Error::custom),
    };
    Vec::<String>::deserialize(from)?.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests;
