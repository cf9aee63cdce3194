//! Standard output: tables and lines for people, one object a line for programs.

use std::io::{BufWriter, Stdout, Write};

use serde::Serialize;

use crate::exit::Failure;
use crate::table::{Cell, Column, Table, stream_header, stream_line};

/// Where a command prints, and in which form.
#[derive(Debug)]
pub struct Out {
    writer: BufWriter<Stdout>,
    json: bool,
    colored: bool,
    /// Columns whose heading was printed last, so that a stream has one heading.
    heading: Option<&'static str>,
}

impl Out {
    /// Standard output in JSON or for people.
    #[must_use]
    pub fn new(json: bool, colored: bool) -> Self {
        Out { writer: BufWriter::new(std::io::stdout()), json, colored, heading: None }
    }

    /// Whether the output is for programs.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a whole list: a table, or one object a line; if it is empty, a sentence on standard error.
    ///
    /// # Errors
    /// If the output cannot be written, as all functions here.
    pub fn list<T: Serialize>(
        &mut self,
        columns: &'static [Column],
        items: &[T],
        row: impl Fn(&T) -> Vec<Cell>,
        empty: &str,
    ) -> Result<(), Failure> {
        if items.is_empty() {
            note(empty);
        } else if self.json {
            for item in items {
                self.object(item)?;
            }
        } else {
            let mut table = Table::new(columns);
            for item in items {
                table.push(row(item));
            }
            writeln!(self.writer, "{}", table.render(self.colored))?;
        }
        self.flush()
    }

    /// Prints one item of a stream, under a heading if it is the first.
    pub fn item<T: Serialize>(
        &mut self,
        columns: &'static [Column],
        item: &T,
        row: impl Fn(&T) -> Vec<Cell>,
    ) -> Result<(), Failure> {
        if self.json {
            return self.object(item);
        }
        let first = columns.first().map(|column| column.title());
        if self.heading != first {
            writeln!(self.writer, "{}", stream_header(columns, self.colored))?;
            self.heading = first;
        }
        Ok(writeln!(self.writer, "{}", stream_line(columns, &row(item), self.colored))?)
    }

    /// Prints a JSON object on a line of its own.
    pub fn object<T: Serialize>(&mut self, object: &T) -> Result<(), Failure> {
        let line = serde_json::to_string(object).map_err(|error| Failure::Local(format!("cannot print: {error}")))?;
        Ok(writeln!(self.writer, "{line}")?)
    }

    /// Prints a line of text.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.writer, "{text}")?)
    }

    /// A remark in the middle of a stream: where the lines are, for people; beside them, for programs.
    pub fn remark(&mut self, text: &str) -> Result<(), Failure> {
        if self.json {
            note(text);
            return Ok(());
        }
        self.line(&format!("-- {}", crate::format::one_line(text)))
    }

    /// Hands over what was printed; to be called before waiting for more.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.writer.flush()?)
    }
}

/// A remark that is no part of the output.
pub fn note(text: &str) {
    eprintln!("{}", crate::format::one_line(text));
}
