//! A block of 512 bytes and the fields in it.

use super::sparse::Span;
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// What everything in a tar is counted in.
pub(super) const BLOCK_BYTES: usize = 512;
/// Where the checksum lies in a block: it is counted as spaces.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Whether bytes begin with a header, or with the end marker of an empty archive.
pub(in super::super) fn is_header(prefix: &[u8]) -> bool {
    let Some(bytes) = prefix.get(..BLOCK_BYTES) else { return false };
    let mut block = Block::new();
    block.bytes_mut().copy_from_slice(bytes);
    block.is_zero() || block.has_checksum()
}

/// A block.
pub(super) struct Block(Header);

impl Block {
    pub(super) fn new() -> Self {
        Self(Header::new_old())
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8; BLOCK_BYTES] {
        self.0.as_mut_bytes()
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.as_bytes().iter().all(|byte| *byte == 0)
    }

    pub(super) fn has_checksum(&self) -> bool {
        let bytes = self.0.as_bytes();
        let spaces = u64::from(b' ') * CHECKSUM.len() as u64;
        let sum =
            bytes[..CHECKSUM.start].iter().chain(&bytes[CHECKSUM.end..]).map(|byte| u64::from(*byte)).sum::<u64>();
        number(&bytes[CHECKSUM]).is_ok_and(|said| said == sum + spaces)
    }

    pub(super) fn kind(&self) -> EntryType {
        self.0.entry_type()
    }

    pub(super) fn name(&self) -> Vec<u8> {
        self.0.path_bytes().into_owned()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.0.link_name_bytes().unwrap_or_default().into_owned()
    }

    pub(super) fn size(&self) -> Result<u64, &'static str> {
        number(&self.0.as_old().size)
    }

    /// The size with its holes.
    pub(super) fn real_size(&self) -> Result<u64, &'static str> {
        self.0.as_gnu().ok_or("it is sparse and not of GNU's form").and_then(|gnu| number(&gnu.realsize))
    }

    /// Where the data of a sparse file goes, and whether more of that follows in the next block.
    pub(super) fn holes(&self) -> Result<(Vec<Span>, bool), &'static str> {
        let gnu = self.0.as_gnu().ok_or("it is sparse and not of GNU's form")?;
        let mut map = Vec::new();
        spans(&gnu.sparse, &mut map)?;
        Ok((map, gnu.is_extended()))
    }

    /// The same of a block that holds nothing else.
    pub(super) fn more_holes(&self, map: &mut Vec<Span>) -> Result<bool, &'static str> {
        let mut more = GnuExtSparseHeader::new();
        more.as_mut_bytes().copy_from_slice(self.0.as_bytes());
        spans(more.sparse(), map)?;
        Ok(more.is_extended())
    }
}

fn spans(fields: &[GnuSparseHeader], map: &mut Vec<Span>) -> Result<(), &'static str> {
    for field in fields.iter().take_while(|field| field.numbytes[0] != 0) {
        map.push(Span { at: number(&field.offset)?, length: number(&field.numbytes)? });
    }
    Ok(())
}

/// A number in octal digits, or in base 256 where the first bit is set.
fn number(field: &[u8]) -> Result<u64, &'static str> {
    const WRONG: &str = "a number in its header is none";
    if field[0] & 0x80 != 0 {
        // 0xff begins a negative one.
        let leading = field.len() - size_of::<u64>().min(field.len());
        if field[0] != 0x80 || field[1..leading.max(1)].iter().any(|byte| *byte != 0) {
            return Err("a number in its header is impossible");
        }
        return Ok(field[leading.max(1)..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    text.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8).map(|sum| sum + u64::from(byte - b'0')).ok_or(WRONG),
        _ => Err(WRONG),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"00000000017\0").unwrap(), 15);
        assert_eq!(number(b"  17 \0\0\0").unwrap(), 15);
        assert_eq!(number(b"\0\0\0").unwrap(), 0);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\x01").unwrap(), (2 << 32) + 1);
        for field in [
            &b"18"[..],
            b"-1",
            b"1 7",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x80\x01\0\0\0\0\0\0\0\0\0\0",
        ] {
            assert!(number(field).is_err(), "{field:?}");
        }
    }
}
