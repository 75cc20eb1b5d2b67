//! The heat map on a screen: as much of it as there is room for.

use crate::map::{HeatMap, Mapping};
use crate::text::{TextStyle, busy_bytes, drawn};

/// How much of it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Lines for maps of mappings, about.
    pub(crate) map_lines: u64,
    /// Mappings, those in use most.
    pub(crate) mappings: usize,
    /// Rows of each table.
    pub(crate) table_rows: usize,
}

/// On paper that goes on for ever.
pub(crate) const ALL: Extent = Extent { map_lines: 24, mappings: usize::MAX, table_rows: 10 };

/// On screens, the largest first.
const SCREENS: [Extent; 12] = [
    ALL,
    Extent { map_lines: 24, mappings: 20, table_rows: 8 },
    Extent { map_lines: 20, mappings: 14, table_rows: 7 },
    Extent { map_lines: 16, mappings: 10, table_rows: 6 },
    Extent { map_lines: 12, mappings: 8, table_rows: 5 },
    Extent { map_lines: 8, mappings: 6, table_rows: 4 },
    Extent { map_lines: 5, mappings: 5, table_rows: 3 },
    Extent { map_lines: 4, mappings: 4, table_rows: 2 },
    Extent { map_lines: 3, mappings: 3, table_rows: 2 },
    Extent { map_lines: 2, mappings: 2, table_rows: 1 },
    Extent { map_lines: 1, mappings: 2, table_rows: 0 },
    Extent { map_lines: 1, mappings: 1, table_rows: 0 },
];

/// The map on `rows` lines, none longer than the style has columns: of what does not fit the mappings
/// and the rows that matter least are left out.
pub fn heatmap_screen(map: &HeatMap, style: &TextStyle, rows: usize) -> Vec<String> {
    let mut text = String::new();
    for extent in SCREENS {
        text = drawn(map, style, extent);
        if text.lines().count() <= rows {
            break;
        }
    }
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.resize(rows, String::new());
    lines
}

/// Larger is more worth showing.
pub(crate) type Rank = (u64, u64, u64, u64);

/// What decides which mappings are shown where not all can be: use, then size, then place.
pub(crate) fn rank(mapping: &Mapping) -> Rank {
    let busy = busy_bytes(mapping.busy);
    (busy, mapping.seen, mapping.pages, u64::MAX - mapping.start)
}

/// The rank of the last of `count` mappings that are shown; `None` when all are.
pub(crate) fn least_busy(map: &HeatMap, count: usize) -> Option<Rank> {
    let mut ranks: Vec<_> = map.mappings.iter().map(rank).collect();
    ranks.sort_unstable_by(|a, b| b.cmp(a));
    (ranks.len() > count).then(|| ranks.get(count.checked_sub(1)?).copied()).flatten()
}
