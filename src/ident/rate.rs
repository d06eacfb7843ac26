//! How many bytes, and how many a second, as Kubernetes writes quantities.

use super::{InvalidIdent, text_conversions};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Bytes per second: `50M`, `1.5Gi`, `2e6`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteRate(u64);

impl ByteRate {
    /// Less is a slip of the pen, such as `50m`, which is a twentieth of a byte.
    const MIN: u128 = 1000;

    /// The number.
    pub fn bytes_per_second(self) -> u64 {
        self.0
    }

    /// An equal part of it; none where that is less than a rate may be.
    pub fn part(self, parts: u32) -> Option<Self> {
        let part = self.0.checked_div(parts.into())?;
        (u128::from(part) >= Self::MIN).then_some(Self(part))
    }
}

impl FromStr for ByteRate {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why| InvalidIdent::new("rate", text, why);
        let rate = quantity(text).ok_or_else(|| invalid("it must be a number of bytes like 500k, 20M or 1.5Gi"))?;
        if rate < Self::MIN {
            return Err(invalid("it must be at least 1k, a thousand bytes per second"));
        }
        u64::try_from(rate).map(Self).map_err(|_| invalid("it is larger than any network"))
    }
}

impl std::fmt::Display for ByteRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

text_conversions!(ByteRate);

/// A number of bytes: `10Gi`, `500M`, `0`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteCount(u64);

impl ByteCount {
    /// The number.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteCount {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = quantity(text).and_then(|bytes| u64::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| InvalidIdent::new("size", text, "it must be a number of bytes like 500M or 20Gi"))
    }
}

impl std::fmt::Display for ByteCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

text_conversions!(ByteCount);

/// The value of a positive quantity, rounded up.
fn quantity(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (factor, exponent) = suffix_of(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    // More than one point leaves one in the digits.
    let digits = digits.parse::<u128>().ok()?.checked_mul(factor)?;
    let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs());
    if exponent < 0 { Some(power.map_or(1, |power| digits.div_ceil(power))) } else { digits.checked_mul(power?) }
}

/// What a suffix multiplies by: a factor, and ten to a power.
fn suffix_of(suffix: &str) -> Option<(u128, i32)> {
    const DECIMAL: [(&str, i32); 10] =
        [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
    const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((1, *exponent));
    }
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((1 << bits, 0));
    }
    suffix.strip_prefix(['e', 'E'])?.parse().ok().map(|exponent| (1, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_as_kubernetes_writes_them() {
        for (text, bytes) in [
            ("1000", 1000),
            ("500k", 500_000),
            ("20M", 20_000_000),
            ("10Mi", 10_485_760),
            ("1.5Gi", 1_610_612_736),
            (".5M", 500_000),
            ("2.M", 2_000_000),
            ("+1G", 1_000_000_000),
            ("2e6", 2_000_000),
            ("15E2", 1500),
            ("1000.5", 1001),
            ("1500000m", 1500),
            ("9223372036854775807", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(text.parse::<ByteRate>().unwrap().bytes_per_second(), bytes, "{text}");
        }
        for text in [
            "",
            "M",
            ".",
            "0",
            "0k",
            "-1M",
            "999",
            "50m",
            "1K",
            "1 M",
            "1..5M",
            "1.5.5M",
            "1Mb",
            "1é",
            "1e",
            "1e99",
            "99999E",
            "1e-2147483648",
            "340282366920938463463374607431768211456",
        ] {
            assert!(text.parse::<ByteRate>().is_err(), "{text}");
        }
        let message = "50m".parse::<ByteRate>().unwrap_err().to_string();
        assert!(message.contains("\"50m\"") && message.contains("at least 1k"), "{message}");
    }

    #[test]
    fn sizes_as_kubernetes_writes_them() {
        let bytes = |text: &str| text.parse::<ByteCount>().map(ByteCount::bytes).ok();
        assert_eq!(bytes("1Gi"), bytes("1024Mi"));
        assert_eq!([bytes("0"), bytes("1.5k"), bytes("1k")], [Some(0), Some(1500), Some(1000)]);
        assert_eq!([bytes(""), bytes("lots"), bytes("-1"), bytes("99999E")], [None; 4]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-+]?[0-9.]{0,40}[a-zA-Z]{0,3}-?[0-9]{0,12}") {
            let _ = text.parse::<ByteRate>();
        }
    }
}
