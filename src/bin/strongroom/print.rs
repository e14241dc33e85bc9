//! Rows as a table, CSV or JSON.

use std::fmt::Write as _;
use std::io::{self, Write};

use strongroom::rusqlite::types::ValueRef;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Csv,
    Json,
}

/// So many rows say how wide the columns of a table are.
const LOOKED_AT: usize = 1000;

/// Prints the rows of one statement.
pub(crate) struct Printer<W> {
    form: Form,
    columns: Vec<String>,
    /// Rows of a table that wait for the widths of its columns.
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
    rows: u64,
    out: W,
}

impl<W: Write> Printer<W> {
    pub(crate) fn begin(form: Form, columns: Vec<String>, mut out: W) -> io::Result<Self> {
        match form {
            Form::Table => {}
            Form::Csv => writeln!(out, "{}", line(columns.iter().map(|name| csv_text(name))))?,
            Form::Json => write!(out, "[")?,
        }
        Ok(Self { form, columns, waiting: Vec::new(), widths: None, rows: 0, out })
    }

    pub(crate) fn row(&mut self, values: &[ValueRef<'_>]) -> io::Result<()> {
        self.rows += 1;
        match self.form {
            Form::Csv => writeln!(self.out, "{}", line(values.iter().map(|value| csv(*value)))),
            Form::Json => {
                let fields = self.columns.iter().zip(values);
                let fields = line(fields.map(|(name, value)| format!("{}:{}", json_text(name), json(*value))));
                write!(self.out, "{}\n{{{fields}}}", if self.rows == 1 { "" } else { "," })
            }
            Form::Table => {
                let cells: Vec<String> = values.iter().map(|value| cell(*value)).collect();
                if let Some(widths) = &self.widths {
                    return writeln!(self.out, "{}", padded(&cells, widths));
                }
                self.waiting.push(cells);
                if self.waiting.len() == LOOKED_AT { self.head() } else { Ok(()) }
            }
        }
    }

    pub(crate) fn end(mut self) -> io::Result<()> {
        match self.form {
            Form::Table if self.widths.is_none() => self.head()?,
            Form::Table | Form::Csv => {}
            Form::Json => writeln!(self.out, "{}]", if self.rows == 0 { "" } else { "\n" })?,
        }
        self.out.flush()
    }

    /// The names of the columns, and the rows that waited.
    fn head(&mut self) -> io::Result<()> {
        let length = |text: &String| text.chars().count();
        let mut widths: Vec<usize> = self.columns.iter().map(|name| shown(name).chars().count()).collect();
        for row in &self.waiting {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(length(cell));
            }
        }
        let names: Vec<String> = self.columns.iter().map(|name| shown(name)).collect();
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        for row in [names, rules].iter().chain(&self.waiting) {
            writeln!(self.out, "{}", padded(row, &widths))?;
        }
        self.waiting.clear();
        self.widths = Some(widths);
        Ok(())
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(",")
}

fn padded(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(line, "{cell:<width$}  ");
    }
    line.trim_end().to_owned()
}

/// A value in a table: on one line, without what would move the cursor.
fn cell(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Text(text) => shown(&String::from_utf8_lossy(text)),
        other => bare(other),
    }
}

fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Numbers and bytes look the same everywhere.
fn bare(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => real(number),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}

/// With a point or an exponent, so that it stays a float.
fn real(number: f64) -> String {
    format!("{number:?}")
}

/// As RFC 4180 has it. NULL is nothing, an empty text is two quotes.
fn csv(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(text) => csv_text(&String::from_utf8_lossy(text)),
        other => bare(other),
    }
}

fn csv_text(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Bytes are hex digits. What is no number in JSON is null.
fn json(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".into(),
        ValueRef::Real(number) if !number.is_finite() => "null".into(),
        ValueRef::Integer(_) | ValueRef::Real(_) => bare(value),
        ValueRef::Text(_) | ValueRef::Blob(_) => json_text(&bare(value)),
    }
}

fn json_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
