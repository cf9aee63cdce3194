//! A TCP proxy whose line can be cut, stalled or slowed: one address, one upstream, one state at a time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// How the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Everything passes.
    Open,
    /// Connections are broken, and new ones too at once.
    Cut,
    /// Connections stand, and nothing passes; it comes later, when the line is open again.
    Stalled,
    /// Everything passes so much later.
    Slow(Duration),
}

/// One proxy; it ends, and its connections with it, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on a free port of the loopback interface.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port for a proxy")?;
        let address = listener.local_addr().context("the proxy's address")?;
        let (line, state) = watch::channel(Line::Open);
        let task = tokio::spawn(serve(listener, upstream, state));
        Ok(Proxy { address, line, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the line.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, line: watch::Receiver<Line>) {
    // As many connections as its few clients make; aborted with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted
                    && *line.borrow() != Line::Cut
                {
                    connections.spawn(connection(stream, upstream, line.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(near: TcpStream, upstream: SocketAddr, mut line: watch::Receiver<Line>) {
    if line.wait_for(|line| *line != Line::Stalled).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(upstream).await else { return };
    // What is small must not wait for more: the proxy is to add no delay of its own.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let (there, back) = (line.clone(), line.clone());
    tokio::select! {
        () = pass(near_in, far_out, there) => {}
        () = pass(far_in, near_out, back) => {}
        _ = line.wait_for(|line| *line == Line::Cut) => {}
    }
}

/// Passes bytes on, until either side is done. What cannot pass yet waits here (64 KiB) and in the operating system's
/// buffers; behind them, the sender waits.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let arrived = Instant::now();
        if line.wait_for(|line| *line != Line::Stalled).await.is_err() {
            return;
        }
        let now = *line.borrow();
        if let Line::Slow(delay) = now {
            tokio::time::sleep_until(arrived + delay).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn said(stream: &mut TcpStream, word: &[u8]) -> Vec<u8> {
        stream.write_all(word).await.expect("written");
        let mut heard = vec![0; word.len()];
        stream.read_exact(&mut heard).await.expect("heard");
        heard
    }

    #[tokio::test]
    async fn a_stalled_line_brings_everything_later() {
        let proxy = Proxy::start(echo().await).await.expect("starts");
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connects");
        assert_eq!(said(&mut stream, b"one").await, b"one");
        proxy.set(Line::Stalled);
        stream.write_all(b"two").await.expect("written");
        let mut heard = [0; 3];
        let early = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut heard)).await;
        assert!(early.is_err(), "nothing passes");
        proxy.set(Line::Open);
        stream.read_exact(&mut heard).await.expect("it comes");
        assert_eq!(&heard, b"two");
    }

    #[tokio::test]
    async fn a_cut_line_breaks_connections_old_and_new() {
        let proxy = Proxy::start(echo().await).await.expect("starts");
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connects");
        assert_eq!(said(&mut stream, b"one").await, b"one");
        proxy.set(Line::Cut);
        let mut heard = [0; 1];
        assert!(matches!(stream.read(&mut heard).await, Ok(0) | Err(_)), "the old one is broken");
        let mut again = TcpStream::connect(proxy.address()).await.expect("the port is there");
        assert!(matches!(again.read(&mut heard).await, Ok(0) | Err(_)), "the new one too");
        proxy.set(Line::Open);
        let mut third = TcpStream::connect(proxy.address()).await.expect("connects");
        assert_eq!(said(&mut third, b"three").await, b"three");
    }

    #[tokio::test]
    async fn a_slow_line_takes_its_time() {
        let proxy = Proxy::start(echo().await).await.expect("starts");
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connects");
        proxy.set(Line::Slow(Duration::from_millis(40)));
        let began = Instant::now();
        assert_eq!(said(&mut stream, b"one").await, b"one");
        assert!(began.elapsed() >= Duration::from_millis(80), "both ways");
    }
}
