//! The records of a PAX header: `LENGTH KEY=VALUE\n`.

/// What a header says that matters here. Times, owners and comments do not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Whether the file's data is a map and not its content.
    pub(super) is_sparse: bool,
}

impl Pax {
    pub(super) fn parse(mut text: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        while !text.is_empty() {
            let (record, rest) = record(text)?;
            text = rest;
            let at = record.iter().position(|byte| *byte == b'=').ok_or("a record of its PAX header has no value")?;
            let (key, value) = (&record[..at], &record[at + 1..]);
            // An empty value takes back what was said before.
            let given = (!value.is_empty()).then(|| value.to_vec());
            match key {
                b"" => return Err("a record of its PAX header has no key"),
                b"path" => pax.path = given,
                b"linkpath" => pax.link = given,
                b"size" => pax.size = given.as_deref().map(decimal).transpose()?,
                key => pax.is_sparse |= key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize",
            }
        }
        Ok(pax)
    }

    /// Whether it says anything that can be true of one file only.
    pub(super) fn describes_a_file(&self) -> bool {
        *self != Self::default()
    }
}

/// The first record without its length and line feed, and what follows.
fn record(text: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    const WRONG: &str = "a record of its PAX header has a wrong length";
    let space = text.iter().take(20).position(|byte| *byte == b' ').ok_or(WRONG)?;
    let length = usize::try_from(decimal(&text[..space])?).map_err(|_| WRONG)?;
    if length <= space + 1 || length > text.len() || text[length - 1] != b'\n' {
        return Err(WRONG);
    }
    Ok((&text[space + 1..length - 1], &text[length..]))
}

fn decimal(text: &[u8]) -> Result<u64, &'static str> {
    let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or("a number in its PAX header is none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let pax = Pax::parse(b"12 path=a/b\n21 comment=with = in\n9 size=7\n").unwrap();
        assert_eq!((pax.path.unwrap(), pax.size.unwrap()), (b"a/b".to_vec(), 7));
        assert_eq!(Pax::parse(b"12 path=a/b\n8 path=\n").unwrap(), Pax::default());
        assert!(Pax::parse(b"21 GNU.sparse.major=1\n").unwrap_err().contains("length"));
        assert!(Pax::parse(b"22 GNU.sparse.major=1\n").unwrap().is_sparse);
    }

    #[test]
    fn records_that_lie_are_refused() {
        for text in [
            "13 path=a/b\n",
            "11 path=a/b\n",
            "path=a\n",
            "7 path\n",
            "-1 a=b\n",
            "0 a\n",
            "6 =ab\n",
            "9 size=x\n",
            "99999999999999999999999 a=b\n",
        ] {
            assert!(Pax::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
