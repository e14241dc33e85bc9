//! Moments, spelled as Go spells them: the MAC covers that spelling.

use std::time::{SystemTime, UNIX_EPOCH};

/// Reads a YAML timestamp or RFC 3339 text and spells it as RFC 3339 with the shortest fraction; `None` if it is no
/// moment. `2024-1-2` becomes `2024-01-02T00:00:00Z`.
pub(super) fn canonical(text: &str) -> Option<String> {
    let (date, clock) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = parts.next().filter(|year| year.len() == 4)?;
    let (year, month, day) = (digits(year, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
        return None;
    }
    let clock = match clock {
        Some(clock) => canonical_clock(clock)?,
        None => "00:00:00Z".into(),
    };
    Some(format!("{year:04}-{month:02}-{day:02}T{clock}"))
}

/// `lastmodified` as the MAC is bound to it: canonical, without the fraction. Text that is no moment stays as it is.
pub(super) fn without_fraction(text: &str) -> String {
    let Some(mut moment) = canonical(text) else { return text.to_owned() };
    if let Some(dot) = moment.find('.') {
        let end = moment[dot + 1..].find(|c: char| !c.is_ascii_digit()).map_or(moment.len(), |at| dot + 1 + at);
        moment.replace_range(dot..end, "");
    }
    moment
}

/// This second, in UTC.
pub(super) fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while days >= u64::from(days_of(year, month)) {
        days -= u64::from(days_of(year, month));
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

/// Reads `Th:m:s[.f](Z|+hh:mm)` or ` h:m:s[.f]`.
fn canonical_clock(text: &str) -> Option<String> {
    let zoned = !text.starts_with(' ');
    let text = &text[1..];
    let zone_at = if zoned { text.find(['Z', '+', '-'])? } else { text.len() };
    let (clock, zone) = text.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
    let mut parts = clock.split(':');
    let (hour, minute, second) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = match fraction {
        Some(fraction) => {
            if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            // Go counts nanoseconds and drops what is finer.
            fraction[..fraction.len().min(9)].trim_end_matches('0')
        }
        None => "",
    };
    let dot = if fraction.is_empty() { "" } else { "." };
    Some(format!("{hour:02}:{minute:02}:{second:02}{dot}{fraction}{}", canonical_zone(zone)?))
}

fn canonical_zone(zone: &str) -> Option<&str> {
    if matches!(zone, "" | "Z" | "+00:00" | "-00:00") {
        return Some("Z");
    }
    let (hour, minute) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let valid = hour.len() == 2 && minute.len() == 2 && digits(hour, 2)? <= 24 && digits(minute, 2)? < 60;
    valid.then_some(zone)
}

/// One to `most` decimal digits.
fn digits(text: &str, most: usize) -> Option<u32> {
    let valid = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| text.parse().ok()).flatten()
}

fn days_of(year: u32, month: u32) -> u32 {
    match month {
        2 if days_of_year(year) == 366 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_of_year(year: u32) -> u64 {
    if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_one_spelling_and_days_a_calendar() {
        assert_eq!(canonical("2024-2-29").as_deref(), Some("2024-02-29T00:00:00Z"));
        assert_eq!(canonical("2024-01-02t3:4:5.670+02:00").as_deref(), Some("2024-01-02T03:04:05.67+02:00"));
        for text in
            ["2023-02-29", "2100-02-29", "2024-04-31", "2024-13-01", "2024-00-01", "2024-01-02T24:00:00Z", "24-1-2"]
        {
            assert_eq!(canonical(text), None, "{text}");
        }
        assert_eq!(without_fraction("2024-01-02T03:04:05.9-01:00"), "2024-01-02T03:04:05-01:00");
        assert_eq!(without_fraction("no moment"), "no moment");
    }

    #[test]
    fn now_is_a_moment() {
        let now = now();
        assert_eq!(canonical(&now).as_ref(), Some(&now));
        assert!(now.as_str() > "2025-01-01");
    }
}
