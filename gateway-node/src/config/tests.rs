//! Each sentence that a mistake in the file is answered with.

use super::*;

const GATEWAY: &str = "[[gateways]]\nname = \"sim1\"\nkind = \"sim\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "node.toml")
}

/// The error of a file that has a gateway, and these lines before it.
fn refused(lines: &str) -> String {
    parse(&format!("{lines}\n{GATEWAY}")).expect_err("refused").to_string()
}

#[test]
fn a_gateway_is_all_that_must_be_written() {
    let config = parse(GATEWAY).expect("parses");
    let BrokerConfig::Embedded(broker) = config.broker else { panic!("embedded by default") };
    assert_eq!(broker, EmbeddedBroker::default());
    assert_eq!((broker.port, broker.data_dir), (4222, PathBuf::from("data")));
    assert_eq!(config.journal, JournalConfig::default());
    assert_eq!(check_log(&config.node.log), Ok(()));
    assert!(is_node_name(&config.node.name), "{}", config.node.name);
    assert_eq!(config.gateways[0].name, "sim1");
    assert!(config.gateways[0].subscribe.is_empty());
}

#[test]
fn the_files_in_deploy_are_read() {
    let example = parse(include_str!("../../../deploy/node.example.toml")).expect("deploy/node.example.toml");
    // What the example shows are the defaults, but for the names and what is subscribed to.
    assert_eq!(example.node.log, NodeConfig::default().log);
    let BrokerConfig::Embedded(broker) = &example.broker else { panic!("embedded") };
    assert_eq!(*broker, EmbeddedBroker::default());
    assert_eq!(example.journal, JournalConfig::default());
    assert_eq!(example.lease, LeaseConfig::default());
    assert_eq!(example.gateways[0].sim, SimConfig::default());
    let sim = parse(include_str!("../../../deploy/sim.toml")).expect("deploy/sim.toml");
    assert_eq!(sim.gateways[0].kind, GatewayKind::Sim);
}

#[test]
fn all_of_it_is_read() {
    let config = parse(
        r#"
        [node]
        name = "rack-1.sh"
        log = "warn,gateway_node::journal=debug"
        [broker]
        address = ["nats://a:4222", "tls://b:4222"]
        user = "node"
        password = "hush"
        [journal]
        max_bytes = "512 MiB"
        replicas = 3
        [[gateways]]
        name = "sim1"
        kind = "sim"
        subscribe = ["rb2410.SHFE", "*.CFFEX", "*"]
        [gateways.sim]
        seed = 7
        [[gateways]]
        name = "sim2"
        kind = "sim"
        "#,
    )
    .expect("parses");
    let BrokerConfig::External(broker) = &config.broker else { panic!("external") };
    assert_eq!(broker.servers.len(), 2);
    let Login::User { user, password } = &broker.login else { panic!("by user") };
    assert_eq!((user.as_str(), password.reveal()), ("node", "hush"));
    assert_eq!(config.journal, JournalConfig { max_bytes: 512 << 20, replicas: 3, ..JournalConfig::default() });
    assert_eq!(config.gateways[0].subscribe[0].symbol.as_deref(), Some("rb2410"));
    assert_eq!(config.gateways[0].subscribe[2], Filter::all());
    assert_eq!(config.gateways[0].sim.seed, 7);
    assert_eq!(config.gateways[1].name, "sim2");
}

