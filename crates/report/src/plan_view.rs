//! Plans for people and scripts: tiers, treatments, reasons, and what costs most.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use plan::{Extent, Plan, Tier, Treatment};
use serde_json::{Value, json};

use crate::data::{address, field};
use crate::map::as_f64;
use crate::names::{percent, size};
use crate::text::{Page, TextStyle};

/// The version of the JSON's shape.
pub const PLAN_SCHEMA: &str = "rekindle.plan/1";

/// Rows of each table of the text.
const ROWS: usize = 12;

/// A sum over extents that have something in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    bytes: u64,
    extents: u64,
}

impl Sum {
    fn add(&mut self, extent: &Extent) {
        self.bytes = self.bytes.saturating_add(extent.pages.bytes());
        self.extents += 1;
    }
}

fn sums<K: Ord>(plan: &Plan, key: impl Fn(&Extent) -> K) -> BTreeMap<K, Sum> {
    let mut sums: BTreeMap<K, Sum> = BTreeMap::new();
    for extent in &plan.extents {
        sums.entry(key(extent)).or_default().add(extent);
    }
    sums
}

/// Reasons with their sums, those with most bytes first.
fn reasons(plan: &Plan) -> Vec<((Tier, Treatment, &str), Sum)> {
    let mut by_reason: BTreeMap<(Tier, Treatment, &str), Sum> = BTreeMap::new();
    for extent in &plan.extents {
        let key = (extent.tier, extent.treatment, &*extent.reason);
        by_reason.entry(key).or_default().add(extent);
    }
    let mut rows: Vec<_> = by_reason.into_iter().collect();
    rows.sort_by_key(|(key, sum)| (key.0, std::cmp::Reverse(sum.bytes), *key));
    rows
}

/// The plan as text.
pub fn plan_text(title: &str, plan: &Plan, style: &TextStyle) -> String {
    let columns = style.columns.max(20);
    let mut page = Page { style: TextStyle { columns, ..*style }, out: String::new() };
    let all: u64 = plan.extents.iter().map(|e| e.pages.bytes()).sum();
    page.bold(&format!("plan for {title}"));
    page.wrapped(&format!("{} in {} extents", size(all), plan.extents.len()));
    page.out.push('\n');
    let tiers = sums(plan, |e| e.tier);
    for tier in Tier::ALL {
        let sum = tiers.get(tier).copied().unwrap_or_default();
        let share = as_f64(sum.bytes) / as_f64(all.max(1));
        let bar = page.bar(share, columns.saturating_sub(40));
        let line = format!("{:<9} {:>8} {:>6} {bar}", tier.name(), size(sum.bytes), percent(share));
        let line = page.cut(line.trim_end(), columns);
        let _ = writeln!(page.out, "{line}");
    }
    page.out.push('\n');
    page.bold("why, most bytes first within a tier");
    let rows = reasons(plan);
    for ((tier, treatment, reason), sum) in rows.iter().take(ROWS) {
        let line =
            format!("{:<9} {:<8} {:>8} {reason}", tier.name(), treatment.name(), size(sum.bytes));
        let line = page.cut(&line, columns);
        let _ = writeln!(page.out, "{line}");
    }
    if rows.len() > ROWS {
        page.dim(&format!("{} more reasons: see --format json", rows.len() - ROWS));
    }
    page.out.push('\n');
    page.bold("largest extents");
    let mut largest: Vec<&Extent> = plan.extents.iter().collect();
    largest.sort_by_key(|e| (std::cmp::Reverse(e.pages.bytes()), e.load_order));
    for extent in largest.into_iter().take(ROWS) {
        let line = format!(
            "{:>12x} {:>8} {:<9} {:<8} {}, {}",
            extent.pages.start.0.saturating_mul(4096),
            size(extent.pages.bytes()),
            extent.tier.name(),
            extent.treatment.name(),
            extent.memory,
            extent.reason
        );
        let line = page.cut(&line, columns);
        let _ = writeln!(page.out, "{line}");
    }
    page.out
}

impl Page {
    /// A bar of `share` of `width`.
    fn bar(&self, share: f64, width: usize) -> String {
        let width = u32::try_from(width.min(200)).unwrap_or(200);
        let glyph = if self.style.unicode { "█" } else { "#" };
        // Never more than `width`, which is small.
        let filled =
            (0..width).filter(|at| (f64::from(*at) + 0.5) / f64::from(width.max(1)) < share);
        glyph.repeat(filled.count())
    }
}

/// The plan as one JSON object, every extent in load order.
pub fn plan_json(title: &str, plan: &Plan) -> Value {
    let sum = |sum: &Sum| json!({ "bytes": sum.bytes, "extents": sum.extents });
    let tiers: serde_json::Map<String, Value> = sums(plan, |e| e.tier)
        .iter()
        .map(|(tier, total)| (tier.name().to_owned(), sum(total)))
        .collect();
    let treatments: serde_json::Map<String, Value> = sums(plan, |e| e.treatment)
        .iter()
        .map(|(treatment, total)| (treatment.name().to_owned(), sum(total)))
        .collect();
    json!({
        "schema": PLAN_SCHEMA,
        "title": title,
        "tiers": tiers,
        "treatments": treatments,
        "reasons": reasons(plan).iter().map(|((tier, treatment, reason), total)| json!({
            "tier": tier.name(),
            "treatment": treatment.name(),
            "reason": reason,
            "bytes": total.bytes,
            "extents": total.extents,
        })).collect::<Vec<_>>(),
        "extents": plan.extents.iter().map(|e| json!({
            "memory": e.memory.to_string(),
            "start": address(e.pages.start.0),
            "end": address(e.pages.end.0),
            "tier": e.tier.name(),
            "treatment": e.treatment.name(),
            "load_order": e.load_order,
            "reason": &*e.reason,
        })).collect::<Vec<_>>(),
    })
}

/// The plan as CSV (RFC 4180, line ends of LF): a row for each extent in load order.
pub fn plan_csv(plan: &Plan) -> String {
    let mut out = String::from("load_order,memory,start,end,bytes,tier,treatment,reason\n");
    for extent in &plan.extents {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{}",
            extent.load_order,
            field(&extent.memory.to_string()),
            address(extent.pages.start.0),
            address(extent.pages.end.0),
            extent.pages.bytes(),
            extent.tier.name(),
            extent.treatment.name(),
            field(&extent.reason)
        );
    }
    out
}
