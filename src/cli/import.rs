//! `modelcache import ARCHIVE --volume DIR`

use super::download::implicit_login;
use super::local::{self, Output};
use crate::engine::Settings;
use crate::format::task::{
    ArchivePlace, ArchiveUrl, Expected, HubAccess, Import, MountedFile, ProxyChoice, Task, Work,
};
use crate::ident::{Endpoint, RepoId, Revision, Sha256};
use std::path::PathBuf;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// The folder that is the volume; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    volume: PathBuf,
}

/// An archive, and what it shall be: the same words for `import` and `inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct ArchiveArgs {
    /// A tar, tar.gz, tar.zst or zip file, an https:// address, or `-` for standard input
    archive: String,
    /// What the SHA-256 of the archive must be
    #[arg(long, value_name = "HEX")]
    sha256: Option<Sha256>,
    /// What model the archive must hold: org/name
    #[arg(long)]
    repo: Option<RepoId>,
    /// What revision of it
    #[arg(long, requires = "repo")]
    revision: Option<Revision>,
    /// Compare the files with what this Hub has at the same commit
    #[arg(long, value_name = "ENDPOINT")]
    verify_against: Option<Endpoint>,
    /// A file of CA certificates in PEM, trusted besides the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// How the outcome is printed
    #[arg(long, value_enum, default_value = "text")]
    pub(super) output: Output,
}

impl ArchiveArgs {
    /// What the words mean.
    pub(super) fn meant(self) -> Import {
        let Self { archive, sha256, repo, revision, verify_against, ca_file, output: _ } = self;
        let file = |path: PathBuf| MountedFile { origin: path.display().to_string(), path };
        let ca_bundle = ca_file.map(file);
        let place = if archive == "-" {
            ArchivePlace::Stdio
        } else if archive.starts_with("https://") || archive.starts_with("http://") {
            let (auth, proxy) = (None, ProxyChoice::default());
            ArchivePlace::Url(ArchiveUrl { url: archive, auth, ca_bundle: ca_bundle.clone(), proxy })
        } else {
            ArchivePlace::File(file(absolute(archive)))
        };
        let hub = |endpoint| HubAccess {
            endpoint,
            token: None,
            ca_bundle,
            proxy: ProxyChoice::default(),
            limit_bytes_per_second: None,
        };
        Import {
            archive: place,
            sha256,
            expected: repo.map(|repo| Expected { repo, revision }),
            verify_against: verify_against.map(hub),
        }
    }

    /// The settings; a token only where a Hub is asked.
    pub(super) fn settings(&self) -> Result<Settings, u8> {
        if self.verify_against.is_none() {
            return Ok(Settings::default());
        }
        match implicit_login(false) {
            Ok(login) => Ok(Settings { login, ..Settings::default() }),
            Err(error) => Err(local::fail(local::failed(&error), self.output)),
        }
    }
}

/// The same name in another folder is another archive.
fn absolute(archive: String) -> PathBuf {
    let path = PathBuf::from(archive);
    std::path::absolute(&path).unwrap_or(path)
}

pub(super) async fn run(args: Args) -> u8 {
    let Args { archive, volume } = args;
    let settings = match archive.settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    // What cannot be made is reported by the engine, which knows the reasons.
    let _ = std::fs::create_dir_all(&volume);
    let output = archive.output;
    let task = Task { nonce: String::new(), volume, sub_path: None, policy: None, work: Work::Import(archive.meant()) };
    local::run(&task, &settings, output).await
}
