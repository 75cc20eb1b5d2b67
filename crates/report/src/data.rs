//! JSON and CSV: everything, nothing shortened.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::map::{HeatMap, Mapping, Run};
use crate::sites::verdict;
use crate::text::{find, samples};

/// The version of the JSON's shape.
pub const HEATMAP_SCHEMA: &str = "rekindle.heatmap/1";

/// The map as one JSON object. Addresses are hexadecimal strings, since JSON's numbers do not
/// hold 64 bits everywhere; sizes are in bytes, heat is a share of 0 to 1.
pub fn heatmap_json(map: &HeatMap) -> Value {
    let [seen, idle, half, unknown] = map.shares();
    let samples: serde_json::Map<String, Value> =
        samples(map).iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
    json!({
        "schema": HEATMAP_SCHEMA,
        // As every verb's report has them: it touches no instance.
        "outcome": null,
        "blockers": [],
        "changed": [],
        "title": map.title,
        "now_ns": map.now_ns,
        "pages": { "mapped": map.pages(), "seen": seen, "idle": idle, "half": half,
            "unknown": unknown },
        "samples": samples,
        "windows": map.windows.iter().map(|w| json!({
            "id": format!("{:016x}", w.id),
            "end_ns": w.end_ns,
            "length_ns": w.length_ns,
            "intervals": w.intervals,
            "sampled_intervals": w.sampled_intervals,
            "unplaced": w.unplaced,
        })).collect::<Vec<_>>(),
        "mappings": map.mappings.iter().map(|m| json!({
            "start": address(m.start),
            "end": address(m.start + m.pages),
            "name": m.name,
            "access": m.access,
            "seen_pages": m.seen,
            "idle_pages": m.idle,
            "half_pages": m.half,
            "busy_pages": m.busy,
        })).collect::<Vec<_>>(),
        "ranges": map.ranges.iter().map(|r| json!({
            "start": address(r.start),
            "end": address(r.start + r.pages),
            "mapping": r.mapping,
            "seen_pages": r.seen,
            "busy_pages": r.busy,
            "busy_read_pages": r.busy_reads,
            "busy_written_pages": r.busy_writes,
            "operands": r.operands,
            "code": r.code,
        })).collect::<Vec<_>>(),
        "codes": map.codes.iter().map(|c| json!({
            "name": c.name,
            "module": c.module,
            "source": c.source.as_ref().map(|(file, line)| json!({"file": file, "line": line})),
            "instruction": c.instruction,
            "operand": c.operand,
            "reads": c.reads,
            "writes": c.writes,
            "pages": c.pages,
            "mapping": c.mapping,
        })).collect::<Vec<_>>(),
        "variables": map.variables.iter().map(|v| json!({
            "address": format!("{:#x}", v.address),
            "size_bytes": v.size_bytes,
            "name": v.name,
            "type": v.type_name,
        })).collect::<Vec<_>>(),
        "details": map.details.iter().map(|d| json!({
            "start": address(d.start),
            "end": address(d.start + d.pages),
            "operands": d.operands.iter().map(|(operand, weight)| json!({
                "class": operand.class.name(), "width_bytes": operand.width_bytes, "weight": weight,
            })).collect::<Vec<_>>(),
            "codes": d.codes.iter().map(|(code, weight)| json!([code, weight])).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "run_columns": ["start", "pages", "count", "read_count", "write_count", "reads", "writes",
            "certainty"],
        "runs": map.runs.iter().map(|r| json!([
            address(r.start), r.pages, r.count, r.read_count, r.write_count, r.reads, r.writes,
            r.certainty.map(heat::Certainty::name),
        ])).collect::<Vec<_>>(),
    })
}

/// The map as CSV (RFC 4180, line ends of LF): a row for each run of pages that are alike.
pub fn heatmap_csv(map: &HeatMap) -> String {
    let mut out = String::from(
        "start,end,pages,mapping,access,access_count,read_count,write_count,read_heat,write_heat,\
         certainty,operands,code\n",
    );
    let mut details = map.details.iter().peekable();
    for run in &map.runs {
        while details.next_if(|d| d.start + d.pages <= run.start).is_some() {}
        let detail = details.peek().filter(|d| d.start <= run.start && run.was_seen());
        let operands = detail.map_or(String::new(), |d| verdict(&d.operands));
        let code = detail.and_then(|d| d.codes.first()).and_then(|(c, _)| find(&map.codes, *c));
        let mapping = find(&map.mappings, run.mapping);
        row(&mut out, run, mapping, &operands, code.map_or("", |c| &c.name));
    }
    out
}

fn row(out: &mut String, run: &Run, mapping: Option<&Mapping>, operands: &str, code: &str) {
    let count = |count: Option<u32>| count.map_or(String::new(), |c| c.to_string());
    let heat = |heat: Option<f64>| heat.map_or(String::new(), |h| format!("{h:.6}"));
    let _ = writeln!(
        out,
        "{},{},{},{},{},{},{},{},{},{},{},{},{}",
        address(run.start),
        address(run.start + run.pages),
        run.pages,
        field(mapping.map_or("", |m| &m.name)),
        mapping.map_or("", |m| &m.access),
        count(run.count),
        count(run.read_count),
        count(run.write_count),
        heat(run.reads),
        heat(run.writes),
        run.certainty.map_or("unknown", heat::Certainty::name),
        field(operands),
        field(code),
    );
}

/// A field that commas, quotes and line ends cannot break. What a spreadsheet would take for a
/// formula is kept as it is: data come first.
pub(crate) fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

pub(crate) fn address(page: u64) -> String {
    format!("{:#x}", page.saturating_mul(4096))
}
