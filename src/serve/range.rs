//! The header `Range`, for a file of known size. Pure.

/// What is sent of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// All of it (200).
    Whole,
    /// From the first byte, so many (206). Never empty.
    Part {
        /// The place of the first byte.
        first: u64,
        /// How many bytes.
        length: u64,
    },
}

/// No byte of the file lies in the range (416).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsatisfiable;

/// What a `Range` header asks of a file of `size` bytes.
///
/// Other units, several ranges and what is no range at all are passed over, as RFC 9110 (14.2) lets a server do.
pub(super) fn piece(header: &str, size: u64) -> Result<Piece, Unsatisfiable> {
    let Some((unit, set)) = header.split_once('=') else { return Ok(Piece::Whole) };
    let Some((first, last)) = set.trim().split_once('-') else { return Ok(Piece::Whole) };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Ok(Piece::Whole);
    }
    match (number(first), number(last)) {
        (Number::Some(first), Number::Some(last)) if last < first => Ok(Piece::Whole),
        (Number::Some(first), last @ (Number::Some(_) | Number::None)) => {
            if first >= size {
                return Err(Unsatisfiable);
            }
            let last = if let Number::Some(last) = last { last.min(size - 1) } else { size - 1 };
            Ok(Piece::Part { first, length: last - first + 1 })
        }
        (Number::None, Number::Some(length)) => {
            let length = length.min(size);
            if length == 0 { Err(Unsatisfiable) } else { Ok(Piece::Part { first: size - length, length }) }
        }
        _ => Ok(Piece::Whole),
    }
}

enum Number {
    None,
    Some(u64),
    Nonsense,
}

fn number(text: &str) -> Number {
    match text {
        "" => Number::None,
        // Not `parse` alone: it takes a sign. A number too big for the type is still a number, just a big one.
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Number::Some(digits.parse().unwrap_or(u64::MAX)),
        _ => Number::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(range: &str) -> (u64, u64) {
        match piece(range, 1000) {
            Ok(Piece::Part { first, length }) => (first, length),
            other => panic!("{range}: {other:?}"),
        }
    }

    #[test]
    fn ranges_by_the_rfc() {
        assert_eq!(part("bytes=0-499"), (0, 500));
        assert_eq!(part("bytes=500-"), (500, 500));
        assert_eq!(part("bytes=-200"), (800, 200));
        assert_eq!(part("bytes=-2000"), (0, 1000));
        assert_eq!(part("Bytes= 999-5000"), (999, 1));
        assert_eq!(part("bytes=0-99999999999999999999999"), (0, 1000));
    }

    #[test]
    fn outside_the_file() {
        for range in ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(piece(range, 1000), Err(Unsatisfiable), "{range}");
        }
        assert_eq!(piece("bytes=0-", 0), Err(Unsatisfiable));
        assert_eq!(piece("bytes=-1", 0), Err(Unsatisfiable));
    }

    #[test]
    fn what_is_no_single_range_is_passed_over() {
        for range in
            ["", "bytes", "bytes=", "bytes=-", "bytes=5-1", "bytes=0-1,4-5", "items=0-1", "bytes=+1-2", "bytes=a-"]
        {
            assert_eq!(piece(range, 1000), Ok(Piece::Whole), "{range}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_in_the_file(text in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in 0u64..2000) {
            if let Ok(Piece::Part { first, length }) = piece(&text, size) {
                prop_assert!(length > 0 && first + length <= size);
            }
        }
    }
}
