//! The example, each mistake's sentence, and that nothing shows a secret.

use super::*;
use crate::config::{Config, GatewayKind};

const SECTION: &str = r#"
[[gateways]]
name = "ctp1"
kind = "ctp"

[gateways.ctp]
trader_library = "trader.so"
trader_fronts = ["tcp://127.0.0.1:10201"]
broker = "9999"
user = "u1"
password = "geheim"
"#;

fn section(text: &str) -> CtpConfig {
    let config = Config::parse(text, "node.toml").expect("parses");
    config.gateways.into_iter().next().and_then(|gateway| gateway.ctp).expect("a CTP section")
}

/// The error of the section with this in place of that.
fn refused(from: &str, to: &str) -> String {
    assert!(SECTION.contains(from), "{from}");
    Config::parse(&SECTION.replace(from, to), "node.toml").expect_err("refused").to_string()
}

#[test]
fn the_example_is_read() {
    let text = include_str!("../../../../../deploy/ctp.example.toml");
    let config = Config::parse(text, "deploy/ctp.example.toml").expect("parses");
    assert_eq!(config.gateways[0].kind, GatewayKind::Ctp);
    let ctp = config.gateways[0].ctp.clone().expect("a CTP section");
    assert_eq!(ctp.password, SecretSource::Environment("CTP_PASSWORD".to_owned()));
    assert_eq!(ctp.auth_code, Some(SecretSource::File("/run/secrets/ctp_auth_code".into())));
    // What the comments call the defaults.
    assert_eq!(
        (ctp.abi, ctp.environment, ctp.query_interval()),
        (None, Environment::Production, Duration::from_secs(1))
    );
    assert_eq!(ctp.flow_dir(&"ctp1".into()), PathBuf::from("data/ctp/ctp1"));
}

#[test]
fn without_market_data_a_library_a_front_and_an_account_are_enough() {
    let identity = section(SECTION).identity().expect("has it all");
    assert_eq!((identity.user.as_str(), identity.password.as_str(), identity.auth_code.as_str()), ("u1", "geheim", ""));
}

#[test]
fn a_secret_comes_from_where_it_is_and_is_shown_nowhere() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("secret");
    std::fs::write(&path, "geheim\nnothing\n").expect("written");
    let file = section(&SECTION.replace("\"geheim\"", &format!("{{ file = {path:?} }}")));
    let identity = file.identity().expect("the file is there");
    assert_eq!(identity.password, "geheim");
    for shown in [format!("{:?}", section(SECTION)), format!("{identity:?}")] {
        assert!(!shown.contains("geheim"), "{shown}");
    }
    let lost = |source: &str| {
        let section = section(&SECTION.replace("\"geheim\"", source));
        format!("{:#}", section.identity().expect_err("nothing is there"))
    };
    let sentence = "ctp.password names the environment variable GATEMESH_NO_SUCH_VARIABLE, which is not set";
    assert_eq!(lost("{ env = \"GATEMESH_NO_SUCH_VARIABLE\" }"), sentence);
    std::fs::write(&path, "\n").expect("written");
    assert_eq!(lost(&format!("{{ file = {path:?} }}")), "what ctp.password names is empty");
    assert!(lost("{ file = \"/nowhere\" }").starts_with("ctp.password names the file /nowhere, which cannot be read"));
}

#[test]
fn each_mistake_is_told_where_it_is() {
    let refusals = [
        ("broker = \"9999\"", "broker = \"\"", "gateways[0].ctp.broker: is empty: write what the broker gave you"),
        ("tcp://127.0.0.1:10201", "127.0.0.1:10201", "gateways[0].ctp.trader_fronts: "),
        ("[\"tcp://127.0.0.1:10201\"]", "[]", "gateways[0].ctp.trader_fronts: "),
        ("user", "market_library = \"md.so\"\nuser", "market_library and market_fronts go together"),
        ("user", "market_fronts = [\"tcp://a:1\"]\nuser", "market_library and market_fronts go together"),
        ("user", "query_interval_ms = 5\nuser", "must be 10 to 2000"),
        ("\"geheim\"", "\"\"", "gateways[0].ctp.password: write a text in quotes that is not empty"),
        ("user", "abi = \"F\"\nuser", "gateways[0].ctp.abi: unknown value `F`"),
        ("user", "enviroment = \"production\"\nuser", "unknown key `enviroment`; did you mean `environment`?"),
        (
            "\"geheim\"",
            "{ enf = \"X\" }",
            "write a text in quotes that is not empty, or { env = \"NAME\" }, or { file = \"PATH\" }",
        ),
        (
            "\"geheim\"",
            "4711",
            "write a text in quotes that is not empty, or { env = \"NAME\" }, or { file = \"PATH\" }",
        ),
        ("kind = \"ctp\"", "kind = \"sim\"", "gateways[0].ctp: is for kind = \"ctp\""),
    ];
    for (from, to, sentence) in refusals {
        let found = refused(from, to);
        assert!(found.contains(sentence) && !found.contains("geheim") && !found.contains("4711"), "{found}");
    }
    let twice =
        format!("{SECTION}\nflow_dir = \"/var/lib/x\"\n{}flow_dir = \"/var/lib/x\"\n", SECTION.replace("ctp1", "ctp2"));
    let shared = Config::parse(&twice, "node.toml").expect_err("refused").to_string();
    assert!(shared.contains("gateways[1].ctp.flow_dir: is that of gateway `ctp1` too"), "{shared}");
    let missing = Config::parse("[[gateways]]\nname = \"ctp1\"\nkind = \"ctp\"\n", "node.toml").expect_err("refused");
    assert!(missing.to_string().contains("needs a [gateways.ctp] section"), "{missing}");
}
