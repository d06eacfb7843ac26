//! One reader for all kinds of archives.

use super::decompress::{Counted, Gzip, Zstd};
use super::tar::Tar;
use super::zip::Zip;
use super::{ArchiveError, Budget, Container, Member};
use std::io::{self, BufRead, BufReader, Read, Seek};

/// Reads smaller than this are put together; longer ones go straight through.
const BUFFER_BYTES: usize = 64 * 1024;

/// The bytes of an archive: counted, and their own errors told from those of what they say.
#[derive(Debug)]
pub struct Input<R> {
    inner: R,
    budget: Budget,
}

impl<R> Input<R> {
    /// Counts what is read in `budget`.
    pub fn new(inner: R, budget: Budget) -> Self {
        Self { inner, budget }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = match self.inner.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(io::Error::other(ArchiveError::Source(error)));
            }
            other => other?,
        };
        self.budget.read(got as u64);
        Ok(got)
    }
}

impl<R: Seek> Seek for Input<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to).map_err(|error| io::Error::other(ArchiveError::Source(error)))
    }
}

/// Gives the members of an archive one after the other.
pub struct Reader<'a>(Inner<'a>);

enum Inner<'a> {
    Tar(Box<Tar<Box<dyn Read + 'a>>>),
    Zip(Box<Zip<Box<dyn ReadSeek + 'a>>>),
}

trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

impl<'a> Reader<'a> {
    /// Reads a tar of any compression. `length` is how many bytes there are, where that is known.
    pub fn tar(
        container: Container,
        input: impl Read + 'a,
        length: Option<u64>,
        budget: &Budget,
    ) -> Result<Self, ArchiveError> {
        let input = buffered(Input::new(input, budget.clone()));
        let (stream, length): (Box<dyn Read + 'a>, _) = match container {
            Container::TarGz => (Box::new(Gzip::new(input)), None),
            Container::TarZst => (Box::new(Zstd::new(input)?), None),
            Container::Tar | Container::Zip => (Box::new(input), length),
        };
        let counted = Counted { stream, budget: budget.clone() };
        Ok(Self(Inner::Tar(Box::new(Tar::new(Box::new(buffered(counted)), length, budget.clone())))))
    }

    /// Reads a zip, whose directory is at its end.
    pub fn zip(input: impl Read + Seek + 'a, budget: &Budget) -> Result<Self, ArchiveError> {
        let input: Box<dyn ReadSeek + 'a> = Box::new(Input::new(input, Budget::default()));
        Ok(Self(Inner::Zip(Box::new(Zip::open(input, budget.clone())?))))
    }

    /// The next member; what was not read of the one before is skipped. None when the archive has ended, and has ended well.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        match &mut self.0 {
            Inner::Tar(tar) => tar.next_member(),
            Inner::Zip(zip) => zip.next_member(),
        }
    }

    /// Reads on in the file that the last member is; nothing at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        match &mut self.0 {
            Inner::Tar(tar) => tar.read(buffer),
            Inner::Zip(zip) => zip.read(buffer),
        }
    }
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Inner::Tar(_) => "a tar reader",
            Inner::Zip(_) => "a zip reader",
        })
    }
}

fn buffered<R: Read>(input: R) -> impl BufRead {
    BufReader::with_capacity(BUFFER_BYTES, input)
}
