//! `gatectl watch` on a terminal of its own: what it shows, that it moves, and that it gives the terminal back.

use std::num::NonZeroU16;
use std::time::Duration;

use nix::sys::termios::{LocalFlags, tcgetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::time::{Instant, timeout};

use crate::support::program::{built, code, command};
use crate::support::{PATIENCE, TestBroker, TestNode, sim, until_ready};

const ROWS: NonZeroU16 = NonZeroU16::new(40).expect("not 0");
const COLUMNS: NonZeroU16 = NonZeroU16::new(160).expect("not 0");

/// A terminal with a program on it, and what it shows.
struct Screen {
    terminal: pty_process::Pty,
    shown: vt100::Parser,
    child: Child,
}

impl Screen {
    fn open(name: &str, arguments: &[&str]) -> Screen {
        let (terminal, program_side) = pty_process::open().expect("a terminal");
        terminal.resize(pty_process::Size::new(ROWS.get(), COLUMNS.get())).expect("resized");
        let mut child = pty_process::Command::new(command(name).get_program()).args(arguments).kill_on_drop(true);
        for (variable, _) in command(name).get_envs() {
            child = child.env_remove(variable);
        }
        let child = child.env("TERM", "xterm-256color").spawn(program_side).expect("starts");
        Screen { terminal, shown: vt100::Parser::new(ROWS, COLUMNS, 0), child }
    }

    fn text(&self) -> String {
        self.shown.screen().contents()
    }

    /// Takes in what the program draws; false once it has left the terminal.
    async fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        // The terminal of a program that has ended fails instead of ending.
        let count = self.terminal.read(&mut bytes).await.unwrap_or(0);
        self.shown.process(&bytes[..count]);
        count > 0
    }

    /// Waits until the screen satisfies a condition.
    async fn until<T>(&mut self, what: &str, condition: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if let Some(value) = condition(&text) {
                return value;
            }
            let more = tokio::time::timeout_at(deadline, self.read()).await;
            assert!(matches!(more, Ok(true)), "waited for: {what}\n{text}");
        }
    }

    async fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).await.expect("typed");
    }

    /// What a shell would find: does the terminal echo what is typed, and hand it over by the line?
    fn flags(&self) -> LocalFlags {
        let flags = tcgetattr(&self.terminal).expect("the terminal's settings").local_flags;
        flags & (LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
    }
}

/// The last price of rebar in the pane of ticks.
fn price(screen: &str) -> Option<f64> {
    let row = screen.lines().find(|line| line.contains("rb2410.SHFE"))?;
    let behind = row.split_once("rb2410.SHFE")?.1;
    behind.split_whitespace().next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_shows_a_moving_market_and_gives_the_terminal_back() {
    if !built(&["gatectl"]) {
        return;
    }
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    until_ready(&broker.client().await, "sim1").await;

    for (leave, keys) in [("q", "q"), ("Ctrl-C", "\u{3}")] {
        let mut screen = Screen::open("gatectl", &["--server", &broker.url(), "watch"]);
        let before = screen.flags();
        assert!(before.contains(LocalFlags::ECHO | LocalFlags::ICANON));
        screen.until("the gateway", |text| (text.contains("sim1") && text.contains("READY")).then_some(())).await;
        let first = screen.until("a price", price).await;
        assert!((3_240.0..=3_960.0).contains(&first), "between the limits of the day: {first}");
        screen.until("another price", |text| price(text).filter(|price| *price != first)).await;
        assert!(screen.shown.screen().alternate_screen(), "what was on the terminal before is kept");
        assert!(!screen.flags().contains(LocalFlags::ICANON), "keys are read one by one");

        screen.press("?").await;
        screen.until("the help", |text| text.contains("enlarge the pane, and back").then_some(())).await;
        screen.press("?").await;
        screen.until("no help", |text| (!text.contains("enlarge the pane, and back")).then_some(())).await;

        screen.press(keys).await;
        // Read on: what it writes at the end fills the terminal's buffer otherwise.
        let end = async { while screen.read().await {} };
        timeout(PATIENCE, end).await.unwrap_or_else(|_| panic!("{leave} does not end it"));
        let status = timeout(PATIENCE, screen.child.wait()).await.expect("ends").expect("waited for");
        assert_eq!(code(status), 0, "{leave}");
        assert_eq!(screen.flags(), before, "{leave}: what is typed is seen again");
        let shown = screen.shown.screen();
        assert!(!shown.alternate_screen() && !shown.hide_cursor(), "{leave}: the shell's screen is back");
        assert_eq!(shown.contents().trim(), "", "{leave}: and nothing is left on it");
    }
    tokio::time::timeout(Duration::from_secs(30), node.stop()).await.expect("stops");
}
