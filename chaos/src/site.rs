//! The installation that is broken: three brokers, the nodes of one gateway, the venue, the clients; and between them the
//! lines that can be cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, Command};

use crate::brokers::{Brokers, free_ports};
use crate::diary::DiaryReader;
use crate::flight::Flight;
use crate::process::Program;
use crate::proxy::{Line, Proxy};
use crate::trader;

/// The gateway that all nodes host.
pub const GATEWAY: &str = "chaos1";
/// How long a node leads without renewing.
pub const LEASE: Duration = Duration::from_secs(2);
/// How long a node that is asked to stop may drain.
const DRAIN: Duration = Duration::from_secs(30);

/// How large the installation is, and what it is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where everything is written.
    pub directory: PathBuf,
    /// The nats-server program.
    pub nats_server: PathBuf,
    /// The gateway-node program that the nodes run.
    pub node: PathBuf,
    /// The gateway-node program that the venue runs: never one with a planted defect.
    pub venue: PathBuf,
    /// The defect that the nodes' environment names.
    pub defect: Option<String>,
    /// How many nodes.
    pub nodes: usize,
    /// How many clients.
    pub clients: usize,
    /// Decides what clients send and how the market moves.
    pub seed: u64,
}

/// Everything that runs. Dropped, all of it is killed.
pub struct Site {
    plan: Plan,
    /// The brokers.
    pub brokers: Brokers,
    /// The nodes.
    pub nodes: Vec<NodeSite>,
    /// The clients.
    pub clients: Vec<ClientSite>,
    venue: Option<Program>,
    venue_address: SocketAddr,
}

/// A node and its lines.
pub struct NodeSite {
    /// Its name.
    pub name: String,
    program: Option<Program>,
    to_brokers: Vec<Proxy>,
    to_venue: Proxy,
}

/// A client and its lines.
pub struct ClientSite {
    /// Its name.
    pub name: String,
    /// Which incarnation runs.
    pub incarnation: u32,
    /// What its diary says.
    pub flight: Flight,
    diary: PathBuf,
    reader: DiaryReader,
    program: Option<Program>,
    commands: Option<ChildStdin>,
    to_brokers: Vec<Proxy>,
}

impl Site {
    /// Starts everything; nothing is waited for.
    ///
    /// # Errors
    /// If something cannot be started.
    pub async fn start(plan: Plan) -> anyhow::Result<Site> {
        std::fs::create_dir_all(&plan.directory)
            .with_context(|| format!("cannot make {}", plan.directory.display()))?;
        let brokers = Brokers::start(&plan.nats_server, &plan.directory)?;
        let port = free_ports(1)?.first().copied().context("a port for the venue")?;
        let venue_address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        std::fs::write(plan.directory.join("venue.toml"), venue_configuration(plan.seed))?;
        let mut site = Site { plan, brokers, nodes: Vec::new(), clients: Vec::new(), venue: None, venue_address };
        site.start_venue()?;
        for number in 1..=site.plan.nodes {
            let to_brokers = site.proxies().await?;
            let to_venue = Proxy::start(venue_address).await?;
            let name = format!("node{number}");
            let text = node_configuration(&name, &servers(&to_brokers), to_venue.address());
            std::fs::write(site.plan.directory.join(format!("{name}.toml")), text)?;
            site.nodes.push(NodeSite { name, program: None, to_brokers, to_venue });
            site.start_node(number - 1)?;
        }
        for number in 1..=site.plan.clients {
            let name = format!("c{number}");
            let diary = site.plan.directory.join(format!("{name}.jsonl"));
            let to_brokers = site.proxies().await?;
            let reader = DiaryReader::new(diary.clone());
            let flight = Flight::default();
            let client =
                ClientSite { name, incarnation: 0, flight, diary, reader, program: None, commands: None, to_brokers };
            site.clients.push(client);
            site.start_client(number - 1)?;
        }
        Ok(site)
    }

