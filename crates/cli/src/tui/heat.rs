//! The heat map of a program while it is profiled.

use std::sync::Arc;

use console::{Style, truncate_str};
use report::{HeatMap, heatmap_screen};

use super::View;
use super::screen::Paper;

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeatView {
    /// Whose heat it is.
    pub(crate) target: String,
    /// The latest map; none before the first stretch of time is over.
    pub(crate) map: Option<Arc<HeatMap>>,
}

impl View for HeatView {
    fn lines(&self, paper: &Paper, _now_ns: u64) -> Vec<String> {
        let rows = paper.rows.saturating_sub(1);
        let mut lines = match &self.map {
            Some(map) => heatmap_screen(map, &paper.style, rows),
            None => vec![format!("process {} is watched; nothing is known yet", self.target)],
        };
        lines.resize(rows, String::new());
        let foot = "q or Ctrl-C ends it; the program runs on";
        lines.push(paper.paint(&Style::new().dim(), foot));
        let cut = |line: String| truncate_str(&line, paper.columns, "").into_owned();
        lines.into_iter().map(cut).collect()
    }
}

#[cfg(test)]
mod tests {
    use report::TextStyle;

    use super::*;

    #[test]
    fn it_fits_every_terminal() {
        let maps = [None, Some(Arc::new(HeatMap::default()))];
        for map in maps {
            let view = HeatView { target: "4711".to_owned(), map };
            for (columns, rows) in [(1, 1), (10, 3), (80, 24), (200, 60)] {
                for color in [false, true] {
                    let style = TextStyle { columns, color, unicode: true };
                    let lines = view.lines(&Paper { columns, rows, style }, 0);
                    assert_eq!(lines.len(), rows);
                    let width = |line: &String| console::measure_text_width(line);
                    assert!(lines.iter().all(|line| width(line) <= columns), "{lines:#?}");
                    let is_plain = lines.iter().all(|line| !line.contains('\u{1b}'));
                    assert!(color || is_plain, "{lines:#?}");
                }
            }
        }
    }
}
