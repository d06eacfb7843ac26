//! `modelcache export REPO --volume DIR --file F|-`

use super::local::{self, Output};
use crate::engine::Settings;
use crate::format::task::{ArchiveFormat, ArchivePlace, Export, MountedFile, Task, Work};
use crate::ident::{ModelRef, RepoId, Revision};
use std::path::{Path, PathBuf};

/// The place that is standard output.
const STDOUT: &str = "-";

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The repo, as on the Hub
    repo: RepoId,
    /// The folder that is the volume; nothing is written to it
    #[arg(long, value_name = "DIR")]
    volume: PathBuf,
    /// The revision that was asked for at the download, if one was
    #[arg(long)]
    revision: Option<Revision>,
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Leave out what the documentation of Dataiku DSS does not name: `SHA256SUMS`
    #[arg(long)]
    seed_strict: bool,
    /// How the outcome is printed; with `--file -` it goes to stderr
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// The archive that is written.
#[derive(Debug, clap::Args)]
pub(super) struct ArchiveArgs {
    /// The archive's file, or `-` for standard output. One that is there already is never replaced
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// tar, tar.gz, tar.zst or zip; without it the file's name says it, and tar is what any other name means
    #[arg(long, value_parser = format)]
    format: Option<ArchiveFormat>,
}

impl ArchiveArgs {
    /// What the words mean.
    pub(super) fn meant(self) -> (ArchiveFormat, ArchivePlace) {
        let Self { file, format } = self;
        let named = || file.file_name().and_then(|name| ArchiveFormat::of_name(name.to_str()?));
        let format = format.or_else(named).unwrap_or(ArchiveFormat::Tar);
        let place = if file == Path::new(STDOUT) {
            ArchivePlace::Stdio
        } else {
            ArchivePlace::File(MountedFile { origin: file.display().to_string(), path: file })
        };
        (format, place)
    }
}

fn format(text: &str) -> Result<ArchiveFormat, String> {
    ArchiveFormat::of_name(&format!(".{text}")).ok_or_else(|| "no such format: tar, tar.gz, tar.zst or zip".to_owned())
}

pub(super) async fn run(args: Args) -> u8 {
    let Args { repo, volume, revision, archive, seed_strict, output } = args;
    let (format, archive) = archive.meant();
    let model = ModelRef { repo, revision };
    let work = Work::Export(Export { model, format, archive, usage: None, seed_strict });
    let task = Task { nonce: String::new(), volume, sub_path: None, policy: None, work };
    local::run(&task, &Settings::default(), output).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(file: &str, format: Option<ArchiveFormat>) -> (ArchiveFormat, bool) {
        let (format, place) = ArchiveArgs { file: file.into(), format }.meant();
        (format, place == ArchivePlace::Stdio)
    }

    #[test]
    fn the_name_says_the_format_unless_it_is_given() {
        assert_eq!(meant("a/b.tar.zst", None), (ArchiveFormat::TarZst, false));
        assert_eq!(meant("b.zip", Some(ArchiveFormat::Tar)), (ArchiveFormat::Tar, false));
        assert_eq!(meant("-", None), (ArchiveFormat::Tar, true));
        assert_eq!(meant("x.bin", None), (ArchiveFormat::Tar, false));
        assert!(format("tar.gz").is_ok() && format("rar").is_err() && format("").is_err());
    }
}