    async fn proxies(&self) -> anyhow::Result<Vec<Proxy>> {
        let mut proxies = Vec::new();
        for address in self.brokers.addresses() {
            proxies.push(Proxy::start(address).await?);
        }
        Ok(proxies)
    }

    /// The brokers' addresses, around the proxies.
    #[must_use]
    pub fn servers(&self) -> String {
        let addresses: Vec<String> = self.brokers.addresses().iter().map(|a| format!("nats://{a}")).collect();
        addresses.join(",")
    }

    /// Where the venue's ledger is.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.plan.directory.join("venue")
    }

    /// Where the venue listens.
    #[must_use]
    pub fn venue_address(&self) -> SocketAddr {
        self.venue_address
    }

    /// Where everything is written.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.plan.directory
    }

    /// Starts the venue, again if it was killed.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_venue(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.plan.venue);
        command
            .args(["venue", "--allow-faults", "--config", "venue.toml", "--ledger", "venue", "--listen"])
            .arg(self.venue_address.to_string())
            .current_dir(&self.plan.directory);
        self.venue = Some(Program::start("venue", &mut command, &self.plan.directory.join("venue.log"))?);
        Ok(())
    }

    /// Kills the venue.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill_venue(&mut self) -> anyhow::Result<()> {
        match self.venue.take() {
            Some(program) => program.kill().await,
            None => Ok(()),
        }
    }

    /// Starts a node, again if it was stopped.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_node(&mut self, index: usize) -> anyhow::Result<()> {
        let name = &self.nodes[index].name;
        let mut command = Command::new(&self.plan.node);
        command.args(["--config", &format!("{name}.toml")]).current_dir(&self.plan.directory);
        if let Some(defect) = &self.plan.defect {
            command.env("GATEMESH_DEFECT", defect);
        }
        let log = self.plan.directory.join(format!("{name}.log"));
        self.nodes[index].program = Some(Program::start(name, &mut command, &log)?);
        Ok(())
    }

    /// Kills a node.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill_node(&mut self, index: usize) -> anyhow::Result<()> {
        match self.nodes[index].program.take() {
            Some(program) => program.kill().await,
            None => Ok(()),
        }
    }

    /// Asks a node to stop, and waits until it has drained.
    ///
    /// # Errors
    /// If it does not stop, or not well.
    pub async fn stop_node(&mut self, index: usize) -> anyhow::Result<()> {
        let Some(program) = self.nodes[index].program.take() else { return Ok(()) };
        let name = program.name().to_owned();
        let status = program.stop(DRAIN).await?;
        anyhow::ensure!(status.success(), "{name} was asked to stop and ended with {status}");
        Ok(())
    }

    /// Starts a client's next incarnation.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_client(&mut self, index: usize) -> anyhow::Result<()> {
        let client = &mut self.clients[index];
        client.incarnation += 1;
        let this = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(this);
        command.args(["client", "--gateway", GATEWAY, "--name", &client.name]);
        command.args(["--servers", &servers(&client.to_brokers).join(",")]);
        command.args(["--incarnation", &client.incarnation.to_string()]);
        command.args(["--seed", &(self.plan.seed.wrapping_add(index as u64 + 1)).to_string()]);
        command.arg("--diary").arg(&client.diary);
        let log = self.plan.directory.join(format!("{}.log", client.name));
        let mut program = Program::start(&client.name, &mut command, &log)?;
        client.commands = program.stdin();
        client.program = Some(program);
        Ok(())
    }

    /// Kills a client.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill_client(&mut self, index: usize) -> anyhow::Result<()> {
        match self.clients[index].program.take() {
            Some(program) => program.kill().await,
            None => Ok(()),
        }
    }

    /// Tells every client something.
    ///
    /// # Errors
    /// If one does not listen.
    pub async fn tell_clients(&mut self, command: impl Fn(&str) -> trader::Command) -> anyhow::Result<()> {
        for client in &mut self.clients {
            let line = format!("{}\n", command(&client.name));
            let commands = client.commands.as_mut().with_context(|| format!("{} takes no commands", client.name))?;
            commands.write_all(line.as_bytes()).await.with_context(|| format!("telling {} {line}", client.name))?;
        }
        Ok(())
    }

    /// Reads what the diaries have got since the last look.
    ///
    /// # Errors
    /// If one is damaged.
    pub fn read_diaries(&mut self) -> anyhow::Result<()> {
        for client in &mut self.clients {
            for line in client.reader.read()? {
                client.flight.take(&line);
            }
        }
        Ok(())
    }

    /// Every client's diary, from its beginning.
    ///
    /// # Errors
    /// If one is damaged.
    pub fn diaries(&self) -> anyhow::Result<Vec<(String, Vec<crate::diary::Line>)>> {
        let read = |client: &ClientSite| {
            let lines = DiaryReader::new(client.diary.clone()).read()?;
            Ok((client.name.clone(), lines))
        };
        self.clients.iter().map(read).collect()
    }

    /// Fails if anything ended that nobody ended.
    ///
    /// # Errors
    /// What ended, with its last words.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.brokers.check()?;
        let nodes = self.nodes.iter_mut().filter_map(|node| node.program.as_mut());
        let clients = self.clients.iter_mut().filter_map(|client| client.program.as_mut());
        for program in nodes.chain(clients).chain(self.venue.as_mut()) {
            if let Some(status) = program.ended()? {
                bail!("{} ended by itself ({status})\n{}", program.name(), program.last_words());
            }
        }
        Ok(())
    }
}

