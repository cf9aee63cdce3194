//! How to connect: where to, as whom, and how patiently.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where a client connects when nothing else is said.
pub const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";
/// The environment variable that [`ConnectOptions::from_env`] reads.
pub const SERVER_VARIABLE: &str = "GATEMESH_SERVER";

/// How to connect. One address is enough: `Client::connect("nats://127.0.0.1:4222")`.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub(crate) servers: Vec<String>,
    pub(crate) name: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) credentials: Credentials,
    pub(crate) one_connection: bool,
    pub(crate) root_certificates: Option<PathBuf>,
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) tls_first: bool,
    pub(crate) inbox_prefix: Option<String>,
}

/// Who we are to the server.
#[derive(Clone)]
pub(crate) enum Credentials {
    None,
    File(PathBuf),
    Nkey(String),
    UserPassword(String, String),
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::None => f.write_str("none"),
            Credentials::File(path) => write!(f, "file {}", path.display()),
            Credentials::Nkey(_) => f.write_str("nkey ***"),
            Credentials::UserPassword(user, _) => write!(f, "user {user}, password ***"),
            Credentials::Token(_) => f.write_str("token ***"),
        }
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions {
            servers: vec![DEFAULT_SERVER.to_owned()],
            name: None,
            timeout: Duration::from_secs(30),
            patience: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(5),
            credentials: Credentials::None,
            one_connection: false,
            root_certificates: None,
            client_certificate: None,
            tls_first: false,
            inbox_prefix: None,
        }
    }
}

impl ConnectOptions {
    /// Connects to one server; several may be given, separated by commas.
    #[must_use]
    pub fn new(servers: &str) -> Self {
        let servers = servers.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect();
        ConnectOptions { servers, ..ConnectOptions::default() }
    }

    /// Connects to what the environment variable `GATEMESH_SERVER` says, or to `nats://127.0.0.1:4222`.
    #[must_use]
    pub fn from_env() -> Self {
        std::env::var(SERVER_VARIABLE).map_or_else(|_| ConnectOptions::default(), |text| ConnectOptions::new(&text))
    }

    /// Names the program: gateways count its subscriptions under this name, so that a restart takes them over.
    /// Without one a name is generated.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long a call may take, unless its handle says otherwise: 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a gateway may be silent before it is reported lost: 3 s, three heartbeats.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long connecting may take before it fails: 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Authenticates with a NATS credentials file.
    #[must_use]
    pub fn credentials_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials = Credentials::File(path.into());
        self
    }

    /// Authenticates with the seed of an nkey.
    #[must_use]
    pub fn nkey(mut self, seed: impl Into<String>) -> Self {
        self.credentials = Credentials::Nkey(seed.into());
        self
    }

    /// Authenticates with user and password.
    #[must_use]
    pub fn user_and_password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Credentials::UserPassword(user.into(), password.into());
        self
    }

    /// Authenticates with a token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credentials = Credentials::Token(token.into());
        self
    }

    /// Trusts the certificates in this PEM file.
    #[must_use]
    pub fn root_certificates(mut self, path: impl Into<PathBuf>) -> Self {
        self.root_certificates = Some(path.into());
        self
    }

    /// Shows this certificate and key, both PEM files, to the server.
    #[must_use]
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Begins TLS at once, for servers configured with `handshake_first`.
    #[must_use]
    pub fn tls_first(mut self) -> Self {
        self.tls_first = true;
        self
    }

    /// Prefix of reply subjects, for users whose permissions name one.
    #[must_use]
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.inbox_prefix = Some(prefix.into());
        self
    }

    /// Uses one connection for everything. By default market data has its own, so that a flood of ticks never
    /// delays a call or a fill.
    #[must_use]
    pub fn one_connection(mut self) -> Self {
        self.one_connection = true;
        self
    }
}

impl From<&str> for ConnectOptions {
    fn from(servers: &str) -> Self {
        ConnectOptions::new(servers)
    }
}

impl From<String> for ConnectOptions {
    fn from(servers: String) -> Self {
        ConnectOptions::new(&servers)
    }
}

impl From<&String> for ConnectOptions {
    fn from(servers: &String) -> Self {
        ConnectOptions::new(servers)
    }
}

impl From<Vec<String>> for ConnectOptions {
    fn from(servers: Vec<String>) -> Self {
        ConnectOptions { servers, ..ConnectOptions::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_servers_fit_in_one_text() {
        let options = ConnectOptions::from("nats://a:1, nats://b:2");
        assert_eq!(options.servers, ["nats://a:1", "nats://b:2"]);
    }

    #[test]
    fn secrets_do_not_print() {
        let text = format!("{:?}", ConnectOptions::default().user_and_password("me", "hunter2"));
        assert!(text.contains("me") && !text.contains("hunter2"), "{text}");
        let text =
            format!("{:?} {:?}", ConnectOptions::default().token("abracadabra"), ConnectOptions::default().nkey("SU"));
        assert!(!text.contains("abracadabra") && !text.contains("SU"), "{text}");
    }
}
