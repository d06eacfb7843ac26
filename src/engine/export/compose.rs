//! The threads that make an archive: one reads, one checks the files' bytes, one compresses, one hashes the archive, one writes.
//!
//! ```text
//! read ─┬─► check (each file against the list)
//!       └─► compress (if it is to be) ─┬─► hash
//!                                      └─► write
//! ```
//!
//! The end of the archive is made only when every file turned out right: what is cut off before that is no whole archive
//! anywhere, not in a pipe and not on a server.

use super::block::{Block, Blocks, Pool, Span, way};
use super::content::{Content, ModelFile, What, read};
use super::{ExportError, Stop};
use crate::engine::EngineError;
use crate::engine::progress::Progress;
use crate::format::archive::write::{Compressor, Container, Frame};
use crate::format::outcome::Archive;
use crate::format::task::ArchiveFormat;
use crate::ident::Sha256;
use sha2::Digest;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{self, ScopedJoinHandle};

/// Each of zstd's threads has a few megabytes of its own, and a worker's memory is counted.
const COMPRESSORS_MAX: usize = 6;

/// Where the archive's bytes go.
pub(super) trait Destination: Send {
    /// Takes what comes next.
    fn put(&mut self, bytes: &[u8]) -> Result<(), EngineError>;
}

/// Somebody else failed, and says why.
struct Gone;

/// Makes an archive.
pub(super) fn compose(
    content: &Content,
    format: ArchiveFormat,
    destination: &mut dyn Destination,
    progress: &Progress,
    stop: &Stop,
) -> Result<Archive, EngineError> {
    thread::scope(|scope| {
        let (to_hash, for_hash) = way();
        let (to_write, for_write) = way();
        let (to_check, for_check) = way();
        let outlet = Outlet { to_hash, to_write };
        let hashing = scope.spawn(move || hash(&for_hash));
        let writing = scope.spawn(move || write(&for_write, destination));
        let checking = scope.spawn(move || check(content, &for_check, progress));
        let (next, packing) = if matches!(format, ArchiveFormat::Tar | ArchiveFormat::Zip) {
            (Next::Out(outlet), None)
        } else {
            let (to_pack, for_pack) = way();
            (Next::Pack(to_pack), Some(scope.spawn(move || pack(&for_pack, format, outlet))))
        };
        let mut reader = Reader { content, progress, stop, pool: Pool::new(), block: None, next };
        let filled = reader.fill(container(format), &to_check);
        drop(to_check);
        let checked = ended(checking);
        let finished = match (filled, checked) {
            (Ok(frame), Ok(())) => reader.end(frame),
            (Err(Failed::Own(error)), _) | (_, Err(error)) => Err(Failed::Own(error)),
            (Err(Failed::Other), Ok(())) => Err(Failed::Other),
        };
        drop(reader);
        let packed = packing.map_or(Ok(()), ended);
        let archive = hashing.join().map_err(|_| EngineError::Crashed);
        // Who failed first made the others fail; what they say of it is not the cause.
        let written = ended(writing);
        match finished {
            Err(Failed::Own(error)) => Err(error),
            Ok(()) | Err(Failed::Other) => {
                written?;
                packed?;
                finished.map_err(|_| EngineError::Crashed)?;
                archive
            }
        }
    })
}

/// How the members follow one another in a format.
pub(super) fn container(format: ArchiveFormat) -> Container {
    match format {
        ArchiveFormat::Tar | ArchiveFormat::TarGz | ArchiveFormat::TarZst => Container::Tar,
        ArchiveFormat::Zip => Container::Zip,
    }
}

fn ended<T>(thread: ScopedJoinHandle<'_, Result<T, EngineError>>) -> Result<T, EngineError> {
    thread.join().unwrap_or(Err(EngineError::Crashed))
}

/// Why the reading ended early.
enum Failed {
    /// For a reason of its own.
    Own(EngineError),
    /// Another thread did, and says why.
    Other,
}

impl From<Gone> for Failed {
    fn from(_: Gone) -> Self {
        Self::Other
    }
}

/// Where the archive's own bytes go.
struct Outlet {
    to_hash: Blocks,
    to_write: Blocks,
}

impl Outlet {
    fn send(&self, block: Arc<Block>) -> Result<(), Gone> {
        self.to_hash.send(Arc::clone(&block)).map_err(|_| Gone)?;
        self.to_write.send(block).map_err(|_| Gone)
    }
}

/// Where the bytes go that are read.
enum Next {
    Out(Outlet),
    Pack(Blocks),
}

struct Reader<'a> {
    content: &'a Content,
    progress: &'a Progress,
    stop: &'a Stop,
    pool: Pool,
    block: Option<Block>,
    next: Next,
}

