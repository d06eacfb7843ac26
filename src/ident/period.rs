//! How long, as Kubernetes writes durations.

use super::InvalidIdent;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time of at least a minute: `720h`, `1h30m`, `90s`.
#[derive(Clone, PartialEq, Eq)]
pub struct Period {
    length: Duration,
    /// As it was written: people find it again in their manifest.
    text: String,
}

impl Period {
    /// Anything shorter would be work without an end.
    const MIN: Duration = Duration::from_mins(1);

    /// The length.
    pub fn duration(&self) -> Duration {
        self.length
    }
}

impl FromStr for Period {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why| InvalidIdent::new("duration", text, why);
        let length =
            seconds(text).ok_or_else(|| invalid("it must be hours, minutes and seconds like 720h or 1h30m"))?;
        let length = Duration::from_secs(length);
        if length < Self::MIN {
            return Err(invalid("it must be at least 1m, a minute"));
        }
        Ok(Self { length, text: text.to_owned() })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The sum of hours, minutes and seconds, each at most once and in this order.
fn seconds(text: &str) -> Option<u64> {
    /// A century of hours fits, and no sum overflows.
    const DIGITS_MAX: usize = 6;
    let mut rest = text;
    let mut sum = 0;
    for (unit, seconds) in [('h', 3600), ('m', 60), ('s', 1)] {
        let Some((number, after)) = rest.split_once(unit) else { continue };
        if number.len() > DIGITS_MAX || number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        sum += number.parse::<u64>().ok()? * seconds;
        rest = after;
    }
    (rest.is_empty() && !text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_kubernetes_writes_them() {
        for (text, seconds) in [
            ("720h", 2_592_000),
            ("1h30m", 5400),
            ("1m", 60),
            ("60s", 60),
            ("1h0m5s", 3605),
            ("999999h", 3_599_996_400),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!((period.duration().as_secs(), period.to_string().as_str()), (seconds, text));
        }
        for text in ["", "1", "h", "-1h", "1.5h", "30d", "1m1h", "1h1h", "1h 5m", "9999999h", "59s", "0m", "1hm", "1é"]
        {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        assert!("5s".parse::<Period>().unwrap_err().to_string().contains("at least 1m"));
    }
}
