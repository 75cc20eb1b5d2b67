//! Names for people.

use heat::{FileKey, Heat, MappingKey, Place, Region};

/// The last part of a path.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// What a mapping is called: its path, its name in brackets, or what it is.
pub(crate) fn mapping_name(heat: &Heat, region: &Region) -> String {
    if !region.name.is_empty() {
        return text(&region.name);
    }
    match &region.key {
        MappingKey::Bss(file) => format!("{} .bss", path(heat, file)),
        MappingKey::Anonymous { .. } => "[anonymous]".to_owned(),
        key => key_name(heat, key),
    }
}

/// What a key is called, wherever it is mapped.
pub(crate) fn key_name(heat: &Heat, key: &MappingKey) -> String {
    match key {
        MappingKey::File(file) => path(heat, file),
        MappingKey::Bss(file) => format!("{} .bss", path(heat, file)),
        MappingKey::Object { name, .. } | MappingKey::Named { name, .. } => text(name),
        MappingKey::Anonymous { .. } => "[anonymous]".to_owned(),
    }
}

fn path(heat: &Heat, file: &FileKey) -> String {
    let known = text(heat.path(file));
    match file {
        _ if !known.is_empty() => known,
        FileKey::BuildId(id) => {
            let digits: String = id.iter().map(|b| format!("{b:02x}")).collect();
            format!("build id {digits}")
        }
        FileKey::Inode { device, inode } => {
            format!("inode {inode} of device {}:{}", device.0, device.1)
        }
    }
}

/// A name as text that cannot disturb a terminal: control characters are written out.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut out = String::new();
    for part in String::from_utf8_lossy(bytes).chars() {
        if part.is_control() {
            out.extend(part.escape_default());
        } else {
            out.push(part);
        }
    }
    out
}

/// `symbol+0x12` or `libc.so.6+0x1234`.
pub(crate) fn place_name(heat: &Heat, place: &Place) -> String {
    if let Some(symbol) = heat.symbol(place) {
        let name = text(symbol.name.as_bytes());
        return match symbol.offset_bytes {
            0 => name,
            offset => format!("{name}+{offset:#x}"),
        };
    }
    let key = key_name(heat, &place.key);
    match &place.key {
        // Anonymous memory is numbered by address.
        MappingKey::Anonymous { .. } => format!("{:#x}", place.offset_bytes),
        _ => format!("{}+{:#x}", base_name(&key), place.offset_bytes),
    }
}

/// Bytes with a unit of 1024: `4 KiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut whole = bytes;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    let tenth = rest * 10 / 1024;
    if whole < 10 && tenth > 0 {
        format!("{whole}.{tenth} {}", UNITS[unit])
    } else {
        format!("{whole} {}", UNITS[unit])
    }
}

/// A share as a percentage: `97%`, `0.3%`, `<0.1%`.
pub(crate) fn percent(part: f64) -> String {
    let value = part * 100.0;
    if value <= 0.0 {
        "0%".to_owned()
    } else if value < 0.1 {
        "<0.1%".to_owned()
    } else if value < 9.95 {
        format!("{value:.1}%")
    } else {
        format!("{value:.0}%")
    }
}
