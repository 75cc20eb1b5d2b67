//! Heat maps and plans for people and scripts: text for a terminal, one self-contained HTML file,
//! JSON and CSV.
//!
//! Values in, text out: nothing here reads a clock, a file or the terminal. Read next:
//! [`HeatMap`], which every output draws.
#![forbid(unsafe_code)]

mod data;
mod html;
mod level;
mod map;
mod names;
mod pack;
mod plan_view;
mod ranges;
mod screen;
mod sites;
mod text;

pub use data::{HEATMAP_SCHEMA, heatmap_csv, heatmap_json};
pub use html::heatmap_html;
pub use map::{CodeSite, Detail, HeatMap, HotRange, Mapping, Moment, NamedRange, Run};
pub use plan_view::{PLAN_SCHEMA, plan_csv, plan_json, plan_text};
pub use screen::heatmap_screen;
pub use text::{TextStyle, heatmap_text};
