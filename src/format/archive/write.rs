//! The bytes of an archive that is written: what stands before, between and after the files' own bytes.
//!
//! Same members, same bytes: times, owners and modes are constants, and nothing depends on the machine. Pure but for the
//! compressors, which write into what they are given. The order of the members is the caller's.

mod compress;
mod tar;
mod zip;

pub use compress::Compressor;

/// How the members follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// tar, in GNU's form: long names and sizes over 8 GiB are read by every program that matters.
    Tar,
    /// zip, in its 64-bit form where it has to be.
    Zip,
}

/// Makes what stands around the files' bytes, in the order of the archive.
#[derive(Debug)]
pub struct Frame {
    kind: Kind,
    length: u64,
}

#[derive(Debug)]
enum Kind {
    Tar,
    Zip(zip::Directory),
}

/// A file as the archive's headers have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// How many bytes.
    pub size: u64,
    /// Their CRC-32. A zip has it before the bytes: programs that read a stream take no stored member without. No use in a tar.
    pub crc32: u32,
}

impl Frame {
    /// An archive with nothing in it yet.
    pub fn new(container: Container) -> Self {
        let kind = match container {
            Container::Tar => Kind::Tar,
            Container::Zip => Kind::Zip(zip::Directory::default()),
        };
        Self { kind, length: 0 }
    }

    /// A folder, its path without a slash at the end.
    pub fn folder(&mut self, path: &str) -> Vec<u8> {
        let path = format!("{path}/");
        let header = match &mut self.kind {
            Kind::Tar => tar::folder(&path),
            Kind::Zip(directory) => directory.folder(&path, self.length),
        };
        self.length += header.len() as u64;
        header
    }

    /// What stands before a file's bytes.
    pub fn before_file(&mut self, path: &str, facts: FileFacts) -> Vec<u8> {
        let header = match &mut self.kind {
            Kind::Tar => tar::file(path, facts.size),
            Kind::Zip(directory) => directory.file(path, facts, self.length),
        };
        self.length += header.len() as u64 + facts.size;
        header
    }

    /// What stands after a file's bytes.
    pub fn after_file(&mut self, facts: FileFacts) -> &'static [u8] {
        let padding = match self.kind {
            Kind::Tar => tar::padding(facts.size),
            Kind::Zip(_) => &[],
        };
        self.length += padding.len() as u64;
        padding
    }

    /// What stands at the end of the archive.
    pub fn end(&mut self) -> Vec<u8> {
        let end = match &mut self.kind {
            Kind::Tar => tar::end(),
            Kind::Zip(directory) => std::mem::take(directory).end(self.length),
        };
        self.length += end.len() as u64;
        end
    }

    /// How long the archive is so far, the files' own bytes included.
    pub fn length(&self) -> u64 {
        self.length
    }
}

#[cfg(test)]
mod tests;
