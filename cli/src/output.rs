//! Tables, JSON and notes.

use std::io::{self, Write};

use agentwrit_protocol::one_line::one_line;
use serde::Serialize;

/// The two streams and the form of results.
pub(crate) struct Output<'a> {
    json: bool,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl<'a> Output<'a> {
    pub(crate) fn new(json: bool, out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { json, out, err }
    }

    /// Prints `value` when JSON is wanted, else the table that `rows` makes.
    pub(crate) fn result<T: Serialize, const N: usize>(
        &mut self,
        value: &T,
        header: [&str; N],
        rows: impl FnOnce(&T) -> Vec<[String; N]>,
    ) -> io::Result<()> {
        if self.json {
            return self.json(value);
        }
        let text = table(header, &rows(value));
        self.out.write_all(text.as_bytes())
    }

    /// Prints `value` when JSON is wanted, else a table of names and values.
    pub(crate) fn fields<T: Serialize, R>(&mut self, value: &T, rows: impl FnOnce(&T) -> R) -> io::Result<()>
    where
        R: IntoIterator<Item = (&'static str, String)>,
    {
        self.result(value, ["FIELD", "VALUE"], |value| {
            let row = |(name, value): (&str, String)| [name.to_owned(), value];
            rows(value).into_iter().map(row).collect()
        })
    }

    /// Prints `value` when JSON is wanted, else nothing.
    pub(crate) fn json_only<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        if self.json { self.json(value) } else { Ok(()) }
    }

    /// Prints `value` when JSON is wanted, else the lines.
    pub(crate) fn lines<T: Serialize>(&mut self, value: &T, lines: &[String]) -> io::Result<()> {
        if self.json {
            return self.json(value);
        }
        lines.iter().try_for_each(|line| writeln!(self.out, "{line}"))
    }

    /// Writes a note: what isn't the result.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.err, "{text}")
    }

    /// Prints text as it is.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    fn json<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        writeln!(self.out)
    }
}

/// Columns as wide as their widest cell and two spaces apart; nothing at the ends of lines.
fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let header = header.map(str::to_owned);
    let rows: Vec<[String; N]> = std::iter::once(&header).chain(rows).map(cells).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let padded: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Cells without control characters, which would break the table or steer the terminal.
fn cells<const N: usize>(row: &[String; N]) -> [String; N] {
    row.clone().map(|cell| one_line(&cell))
}

/// `text`, or its first 57 characters and `...` when it has more than 60.
pub(crate) fn cut(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(57).collect();
    cut.push_str("...");
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let rows = [
            ["evt-000001".to_owned(), "a".to_owned()],
            ["x".to_owned(), "é\x1b[2J\n".to_owned()],
        ];
        assert_eq!(
            table(["ID", "AGENT ID"], &rows),
            "ID          AGENT ID\nevt-000001  a\nx           é [2J\n"
        );
    }

    #[test]
    fn long_details_are_cut_to_sixty() {
        assert_eq!(cut(&"x".repeat(60)), "x".repeat(60));
        assert_eq!(cut(&"é".repeat(61)), format!("{}...", "é".repeat(57)));
    }
}
