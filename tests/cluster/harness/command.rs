//! Programs that tests run.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A program of the lab, or the machine's own.
pub fn program(name: &str) -> PathBuf {
    std::env::var_os("LAB_BIN")
        .map(|dir| PathBuf::from(dir).join(name))
        .filter(|path| path.exists())
        .unwrap_or(name.into())
}

/// What a program prints; `Err` with what it complains when it fails.
pub fn run(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = output.map_err(|error| format!("{shown}: {error}"))?;
    let said = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        Ok(said)
    } else {
        Err(format!("{shown}: {status}: {}{said}", String::from_utf8_lossy(&stderr)))
    }
}

pub fn try_kubectl(args: &[&str]) -> Result<String, String> {
    run(Command::new(program("kubectl")).args(args))
}

pub fn kubectl(args: &[&str]) -> String {
    try_kubectl(args).unwrap_or_else(|error| panic!("{error}"))
}

/// `hack/lab`, for what only the machine under the cluster can do.
pub fn lab(args: &[&str]) -> String {
    run(Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/hack/lab")).args(args))
        .unwrap_or_else(|error| panic!("{error}"))
}
