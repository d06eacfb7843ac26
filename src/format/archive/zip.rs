//! Zip, member by member, in the order in which the members lie in the file.
//!
//! A walk of our own: what has to be refused here (members that overlap, local headers that disagree with the directory, names
//! given twice) is what libraries smooth over before anybody can see it.

mod data;
mod directory;
mod fields;

use super::limits::Budget;
use super::{ArchiveError, Member, MemberKind};
use crate::ident::PATH_MAX_BYTES;
use data::Data;
use directory::{Directory, Entry};
use fields::{DESCRIPTOR_BYTES, LOCAL_BYTES, Local, is_descriptor};
use std::io::{Read, Seek, SeekFrom};

/// What a zip's members take, by its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// How many files.
    pub files: u64,
    /// Their sizes' sum.
    pub bytes: u64,
}

/// Reads what a zip's members take, without reading them.
pub fn extent(mut input: impl Read + Seek) -> Result<Extent, ArchiveError> {
    let directory = Directory::read(&mut input)?;
    let budget = Budget::default();
    budget.read(directory.length);
    let mut extent = Extent { files: 0, bytes: 0 };
    for entry in &directory.entries {
        if let MemberKind::File { size } = entry.kind()? {
            budget.unpack(size)?;
            extent = Extent { files: extent.files + 1, bytes: extent.bytes.saturating_add(size) };
        }
    }
    Ok(extent)
}

/// A zip that is being read.
pub(super) struct Zip<R> {
    input: R,
    budget: Budget,
    directory: Directory,
    /// How many members were given.
    given: usize,
    current: Option<Current>,
}

/// The member that is being read.
struct Current {
    data: Data,
    shown: String,
    /// Where the data ends, and where the next member begins.
    end: u64,
    border: u64,
}

impl<R: Read + Seek> Zip<R> {
    pub(super) fn open(mut input: R, budget: Budget) -> Result<Self, ArchiveError> {
        let directory = Directory::read(&mut input)?;
        budget.read(directory.length);
        Ok(Self { input, budget, directory, given: 0, current: None })
    }

    pub(super) fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        let mut rest = [0; 16 * 1024];
        while self.read(&mut rest)? > 0 {}
        let Some(entry) = self.directory.entries.get(self.given).cloned() else { return Ok(None) };
        self.given += 1;
        let border = self.directory.entries.get(self.given).map_or(self.directory.at, |next| next.at);
        self.begin(&entry, border)?;
        let kind = entry.kind()?;
        let kind = match kind {
            MemberKind::Symlink { .. } => MemberKind::Symlink { target: self.target(&entry)? },
            other => other,
        };
        Ok(Some(Member { name: entry.name, backslashes: entry.backslashes, kind }))
    }

    /// Reads a member's local header, and holds it against the directory.
    fn begin(&mut self, entry: &Entry, border: u64) -> Result<(), ArchiveError> {
        let shown = entry.shown();
        let mut header = [0; LOCAL_BYTES];
        self.at(entry.at, &mut header, &shown)?;
        let mut local = Local::parse(&header).ok_or_else(|| ArchiveError::damaged(&shown, "it has no local header"))?;
        let mut name = vec![0; local.name_length];
        let mut extra = vec![0; local.extra_length];
        self.exactly(&mut name, &shown)?;
        self.exactly(&mut extra, &shown)?;
        local.take_zip64(&extra).map_err(|why| ArchiveError::damaged(&shown, why))?;
        if let Some(what) = local.differs(entry, &name) {
            return Err(ArchiveError::damaged(
                &shown,
                format!("its local header and the directory disagree on its {what}"),
            ));
        }
        let begin = entry.at + (LOCAL_BYTES + name.len() + extra.len()) as u64;
        let end = begin.checked_add(entry.packed).filter(|end| *end <= border);
        let end = end.ok_or_else(|| ArchiveError::damaged(&shown, "it overlaps what follows it"))?;
        self.current = Some(Current { data: Data::new(entry), shown, end, border });
        Ok(())
    }

    fn target(&mut self, entry: &Entry) -> Result<Vec<u8>, ArchiveError> {
        if entry.size > PATH_MAX_BYTES as u64 {
            return Err(ArchiveError::dangerous(&entry.shown(), "is a link to a name that is too long"));
        }
        let mut target = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let got = self.read(&mut buffer)?;
            if got == 0 {
                return Ok(target);
            }
            target.extend_from_slice(&buffer[..got]);
        }
    }

    /// Reads on in the current member. Its end is told only when its size, its checksum and its descriptor were right.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let Some(current) = &mut self.current else { return Ok(0) };
        let got = current
            .data
            .read(&mut self.input, buffer)
            .map_err(|error| ArchiveError::from_io(error, Some(&current.shown)))?;
        if got > 0 || buffer.is_empty() {
            self.budget.unpack(got as u64)?;
            return Ok(got);
        }
        let Some(current) = self.current.take() else { return Ok(0) };
        self.descriptor(&current)?;
        Ok(0)
    }

    fn descriptor(&mut self, current: &Current) -> Result<(), ArchiveError> {
        let entry = current.data.entry();
        if !entry.has_descriptor() {
            return Ok(());
        }
        let room = usize::try_from(current.border - current.end).unwrap_or(usize::MAX).min(DESCRIPTOR_BYTES);
        let mut bytes = [0; DESCRIPTOR_BYTES];
        self.at(current.end, &mut bytes[..room], &current.shown)?;
        if is_descriptor(&bytes[..room], entry) {
            return Ok(());
        }
        Err(ArchiveError::damaged(&current.shown, "its data descriptor and the directory disagree"))
    }

    fn at(&mut self, at: u64, buffer: &mut [u8], shown: &str) -> Result<(), ArchiveError> {
        self.input.seek(SeekFrom::Start(at)).map_err(|error| ArchiveError::from_io(error, Some(shown)))?;
        self.exactly(buffer, shown)
    }

    fn exactly(&mut self, buffer: &mut [u8], shown: &str) -> Result<(), ArchiveError> {
        self.input.read_exact(buffer).map_err(|error| ArchiveError::from_io(error, Some(shown)))
    }
}
