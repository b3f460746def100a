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

    /// Leaves out columns of these titles, the first one first, until the rows are not wider than `columns`.
    pub fn fit(&mut self, columns: usize, dispensable: &[&str]) {
        for title in dispensable {
            let width: usize = self.widths().iter().map(|width| width + GAP).sum();
            if width <= columns + GAP {
                return;
            }
            if let Some(at) = self.header.iter().position(|one| one == title) {
                self.header.remove(at);
                self.rows.iter_mut().for_each(|row| drop(row.cells.remove(at)));
            }
        }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(column, title): (usize, &&str)| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(column));
            cells.map(Span::width).chain([Span::from(title).width()]).max().unwrap_or(0)
        };
        self.header.iter().enumerate().map(width).collect()
    }

    /// The lines of the table, in so many columns if there is a limit: what can be spared is left out as by [`Self::fit`],
    /// and lines that are too long still are broken.
    #[must_use]
    pub fn page_within(mut self, columns: Option<usize>, dispensable: &[&str]) -> Page {
        let Some(columns) = columns else { return self.page() };
        self.fit(columns, dispensable);
        let mut page = Page::default();
        let lines = self.page().into_lines().into_iter().flat_map(|line| line.broken(columns));
        lines.for_each(|line| page.push(line));
        page
    }

    /// The lines of the table.
    #[must_use]
    pub fn page(self) -> Page {
        let widths = self.widths();
        let header: Vec<_> = self.header.iter().map(|title| Span::new(title, Style::Bold)).collect();
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
    fn columns_are_left_out_one_by_one_until_it_fits() {
        let shown = |columns| {
            let mut table = Table::new(&["NAME", "WHY", "SINCE"]);
            table.row(vec!["weather".into(), "日本".into(), "1s".into()], Page::default());
            table.fit(columns, &["WHY", "SINCE"]);
            table.page().paint(false).lines().next().unwrap().to_owned()
        };
        assert_eq!(shown(20), "NAME     WHY   SINCE");
        assert_eq!(shown(19), "NAME     SINCE");
        assert_eq!(shown(13), "NAME");
        assert_eq!(shown(1), "NAME", "what must stay stays");
    }

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
