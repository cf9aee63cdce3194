//! Three nats-servers that make one cluster, each with a store of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use rand::RngExt as _;
use tokio::process::Command;

use crate::process::Program;

/// How many there are.
pub const COUNT: usize = 3;

/// The cluster.
#[derive(Debug)]
pub struct Brokers {
    binary: PathBuf,
    directory: PathBuf,
    clients: Vec<u16>,
    running: Vec<Option<Program>>,
}

impl Brokers {
    /// Writes the configurations and starts all of them.
    ///
    /// # Errors
    /// If a server cannot be started, or there is no free port.
    pub fn start(binary: &Path, directory: &Path) -> anyhow::Result<Brokers> {
        let ports = free_ports(2 * COUNT)?;
        let (clients, routes) = ports.split_at(COUNT);
        let mut brokers = Brokers {
            binary: binary.to_owned(),
            directory: directory.to_owned(),
            clients: clients.to_vec(),
            running: Vec::new(),
        };
        for index in 0..COUNT {
            let home = brokers.home(index);
            std::fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
            std::fs::write(home.join("nats.conf"), configuration(index, clients[index], routes))?;
            brokers.running.push(None);
            brokers.start_again(index)?;
        }
        Ok(brokers)
    }

    /// Starts one that was killed.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_again(&mut self, index: usize) -> anyhow::Result<()> {
        let home = self.home(index);
        let mut command = Command::new(&self.binary);
        command.args(["-c", "nats.conf"]).current_dir(&home);
        let log = self.directory.join(format!("nats{index}.log"));
        self.running[index] = Some(Program::start(&format!("nats{index}"), &mut command, &log)?);
        Ok(())
    }

    /// Kills one.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        match self.running[index].take() {
            Some(program) => program.kill().await,
            None => Ok(()),
        }
    }

    /// Sends a signal to one.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, index: usize, signal: Signal) -> anyhow::Result<()> {
        self.running[index].as_ref().with_context(|| format!("nats{index} does not run"))?.signal(signal)
    }

    /// Those that ended by themselves, with their last words.
    ///
    /// # Errors
    /// If one cannot be looked at.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for program in self.running.iter_mut().flatten() {
            if let Some(status) = program.ended()? {
                anyhow::bail!("{} ended by itself ({status})\n{}", program.name(), program.last_words());
            }
        }
        Ok(())
    }

    /// Where clients connect.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.clients.iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).collect()
    }

    fn home(&self, index: usize) -> PathBuf {
        self.directory.join(format!("nats{index}"))
    }
}

/// As `nats.conf` at the root of the repository, with a cluster. `no_advertise`: clients must not learn of addresses that
/// lead around the proxies.
fn configuration(index: usize, port: u16, routes: &[u16]) -> String {
    let others: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    format!(
        "server_name: \"chaos{index}\"\nlisten: \"127.0.0.1:{port}\"\nno_fast_producer_stall: true\n\
         max_payload: 1MB\nmax_pending: 64MB\nping_interval: \"5s\"\nping_max: 2\nlogtime_utc: true\n\
         jetstream {{ store_dir: \"store\" }}\n\
         cluster {{ name: \"chaos\", listen: \"127.0.0.1:{}\", routes: [{}], no_advertise: true }}\n",
        routes[index],
        others.join(", ")
    )
}

/// Ports that nobody listens on now, below those that systems give to connections by themselves: a broker that is killed
/// must find its port again.
///
/// # Errors
/// If there are not as many.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let mut rng = rand::rng();
    let mut listeners: Vec<TcpListener> = Vec::new();
    for _ in 0..100 * count {
        if listeners.len() == count {
            break;
        }
        listeners.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, rng.random_range(10_000..30_000))));
    }
    anyhow::ensure!(listeners.len() == count, "there are no {count} free ports from 10000 to 30000");
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
