//! Patterns of names: Python's `fnmatch`, as `huggingface_hub`'s `allow_patterns` use it: `*` crosses `/`, and `dir/` means `dir/*`.

/// One pattern. Every text is one.
pub struct Glob(Vec<Piece>);

enum Piece {
    /// `*`
    Many,
    /// `?`
    One,
    /// Anything else outside brackets.
    Char(char),
    /// `[…]`, or `[!…]`.
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Piece {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Many | Self::One => true,
            Self::Char(own) => *own == c,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated
            }
        }
    }
}

impl Glob {
    /// Reads a pattern.
    pub fn new(pattern: &str) -> Self {
        let mut chars: Vec<char> = pattern.chars().collect();
        if chars.last() == Some(&'/') {
            chars.push('*');
        }
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < chars.len() {
            let c = chars[at];
            at += 1;
            pieces.push(match c {
                '*' => Piece::Many,
                '?' => Piece::One,
                '[' => match class(&chars[at..]) {
                    Some((piece, length)) => {
                        at += length;
                        piece
                    }
                    // Without its end a bracket is only a bracket.
                    None => Piece::Char('['),
                },
                other => Piece::Char(other),
            });
        }
        Self(pieces)
    }

    /// Whether the whole text matches. Goes back only to the last `*`, so a hostile pattern costs time but not for ever.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut piece, mut at) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.0.get(piece) {
                Some(Piece::Many) => {
                    star = Some((piece, at));
                    piece += 1;
                }
                Some(one) if one.matches(text[at]) => {
                    piece += 1;
                    at += 1;
                }
                _ => {
                    let Some((star_piece, star_at)) = star else { return false };
                    star = Some((star_piece, star_at + 1));
                    piece = star_piece + 1;
                    at = star_at + 1;
                }
            }
        }
        self.0[piece..].iter().all(|piece| matches!(piece, Piece::Many))
    }
}

/// A bracket's content from after `[`, and how many characters it takes with its `]`.
fn class(chars: &[char]) -> Option<(Piece, usize)> {
    let negated = chars.first() == Some(&'!');
    let start = usize::from(negated);
    // A `]` in the first place is one of the characters.
    let end = start + 1 + chars.get(start + 1..)?.iter().position(|c| *c == ']')?;
    let inner = &chars[start..end];
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < inner.len() {
        if at + 2 < inner.len() && inner[at + 1] == '-' {
            ranges.push((inner[at], inner[at + 2]));
            at += 3;
        } else {
            ranges.push((inner[at], inner[at]));
            at += 1;
        }
    }
    Some((Piece::Class { negated, ranges }, end + 1))
}
