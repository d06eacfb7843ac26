//! Streams out of compressed streams, which must end as well as they began.

use super::limits::ZSTD_WINDOW_LOG_MAX;
use super::{ArchiveError, Budget};
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// Several gzip members in a row, as `cat` makes them, and zeros after the last, as tapes do.
pub(super) struct Gzip<R>(State<R>);

enum State<R> {
    Member(Box<GzDecoder<R>>),
    Ended,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(input: R) -> Self {
        Self(State::Member(Box::new(GzDecoder::new(input))))
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let State::Member(member) = &mut self.0 else { return Ok(0) };
            // The end of a member is told only after its checksum was compared.
            let got = member.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            let State::Member(member) = std::mem::replace(&mut self.0, State::Ended) else { return Ok(0) };
            let mut input = member.into_inner();
            match input.fill_buf()?.first() {
                None => {}
                Some(0) => only_zeros(&mut input)?,
                Some(_) => self.0 = State::Member(Box::new(GzDecoder::new(input))),
            }
        }
    }
}

fn only_zeros(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = input.fill_buf()?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "something else follows the gzip stream"));
        }
        let length = bytes.len();
        if length == 0 {
            return Ok(());
        }
        input.consume(length);
    }
}

/// Frames of zstd in a row.
pub(super) struct Zstd<R>(zstd::stream::read::Decoder<'static, R>);

impl<R: BufRead> Zstd<R> {
    pub(super) fn new(input: R) -> Result<Self, ArchiveError> {
        let failed = |error| ArchiveError::from_io(error, None);
        let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(failed)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(failed)?;
        Ok(Self(decoder))
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            // The library has a code for it that its Rust side does not pass on.
            if error.to_string().contains("too much memory") { io::Error::other(ArchiveError::Window) } else { error }
        })
    }
}

/// Counts what comes out of a stream.
pub(super) struct Counted<R> {
    pub(super) stream: R,
    pub(super) budget: Budget,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.stream.read(buffer)?;
        self.budget.unpack(got as u64).map_err(io::Error::other)?;
        Ok(got)
    }
}
