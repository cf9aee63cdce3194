//! Which binary interface a library has, told from its version's text (`GetApiVersion`), and which versions are served.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Groups of versions that share one binary interface: the same slots for what is called and for what is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// 6.6.5 to 6.7.2, LocalCTP and TTS.
    A,
    /// 6.7.7 to 6.7.9.
    B,
    /// 6.7.10.
    C,
    /// 6.7.11.
    D,
    /// 6.7.13.
    E,
}

impl Family {
    /// All of them, the oldest first.
    pub const ALL: [Family; 5] = [Family::A, Family::B, Family::C, Family::D, Family::E];

    fn versions(self) -> &'static str {
        match self {
            Family::A => "6.6.5 to 6.7.2, LocalCTP, TTS",
            Family::B => "6.7.7 to 6.7.9",
            Family::C => "6.7.10",
            Family::D => "6.7.11",
            Family::E => "6.7.13",
        }
    }

    /// The family of a version whose slots and records were measured; `None` for every other one.
    #[must_use]
    pub fn of(version: Version) -> Option<Family> {
        match (version.major, version.minor, version.patch) {
            (6, 6, 5..) | (6, 7, 0..=2) => Some(Family::A),
            (6, 7, 7..=9) => Some(Family::B),
            (6, 7, 10) => Some(Family::C),
            (6, 7, 11) => Some(Family::D),
            (6, 7, 13) => Some(Family::E),
            _ => None,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// A text that names no family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no family of CTP's binary interface: write {families}", families = families())]
pub struct UnknownFamily(String);

impl FromStr for Family {
    type Err = UnknownFamily;

    fn from_str(text: &str) -> Result<Family, UnknownFamily> {
        Family::ALL.into_iter().find(|family| family.to_string() == text).ok_or_else(|| UnknownFamily(text.to_owned()))
    }
}

/// `"A" (6.6.5 to 6.7.2, LocalCTP, TTS), "B" (...)`.
fn families() -> String {
    let all: Vec<String> = Family::ALL.iter().map(|family| format!("\"{family}\" ({})", family.versions())).collect();
    all.join(", ")
}

/// The three numbers that CTP's interface goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 6.
    pub major: u16,
    /// 7.
    pub minor: u16,
    /// 11.
    pub patch: u16,
}

impl Version {
    /// The oldest whose records have the layouts that are read here.
    pub const OLDEST: Version = Version { major: 6, minor: 6, patch: 5 };
    /// The newest that was measured.
    pub const NEWEST: Version = Version { major: 6, minor: 7, patch: 13 };

    /// The numbers that a version's text begins with: `v6.7.2_20230913 10:48:10.4926`, TTS's `V6_7_2`. `None` if it
    /// begins otherwise.
    #[must_use]
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.trim();
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let mut numbers = text.splitn(3, ['.', '_']);
        let (major, minor, rest) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        Some(Version { major: number(major)?, minor: number(minor)?, patch: number(&rest[..end])? })
    }
}

/// Digits alone: `parse` would take a sign.
fn number(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why no family could be chosen for a library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// Its records have other layouts; no override helps.
    #[error(
        "{} is CTP {version} (it says {text:?}), older than {}: its records are laid out otherwise. Ask the broker for a \
         version from {} to {}",
        path.display(), Version::OLDEST, Version::OLDEST, Version::NEWEST
    )]
    TooOld {
        /// The library.
        path: PathBuf,
        /// What it says.
        text: String,
        /// The numbers in it.
        version: Version,
    },
    /// A version that nobody measured.
    #[error(
        "{} is CTP {version} (it says {text:?}), which is not known here: a wrong guess would misroute what it says. Use a \
         known version, or name the family that its binary interface has with `abi`: {}",
        path.display(), families()
    )]
    Unknown {
        /// The library.
        path: PathBuf,
        /// What it says.
        text: String,
        /// The numbers in it.
        version: Version,
    },
    /// It tells no version.
    #[error(
        "{} does not tell its CTP version ({}): name the family that its binary interface has with `abi`: {}",
        path.display(), said(text), families()
    )]
    Untold {
        /// The library.
        path: PathBuf,
        /// What it says; `None` if it has no `GetApiVersion`.
        text: Option<String>,
    },
}

fn said(text: &Option<String>) -> String {
    text.as_ref().map_or_else(|| "it has no GetApiVersion".to_owned(), |text| format!("it says {text:?}"))
}

