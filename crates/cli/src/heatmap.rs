//! `heatmap`: text for the terminal at hand, or one of the other forms.

use std::io::IsTerminal;
use std::path::Path;

use report::{HeatMap, TextStyle};

use crate::args::Format;

/// The map in the asked form.
pub(crate) fn render(map: &HeatMap, format: Format, output: Option<&Path>) -> String {
    match format {
        Format::Text => report::heatmap_text(map, &style(output.is_none())),
        Format::Html => report::heatmap_html(map),
        Format::Csv => report::heatmap_csv(map),
        Format::Json => report::heatmap_json(map).to_string() + "\n",
    }
}

/// What stdout can show: colour only on a terminal that wants it (`NO_COLOR`, `TERM`), characters
/// beyond ASCII only where the locale has them.
pub(crate) fn style(to_stdout: bool) -> TextStyle {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let stdout = std::io::stdout();
    let is_terminal = to_stdout && stdout.is_terminal();
    let size = rustix::termios::tcgetwinsize(&stdout).ok().filter(|_| is_terminal);
    let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    let asked = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    // The first of these that is set decides, as in setlocale(3).
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find(|name| is_set(name));
    let locale = locale.and_then(|name| std::env::var(name).ok()).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    TextStyle {
        columns: columns.or(asked).unwrap_or(100),
        color: is_terminal && !is_dumb && !is_set("NO_COLOR"),
        unicode: locale.contains("utf-8") || locale.contains("utf8"),
    }
}
