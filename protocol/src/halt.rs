//! Halts: what stops new orders, whose, and the records that carry it to every node through the KV bucket they share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::subject;
use crate::value::{Name, Timestamp};

/// The KV bucket that holds one [`HaltRecord`] per target, under [`HaltTarget::key`].
pub const BUCKET: &str = "halts";

/// What a halt covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HaltScope {
    /// Everybody, on every gateway.
    All,
    /// Everybody on one gateway.
    Gateway,
    /// Everybody on the gateways that trade for one account.
    Account,
    /// One owner, on every gateway.
    Owner,
    /// A scope that this version does not know: it covers everything, since nobody here can say what it leaves out.
    #[serde(other)]
    Unknown,
}

/// What is halted: each target has one halt at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HaltTarget {
    /// What kind.
    pub scope: HaltScope,
    /// Which one, by the gateway's, the account's or the owner's name; empty for everything.
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    pub target: Name,
}

impl HaltTarget {
    /// A target.
    #[must_use]
    pub fn new(scope: HaltScope, target: impl Into<Name>) -> Self {
        HaltTarget { scope, target: target.into() }
    }

    /// Its key in the bucket, such as `owner.STRAT_A`; `all` for everything. One of an unknown scope is its own key.
    #[must_use]
    pub fn key(&self) -> String {
        let scope = match self.scope {
            HaltScope::All => return "all".to_owned(),
            HaltScope::Unknown => return self.target.to_string(),
            HaltScope::Gateway => "gateway",
            HaltScope::Account => "account",
            HaltScope::Owner => "owner",
        };
        // A key's letters are a token's, but for the percent sign.
        format!("{scope}.{}", subject::token(&self.target).replace('%', "="))
    }

    /// The target that has this key. A key that no known scope makes stands for itself.
    #[must_use]
    pub fn of_key(key: &str) -> HaltTarget {
        let unknown = || HaltTarget::new(HaltScope::Unknown, key);
        if key == "all" {
            return HaltTarget::new(HaltScope::All, "");
        }
        let Some((scope, token)) = key.split_once('.') else { return unknown() };
        let scope = match scope {
            "gateway" => HaltScope::Gateway,
            "account" => HaltScope::Account,
            "owner" => HaltScope::Owner,
            _ => return unknown(),
        };
        subject::untoken(&token.replace('=', "%")).map_or_else(|_| unknown(), |target| HaltTarget::new(scope, target))
    }
}

impl std::fmt::Display for HaltTarget {
    /// For people: `everything`, `gateway ctp1`, `account 104233`, `owner STRAT_A`; a key that says none of it as it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.scope {
            HaltScope::All => f.write_str("everything"),
            HaltScope::Gateway => write!(f, "gateway {}", self.target),
            HaltScope::Account => write!(f, "account {}", self.target),
            HaltScope::Owner => write!(f, "owner {}", self.target),
            HaltScope::Unknown => write!(f, "the key `{}` (of a newer version, or a mistake)", self.target),
        }
    }
}

/// A halt: no new orders and quotes of its target from `since` on; cancels flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltEntry {
    /// What is halted.
    #[serde(flatten)]
    pub target: HaltTarget,
    /// Why, for whoever reads the status.
    #[serde(default)]
    pub reason: String,
    /// Only what opens is halted: what lessens a position may still be sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reduce_only: bool,
    /// When it was last asked for, on the clock of the node that was asked, and always later than what came before it
    /// for the same target: of two records of a target the later one stands.
    #[serde(with = "crate::codec::instant")]
    pub since: Timestamp,
    /// What was working was to be cancelled too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// Orders of the owner `external` included.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// What was working and lessens a position is not cancelled, although nothing new of the kind is taken. Where only
    /// what opens is halted that goes without saying.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spares_closing: bool,
    /// The owner that halted itself, and may resume; absent where it takes whoever runs the gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Name>,
    /// It holds on this gateway only, since the bucket does not have it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// The halts that went into it; an earlier version's record does not say.
    #[serde(default, skip_serializing_if = "Heard::is_empty")]
    pub heard: Heard,
}

impl HaltEntry {
    /// Whether what works and lessens a position is left alone by its `cancel`.
    #[must_use]
    pub fn leaves_closing(&self) -> bool {
        self.reduce_only || self.spares_closing
    }
}

/// Of how many gateways a record says what it has heard of them. Of more, those that were led last: a halt that was asked
/// for at one of the others and is over can come back, if its gateway died before it had noted that it was written.
pub const MAX_HEARD: usize = 24;

/// The halts of one target that were ever taken into its record, ended ones included: of each gateway that was asked the
/// latest, as its epoch and a number within that. Who finds its own halt among them need not write it, whatever has
/// become of it since.
///
/// On the wire: `[["ctp1",7,3]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Name, u64, u64)>", into = "Vec<(Name, u64, u64)>")]
pub struct Heard(BTreeMap<Name, (u64, u64)>);

impl From<Vec<(Name, u64, u64)>> for Heard {
    fn from(all: Vec<(Name, u64, u64)>) -> Heard {
        Heard(all.into_iter().map(|(gateway, epoch, n)| (gateway, (epoch, n))).collect())
    }
}

impl From<Heard> for Vec<(Name, u64, u64)> {
    fn from(heard: Heard) -> Vec<(Name, u64, u64)> {
        heard.0.into_iter().map(|(gateway, (epoch, n))| (gateway, epoch, n)).collect()
    }
}

