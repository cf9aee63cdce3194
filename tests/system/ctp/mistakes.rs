//! What `gateway-node --check` says of libraries and secrets that cannot be used: one sentence, exit code 2.

use serde_json::json;

use super::site::Site;
use crate::support::program::Program;

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_said_in_a_sentence() {
    let Some(mut site) = Site::start(json!({})).await else { return };
    let text = site.home.file("text.so", "no library at all");
    let (trader, market) = (site.home.path().join("libtrader.so"), site.home.path().join("libmd.so"));
    let unknown = site.home.path().join("libunknown.so");
    std::fs::copy(&trader, &unknown).expect("copied");
    site.home.file("libunknown.so.version", "v9.9.9_20300101\nA\n");
    // What it says of itself and what it is differ: it would misroute every callback.
    let disguised = site.home.path().join("libdisguised.so");
    std::fs::copy(&trader, &disguised).expect("copied");
    site.home.file("libdisguised.so.version", "v6.7.10_20250101\nA\n");
    let missing = "/nowhere/libthosttraderapi_se.so";
    let cases = [
        (String::new(), 0, ""),
        (format!("trader_library = {missing:?}"), 2, missing),
        (format!("trader_library = {text:?}"), 2, "text.so"),
        (format!("trader_library = {market:?}"), 2, "ctp.trader_library"),
        (format!("market_library = {trader:?}"), 2, "ctp.market_library"),
        // The version tells otherwise, and so do the library's functions.
        ("abi = \"E\"".to_owned(), 2, "is not of family E"),
        ("abi = \"Z\"".to_owned(), 2, "abi"),
        (format!("trader_library = {unknown:?}"), 2, "9.9.9"),
        (format!("trader_library = {disguised:?}"), 2, "is not of family C"),
        ("auth_code = \"a-code-of-17-chars\"".to_owned(), 2, "AuthCode holds 16 bytes"),
        ("user = \"a user of more than 15 bytes\"".to_owned(), 2, "UserID"),
        ("password = { env = \"NOT_SET_ANYWHERE\" }".to_owned(), 2, "NOT_SET_ANYWHERE"),
        ("auth_code = { file = \"/nowhere/code\" }".to_owned(), 2, "/nowhere/code"),
        ("market_fronts = []".to_owned(), 2, "market_fronts"),
        ("trader_fronts = [\"127.0.0.1:1\"]".to_owned(), 2, "tcp://"),
    ];
    for (more, code, says) in cases {
        site = site.with(&more);
        site.write("a");
        let ended = Program::start_in("gateway-node", &["--config", "a.toml", "--check"], site.home.path(), &[]);
        let ended = ended.ended().await;
        println!("{more}: {}", ended.err.trim());
        assert_eq!(ended.code, code, "{more}: {}", ended.err);
        assert!(!ended.err.contains("a-code-of-17-chars"), "{}", ended.err);
        assert!(ended.err.matches("os error").count() <= 1, "said twice: {}", ended.err);
        assert!(ended.err.contains(says) && !ended.err.contains("panicked"), "{more}: {}", ended.err);
        if code != 0 {
            assert!(!ended.err.trim().contains('\n') || more.is_empty(), "more than a sentence: {}", ended.err);
        }
    }
}
