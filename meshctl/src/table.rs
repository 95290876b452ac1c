//! Plain aligned columns: no frames, so that `awk` and eyes both work.
//!
//! Widths are counted in characters. Colour is added after padding and is never the only signal.

/// What a cell says about what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Warn,
    Bad,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

/// Header and rows. Empty cells are shown as `-`, so that the columns can be counted.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
    width: Option<usize>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&'static str; N]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new(), indent: 0, width: None }
    }

    pub(crate) fn indent(mut self, spaces: usize) -> Self {
        self.indent = spaces;
        self
    }

    /// Shortens the widest cells until every line fits.
    pub(crate) fn fit(mut self, width: usize) -> Self {
        self.width = Some(width);
        self
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.header.len(), "a cell for each column");
        self.rows.push(cells.into_iter().map(dash).collect());
    }

    /// Leaves out a column, where it says nothing in this answer.
    pub(crate) fn without(mut self, column: &str) -> Self {
        if let Some(at) = self.header.iter().position(|h| *h == column) {
            self.header.remove(at);
            for row in &mut self.rows {
                row.remove(at);
            }
        }
        self
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|h| h.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        if let Some(limit) = self.width {
            let gaps = self.indent + 2 * widths.len().saturating_sub(1);
            while widths.iter().sum::<usize>() + gaps > limit {
                let Some(widest) = widths.iter_mut().max() else { break };
                if *widest <= 4 {
                    break;
                }
                *widest -= 1;
            }
        }
        widths
    }

    /// The lines, each ended by a newline.
    pub(crate) fn render(&self, colour: bool) -> String {
        let widths = self.widths();
        let mut out = String::new();
        let header: Vec<Cell> = self.header.iter().map(|h| Cell::from(*h)).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = " ".repeat(self.indent);
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let text = shorten(&cell.text, *width);
                let padding = width - text.chars().count();
                line.push_str(&paint(&text, cell.tone, colour));
                if i + 1 < row.len() {
                    line.push_str(&" ".repeat(padding + 2));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

fn dash(mut cell: Cell) -> Cell {
    if cell.text.is_empty() {
        "-".clone_into(&mut cell.text);
    }
    cell
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Wraps a text in the tone's colour where colour is on.
pub(crate) fn paint(text: &str, tone: Tone, colour: bool) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Good => 32,
        Tone::Warn => 33,
        Tone::Bad => 31,
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "STATE", "NOTE"]);
        table.row(["cluster-b".into(), Cell::toned("Live", Tone::Good), "".into()]);
        table.row(["c".into(), "Withdrawn".into(), "a reason of some length".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_empty_cells_are_dashes() {
        assert_eq!(
            table().render(false),
            "NAME       STATE      NOTE\ncluster-b  Live       -\nc          Withdrawn  a reason of some length\n"
        );
    }

    #[test]
    fn a_table_fits_the_width_it_is_given() {
        let text = table().indent(2).fit(30).render(false);
        assert!(text.lines().all(|l| l.chars().count() <= 30), "{text}");
        assert!(text.contains('…'), "{text}");
    }

    #[test]
    fn colour_comes_only_when_asked_for_and_never_alone() {
        assert!(!table().render(false).contains('\x1b'));
        assert!(table().render(true).contains("\x1b[32mLive\x1b[0m"));
    }

    #[test]
    fn a_column_can_be_left_out() {
        assert_eq!(table().without("STATE").render(false).lines().next(), Some("NAME       NOTE"));
    }
}