#[test]
fn secrets_are_never_shown() {
    let with = |line: &str| format!("[broker]\naddress = \"nats://a:4222\"\nuser = \"u\"\n{line}\n{GATEWAY}");
    let config = parse(&with("password = \"hush\"")).expect("parses");
    let shown = format!("{config:?}");
    assert!(shown.contains("***") && !shown.contains("hush"), "{shown}");
    for line in ["password = 31337", "password = [\"31337\"]", "password = 31337 31337", "token = 31337"] {
        let error = parse(&with(line)).expect_err("refused").to_string();
        assert!(!error.contains("31337"), "{error}");
    }
    let error = refused("[broker]\naddress = \"nats://u:31337@a:4222\"");
    assert!(error.ends_with("write them as broker.user and broker.password") && !error.contains("31337"), "{error}");
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    assert_eq!(
        refused("[broker]\nprot = 4222"),
        "node.toml, line 2, broker.prot: unknown key `prot`; did you mean `port`? Known here: address, user, password, \
         token, credentials, data_dir, port, server, config"
    );
    assert_eq!(refused("[jurnal]"), {
        "node.toml, line 1, jurnal: unknown key `jurnal`; did you mean `journal`? Known here: node, broker, journal, \
         lease, gateways"
    });
    assert!(refused("[broker]\nquantum = 1").contains("unknown key `quantum`; known here: address"));
    let second = format!("{GATEWAY}[[gateways]]\nname = \"b\"\nkind = \"sim\"\nsubscibe = []\n");
    assert!(
        parse(&second)
            .expect_err("refused")
            .to_string()
            .starts_with("node.toml, line 7, gateways[1].subscibe: unknown key `subscibe`; did you mean `subscribe`?")
    );
}

#[test]
fn the_venues_own_sections_are_checked_too() {
    let error = |lines: &str| parse(&format!("{GATEWAY}{lines}")).expect_err("refused").to_string();
    assert_eq!(
        error("[gateways.sim]\nsed = 1"),
        "node.toml, line 5, gateways[0].sim.sed: unknown key `sed`; did you mean `seed`? Known here: feed, start_on, \
         instruments, products, seed, account, faults, venue"
    );
    assert!(
        error("[gateways.sim.feed]\nkind = \"synthetic\"\nsped = 2")
            .starts_with("node.toml, line 6, gateways[0].sim.feed.sped: unknown key `sped`; did you mean `speed`?")
    );
    assert!(error("[gateways.sim.feed]\nkind = \"live\"").contains("unknown value `live`; known here: synthetic"));
}

#[test]
fn values_of_the_wrong_kind_say_what_to_write() {
    for (lines, expected) in [
        (
            "[broker]\nport = \"a\"",
            "node.toml, line 2, broker.port: found string \"a\", write a whole number from 0 to 65535",
        ),
        (
            "[broker]\nport = 70000",
            "node.toml, line 2, broker.port: found integer `70000`, write a whole number from 0 to 65535",
        ),
        (
            "[broker]\nport = -1",
            "node.toml, line 2, broker.port: found integer `-1`, write a whole number from 0 to 65535",
        ),
        ("[broker]\ndata_dir = 1", "node.toml, line 2, broker.data_dir: found integer `1`, write a text in quotes"),
        ("[node]\nname = 1", "node.toml, line 2, node.name: found integer `1`, write a text in quotes"),
        ("broker = 1", "node.toml, line 1, broker: found integer `1`, write a section of keys"),
        (
            "[broker]\naddress = 1",
            "node.toml, line 2, broker.address: write \"nats://HOST:4222\", or a list of such texts",
        ),
    ] {
        assert_eq!(refused(lines), expected);
    }
}

#[test]
fn what_is_no_toml_is_shown_by_line() {
    let error = refused("[node]\nname = \"a\"\nlog = info");
    assert!(error.starts_with("node.toml, line 3"), "{error}");
    assert!(parse("[node").expect_err("refused").to_string().starts_with("node.toml, line 1"));
}

