//! `heatmap`: text for the terminal at hand, or one of the other forms; or drawn while a profile runs.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use engine::{ExitClass, ProfileRequest};
use report::{HeatMap, TextStyle};

use crate::args::Format;
use crate::context::{Context, exit, interruptible};
use crate::draw::time as written;
use crate::tui::{HeatView, Live};

/// For as long as nobody ends it.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// The most that a program may be slowed down, as of `profile`.
const SLOWDOWN_PERMILLE_MAX: u32 = 10;

/// Profiles a program and draws what was seen so far.
pub(crate) fn live(context: &Context, target: String, time: Option<Duration>) -> ExitCode {
    if context.format != Format::Text {
        eprintln!("rekindle: failed to choose a form: --live draws on the terminal");
        return exit(ExitClass::Usage);
    }
    if let Err(code) = interruptible() {
        return code;
    }
    let request = ProfileRequest {
        target,
        time: time.unwrap_or(A_YEAR),
        output: None,
        slowdown_permille_max: SLOWDOWN_PERMILLE_MAX,
        exact: false,
        alternate: None,
    };
    let live = Live::<HeatView>::default();
    live.change(|view| view.target.clone_from(&request.target));
    let show = |map: HeatMap| live.change(|view| view.map = Some(Arc::new(map)));
    let result = live.during("--live", || {
        engine::heatmap_live(&context.settings, &request, &context.registry, &show)
    });
    match result {
        Ok(Ok(report)) => {
            let watched = written(report.watched_us);
            let end = if report.end == "asked" { "" } else { ", then the " };
            let why = if report.end == "asked" { "" } else { report.end };
            eprintln!(
                "rekindle: process {} was watched for {watched}{end}{why}; what was seen was added \
                 to its heat",
                report.pid
            );
            exit(ExitClass::Done)
        }
        Ok(Err(error)) => context.fail(&error),
        Err(error) => {
            eprintln!("rekindle: failed to show the heat map: {error}");
            exit(ExitClass::Usage)
        }
    }
}

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
