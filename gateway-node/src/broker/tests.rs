//! Against a real nats-server; without one each test says so and passes.

use std::io::Write as _;

use super::*;

async fn have_server() -> bool {
    match binary::find(&Places::of_this_process(None)).await {
        Ok(_) => true,
        Err(error) => {
            // Not by print: what passes is not heard.
            let _ = writeln!(std::io::stdout(), "skipped: {error:#}");
            false
        }
    }
}

fn config(directory: &Path) -> EmbeddedBroker {
    EmbeddedBroker { data_dir: directory.to_owned(), port: 0, ..EmbeddedBroker::default() }
}

fn pid(broker: &Broker) -> Pid {
    Pid::from_raw(i32::try_from(broker.child.id().expect("runs")).expect("a pid"))
}

fn runs(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

/// Ends a broker as SIGKILL on its node would: the server goes on.
fn abandon(broker: Broker) -> Pid {
    let pid = pid(&broker);
    let Broker { child, _lock, .. } = broker;
    // The child would be killed on drop; forgotten, it is as free as an orphan. The lock is given back.
    std::mem::forget(child);
    pid
}

#[tokio::test]
async fn it_starts_serves_a_stream_and_keeps_it_over_a_restart() {
    if !have_server().await {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    for round in 0..2u64 {
        let broker = Broker::start(&config(dir.path())).await.expect("starts");
        assert!(broker.url().starts_with("nats://127.0.0.1:"), "{}", broker.url());
        let client = async_nats::connect(broker.url()).await.expect("connects");
        let jetstream = async_nats::jetstream::new(client);
        let stream = async_nats::jetstream::stream::Config {
            name: "S".to_owned(),
            subjects: vec!["s".to_owned()],
            ..Default::default()
        };
        let stream = jetstream.get_or_create_stream(stream).await.expect("stream");
        assert_eq!(stream.cached_info().state.messages, round);
        jetstream.publish("s", "x".into()).await.expect("sent").await.expect("stored");
        let pid = pid(&broker);
        broker.stop().await.expect("stops");
        assert!(!runs(pid));
    }
    assert!(dir.path().join("broker/nats/jetstream").is_dir(), "the store is in the data directory");
}

#[tokio::test]
async fn a_second_node_on_the_same_data_is_refused() {
    if !have_server().await {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let first = Broker::start(&config(dir.path())).await.expect("starts");
    let error = Broker::start(&config(dir.path())).await.expect_err("in use").to_string();
    assert!(error.contains(&format!("is in use by another node (pid {})", std::process::id())), "{error}");
    assert!(greets(first.url()).await, "the first one goes on");
    first.stop().await.expect("stops");
}

#[tokio::test]
async fn one_left_over_from_a_killed_node_is_stopped() {
    if !have_server().await {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let orphan = abandon(Broker::start(&config(dir.path())).await.expect("starts"));
    assert!(runs(orphan));
    let broker = Broker::start(&config(dir.path())).await.expect("starts beside the left-over one");
    assert_ne!(pid(&broker), orphan);
    let cmdline = std::fs::read(format!("/proc/{orphan}/cmdline")).unwrap_or_default();
    assert!(cmdline.is_empty(), "the left-over one still runs");
    broker.stop().await.expect("stops");
}

#[tokio::test]
async fn an_end_that_nobody_asked_for_is_told() {
    if !have_server().await {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let mut broker = Broker::start(&config(dir.path())).await.expect("starts");
    assert!(timeout(Duration::from_millis(50), broker.exited()).await.is_err(), "it runs");
    kill(pid(&broker), Signal::SIGKILL).expect("killed");
    let error = timeout(Duration::from_secs(20), broker.exited()).await.expect("told").to_string();
    assert!(error.starts_with("nats-server was killed by signal 9 although nobody stopped it"), "{error}");
    assert!(error.contains("Server is ready"), "its last words: {error}");
}

#[tokio::test]
async fn dropping_it_kills_the_server() {
    if !have_server().await {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let broker = Broker::start(&config(dir.path())).await.expect("starts");
    let url = broker.url().to_owned();
    drop(broker);
    timeout(Duration::from_secs(20), async {
        while greets(&url).await {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("gone");
    Broker::start(&config(dir.path())).await.expect("starts again").stop().await.expect("stops");
}

#[tokio::test]
async fn a_taken_port_is_explained() {
    if !have_server().await {
        return;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("address").port();
    let dir = tempfile::tempdir().expect("directory");
    let error = Broker::start(&EmbeddedBroker { port, ..config(dir.path()) }).await.expect_err("taken").to_string();
    assert!(error.contains(&format!("port {port} is taken")) && error.contains("broker.port = 0"), "{error}");
    assert!(error.contains("bind: address already in use"), "its last words: {error}");
}

#[tokio::test]
async fn a_configuration_of_ones_own_is_used_and_its_mistakes_are_shown() {
    if !have_server().await {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("own.conf");
    let own = EmbeddedBroker { config: Some(file.clone()), ..config(dir.path()) };

    std::fs::write(&file, "jetstream { store_dir: \"mine\" }\nserver_name: own\n").expect("file");
    Broker::start(&own).await.expect("starts").stop().await.expect("stops");
    assert!(dir.path().join("broker/mine/jetstream").is_dir());

    std::fs::write(&file, "jetstream { store_dir: \"mine\" }\nquantum: 1\n").expect("file");
    let error = Broker::start(&own).await.expect_err("refused").to_string();
    assert!(error.contains("unknown field \"quantum\"") && error.contains("exited with code 1"), "{error}");

    std::fs::write(&file, "jetstream {} # store_dir\n").expect("file");
    let error = format!("{:#}", Broker::start(&own).await.expect_err("refused"));
    assert!(error.contains("names no store_dir"), "{error}");
}
