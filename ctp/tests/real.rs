//! CTP's own libraries, one version of each family, as `cargo xtask fetch-ctp` puts them into .tools: opened, verified,
//! connected to a listener that hangs up, released. Each in a process of its own: they have static state, and write on
//! the terminal.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ctp::depth::Depth;
use ctp::{Family, MdEvent, MdHandler, MdLibrary, Request, TraderEvent, TraderHandler, TraderLibrary};

/// The wheel's version, its family, and whether the library waits about a second before it connects again: older ones
/// do so at once.
const LIBRARIES: [(&str, Family, bool); 5] = [
    ("6.7.2.8", Family::A, false),
    ("6.7.9.0", Family::B, true),
    ("6.7.10.0", Family::C, true),
    ("6.7.11.0", Family::D, true),
    ("6.7.13", Family::E, true),
];

/// Which of [`LIBRARIES`] a child is to try.
const WHICH: &str = "GATEMESH_TEST_CTP_LIBRARY";

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_libraries_of_every_family_load_connect_and_end() {
    let tools = tools();
    let missing: Vec<&str> =
        LIBRARIES.iter().map(|(version, ..)| *version).filter(|version| !home(&tools, version).is_dir()).collect();
    if !missing.is_empty() {
        eprintln!(
            "SKIPPED: no CTP libraries {} in {}; `cargo xtask fetch-ctp` downloads them",
            missing.join(", "),
            tools.display()
        );
        return;
    }
    let this = std::env::current_exe().expect("this program's path");
    let children = LIBRARIES.map(|(version, ..)| {
        let mut command = Command::new(&this);
        command.args(["--ignored", "--exact", "one_family_in_a_process_of_its_own", "--nocapture"]).env(WHICH, version);
        (version, command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started"))
    });
    for (version, child) in children {
        let Output { status, stdout, stderr } = child.wait_with_output().expect("waited for");
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(
            status.success() && stdout.contains("both libraries are well"),
            "{version}: {status}\n{stderr}\n{stdout}"
        );
    }
}

#[test]
#[ignore = "the test above starts it for each version"]
fn one_family_in_a_process_of_its_own() {
    let Ok(version) = std::env::var(WHICH) else {
        eprintln!("SKIPPED: {WHICH} is not set");
        return;
    };
    let (_, family, pauses) = *LIBRARIES.iter().find(|(known, ..)| *known == version).expect("a known version");
    let home = home(&tools(), &version);
    let flow = tempfile::tempdir().expect("a directory");
    trader(&home.join("libthosttraderapi_se.so"), flow.path(), &version, family, pauses);
    md(&home.join("libthostmduserapi_se.so"), flow.path(), &version, family);
    println!("both libraries are well");
}

fn trader(path: &Path, flow: &Path, version: &str, family: Family, pauses: bool) {
    let library = TraderLibrary::open(path, None).expect("opened");
    assert_eq!(library.family(), family);
    assert!(library.version().starts_with(&format!("v{}_", three_numbers(version))), "{}", library.version());
    let (port, heard) = (hang_up(), Arc::new(Heard::default()));
    let fronts = [format!("tcp://127.0.0.1:{port}")];
    let api = library.start(&flow.join("td"), &fronts, heard.clone()).expect("every slot is right");
    assert_eq!(api.trading_day(), "19800100");
    let times = heard.disconnects(2);
    let pause = times[1] - times[0];
    assert_eq!(pause > Duration::from_millis(500), pauses, "connected again after {pause:?}");
    // Connected or not, just now.
    let returned = api.send(&ctp::requests::Identity::default(), &Request::QueryInstruments, 1);
    assert!(matches!(returned, Ok(-1 | 0)), "{returned:?}");
    let begun = Instant::now();
    api.release();
    assert!(begun.elapsed() < PATIENCE);
    heard.nothing_else();

    for wrong in Family::ALL.into_iter().filter(|wrong| *wrong != family) {
        let library = TraderLibrary::open(path, Some(wrong)).expect("opened");
        let error = library.start(&flow.join(wrong.to_string()), &fronts, heard.clone()).expect_err("refused");
        let error = error.to_string();
        assert!(error.contains(&format!("is not of family {wrong}: slot ")), "{error}");
    }
    MdLibrary::open(path, None).expect_err("it is the trader's");
}

fn md(path: &Path, flow: &Path, version: &str, family: Family) {
    let library = MdLibrary::open(path, None).expect("opened");
    assert_eq!(library.family(), family);
    assert!(library.version().starts_with(&format!("v{}_", three_numbers(version))), "{}", library.version());
    let (port, heard) = (hang_up(), Arc::new(Heard::default()));
    let api = library.start(&flow.join("md"), &[format!("tcp://127.0.0.1:{port}")], heard.clone());
    let api = api.expect("every slot is right");
    heard.disconnects(2);
    let returned = api.subscribe(&["rb2701".into()]);
    assert!(matches!(returned, -1 | 0), "{returned}");
    api.release();
    heard.nothing_else();
}

/// `6.7.2` of `6.7.2.8`.
fn three_numbers(version: &str) -> String {
    version.split('.').take(3).collect::<Vec<_>>().join(".")
}

/// A port that takes every connection and ends it.
fn hang_up() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    port
}

/// When the connection was lost, and whatever else was said.
#[derive(Default)]
struct Heard {
    lost: Mutex<Vec<Instant>>,
    else_: Mutex<Vec<String>>,
}

impl Heard {
    fn lost(&self, reason: i32) {
        if reason == 0x1001 {
            self.lost.lock().expect("no panic").push(Instant::now());
        } else {
            self.other(format!("lost for {reason:#x}"));
        }
    }

    fn other(&self, what: String) {
        self.else_.lock().expect("no panic").push(what);
    }

    fn disconnects(&self, count: usize) -> Vec<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let times = self.lost.lock().expect("no panic").clone();
            if times.len() >= count {
                return times;
            }
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {count} lost connections, had {}", times.len());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The handler is let go, and heard nothing but lost connections.
    fn nothing_else(self: &Arc<Heard>) {
        assert_eq!(Arc::strong_count(self), 1, "the handler is let go");
        assert_eq!(*self.else_.lock().expect("no panic"), Vec::<String>::new());
    }
}

impl TraderHandler for Heard {
    fn on_event(&self, event: TraderEvent) {
        match event {
            TraderEvent::FrontDisconnected { reason } => self.lost(reason),
            other => self.other(format!("{other:?}")),
        }
    }
}

impl MdHandler for Heard {
    fn on_event(&self, event: MdEvent) {
        match event {
            MdEvent::FrontDisconnected { reason } => self.lost(reason),
            other => self.other(format!("{other:?}")),
        }
    }

    fn on_depth(&self, depth: Depth<'_>) {
        self.other(format!("{depth:?}"));
    }
}

fn tools() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools")
}

fn home(tools: &Path, version: &str) -> PathBuf {
    tools.join(format!("ctp-{version}"))
}
