//! Tar, member by member, on one pass over a stream.
//!
//! The blocks' fields are the `tar` crate's; the walk over them is our own, as that crate's takes a stream that just ends for
//! a whole archive, reads headers of any length into memory, and follows whichever of two contradicting headers comes last.

mod fields;
mod pax;
mod sparse;

use super::limits::{Budget, FILE_MAX_BYTES, HEADER_DATA_MAX_BYTES, MEMBERS_MAX};
use super::{ArchiveError, Member, MemberKind};
use fields::{BLOCK_BYTES, Block};
use pax::Pax;
use sparse::Holes;
use std::io::{self, Read};
use tar::EntryType;

pub(super) use fields::is_header;

/// Data that is not wanted is read in pieces of this size.
const SKIP_BYTES: usize = 16 * 1024;

/// A tar that is being read.
pub(super) struct Tar<R> {
    input: R,
    budget: Budget,
    /// How many bytes there are still, where that is known.
    left: Option<u64>,
    /// Of the current member: bytes of data, then zeros up to the next block.
    data: u64,
    padding: u64,
    holes: Option<Holes>,
    headers: u64,
    /// The current member, for messages.
    name: String,
    ended: bool,
}

/// What headers before a member say of it.
#[derive(Default)]
struct Before {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<R: Read> Tar<R> {
    pub(super) fn new(input: R, length: Option<u64>, budget: Budget) -> Self {
        let name = String::new();
        Self { input, budget, left: length, data: 0, padding: 0, holes: None, headers: 0, name, ended: false }
    }

    /// The next member. None after the end marker, when everything behind it was read too.
    pub(super) fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        self.skip()?;
        let mut before = Before::default();
        loop {
            let block = self.block()?;
            if block.is_zero() {
                return self.end(&before);
            }
            self.headers += 1;
            let shown = String::from_utf8_lossy(&block.name()).into_owned();
            if self.headers > MEMBERS_MAX {
                return Err(ArchiveError::TooMany { member: super::error::shown(&shown) });
            }
            if !block.has_checksum() {
                return Err(ArchiveError::damaged(&shown, "its header does not match its checksum"));
            }
            let kind = block.kind();
            if let Some(member) = self.header(&block, kind, &shown, &mut before)? {
                return Ok(Some(member));
            }
        }
    }