/// The family of the library at `path` that says `text`. `named` is what the configuration says: it wins over the
/// version, and the slots are verified all the same; it does not help a version whose records are other ones.
///
/// # Errors
/// If the version is too old, or it is not known and nothing was named.
pub fn choose(path: &Path, text: Option<&str>, named: Option<Family>) -> Result<Family, Unserved> {
    let version = text.and_then(Version::parse);
    if let (Some(text), Some(version)) = (text, version)
        && version < Version::OLDEST
    {
        return Err(Unserved::TooOld { path: path.to_owned(), text: text.to_owned(), version });
    }
    if let Some(named) = named {
        return Ok(named);
    }
    match (text, version) {
        // LocalCTP tells its own version, not that of the headers it was built with: 6.7.0 or 6.7.2.
        (Some(text), _) if text.starts_with("LocalCTP") => Ok(Family::A),
        (Some(text), Some(version)) => Family::of(version).ok_or_else(|| Unserved::Unknown {
            path: path.to_owned(),
            text: text.to_owned(),
            version,
        }),
        (text, _) => Err(Unserved::Untold { path: path.to_owned(), text: text.map(str::to_owned) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(text: &str) -> Result<Family, Unserved> {
        choose(Path::new("/opt/ctp/lib.so"), Some(text), None)
    }

    #[test]
    fn every_measured_version_has_its_family() {
        for (text, family) in [
            ("v6.6.5_20210924 10:00:00", Family::A),
            ("v6.6.9_20220914  9:57:19.2466         ", Family::A),
            ("v6.7.0_20230209 14:41:01.5000", Family::A),
            ("v6.7.2_20230913 10:48:10.4926", Family::A),
            ("V6.7.2", Family::A),
            ("6.7.2", Family::A),
            // TTS: its market data library, its trader library.
            ("V6_6_9", Family::A),
            ("V6_7_2", Family::A),
            ("LocalCTP V1.0.0 By QiuShui(Aura) QQ1005018695", Family::A),
            ("v6.7.7_20240607 15:51:36.7347", Family::B),
            ("v6.7.8_20240918 14:34:34.8082", Family::B),
            ("v6.7.9_20241224 10:22:26.8774", Family::B),
            ("v6.7.10_20250422 16:38:54.9994", Family::C),
            ("v6.7.11_20250617 16:22:00.10369", Family::D),
            ("V6.7.11_P1 20250714", Family::D),
            ("v6.7.13_20260225 14:16:30.12079", Family::E),
        ] {
            assert_eq!(chosen(text), Ok(family), "{text}");
        }
    }

    #[test]
    fn a_version_that_nobody_measured_is_refused_and_can_be_overridden() {
        for text in ["v6.8.0", "v6.7.14", "v6.7.12", "v6.7.3", "v6.7.6", "v7.0.0", "v6.70.0"] {
            let error = chosen(text).expect_err(text);
            assert!(matches!(error, Unserved::Unknown { .. }), "{text}: {error}");
            assert_eq!(choose(Path::new("l"), Some(text), Some(Family::E)), Ok(Family::E));
        }
        assert_eq!(
            chosen("v6.8.0_20270101").expect_err("unknown").to_string(),
            "/opt/ctp/lib.so is CTP 6.8.0 (it says \"v6.8.0_20270101\"), which is not known here: a wrong guess would \
             misroute what it says. Use a known version, or name the family that its binary interface has with `abi`: \
             \"A\" (6.6.5 to 6.7.2, LocalCTP, TTS), \"B\" (6.7.7 to 6.7.9), \"C\" (6.7.10), \"D\" (6.7.11), \
             \"E\" (6.7.13)"
        );
    }

    #[test]
    fn no_override_helps_a_version_with_other_records() {
        for text in ["v6.3.19_P1_20200106", "v6.6.4", "v6.5.1", "v1.6.6", "v5.9.9"] {
            for named in [None, Some(Family::A)] {
                let error = choose(Path::new("/opt/ctp/lib.so"), Some(text), named).expect_err(text);
                assert!(matches!(error, Unserved::TooOld { .. }), "{text}: {error}");
            }
        }
        assert_eq!(
            chosen("v6.3.19_P1").expect_err("too old").to_string(),
            "/opt/ctp/lib.so is CTP 6.3.19 (it says \"v6.3.19_P1\"), older than 6.6.5: its records are laid out \
             otherwise. Ask the broker for a version from 6.6.5 to 6.7.13"
        );
    }

    #[test]
    fn a_library_that_does_not_tell_its_version_needs_an_override() {
        for text in [
            "",
            "v",
            "6.7",
            "v6.7_20230913",
            "v6.7.",
            "v6..7",
            "v6.-7.2",
            "v6.+7.2",
            "release of today",
            "fake 6.7.2",
            "v6.7.99999",
        ] {
            let error = chosen(text).expect_err(text);
            assert!(matches!(error, Unserved::Untold { .. }), "{text}: {error}");
            assert_eq!(choose(Path::new("l"), Some(text), Some(Family::C)), Ok(Family::C));
        }
        let error = choose(Path::new("/opt/ctp/lib.so"), None, None).expect_err("nothing is told").to_string();
        assert!(
            error.starts_with(
                "/opt/ctp/lib.so does not tell its CTP version (it has no GetApiVersion): name the family that its \
                 binary interface has with `abi`: \"A\" (6.6.5"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_family_is_written_as_its_letter() {
        for family in Family::ALL {
            assert_eq!(family.to_string().parse(), Ok(family));
        }
        let error = "a".parse::<Family>().expect_err("no family").to_string();
        assert!(error.starts_with("\"a\" is no family of CTP's binary interface: write \"A\" (6.6.5"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_of_a_version_panics(text in ".*") {
            let _ = choose(Path::new("l"), Some(&text), None);
        }
    }
}