impl Heard {
    /// One halt: the `n`th that a gateway was asked for in this epoch.
    #[must_use]
    pub fn one(gateway: impl Into<Name>, epoch: u64, n: u64) -> Heard {
        Heard(BTreeMap::from([(gateway.into(), (epoch, n))]))
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of the other's halts are among these. Of one that says nothing that is not known.
    #[must_use]
    pub fn covers(&self, other: &Heard) -> bool {
        !other.is_empty() && other.0.iter().all(|(gateway, n)| self.0.get(gateway).is_some_and(|heard| heard >= n))
    }

    /// Whether some of the other's halts are certainly not among these: of what was left out for want of room nobody knows.
    #[must_use]
    pub fn lacks(&self, other: &Heard) -> bool {
        !self.is_empty() && self.0.len() < MAX_HEARD && !other.is_empty() && !self.covers(other)
    }

    /// Both.
    #[must_use]
    pub fn and(&self, other: &Heard) -> Heard {
        let mut all = self.0.clone();
        for (gateway, n) in &other.0 {
            let heard = all.entry(gateway.clone()).or_default();
            *heard = (*heard).max(*n);
        }
        while all.len() > MAX_HEARD {
            // Epochs are revisions of one bucket, so that the lowest is the leader of longest ago.
            let Some(oldest) = all.iter().min_by_key(|(_, n)| **n).map(|(gateway, _)| gateway.clone()) else { break };
            all.remove(&oldest);
        }
        Heard(all)
    }
}

/// What the bucket holds of a target. That a record is missing means nothing: a bucket may be wiped, and a halt ends
/// only with a record that says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HaltRecord {
    /// It is halted.
    Halted(HaltEntry),
    /// Every halt of it that began before is over.
    Resumed(Resumed),
}

/// The end of a target's halt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// What takes new orders again.
    #[serde(flatten)]
    pub target: HaltTarget,
    /// When, always later than the halt that it ends.
    #[serde(with = "crate::codec::instant")]
    pub at: Timestamp,
    /// The halts that it ended, and those that were over before; an earlier version's record does not say.
    #[serde(default, skip_serializing_if = "Heard::is_empty")]
    pub heard: Heard,
}

impl HaltRecord {
    /// What it is about.
    #[must_use]
    pub fn target(&self) -> &HaltTarget {
        match self {
            HaltRecord::Halted(entry) => &entry.target,
            HaltRecord::Resumed(resumed) => &resumed.target,
        }
    }

    /// The halts that went into it, or were ended by it.
    #[must_use]
    pub fn heard(&self) -> &Heard {
        match self {
            HaltRecord::Halted(entry) => &entry.heard,
            HaltRecord::Resumed(resumed) => &resumed.heard,
        }
    }

    /// Of two records of a target the later one stands.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            HaltRecord::Halted(entry) => entry.since,
            HaltRecord::Resumed(resumed) => resumed.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_are_legal_in_a_bucket() {
        for (scope, name) in [
            (HaltScope::All, ""),
            (HaltScope::Gateway, "ctp1"),
            (HaltScope::Account, "104 233.x"),
            (HaltScope::Owner, "STRAT_A"),
            (HaltScope::Owner, "策略=%"),
            (HaltScope::Owner, ""),
        ] {
            let target = HaltTarget::new(scope, name);
            let key = target.key();
            let legal = |b: u8| b.is_ascii_alphanumeric() || b"-/_=.".contains(&b);
            assert!(key.bytes().all(legal) && !key.ends_with('.'), "{key}");
            assert_eq!(HaltTarget::of_key(&key), target, "{key}");
        }
    }

    #[test]
    fn a_key_of_another_version_stands_for_itself() {
        for key in ["desk.north", "owner", "owner.=", "owner.=4", "nonsense", "owner.a.b"] {
            let target = HaltTarget::of_key(key);
            if key == "owner.=" {
                assert_eq!(target, HaltTarget::new(HaltScope::Owner, ""));
            } else {
                assert_eq!((target.scope, target.key().as_str()), (HaltScope::Unknown, key));
            }
        }
    }

    #[test]
    fn what_was_heard_of_is_a_gateways_latest() {
        let (one, two) = (Heard::one("sim1", 7, 2), Heard::one("sim2", 3, 9));
        let both = one.and(&two);
        assert!(both.covers(&one) && both.covers(&two) && both.covers(&both));
        assert!(!one.covers(&both) && !one.covers(&two));
        assert!(both.covers(&Heard::one("sim1", 7, 1)) && both.covers(&Heard::one("sim1", 6, 900)));
        assert!(!both.covers(&Heard::one("sim1", 7, 3)) && !both.covers(&Heard::one("sim1", 8, 1)));
        assert!(!both.covers(&Heard::default()), "an earlier version's halt may be any");
        assert_eq!(both.and(&Heard::one("sim1", 6, 900)), both);
    }

    #[test]
    fn what_was_heard_of_has_a_bound() {
        let of = |n: usize| Heard::one(format!("gateway{n}"), n as u64, 1);
        let all = (0..MAX_HEARD + 3).map(of).fold(Heard::default(), |all, one| all.and(&one));
        assert_eq!(all.0.len(), MAX_HEARD);
        assert!(all.covers(&of(3)) && !all.covers(&of(2)), "the oldest leaders are left out");
    }

    proptest::proptest! {
        #[test]
        fn every_owner_has_a_key_of_its_own(name: String) {
            let target = HaltTarget::new(HaltScope::Owner, name);
            proptest::prop_assert_eq!(HaltTarget::of_key(&target.key()), target);
        }

        #[test]
        fn no_key_is_a_panic(key: String) {
            let _ = HaltTarget::of_key(&key).key();
        }
    }
}