    /// One header: a member, or none if it only describes the next one.
    fn header(
        &mut self,
        block: &Block,
        kind: EntryType,
        shown: &str,
        before: &mut Before,
    ) -> Result<Option<Member>, ArchiveError> {
        let twice = || ArchiveError::damaged(shown, "two headers before it name it");
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink => {
                let text = self.small(block, shown)?;
                let text = text.strip_suffix(b"\0").unwrap_or(&text).to_vec();
                let place = if kind == EntryType::GNULongName { &mut before.name } else { &mut before.link };
                if before.pax.is_some() || place.replace(text).is_some() {
                    return Err(twice());
                }
                Ok(None)
            }
            EntryType::XHeader => {
                let text = self.small(block, shown)?;
                let pax = Pax::parse(&text).map_err(|why| ArchiveError::damaged(shown, why))?;
                if before.name.is_some() || before.link.is_some() || before.pax.replace(pax).is_some() {
                    return Err(twice());
                }
                Ok(None)
            }
            EntryType::XGlobalHeader => {
                let text = self.small(block, shown)?;
                let pax = Pax::parse(&text).map_err(|why| ArchiveError::damaged(shown, why))?;
                if pax.describes_a_file() {
                    return Err(ArchiveError::unsupported(shown, "is a global header that names or sizes every file"));
                }
                Ok(None)
            }
            // A volume's label.
            kind if kind.as_byte() == b'V' => {
                self.size(block, shown, None)?;
                self.skip()?;
                Ok(None)
            }
            kind => self.member(block, kind, std::mem::take(before)).map(Some),
        }
    }

    fn member(&mut self, block: &Block, kind: EntryType, before: Before) -> Result<Member, ArchiveError> {
        let Before { name, link, pax } = before;
        let pax = pax.unwrap_or_default();
        let name = pax.path.or(name).unwrap_or_else(|| block.name());
        self.name = super::error::shown(&String::from_utf8_lossy(&name));
        let shown = self.name.clone();
        if pax.is_sparse {
            return Err(ArchiveError::unsupported(&shown, "is sparse in the PAX form, which is not read"));
        }
        self.size(block, &shown, pax.size)?;
        let target = || pax.link.or(link).unwrap_or_else(|| block.link());
        let is_folder_name = name.ends_with(b"/");
        let kind = match kind {
            EntryType::Regular | EntryType::Continuous if is_folder_name => MemberKind::Folder,
            EntryType::Regular | EntryType::Continuous => MemberKind::File { size: self.data },
            EntryType::GNUSparse => {
                let holes = self.holes(block)?;
                let size = holes.size();
                self.holes = Some(holes);
                MemberKind::File { size }
            }
            EntryType::Directory => MemberKind::Folder,
            EntryType::Symlink => MemberKind::Symlink { target: target() },
            EntryType::Link => MemberKind::HardLink { target: target() },
            EntryType::Char | EntryType::Block | EntryType::Fifo => MemberKind::Special,
            other => {
                let why = format!("is of the type {:?}, which is not read", char::from(other.as_byte()));
                return Err(ArchiveError::unsupported(&shown, why));
            }
        };
        // Some readers skip such data and some do not: they would see different members after it.
        if self.data > 0 && !matches!(kind, MemberKind::File { .. }) {
            return Err(ArchiveError::damaged(&shown, "it has data and is no file"));
        }
        Ok(Member { name, backslashes: false, kind })
    }

    fn holes(&mut self, block: &Block) -> Result<Holes, ArchiveError> {
        let (mut map, mut more) = block.holes().map_err(|why| ArchiveError::damaged(&self.name, why))?;
        let mut blocks = 0;
        while more {
            blocks += BLOCK_BYTES as u64;
            if blocks > HEADER_DATA_MAX_BYTES {
                return Err(ArchiveError::dangerous(&self.name, "has a map of holes that is longer than 1 MiB"));
            }
            let next = self.block()?;
            more = next.more_holes(&mut map).map_err(|why| ArchiveError::damaged(&self.name, why))?;
        }
        let size = block.real_size().map_err(|why| ArchiveError::damaged(&self.name, why))?;
        if size > FILE_MAX_BYTES {
            return Err(ArchiveError::Size { member: self.name.clone() });
        }
        Holes::new(&map, size, self.data).map_err(|why| ArchiveError::damaged(&self.name, why))
    }

    /// Takes over a member's size.
    fn size(&mut self, block: &Block, shown: &str, pax: Option<u64>) -> Result<(), ArchiveError> {
        let size = match pax {
            Some(size) => size,
            None => block.size().map_err(|why| ArchiveError::damaged(shown, why))?,
        };
        if size > FILE_MAX_BYTES {
            return Err(ArchiveError::Size { member: super::error::shown(shown) });
        }
        if self.left.is_some_and(|left| left < size) {
            return Err(ArchiveError::Cut { member: Some(super::error::shown(shown)) });
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK_BYTES as u64) - size;
        self.holes = None;
        Ok(())
    }

    /// The data of a header that describes the next member.
    fn small(&mut self, block: &Block, shown: &str) -> Result<Vec<u8>, ArchiveError> {
        self.size(block, shown, None)?;
        if self.data > HEADER_DATA_MAX_BYTES {
            return Err(ArchiveError::dangerous(shown, "is a header with more than 1 MiB of data"));
        }
        let mut text = vec![0; usize::try_from(self.data).unwrap_or_default()];
        self.exactly(&mut text)?;
        self.data = 0;
        self.skip()?;
        Ok(text)
    }

    /// Reads on in the current file.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        if let Some(holes) = &mut self.holes {
            let zeros = holes.zeros(buffer.len());
            if zeros > 0 {
                buffer[..zeros].fill(0);
                self.budget.unpack(zeros as u64)?;
                return Ok(zeros);
            }
        }
        let most = self.holes.as_ref().map_or(self.data, Holes::data).min(self.data);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let got = self.some(&mut buffer[..most])?;
        self.data -= got as u64;
        if let Some(holes) = &mut self.holes {
            holes.advance(got as u64);
        }
        Ok(got)
    }

    fn skip(&mut self) -> Result<(), ArchiveError> {
        let mut rest = self.data + self.padding;
        let mut buffer = [0; SKIP_BYTES];
        while rest > 0 {
            let most = usize::try_from(rest).unwrap_or(usize::MAX).min(SKIP_BYTES);
            rest -= self.some(&mut buffer[..most])? as u64;
        }
        (self.data, self.padding, self.holes) = (0, 0, None);
        Ok(())
    }

    /// At least one byte.
    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let got = self.some_or_end(buffer)?;
        if got == 0 { Err(ArchiveError::Cut { member: Some(self.name.clone()) }) } else { Ok(got) }
    }

    fn some_or_end(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            match self.input.read(buffer) {
                Ok(got) => {
                    self.left = self.left.map(|left| left.saturating_sub(got as u64));
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ArchiveError::from_io(error, Some(&self.name))),
            }
        }
    }

    fn exactly(&mut self, mut buffer: &mut [u8]) -> Result<(), ArchiveError> {
        while !buffer.is_empty() {
            let got = self.some(buffer)?;
            buffer = &mut buffer[got..];
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Block, ArchiveError> {
        let mut block = Block::new();
        self.exactly(block.bytes_mut())?;
        Ok(block)
    }

    /// Everything behind the end marker is nobody's, but a compressed stream must end well.
    fn end(&mut self, before: &Before) -> Result<Option<Member>, ArchiveError> {
        if before.name.is_some() || before.link.is_some() || before.pax.is_some() {
            return Err(ArchiveError::Cut { member: Some(self.name.clone()) });
        }
        let mut buffer = [0; SKIP_BYTES];
        while self.some_or_end(&mut buffer)? > 0 {}
        self.ended = true;
        Ok(None)
    }
}