impl NodeSite {
    /// Changes its lines to the brokers.
    pub fn set_brokers(&self, line: Line) {
        self.to_brokers.iter().for_each(|proxy| proxy.set(line));
    }

    /// Changes its line to the venue.
    pub fn set_venue(&self, line: Line) {
        self.to_venue.set(line);
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.program.as_ref().with_context(|| format!("{} does not run", self.name))?.signal(signal)
    }
}

impl ClientSite {
    /// Sends a signal to it.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.program.as_ref().with_context(|| format!("{} does not run", self.name))?.signal(signal)
    }

    /// Changes its lines to the brokers.
    pub fn set_brokers(&self, line: Line) {
        self.to_brokers.iter().for_each(|proxy| proxy.set(line));
    }
}

fn servers(proxies: &[Proxy]) -> Vec<String> {
    proxies.iter().map(|proxy| format!("nats://{}", proxy.address())).collect()
}

fn node_configuration(name: &str, servers: &[String], venue: SocketAddr) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!(
        "[node]\nname = \"{name}\"\n[broker]\naddress = [{}]\n[journal]\nmax_bytes = \"1 GiB\"\nreplicas = 3\n\
         [lease]\nduration = \"{} ms\"\n[[gateways]]\nname = \"{GATEWAY}\"\nkind = \"sim\"\n\
         [gateways.sim]\nvenue = \"{venue}\"\n",
        servers.join(", "),
        LEASE.as_millis()
    )
}

/// Two exchanges, of which one closes today's lots by an offset of its own; an account that no run of orders empties.
fn venue_configuration(seed: u64) -> String {
    format!(
        "seed = {seed}\nstart_on = \"connect\"\norders_per_second = 10000\n\
         [feed]\nkind = \"synthetic\"\nspeed = 1\ninterval_ms = 250\ninstruments = [\n\
         {{ symbol = \"rb2410.SHFE\", price = 3600.0, pricetick = 1.0, size = 10.0, volatility = 0.25, depth = 40 }},\n\
         {{ symbol = \"c2409.DCE\", price = 2400.0, pricetick = 1.0, size = 10.0, volatility = 0.2, depth = 40 }},\n]\n\
         [account]\nbalance = 1000000000000.0\n"
    )
}
