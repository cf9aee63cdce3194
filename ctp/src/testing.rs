//! For the tests of this crate and of those that use it: depth records built field by field, and where the fake libraries
//! are.

use std::path::{Path, PathBuf};

use crate::depth::{Depth, FIELDS, Field, Kind};

/// A library that cargo built beside a test: `target/debug/deps/NAME-...` has it two levels up. One that is not there is
/// a panic that says how to build it.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program's path");
    let path = this.ancestors().nth(2).unwrap_or(Path::new("")).join(format!("lib{name}.so"));
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build -p ctp-fake-trader -p ctp-fake-md` (with --release if the test has it), or \
         `cargo xtask test`, which does",
        path.display()
    );
    path
}

/// A depth record in the making. A field that does not exist, or holds something else, is a panic: a test is wrong.
#[derive(Debug, Clone)]
pub struct DepthBytes(Box<[u8; Depth::LEN]>);

impl DepthBytes {
    /// As SHFE sends what it has not: texts empty, whole numbers 0, every other number `DBL_MAX`.
    #[must_use]
    pub fn new() -> DepthBytes {
        let mut bytes = DepthBytes(Box::new([0; Depth::LEN]));
        for field in FIELDS.iter().filter(|field| field.kind == Kind::Double) {
            bytes.double(field.name, f64::MAX);
        }
        bytes
    }

    /// Sets a text, cut where the field ends.
    pub fn text(&mut self, name: &str, value: &str) -> &mut DepthBytes {
        let field = find(name, Kind::Text);
        let place = &mut self.0[field.at..field.at + field.len];
        place.fill(0);
        // The last byte stays NUL, as in C.
        let len = value.len().min(field.len - 1);
        place[..len].copy_from_slice(&value.as_bytes()[..len]);
        self
    }

    /// Sets a whole number.
    pub fn int(&mut self, name: &str, value: i32) -> &mut DepthBytes {
        let field = find(name, Kind::Int);
        self.0[field.at..field.at + field.len].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// Sets a number.
    pub fn double(&mut self, name: &str, value: f64) -> &mut DepthBytes {
        let field = find(name, Kind::Double);
        self.0[field.at..field.at + field.len].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// Sets a field by its text, as recordings have it: `N/A` or nothing is what CTP does not send.
    pub fn set(&mut self, name: &str, value: &str) -> &mut DepthBytes {
        let field = FIELDS.iter().find(|field| field.name == name);
        let is_none = matches!(value, "" | "N/A");
        match field.map(|field| field.kind) {
            Some(Kind::Double) if is_none => self.double(name, f64::MAX),
            Some(Kind::Double) => self.double(name, value.parse().expect("a number")),
            Some(Kind::Int) if is_none => self.int(name, 0),
            Some(Kind::Int) => self.int(name, value.parse().expect("a whole number")),
            _ => self.text(name, value),
        }
    }

    /// The record's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; Depth::LEN] {
        &self.0
    }

    /// The record as the binding hands it on.
    #[must_use]
    pub fn depth(&self) -> Depth<'_> {
        Depth::new(&self.0)
    }
}

impl Default for DepthBytes {
    fn default() -> DepthBytes {
        DepthBytes::new()
    }
}

fn find(name: &str, kind: Kind) -> Field {
    let found = FIELDS.iter().find(|field| field.name == name && field.kind == kind);
    *found.unwrap_or_else(|| panic!("a depth record has no {kind:?} `{name}`"))
}