impl Reader<'_> {
    /// Reads everything but the archive's end.
    fn fill(&mut self, container: Container, to_check: &Blocks) -> Result<Frame, Failed> {
        let mut frame = Frame::new(container);
        let content = self.content;
        for (index, member) in content.members.iter().enumerate() {
            let Some(facts) = member.facts() else {
                self.add(&frame.folder(&member.path), Some(to_check))?;
                continue;
            };
            self.add(&frame.before_file(&member.path, facts), Some(to_check))?;
            match &member.what {
                What::Folder => {}
                What::Text(text) => self.add(text, Some(to_check))?,
                What::File(file) => self.file(index, file, to_check)?,
            }
            self.add(frame.after_file(facts), Some(to_check))?;
        }
        // What is checked must be all of it; the rest of the block goes on from here.
        if let Some(block) = self.block.take() {
            let mut rest = self.pool.block();
            rest.add(block.bytes());
            to_check.send(Arc::new(block)).map_err(|_| Gone)?;
            self.block = Some(rest);
        }
        Ok(frame)
    }

    /// The archive's end, when everything turned out right.
    fn end(&mut self, mut frame: Frame) -> Result<(), Failed> {
        self.add(&frame.end(), None)?;
        let mut block = self.block.take().unwrap_or_else(|| self.pool.block());
        block.is_last = true;
        Ok(self.send(block, None)?)
    }

    fn add(&mut self, mut bytes: &[u8], to_check: Option<&Blocks>) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let block = self.block.get_or_insert_with(|| self.pool.block());
            let taken = block.add(bytes);
            bytes = &bytes[taken..];
            self.send_full(to_check)?;
        }
        Ok(())
    }

    fn file(&mut self, member: usize, file: &ModelFile, to_check: &Blocks) -> Result<(), Failed> {
        let mut opened = self.content.open(file).map_err(Failed::Own)?;
        let shown = self.content.shown(file);
        let mut left = file.facts.size;
        loop {
            if self.stop.is_stopped() {
                return Err(Failed::Own(EngineError::Export(ExportError::Stopped)));
            }
            let block = self.block.get_or_insert_with(|| self.pool.block());
            let start = block.filled();
            let room = block.room();
            let wanted = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = read(&mut opened, &mut room[..wanted], &shown).map_err(Failed::Own)?;
            if got == 0 && left > 0 {
                return Err(Failed::Own(self.content.resized(file)));
            }
            block.grow(got);
            left -= got as u64;
            block.spans.push(Span { member, range: start..start + got, is_end: left == 0 });
            self.progress.fetched(got as u64);
            self.send_full(Some(to_check))?;
            if left == 0 {
                break;
            }
        }
        // One more byte would be one that nobody listed.
        match read(&mut opened, &mut [0], &shown).map_err(Failed::Own)? {
            0 => Ok(()),
            _ => Err(Failed::Own(self.content.resized(file))),
        }
    }

    fn send_full(&mut self, to_check: Option<&Blocks>) -> Result<(), Gone> {
        match self.block.take() {
            Some(block) if block.is_full() => self.send(block, to_check),
            block => {
                self.block = block;
                Ok(())
            }
        }
    }

    fn send(&mut self, block: Block, to_check: Option<&Blocks>) -> Result<(), Gone> {
        let block = Arc::new(block);
        if let Some(to_check) = to_check {
            to_check.send(Arc::clone(&block)).map_err(|_| Gone)?;
        }
        match &self.next {
            Next::Out(outlet) => outlet.send(block),
            Next::Pack(to_pack) => to_pack.send(block).map_err(|_| Gone),
        }
    }
}

/// Compares each file's bytes with the list.
fn check(content: &Content, blocks: &Receiver<Arc<Block>>, progress: &Progress) -> Result<(), EngineError> {
    let mut hasher = sha2::Sha256::new();
    for block in blocks {
        for span in &block.spans {
            hasher.update(&block.bytes()[span.range.clone()]);
            progress.done(span.range.len() as u64);
            if !span.is_end {
                continue;
            }
            let found = Sha256::from_bytes(std::mem::take(&mut hasher).finalize().into());
            if let What::File(file) = &content.members[span.member].what
                && file.sha256 != found
            {
                let path = content.shown(file);
                return Err(EngineError::Export(ExportError::Changed { path, expected: file.sha256, found }));
            }
            progress.file_done();
        }
    }
    Ok(())
}

fn pack(blocks: &Receiver<Arc<Block>>, format: ArchiveFormat, outlet: Outlet) -> Result<(), EngineError> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(COMPRESSORS_MAX);
    let out = Packed { outlet, pool: Pool::new(), block: None };
    // Compressors fail only where their output does, and then the writer says why.
    let gone = |_: io::Error| EngineError::Crashed;
    let mut compressor = Compressor::new(format, u32::try_from(workers).unwrap_or(1), out).map_err(gone)?;
    for block in blocks {
        compressor.write_all(block.bytes()).map_err(gone)?;
        if block.is_last {
            let mut out = compressor.finish().map_err(gone)?;
            return out.send().map_err(gone);
        }
    }
    // What was read turned out wrong: there must be no end.
    Ok(())
}

/// Cuts what a compressor gives into blocks.
struct Packed {
    outlet: Outlet,
    pool: Pool,
    block: Option<Block>,
}

impl Packed {
    fn send(&mut self) -> io::Result<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        self.outlet.send(Arc::new(block)).map_err(|Gone| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let block = self.block.get_or_insert_with(|| self.pool.block());
        let taken = block.add(bytes);
        if block.is_full() {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hash(blocks: &Receiver<Arc<Block>>) -> Archive {
    let mut hasher = sha2::Sha256::new();
    let mut size_bytes = 0;
    for block in blocks {
        hasher.update(block.bytes());
        size_bytes += block.filled() as u64;
    }
    Archive { sha256: Sha256::from_bytes(hasher.finalize().into()), size_bytes }
}

fn write(blocks: &Receiver<Arc<Block>>, destination: &mut dyn Destination) -> Result<(), EngineError> {
    blocks.iter().try_for_each(|block| destination.put(block.bytes()))
}
