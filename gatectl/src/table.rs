//! Aligned columns: whole tables for lists, and single lines under one header for what streams.

use comfy_table::{Cell as ComfyCell, CellAlignment, Color, ContentArrangement, Table as ComfyTable};
use crossterm::style::{Color as AnsiColor, Stylize};

use crate::format::one_line;

/// A column's heading, side, and least width in a stream, where the widest value is not known.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    right: bool,
    width: usize,
}

impl Column {
    /// The heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.title
    }

    /// Whether it holds numbers, which stand right.
    #[must_use]
    pub const fn is_number(self) -> bool {
        self.right
    }

    /// Least width where the widest value is not known.
    #[must_use]
    pub const fn width(self) -> usize {
        self.width
    }
}

/// A column of texts.
pub const fn text(title: &'static str, width: usize) -> Column {
    Column { title, right: false, width }
}

/// A column of numbers.
pub const fn number(title: &'static str, width: usize) -> Column {
    Column { title, right: true, width }
}

/// What a value means, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    #[default]
    Plain,
    /// A price that rises, a profit.
    Up,
    /// A price that falls, a loss.
    Down,
    /// As it should be.
    Good,
    /// Needs somebody to act.
    Bad,
    /// On its way, or worth a look.
    Warn,
    /// Over and done with.
    Faint,
}

impl Tone {
    /// Up above zero, down below.
    #[must_use]
    pub fn of_sign(value: f64) -> Tone {
        if value > 0.0 {
            Tone::Up
        } else if value < 0.0 {
            Tone::Down
        } else {
            Tone::Plain
        }
    }
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A value with its meaning. Control characters become blanks.
    #[must_use]
    pub fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Cell { text: one_line(text.as_ref()), tone }
    }

    /// The value's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value's meaning.
    #[must_use]
    pub fn tone(&self) -> Tone {
        self.tone
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::toned(text, Tone::Plain)
    }
}

/// A whole table.
#[derive(Debug)]
pub struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(columns: &'static [Column]) -> Self {
        Table { columns, rows: Vec::new() }
    }

    /// Adds a row with one cell per column.
    pub fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len(), "a cell per column");
        self.rows.push(row);
    }

    /// The table's lines. Columns that are empty in every row are left out.
    #[must_use]
    pub fn render(&self, colored: bool) -> String {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|&i| self.rows.iter().any(|row| row.get(i).is_some_and(|cell| !cell.text.is_empty())))
            .collect();
        let mut table = ComfyTable::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if colored {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(shown.iter().map(|&i| {
            let cell = ComfyCell::new(self.columns[i].title).set_alignment(alignment(self.columns[i]));
            if colored { cell.add_attribute(comfy_table::Attribute::Bold) } else { cell }
        }));
        for row in &self.rows {
            table.add_row(shown.iter().map(|&i| {
                let cell = ComfyCell::new(&row[i].text).set_alignment(alignment(self.columns[i]));
                match comfy_color(row[i].tone) {
                    Some(color) if colored => cell.fg(color),
                    _ => cell,
                }
            }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }
}

fn alignment(column: Column) -> CellAlignment {
    if column.right { CellAlignment::Right } else { CellAlignment::Left }
}

fn comfy_color(tone: Tone) -> Option<Color> {
    match tone {
        Tone::Plain => None,
        Tone::Up | Tone::Good => Some(Color::Green),
        Tone::Down | Tone::Bad => Some(Color::Red),
        Tone::Warn => Some(Color::Yellow),
        Tone::Faint => Some(Color::DarkGrey),
    }
}

/// The heading of a stream.
#[must_use]
pub fn stream_header(columns: &[Column], colored: bool) -> String {
    let cells: Vec<_> = columns.iter().map(|column| Cell::from(column.title)).collect();
    let line = stream_line(columns, &cells, false);
    if colored { line.bold().to_string() } else { line }
}

/// One row of a stream. A value wider than its column pushes the rest to the right, rather than being cut.
#[must_use]
pub fn stream_line(columns: &[Column], cells: &[Cell], colored: bool) -> String {
    let mut line = String::new();
    for (column, cell) in columns.iter().zip(cells) {
        if !line.is_empty() {
            line.push_str("  ");
        }
        let width = column.width;
        let padded = if column.right { format!("{:>width$}", cell.text) } else { format!("{:<width$}", cell.text) };
        match comfy_color(cell.tone) {
            Some(_) if colored => line.push_str(&padded.with(ansi_color(cell.tone)).to_string()),
            _ => line.push_str(&padded),
        }
    }
    line.truncate(line.trim_end().len());
    line
}

fn ansi_color(tone: Tone) -> AnsiColor {
    match tone {
        Tone::Plain => AnsiColor::Reset,
        Tone::Up | Tone::Good => AnsiColor::Green,
        Tone::Down | Tone::Bad => AnsiColor::Red,
        Tone::Warn => AnsiColor::Yellow,
        Tone::Faint => AnsiColor::DarkGrey,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[text("NAME", 8), number("PRICE", 9), text("NOTE", 6)];

    fn table() -> Table {
        let mut table = Table::new(COLUMNS);
        table.push(vec!["rb2410".into(), "3500.0".into(), Cell::default()]);
        table.push(vec!["i".into(), Cell::toned("-12.5", Tone::Bad), Cell::default()]);
        table
    }

    #[test]
    fn numbers_stand_right_and_empty_columns_are_left_out() {
        assert_eq!(table().render(false), "NAME     PRICE\nrb2410  3500.0\ni        -12.5");
    }

    #[test]
    fn colours_come_only_when_asked_for() {
        assert!(!table().render(false).contains('\u{1b}'));
        assert!(table().render(true).contains("-12.5"));
        assert!(table().render(true).contains('\u{1b}'));
    }

    #[test]
    fn streams_keep_their_columns() {
        assert_eq!(stream_header(COLUMNS, false), "NAME          PRICE  NOTE");
        let row = [Cell::from("rb2410"), Cell::toned("3500.0", Tone::Good), Cell::default()];
        assert_eq!(stream_line(COLUMNS, &row, false), "rb2410       3500.0");
        assert!(stream_line(COLUMNS, &row, true).contains("\u{1b}[38;5;10m"));
        let wide = [Cell::from("a-very-long-name"), "1".into(), "x".into()];
        assert_eq!(stream_line(COLUMNS, &wide, false), "a-very-long-name          1  x");
    }
}
