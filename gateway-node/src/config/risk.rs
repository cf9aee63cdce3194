//! `[gateways.risk]` as it is written: limits that can be kept, and that say something.

use super::{ConfigError, Document};
use crate::engine::is_reserved_owner;
use crate::risk::{LONGEST_WINDOW, MOST_PER_SECOND, Rules};

/// Checks the section of the gateway with this number in the file, and those of its owners.
///
/// # Errors
/// A sentence that names file, line and key, and says what to write.
pub(super) fn check(section: &Rules, number: &str, document: &Document<'_>) -> Result<(), ConfigError> {
    section.check().map_err(|bad| {
        let key = bad.key.iter().map(String::as_str);
        document.complain(&["gateways", number, "risk"].into_iter().chain(key).collect::<Vec<_>>(), &bad.message)
    })
}

/// A rule that cannot be kept, or says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("risk{}: {message}", .key.iter().map(|part| format!(".{part}")).collect::<String>())]
pub(crate) struct BadRule {
    /// Where it stands below `risk`.
    pub key: Vec<String>,
    /// What is wrong, and what to write.
    pub message: String,
}

impl Rules {
    /// Checks the rules of a gateway, and those of its owners.
    ///
    /// # Errors
    /// The first that cannot be kept, or says nothing, and what to write instead.
    pub(crate) fn check(&self) -> Result<(), BadRule> {
        check_window(self.max_duplicates, self.duplicate_seconds, &[])?;
        check_numbers(self, &[])?;
        for (owner, rules) in &self.owners {
            let path = ["owners", owner.as_str()];
            if owner.is_empty() {
                return refuse(
                    &path,
                    "an owner has a name: write [gateways.risk.owners.NAME], or \"*\" for every other owner",
                );
            }
            if owner != "*" && is_reserved_owner(owner) {
                return refuse(
                    &path,
                    "stands for orders that nobody here sent: no limit reaches them; remove this section",
                );
            }
            if !rules.owners.is_empty() {
                let message = "owners have no owners: write them under [gateways.risk.owners]";
                return refuse(&[&path[..], &["owners"]].concat(), message);
            }
            // An owner without its own key takes that of `*`.
            let others = self.owners.get("*").filter(|_| owner != "*");
            let has = |of: fn(&Rules) -> Option<u32>| of(rules).or_else(|| others.and_then(of));
            check_window(has(|r| r.max_duplicates), has(|r| r.duplicate_seconds), &path)?;
            check_numbers(rules, &path)?;
        }
        Ok(())
    }
}

fn refuse(path: &[&str], message: &str) -> Result<(), BadRule> {
    Err(BadRule { key: path.iter().map(|part| (*part).to_owned()).collect(), message: message.to_owned() })
}

fn check_window(most: Option<u32>, seconds: Option<u32>, path: &[&str]) -> Result<(), BadRule> {
    let (key, message) = match (most, seconds) {
        (Some(_), None) => ("max_duplicates", "needs duplicate_seconds beside it: within how long orders are compared"),
        (None, Some(_)) => ("duplicate_seconds", "needs max_duplicates beside it: how many may be alike"),
        _ => return Ok(()),
    };
    refuse(&[path, &[key]].concat(), message)
}

fn check_numbers(rules: &Rules, path: &[&str]) -> Result<(), BadRule> {
    let refuse = |key: &str, message: &str| refuse(&[path, &[key]].concat(), message);
    let amounts = [
        ("max_order_volume", rules.max_order_volume, "lots"),
        ("max_order_value", rules.max_order_value, "money"),
        ("price_band", rules.price_band, "a share: 0.02 is two percent"),
    ];
    for (key, amount, unit) in amounts {
        if amount.is_some_and(|amount| !amount.is_finite() || amount <= 0.0) {
            return refuse(key, &format!("must be a number above 0 ({unit}); to refuse every order, halt the gateway"));
        }
    }
    if rules.max_position.is_some_and(|lots| !lots.is_finite() || lots < 0.0) {
        return refuse("max_position", "must be a number of lots, 0 or more");
    }
    if rules.price_band.is_some_and(|band| band >= 1.0) {
        return refuse("price_band", "is a share of the last price and below 1: for two percent write 0.02");
    }
    for (key, count) in [
        ("max_orders_per_second", rules.max_orders_per_second),
        ("max_cancels_per_second", rules.max_cancels_per_second),
    ] {
        if count.is_some_and(|count| count > MOST_PER_SECOND) {
            return refuse(key, &format!("is more than can be counted: write at most {MOST_PER_SECOND}"));
        }
    }
    if rules.max_duplicates == Some(0) {
        return refuse("max_duplicates", "0 would refuse every order: write 1 to refuse the second of its kind");
    }
    match rules.duplicate_seconds {
        Some(seconds) if !(1..=LONGEST_WINDOW).contains(&seconds) => {
            refuse("duplicate_seconds", &format!("must be 1 to {LONGEST_WINDOW}"))
        }
        _ => Ok(()),
    }
}
