//! Which sessions' orders may still work at the venue although its complete snapshot does not list them.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

/// See the module. An order of a session that cannot live any more, and that is not listed, does not work and never
/// will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LivingSessions {
    /// Any: nothing follows from a session's name.
    #[default]
    Any,
    /// The snapshot's own session alone: the venue ends the older one at a newer login, or died with its process.
    Own,
    /// The snapshot's own, and every one but those of trading days before this one. Sessions are named after their
    /// trading day, `YYYYMMDD.` and more; one with another name may live. What an earlier day's sessions sent is listed
    /// no more, whatever became of it.
    SinceDay(NaiveDate),
}

impl LivingSessions {
    /// Those of the trading day that this session is named after, and of later ones; any, if it is named otherwise.
    #[must_use]
    pub fn since_day_of(session: &str) -> Self {
        day_of(session).map_or(LivingSessions::Any, LivingSessions::SinceDay)
    }

    /// Whether an order of this session may live, in the view of a snapshot of session `own`. `None`: it is not known
    /// which session's order it is.
    #[must_use]
    pub fn includes(self, own: &str, session: Option<&str>) -> bool {
        match self {
            LivingSessions::Any => true,
            LivingSessions::Own => session == Some(own),
            LivingSessions::SinceDay(day) => {
                session == Some(own) || session.and_then(day_of).is_none_or(|of| of >= day)
            }
        }
    }
}

/// Whether two sessions have the same name but for their trading days: one that outlived its day may be named both ways.
#[must_use]
pub fn differ_in_day_alone(one: &str, other: &str) -> bool {
    let without_day = |session: &str| day_of(session).and(session.split_once('.')).map(|(_, rest)| rest.to_owned());
    one != other && without_day(one).is_some_and(|rest| without_day(other) == Some(rest))
}

/// The trading day that a session is named after, if it is: eight digits and a point come first.
fn day_of(session: &str) -> Option<NaiveDate> {
    let (day, _) = session.split_once('.')?;
    let is_plain = day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| NaiveDate::parse_from_str(day, "%Y%m%d").ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "20261123.1.-7";

    #[test]
    fn a_trading_day_ends_the_sessions_of_the_days_before_it_alone() {
        let living = LivingSessions::since_day_of(OWN);
        assert_eq!(living, LivingSessions::SinceDay(NaiveDate::from_ymd_opt(2026, 11, 23).expect("a day")));
        for (session, lives) in [
            (OWN, true),
            ("20261123.1.9", true),
            ("20261120.1.-7", false),
            ("20251231.SHFE.77", false),
            // A front whose day lags behind another's ends nothing of the newer day.
            ("20261124.1.1", true),
            // None of these is named after a day.
            ("202611220.1.1", true),
            ("2026112.1.1", true),
            ("20261122", true),
            ("20261131.1.1", true),
            ("+2026112.1.1", true),
            ("\u{660}026112.1.1", true),
            ("7-1", true),
            ("", true),
        ] {
            assert_eq!(living.includes(OWN, Some(session)), lives, "{session}");
        }
        assert!(living.includes(OWN, None), "its session may be one of the day");
    }

    #[test]
    fn a_session_that_outlived_its_day_is_known_by_the_rest_of_its_name() {
        assert!(differ_in_day_alone(OWN, "20261124.1.-7"));
        for other in [OWN, "20261124.1.-8", "20261124", "7-1", "", "2026112.1.-7"] {
            assert!(!differ_in_day_alone(OWN, other), "{other}");
        }
        assert!(!differ_in_day_alone("x.1", "y.1"));
    }

    #[test]
    fn a_session_that_names_no_day_ends_nothing() {
        for own in ["", ".1.-7", "7-1", "202611230.1.-7", "20261323.1.-7", "20261123"] {
            assert_eq!(LivingSessions::since_day_of(own), LivingSessions::Any, "{own}");
        }
        assert!(LivingSessions::default().includes(OWN, Some("20261120.1.-7")));
        assert!(LivingSessions::default().includes(OWN, None));
    }

    #[test]
    fn where_a_login_ends_the_session_before_it_only_the_snapshots_own_lives() {
        let living = |session| LivingSessions::Own.includes("7-1", session);
        assert_eq!(
            [living(Some("7-1")), living(Some("7-2")), living(Some("7-10")), living(None)],
            [true, false, false, false]
        );
    }

    #[test]
    fn it_travels_between_processes() {
        let day = LivingSessions::since_day_of(OWN);
        for (living, text) in [
            (LivingSessions::Any, "\"any\""),
            (LivingSessions::Own, "\"own\""),
            (day, "{\"since_day\":\"2026-11-23\"}"),
        ] {
            assert_eq!(serde_json::to_string(&living).expect("encodes"), text);
            assert_eq!(serde_json::from_str::<LivingSessions>(text).expect("decodes"), living);
        }
    }
}
