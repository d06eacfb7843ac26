//! Compression of a whole archive.

use crate::format::task::ArchiveFormat;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// Weights hardly compress: the fastest level is nearly as good as the best.
const LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

/// A stream that is compressed, or is not.
pub enum Compressor<W: Write> {
    /// As it is.
    None(W),
    /// gzip.
    Gzip(GzEncoder<W>),
    /// zstd.
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Begins a stream. zstd uses up to `workers` threads (at least one): how many they are changes none of its bytes. Those of
    /// gzip depend on the pieces that are written, so these must always be cut alike.
    pub fn new(format: ArchiveFormat, workers: u32, out: W) -> io::Result<Self> {
        Ok(match format {
            ArchiveFormat::Tar | ArchiveFormat::Zip => Self::None(out),
            // The header says neither a time nor a name nor a system.
            ArchiveFormat::TarGz => Self::Gzip(GzEncoder::new(out, Compression::new(LEVEL))),
            ArchiveFormat::TarZst => {
                let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
                // Without any worker the stream is cut elsewhere, and the bytes are others.
                encoder.multithread(workers.max(1))?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Ends the stream.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(out) => out.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
