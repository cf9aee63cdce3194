//! What is wrong with a configuration file, said with file, line and key, and with what to write instead.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub origin: String,
    /// Line, from 1, where there is one to name.
    pub line: Option<usize>,
    /// The key, as `broker.port` or `gateways[0].name`, where there is one to name.
    pub key: Option<String>,
    /// What is wrong, and what to write.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl ConfigError {
    pub(super) fn unreadable(origin: &str, error: &std::io::Error) -> Self {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such file: copy deploy/sim.toml to begin with, or name another with --config".to_owned()
            }
            std::io::ErrorKind::InvalidData => "is not UTF-8 text: save it as UTF-8".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        ConfigError { origin: origin.to_owned(), line: None, key: None, message }
    }
}

/// A file's text and where each of its keys stands.
pub(super) struct Document<'a> {
    origin: &'a str,
    text: &'a str,
    entries: Vec<Entry>,
}

struct Entry {
    path: Vec<String>,
    key: Range<usize>,
    value: Range<usize>,
}

impl<'a> Document<'a> {
    /// Finds the keys.
    ///
    /// # Errors
    /// If the text is no TOML.
    pub(super) fn new(text: &'a str, origin: &'a str) -> Result<Self, ConfigError> {
        let mut document = Document { origin, text, entries: Vec::new() };
        match DeTable::parse(text) {
            Ok(table) => {
                note_keys(table.get_ref(), &mut Vec::new(), &mut document.entries);
                Ok(document)
            }
            Err(error) => Err(document.explain(&error)),
        }
    }

    /// An error at this key; list items are named by their number, from 0.
    pub(super) fn complain(&self, path: &[&str], message: &str) -> ConfigError {
        // A key that is missing is complained about where its table begins.
        let line = (1..=path.len())
            .rev()
            .find_map(|depth| self.entries.iter().find(|e| e.path == path[..depth]))
            .map(|entry| self.line(entry.key.start));
        self.error(line, Some(shown(path)), message.to_owned())
    }

    /// The parser's own error, in words for whoever wrote the file.
    pub(super) fn explain(&self, error: &toml::de::Error) -> ConfigError {
        let mut at = error.span().map(|span| span.start);
        let mut entry = at.and_then(|at| self.entry_at(at));
        // Of a section that has a `kind`, serde only knows where the section is.
        let field = error.message().strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        if let (Some(section), Some(field)) = (entry, field)
            && let Some(inner) = self.entries.iter().find(|e| {
                e.path.len() == section.path.len() + 1
                    && e.path.starts_with(&section.path)
                    && e.path.ends_with(&[field.to_owned()])
            })
        {
            at = Some(inner.key.start);
            entry = Some(inner);
        }
        let key = entry.map(|entry| shown(&entry.path));
        self.error(at.map(|at| self.line(at)), key, in_plain_words(error.message()))
    }

    fn error(&self, line: Option<usize>, key: Option<String>, message: String) -> ConfigError {
        ConfigError { origin: self.origin.to_owned(), line, key, message }
    }

    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|b| *b == b'\n').count() + 1
    }

    /// The innermost key whose name or value is there.
    fn entry_at(&self, at: usize) -> Option<&Entry> {
        self.entries.iter().filter(|e| e.key.contains(&at) || e.value.contains(&at)).max_by_key(|e| e.path.len())
    }
}

fn note_keys(table: &DeTable<'_>, path: &mut Vec<String>, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        entries.push(Entry { path: path.clone(), key: key.span(), value: value.span() });
        match value.get_ref() {
            DeValue::Table(inner) => note_keys(inner, path, entries),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    entries.push(Entry { path: path.clone(), key: item.span(), value: item.span() });
                    if let DeValue::Table(inner) = item.get_ref() {
                        note_keys(inner, path, entries);
                    }
                    path.pop();
                }
            }
            _ => {}
        }
        path.pop();
    }
}

/// `broker.port`, `gateways[0].name`.
fn shown<S: AsRef<str>>(path: &[S]) -> String {
    let mut out = String::new();
    for part in path.iter().map(AsRef::as_ref) {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            out.push_str(&format!("[{part}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(part);
        }
    }
    out
}

/// Serde speaks of fields, variants and Rust's types; a configuration has keys, values and lists.
fn in_plain_words(message: &str) -> String {
    let message = message.trim();
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown("key", rest);
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return unknown("value", rest);
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("the key {name} is missing here");
    }
    let Some((found, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
    let wanted = match expected {
        "a string" | "string" | "path string" => "a text in quotes",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list, [..., ...]",
        other if other.starts_with("struct ") || other == "a map" => "a section of keys",
        _ => return message.to_owned(),
    };
    format!("found {found}, write {wanted}")
}

/// From serde's "`prot`, expected one of `port`, `server`".
fn unknown(what: &str, rest: &str) -> String {
    let mut names = rest.split('`').skip(1).step_by(2);
    let found = names.next().unwrap_or_default();
    let known: Vec<&str> = names.collect();
    match nearest(found, known.iter().copied()) {
        Some(meant) => format!("unknown {what} `{found}`; did you mean `{meant}`? Known here: {}", known.join(", ")),
        None if known.is_empty() => format!("unknown {what} `{found}`: nothing may be written here"),
        None => format!("unknown {what} `{found}`; known here: {}", known.join(", ")),
    }
}

/// The name that a misspelt one was probably meant to be.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&found, &name.to_lowercase()), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.chars().count().min(found.chars().count()) / 4)
        .map(|(_, name)| name)
}
