//! Aligned columns. Widths are counted in terminal columns, so that wide characters keep the table straight.

use super::page::{Line, Page, Span, Style};

/// Between two columns.
const GAP: usize = 2;

/// Rows under one header, with lines of explanation below rows that need them.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Row>,
}

struct Row {
    cells: Vec<Span>,
    below: Page,
}

impl Table {
    /// A table with these columns, left-aligned.
    #[must_use]
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, and lines shown below it that take no part in the alignment.
    pub fn row(&mut self, cells: Vec<Span>, below: Page) {
        debug_assert_eq!(cells.len(), self.header.len(), "one cell for each column");
        self.rows.push(Row { cells, below });
    }

    /// The lines of the table.
    #[must_use]
    pub fn page(self) -> Page {
        let header: Vec<_> = self.header.iter().map(|title| Span::new(title, Style::Bold)).collect();
        let widths: Vec<_> = (0..header.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.cells.get(column));
                cells.chain(header.get(column)).map(Span::width).max().unwrap_or(0)
            })
            .collect();
        let mut page = Page::default();
        page.push(aligned(header, &widths));
        for row in self.rows {
            page.push(aligned(row.cells, &widths));
            page.append(row.below);
        }
        page
    }
}

fn aligned(cells: Vec<Span>, widths: &[usize]) -> Line {
    let mut line = Line::default();
    for (cell, width) in cells.into_iter().zip(widths) {
        let padding = " ".repeat(width - cell.width() + GAP);
        line.push(cell);
        line.push(Span::from(padding));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_keep_the_columns_straight() {
        let mut table = Table::new(&["NAME", "STATE", "SINCE"]);
        table.row(vec!["日本".into(), "✅ healthy".into(), "1s".into()], Page::default());
        let mut below = Page::default();
        below.push("  a line of any length is no column");
        table.row(vec!["weather".into(), "⚠️ degraded".into(), "2h 15m".into()], below);
        insta::assert_snapshot!(table.page().paint(false), @"
        NAME     STATE        SINCE
        日本     ✅ healthy   1s
        weather  ⚠️ degraded  2h 15m
          a line of any length is no column
        ");
    }
}
