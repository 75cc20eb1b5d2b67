//! Values of options: times, shares.

use std::time::Duration;

/// Reads `90s`, `5m`, `250ms`, `2h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 =
        number.parse().map_err(|_| "write a number and a unit: 90s, 5m".to_owned())?;
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
        assert_eq!(rehearse("auto"), Ok(engine::Rehearse::Auto));
        assert_eq!(rehearse("off"), Ok(engine::Rehearse::Off));
        assert_eq!(rehearse("0ms"), Ok(engine::Rehearse::Off));
        assert_eq!(rehearse("50ms"), Ok(engine::Rehearse::For(Duration::from_millis(50))));
        assert!(rehearse("1h").is_err() && rehearse("on").is_err());
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!(permille("1%"), Ok(10));
        assert_eq!(permille("0.5 %"), Ok(5));
        assert!(permille("1").is_err() && permille("90%").is_err() && permille("0%").is_err());
    }
}
