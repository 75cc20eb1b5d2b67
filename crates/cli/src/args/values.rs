//! Values of options: times, shares.

use std::time::Duration;

/// A number and what stands behind it; `examples` are of what is asked for.
fn number_and_unit<'a>(text: &'a str, examples: &str) -> Result<(f64, &'a str), String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number = number.parse().map_err(|_| format!("write a number and a unit: {examples}"))?;
    Ok((number, unit))
}

/// Reads `90s`, `5m`, `250ms`, `2h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text, "90s, 5m")?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" | "" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("`{unit}` is no unit of time; use us, ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// Reads a time of at least a second.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < Duration::from_secs(1) => Err("at least 1s".to_owned()),
        time => Ok(time),
    }
}

/// Reads `auto`, `on`, `off`.
pub(super) fn shadow(text: &str) -> Result<engine::ShadowChoice, String> {
    match text {
        "auto" => Ok(engine::ShadowChoice::Auto),
        "on" => Ok(engine::ShadowChoice::On),
        "off" => Ok(engine::ShadowChoice::Off),
        _ => Err("write auto, on or off".to_owned()),
    }
}

/// Reads `auto`, `off`, `50ms`.
pub(super) fn rehearse(text: &str) -> Result<engine::Rehearse, String> {
    const LONGEST: Duration = Duration::from_secs(10);
    match text {
        "auto" => Ok(engine::Rehearse::Auto),
        "off" => Ok(engine::Rehearse::Off),
        _ => match duration(text) {
            Ok(time) if time.is_zero() => Ok(engine::Rehearse::Off),
            Ok(time) if time <= LONGEST => Ok(engine::Rehearse::For(time)),
            Ok(_) => Err("at most 10s".to_owned()),
            Err(_) => Err("write auto, off, or a time such as 50ms".to_owned()),
        },
    }
}

/// Reads a time for which input is recorded.
pub(super) fn window(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(60);
    match duration(text)? {
        time if time > LONGEST => Err("at most 60s".to_owned()),
        time => Ok(time),
    }
}

/// Reads `500MB`, `2G` (powers of ten), `1.5GiB` (powers of two) as bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text, "500MB, 2GiB")?;
    let factor = match unit.trim() {
        "" | "B" => 1.0,
        "k" | "kB" | "K" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "T" | "TB" => 1e12,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        _ => return Err(format!("`{unit}` is no unit; use kB, MB, GB, TB, KiB, MiB, GiB or TiB")),
    };
    let bytes = (number * factor).round();
    if !(1.0..9e18).contains(&bytes) {
        return Err("at least 1 byte, and less than 2^63".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value lies between 1 and 2^63"
    )]
    Ok(bytes as u64)
}

/// Reads `1%`, `0.5%`, `20%` as thousandths.
pub(super) fn permille(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').ok_or_else(|| "write a share such as 1%".to_owned())?;
    let share: f64 = number.trim().parse().map_err(|_| "write a share such as 1%".to_owned())?;
    if !(0.1..=50.0).contains(&share) {
        return Err("between 0.1% and 50%".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value lies between 1 and 500"
    )]
    Ok((share * 10.0).round() as u32)
}

/// A set of processors, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CpuSet(pub(crate) Vec<u64>);

/// Reads `0-3,8`.
pub(super) fn cpus(text: &str) -> Result<CpuSet, String> {
    let all = engine::parse_cpu_list(text).filter(|all| !all.is_empty());
    let all = all.ok_or_else(|| "write processors such as 0-3,8".to_owned())?;
    let mut set = Vec::new();
    for cpu in all {
        let (word, bit) = (usize::try_from(cpu / 64).unwrap_or_default(), cpu % 64);
        set.resize(set.len().max(word + 1), 0);
        set[word] |= 1_u64 << bit;
    }
    Ok(CpuSet(set))
}

/// Reads `critical=0`.
pub(super) fn place(text: &str) -> Result<(engine::Tier, u32), String> {
    let form = || "write a tier and a memory node such as critical=0 or cold=1".to_owned();
    let (tier, node) = text.split_once('=').ok_or_else(form)?;
    let tier = match tier {
        "critical" => engine::Tier::Critical,
        "warm" => engine::Tier::Warm,
        "cold" => engine::Tier::Cold,
        _ => return Err(form()),
    };
    Ok((tier, node.parse().map_err(|_| form())?))
}

/// Reads `nofile=4096`, `core=0:unlimited`, `core=:4096`.
pub(super) fn limit(text: &str) -> Result<engine::LimitChoice, String> {
    const FORM: &str = "write a limit such as nofile=4096 or core=0:unlimited";
    let (name, values) = text.split_once('=').ok_or(FORM)?;
    let number = engine::LIMIT_NAMES.iter().position(|known| *known == name);
    let resource = number.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
        format!("`{name}` is no limit; there are {}", engine::LIMIT_NAMES.join(", "))
    })?;
    let value = |text: &str| match text {
        "" => Ok(None),
        "unlimited" => Ok(Some(u64::MAX)),
        number => number.parse().map(Some).map_err(|_| FORM.to_owned()),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (value(soft)?, value(hard)?),
        None => (value(values)?, value(values)?),
    };
    if soft.is_none() && hard.is_none() {
        return Err(FORM.to_owned());
    }
    Ok(engine::LimitChoice { resource, soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert!(duration("soon").is_err());
        assert!(duration("5 parsecs").is_err());
    }

    #[test]
    fn rehearsals_are_asked_for_by_time() {
        assert_eq!(shadow("on"), Ok(engine::ShadowChoice::On));
        assert!(shadow("50ms").is_err());
        assert_eq!(rehearse("auto"), Ok(engine::Rehearse::Auto));
        assert_eq!(rehearse("off"), Ok(engine::Rehearse::Off));
        assert_eq!(rehearse("0ms"), Ok(engine::Rehearse::Off));
        assert_eq!(rehearse("50ms"), Ok(engine::Rehearse::For(Duration::from_millis(50))));
        assert!(rehearse("1h").is_err() && rehearse("on").is_err());
    }

    #[test]
    fn processors_are_lists() {
        assert_eq!(cpus("0-2,65"), Ok(CpuSet(vec![0b111, 0b10])));
        assert!(cpus("").is_err() && cpus("a").is_err() && cpus("3-1").is_err());
    }

    #[test]
    fn tiers_have_nodes() {
        assert_eq!(place("cold=1"), Ok((engine::Tier::Cold, 1)));
        assert!(place("cold").is_err() && place("hot=0").is_err() && place("cold=x").is_err());
    }

    #[test]
    fn limits_have_names() {
        let read = |text| limit(text).map(|l| (l.resource, l.soft, l.hard));
        assert_eq!(read("nofile=64"), Ok((7, Some(64), Some(64))));
        assert_eq!(read("core=0:unlimited"), Ok((4, Some(0), Some(u64::MAX))));
        assert_eq!(read("cpu=:9"), Ok((0, None, Some(9))));
        for bad in ["nofile", "nofile=", "nofile=:", "nofile=many", "files=3"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("4096", 4096), ("1.5kB", 1500), ("2G", 2_000_000_000)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(size("1.5GiB"), Ok(3 << 29));
        for text in ["", "G", "1XB", "0", "-1", "9999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!(permille("1%"), Ok(10));
        assert_eq!(permille("0.5 %"), Ok(5));
        assert!(permille("1").is_err() && permille("90%").is_err() && permille("0%").is_err());
    }
}
