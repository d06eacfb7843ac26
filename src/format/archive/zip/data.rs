//! The bytes of one member: as they are, or inflated, and counted and summed up either way.

use super::directory::{DEFLATED, Entry};
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, ErrorKind, Read};

/// Deflated bytes are read in pieces of this size.
const PACKED_BYTES: usize = 64 * 1024;

/// A member's data on their way.
pub(super) struct Data {
    entry: Entry,
    inflate: Option<Inflate>,
    /// What was not read of the packed bytes.
    packed: u64,
    got: u64,
    sum: crc32fast::Hasher,
}

struct Inflate {
    state: Decompress,
    buffer: Vec<u8>,
    /// What of the buffer was not inflated yet.
    from: usize,
    to: usize,
    ended: bool,
}

impl Data {
    pub(super) fn new(entry: &Entry) -> Self {
        let inflate = (entry.method == DEFLATED).then(|| Inflate {
            state: Decompress::new(false),
            buffer: vec![0; PACKED_BYTES],
            from: 0,
            to: 0,
            ended: false,
        });
        Self { packed: entry.packed, entry: entry.clone(), inflate, got: 0, sum: crc32fast::Hasher::new() }
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(super) fn read(&mut self, input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let got = match &mut self.inflate {
            None => stored(input, &mut self.packed, buffer)?,
            Some(inflate) => inflate.read(input, &mut self.packed, buffer)?,
        };
        self.sum.update(&buffer[..got]);
        self.got += got as u64;
        if self.got > self.entry.size {
            return Err(wrong("it is longer than its header says"));
        }
        if got == 0 {
            self.check_end()?;
        }
        Ok(got)
    }

    fn check_end(&self) -> io::Result<()> {
        let rest = self.inflate.as_ref().map_or(0, |inflate| inflate.to - inflate.from);
        if self.packed > 0 || rest > 0 || self.got != self.entry.size {
            return Err(wrong("its data does not have the length that its header says"));
        }
        if self.sum.clone().finalize() != self.entry.sum {
            return Err(wrong("its bytes do not match their CRC-32"));
        }
        Ok(())
    }
}

fn stored(input: &mut impl Read, packed: &mut u64, buffer: &mut [u8]) -> io::Result<usize> {
    let most = usize::try_from(*packed).unwrap_or(usize::MAX).min(buffer.len());
    if most == 0 {
        return Ok(0);
    }
    let got = some(input, &mut buffer[..most])?;
    *packed -= got as u64;
    Ok(got)
}

impl Inflate {
    fn read(&mut self, input: &mut impl Read, packed: &mut u64, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            if self.from == self.to {
                (self.from, self.to) = (0, stored(input, packed, &mut self.buffer)?);
            }
            let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
            let packed = &self.buffer[self.from..self.to];
            let status = self.state.decompress(packed, buffer, FlushDecompress::None);
            let status = status.map_err(|_| wrong("its deflate stream is corrupt"))?;
            // Both counts are below the lengths of the two buffers.
            self.from += usize::try_from(self.state.total_in() - before_in).unwrap_or(0);
            let got = usize::try_from(self.state.total_out() - before_out).unwrap_or(0);
            self.ended = status == Status::StreamEnd;
            if got > 0 {
                return Ok(got);
            }
            if !self.ended && self.to == 0 {
                return Err(wrong("its deflate stream is cut off"));
            }
        }
        Ok(0)
    }
}

fn some(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn wrong(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}
