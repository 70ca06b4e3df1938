//! Figures in words, for the table and the page alike.

use bytesize::ByteSize;
use time::OffsetDateTime;

use crate::cli::text::{percent, thousands};
use crate::report::{Cost, Gpu, Period, Service, Spread, Tokens};

/// What stands where nothing was measured.
pub const NO_DATA: &str = "no data";

/// The text of a value, or that there is none.
pub fn or_no_data<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| NO_DATA.to_owned(), text)
}

/// `0.4 ms`, `345 ms`, `1.90 s`, `75.0 s`.
pub fn millis(millis: f64) -> String {
    match millis {
        ..9.95 => format!("{millis:.1} ms"),
        ..999.5 => format!("{millis:.0} ms"),
        ..9995.0 => format!("{:.2} s", millis / 1e3),
        _ => format!("{:.1} s", millis / 1e3),
    }
}

/// The median of a spread of milliseconds.
pub fn p50(spread: Option<Spread>) -> String {
    or_no_data(spread, |spread| millis(spread.p50))
}

/// The 95th percentile of a spread of milliseconds.
pub fn p95(spread: Option<Spread>) -> String {
    or_no_data(spread, |spread| millis(spread.p95))
}

/// A share from 0 to 1.
pub fn share(share: Option<f64>) -> String {
    or_no_data(share, percent)
}

/// How a kind of jobs was served, cell by cell: lane, size, jobs, within the service level, first answer at the median
/// and at p95, stored result at p95.
pub fn service(line: &Service) -> Vec<String> {
    vec![
        line.lane.clone(),
        line.size.to_owned(),
        thousands(line.jobs),
        share(line.compliance()),
        p50(line.ttft_ms),
        p95(line.ttft_ms),
        p95(line.total_ms),
    ]
}

/// A price: two places, more for small ones.
pub fn price(price: f64) -> String {
    if price.abs() < 0.1 { format!("{price:.4}") } else { format!("{price:.2}") }
}

/// A rate of tokens.
pub fn per_second(rate: f64) -> String {
    if rate < 9.95 {
        format!("{rate:.1} tokens/s")
    } else {
        format!("{} tokens/s", thousands(rate.round() as u64))
    }
}

/// A moment to the minute.
pub fn minute(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (month, day) = (u8::from(at.month()), at.day());
    format!("{:04}-{month:02}-{day:02} {:02}:{:02}", at.year(), at.hour(), at.minute())
}

/// From when to when.
pub fn period(period: Period) -> String {
    format!("{} to {} UTC", minute(period.from), minute(period.to))
}

/// What was read, and what not.
pub fn tokens(tokens: &Tokens) -> Vec<(&'static str, String)> {
    let number = |count: u64| thousands(count);
    let saving = or_no_data(tokens.saved_share, |share| {
        format!(
            "{} of the {} that all reviews in each prompt would have cost",
            percent(share),
            number(tokens.baseline)
        )
    });
    let claims = match tokens.claims_written {
        0 => "none written".to_owned(),
        written => format!(
            "{} written, {} replaced by a quote",
            number(written),
            number(written.saturating_sub(tokens.claims_kept))
        ),
    };
    vec![
        (
            "computed",
            format!(
                "{} prompt, {} forced, {} generated",
                number(tokens.prompt),
                number(tokens.forced),
                number(tokens.generated)
            ),
        ),
        ("reused", format!("{} from pinned prefixes", number(tokens.reused))),
        ("saved", saving),
        (
            "reviews",
            format!(
                "{} in jobs, {} read, {} known",
                number(tokens.reviews),
                number(tokens.reviews_read),
                number(tokens.reviews_known)
            ),
        ),
        ("claims", claims),
    ]
}

/// What it cost, and how that is reckoned.
pub fn cost(cost: &Cost) -> Vec<(&'static str, String)> {
    let each = |price_of: Option<f64>| or_no_data(price_of, price);
    vec![
        ("paid", format!("{} per 1,000 restaurants, idle time included", each(cost.per_1000_restaurants))),
        (
            "busy",
            format!("{} per 1,000 restaurants, of busy time alone", each(cost.per_1000_restaurants_busy)),
        ),
        (
            "reckoned",
            format!(
                "{} an hour x {:.2} worker hours ({} busy) over {} restaurants with findings",
                price(cost.per_hour),
                cost.worker_hours,
                or_no_data(cost.busy_hours, |hours| format!("{hours:.2}")),
                thousands(cost.restaurants)
            ),
        ),
    ]
}

/// A GPU's memory: most in use, and all.
pub fn memory(gpu: &Gpu) -> String {
    let bytes = |bytes: u64| ByteSize::b(bytes).display().iec().to_string();
    match (gpu.memory_used_bytes, gpu.memory_total_bytes) {
        (Some(used), Some(total)) => format!("{} of {}", bytes(used), bytes(total)),
        (Some(used), None) => bytes(used),
        _ => NO_DATA.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_as_many_places_as_mean_something() {
        let shown = [0.42, 9.96, 345.4, 1900.0, 75_000.0].map(millis);
        assert_eq!(shown, ["0.4 ms", "10 ms", "345 ms", "1.90 s", "75.0 s"]);
    }

    #[test]
    fn what_is_missing_is_said_to_be_missing() {
        assert_eq!([p50(None), p95(None), share(None)], ["no data"; 3]);
        assert_eq!(share(Some(0.0)), "0 %", "which a measured zero is not");
    }
}