#[test]
fn gateways_need_a_kind_and_names_of_their_own() {
    let gateways = |text: &str| parse(text).expect_err("refused").to_string();
    assert_eq!(
        gateways("[node]\n"),
        "node.toml, gateways: there is no gateway to serve: add a [[gateways]] section with name = \"sim1\" and kind = \
         \"sim\""
    );
    assert_eq!(
        gateways("[[gateways]]\nname = \"a\"\n"),
        "node.toml, line 1, gateways[0]: the key `kind` is missing here"
    );
    assert_eq!(
        gateways("[[gateways]]\nname = \"a\"\nkind = \"simm\"\n"),
        "node.toml, line 3, gateways[0].kind: unknown value `simm`; did you mean `sim`? Known here: sim, ctp"
    );
    assert_eq!(
        gateways(&format!("{GATEWAY}\n{GATEWAY}")),
        "node.toml, line 6, gateways[1].name: `sim1` is the name of an earlier gateway: give each one a name of its own"
    );
    assert_eq!(
        gateways("[[gateways]]\nname = \"a.b\"\nkind = \"sim\"\n"),
        "node.toml, line 2, gateways[0].name: `a.b` cannot name a gateway: write 1 to 32 of A-Z a-z 0-9 _ -"
    );
}

#[test]
fn subscriptions_are_instruments_or_patterns() {
    let error = |item: &str| {
        parse(&format!("{GATEWAY}subscribe = [\n  \"rb2410.SHFE\",\n  {item},\n]\n")).expect_err("refused").to_string()
    };
    assert_eq!(
        error("\"rb2410\""),
        "node.toml, line 4, gateways[0].subscribe: in `rb2410`: write SYMBOL.EXCHANGE (rb2410.SHFE), *.EXCHANGE \
         (*.SHFE) or > for everything"
    );
    assert!(error("\"rb2410.SHEF\"").contains("unknown exchange `SHEF`"), "{}", error("\"rb2410.SHEF\""));
    assert!(error("\"\"").contains("an empty text is no instrument"));
}

#[test]
fn embedded_and_external_brokers_do_not_mix() {
    assert_eq!(
        refused("[broker]\naddress = \"nats://a:4222\"\nport = 1"),
        "node.toml, line 3, broker.port: is for the embedded broker, but broker.address names servers to join: remove \
         one of the two"
    );
    assert!(
        refused("[broker]\nuser = \"a\"").starts_with("node.toml, line 2, broker.user: the embedded broker knows no")
    );
    assert!(refused("[broker]\naddress = []").contains("the list is empty"));
    assert!(refused("[broker]\naddress = \"nats://\"").contains("`nats://` is no address: write nats://HOST:4222"));
    assert!(refused("[broker]\ndata_dir = \"\"").contains("is empty: write a path"));
    let with = |lines: &str| refused(&format!("[broker]\naddress = \"nats://a:4222\"\n{lines}"));
    assert!(with("user = \"a\"").contains("broker.user: needs broker.password"));
    assert!(with("password = \"a\"").contains("broker.password: needs broker.user"));
    assert!(with("token = \"a\"\nuser = \"a\"").contains("write either token, or user and password"));
    assert!(with("credentials = \"a\"\nuser = \"a\"").contains("write either credentials, or user and password"));
}

#[test]
fn the_journal_has_limits() {
    assert!(refused("[journal]\nmax_bytes = 1000").contains("journal.max_bytes: is too little"));
    assert!(
        refused("[journal]\nmax_bytes = \"4 GB\"").contains("write a number of bytes, or a text such as \"4 GiB\"")
    );
    assert!(refused("[journal]\nmax_bytes = \"99999999 TiB\"").contains("write a number of bytes"));
    assert!(refused("[journal]\nreplicas = 2").contains("must be 1, 3 or 5"));
    assert!(refused("[journal]\nreplicas = 3").contains("the embedded broker is one server"));
}

#[test]
fn names_and_levels_are_checked() {
    assert!(refused("[node]\nname = \"my node\"").starts_with("node.toml, line 2, node.name: `my node` is no name"));
    assert!(refused("[node]\nlog = \"inof\"").contains("`inof` is no level; did you mean `info`?"));
    assert!(refused("[node]\nlog = \"info,a::b=loud\"").contains("`loud` is no level"));
    assert!(parse(&format!("[node]\nlog = \"info,gateway_node=trace,hyper::proto\"\n{GATEWAY}")).is_ok());
}

#[test]
fn a_missing_file_says_where_to_begin() {
    let error = Config::load(Path::new("/nonexistent/node.toml")).expect_err("refused").to_string();
    assert!(error.starts_with("/nonexistent/node.toml: there is no such file: copy deploy/sim.toml"), "{error}");
}

