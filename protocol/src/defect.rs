//! Defects that can be planted, to prove that the simulation and the chaos runner would find them. Only a build with
//! the feature `planted-defects` has any; in every other build the question is answered `false` at compile time.

#[cfg(all(feature = "planted-defects", not(debug_assertions)))]
compile_error!("planted-defects is for judging the judges: a release build must never have it; leave out the feature");

/// What can be broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Defect {
    /// Orders leave for the venue before the journal has them.
    Gate = 1,
    /// A leader that was replaced goes on: neither its lease nor the journal's chain stops it.
    Fence = 2,
    /// The table of order ids is not looked at.
    Ids = 3,
    /// Intents that a snapshot lacks are rejected without waiting for what may still be under way.
    Reconcile = 4,
    /// Trades are known by the venue's trade id alone.
    Trades = 5,
    /// Some orders are answered for, and never leave for the venue: each whose number there is a multiple of
    /// [`LOSES_EVERY`].
    Submit = 6,
}

/// Which orders [`Defect::Submit`] loses.
pub const LOSES_EVERY: u64 = 8;

impl Defect {
    /// Every defect.
    pub const ALL: [Defect; 6] =
        [Defect::Gate, Defect::Fence, Defect::Ids, Defect::Reconcile, Defect::Trades, Defect::Submit];

    /// What commands and the environment variable call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Defect::Gate => "gate",
            Defect::Fence => "fence",
            Defect::Ids => "ids",
            Defect::Reconcile => "reconcile",
            Defect::Trades => "trades",
            Defect::Submit => "submit",
        }
    }
}

/// Whether this defect is planted in this process.
#[cfg(not(feature = "planted-defects"))]
#[must_use]
#[inline]
pub const fn is_planted(_: Defect) -> bool {
    false
}

/// The defect that is planted in this process.
#[must_use]
pub fn planted() -> Option<Defect> {
    Defect::ALL.into_iter().find(|defect| is_planted(*defect))
}

#[cfg(feature = "planted-defects")]
pub use planted::{is_planted, plant};

#[cfg(feature = "planted-defects")]
mod planted {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Defect;

    /// 0 for none. A process begins with what the environment variable `GATEMESH_DEFECT` names.
    static PLANTED: LazyLock<AtomicU8> = LazyLock::new(|| {
        let named = std::env::var("GATEMESH_DEFECT").unwrap_or_default();
        let defect = Defect::ALL.into_iter().find(|defect| defect.name() == named);
        assert!(defect.is_some() || named.is_empty(), "GATEMESH_DEFECT names no defect: {named}");
        AtomicU8::new(defect.map_or(0, |defect| defect as u8))
    });

    /// Whether this defect is planted in this process.
    #[must_use]
    pub fn is_planted(defect: Defect) -> bool {
        PLANTED.load(Ordering::Relaxed) == defect as u8
    }

    /// Plants a defect in the whole process, or takes out what is planted.
    pub fn plant(defect: Option<Defect>) {
        PLANTED.store(defect.map_or(0, |defect| defect as u8), Ordering::Relaxed);
    }
}
