//! The heat map as one HTML file that needs nothing else: no network, no fonts, no library.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::data::address;
use crate::map::HeatMap;
use crate::pack::{base64, cells, linear_starts, times};
use crate::sites::verdict;
use crate::text::{TextStyle, heatmap_text, samples, utc};

/// Code sites in the file; the JSON has all of them.
const CODES_MAX: usize = 3000;

/// The map as an HTML file.
pub fn heatmap_html(map: &HeatMap) -> String {
    let plain = TextStyle { columns: 100, color: false, unicode: true };
    let data = data(map).to_string().replace('<', "\\u003c");
    let title = escaped(&map.title);
    let text = escaped(&heatmap_text(map, &plain));
    filled(include_str!("page.html"), |name| match name {
        "title" => &title,
        "text" => &text,
        "style" => include_str!("style.css"),
        "script" => include_str!("app.js"),
        "data" => &data,
        _ => "",
    })
}

/// The template with each `{{name}}` replaced, once: what is put in is not looked at again.
fn filled<'a>(template: &str, value: impl Fn(&str) -> &'a str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        out.push_str(before);
        let (name, behind) = behind.split_once("}}").unwrap_or((behind, ""));
        out.push_str(value(name));
        rest = behind;
    }
    out + rest
}

fn data(map: &HeatMap) -> Value {
    let (cells, times) = (cells(map), times(map));
    let seconds: u64 = map.windows.iter().map(|w| w.length_ns / 1_000_000).sum();
    let sampled: u64 = map.windows.iter().map(|w| u64::from(w.sampled_intervals)).sum();
    json!({
        "title": map.title,
        "newest": utc(map.windows.last().map_or(0, |w| w.end_ns)),
        "windows": map.windows.len(),
        "milliseconds": seconds,
        "sampledIntervals": sampled,
        "samples": samples(map).iter().map(|(n, c)| json!([n, c])).collect::<Vec<_>>(),
        "grain": cells.grain,
        "cells": base64(&cells.bytes),
        "mappings": map.mappings.iter().map(|m| json!([
            address(m.start), m.pages, m.name, m.access, m.seen, m.idle, m.half, short(m.busy),
        ])).collect::<Vec<_>>(),
        "codes": map.codes.iter().take(CODES_MAX).map(|c| json!([
            c.name, c.module,
            c.source.as_ref().map_or(String::new(), |(file, line)| format!("{file}:{line}")),
            c.instruction, c.operand, c.reads, c.writes, c.pages, c.mapping,
        ])).collect::<Vec<_>>(),
        "codesMore": map.codes.len().saturating_sub(CODES_MAX),
        "ranges": map.ranges.iter().map(|r| json!([
            r.mapping, r.start - start(map, r.mapping), r.pages, r.seen, short(r.busy),
            short(r.busy_reads), short(r.busy_writes), r.operands, r.code,
        ])).collect::<Vec<_>>(),
        "variables": map.variables.iter().map(|v| json!([
            format!("{:#x}", v.address), v.size_bytes, v.name, v.type_name,
        ])).collect::<Vec<_>>(),
        "details": details(map),
        "timePages": times.pages,
        "timeIntervals": map.timeline_intervals,
        "times": base64(&times.bytes),
    })
}

/// Pieces with the code and the operands that used them: `[page, pages, verdict, code, permille,
/// ...]`, pages counted without gaps, verdicts by number.
fn details(map: &HeatMap) -> Value {
    let starts = linear_starts(map);
    let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for detail in &map.details {
        let Some(at) = usize::try_from(detail.mapping).ok() else { continue };
        let (Some(mapping), Some(first)) = (map.mappings.get(at), starts.get(at)) else { continue };
        let text = verdict(&detail.operands);
        let number = *verdicts.entry(text.clone()).or_insert_with(|| {
            names.push(text);
            names.len() - 1
        });
        let page = first + (detail.start - mapping.start);
        let mut row = vec![json!(page), json!(detail.pages), json!(number)];
        for (code, weight) in &detail.codes {
            if usize::try_from(*code).is_ok_and(|code| code < CODES_MAX) {
                row.push(json!(code));
                row.push(json!(weight.saturating_mul(1000) / detail.weight.max(1)));
            }
        }
        rows.push(Value::Array(row));
    }
    json!({ "verdicts": names, "rows": rows })
}

fn start(map: &HeatMap, mapping: u32) -> u64 {
    crate::text::find(&map.mappings, mapping).map_or(0, |m| m.start)
}

/// Three digits are enough to draw.
fn short(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