#[test]
fn limits_are_read_and_their_mistakes_told() {
    let with = |lines: &str| parse(&format!("{GATEWAY}[gateways.risk]\n{lines}"));
    let config = with(
        "max_order_volume = 20\nprice_band = 0.02\nmax_duplicates = 3\nduplicate_seconds = 5\n\
         [gateways.risk.owners.\"*\"]\nforbid_self_trade = true\n[gateways.risk.owners.alice]\nmax_order_volume = 5.5",
    )
    .expect("parses");
    let risk = &config.gateways[0].risk;
    assert_eq!((risk.max_order_volume, risk.price_band), (Some(20.0), Some(0.02)));
    assert_eq!(risk.owners["alice"].max_order_volume, Some(5.5));
    assert_eq!(parse(GATEWAY).expect("parses").gateways[0].risk, Rules::default(), "no limits by default");
    let error = |lines: &str| with(lines).expect_err("refused").to_string();
    assert!(
        error("max_ordr_volume = 1")
            .starts_with("node.toml, line 5, gateways[0].risk.max_ordr_volume: unknown key `max_ordr_volume`; did you mean `max_order_volume`?")
    );
    assert!(error("max_orders_per_day = -1").contains("write a whole number that is not negative"));
    for (lines, expected) in [
        ("max_order_volume = 0", "line 5, gateways[0].risk.max_order_volume: must be a number above 0 (lots)"),
        ("max_order_value = nan", "gateways[0].risk.max_order_value: must be a number above 0 (money)"),
        (
            "price_band = 2",
            "gateways[0].risk.price_band: is a share of the last price and below 1: for two percent write",
        ),
        ("max_position = -1", "gateways[0].risk.max_position: must be a number of lots, 0 or more"),
        ("max_orders_per_second = 10001", "is more than can be counted: write at most 10000"),
        ("max_duplicates = 1", "gateways[0].risk.max_duplicates: needs duplicate_seconds beside it"),
        ("duplicate_seconds = 1", "gateways[0].risk.duplicate_seconds: needs max_duplicates beside it"),
        ("max_duplicates = 0\nduplicate_seconds = 1", "0 would refuse every order: write 1"),
        ("max_duplicates = 1\nduplicate_seconds = 61", "gateways[0].risk.duplicate_seconds: must be 1 to 60"),
        (
            "[gateways.risk.owners.external]",
            "gateways[0].risk.owners.external: stands for orders that nobody here sent",
        ),
        ("[gateways.risk.owners.a]\nprice_band = 1.5", "line 6, gateways[0].risk.owners.a.price_band: is a share"),
        ("[gateways.risk.owners.a.owners.b]", "gateways[0].risk.owners.a.owners: owners have no owners"),
        ("[gateways.risk.owners.a]\nmax_duplicates = 1", "gateways[0].risk.owners.a.max_duplicates: needs"),
    ] {
        let told = error(lines);
        assert!(told.contains(expected), "{lines}: {told}");
    }
    let inherits = "[gateways.risk.owners.\"*\"]\nmax_duplicates = 1\nduplicate_seconds = 9\n\
                    [gateways.risk.owners.a]\nmax_duplicates = 2";
    assert!(with(inherits).is_ok(), "the seconds are those of every owner");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[\\PC\n]{0,200}", lines in proptest::collection::vec(
        proptest::sample::select(vec![
            "[broker]", "[[gateways]]", "[node]", "[gateways.sim]", "name = \"a\"", "kind = \"sim\"", "port = 1",
            "address = [1]", "subscribe = [\"a\", [1]]", "max_bytes = \"é\"", "[journal]", "gateways = [[]]", "0 = {1 = []}",
        ]), 0..8))
    {
        let _ = parse(&text);
        let _ = parse(&lines.join("\n"));
        let _ = parse(&format!("{}\n{text}", lines.join("\n")));
    }
}
