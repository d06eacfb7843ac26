//! `modelcache download REPO --volume DIR`

use super::local::{self, Output};
use super::progress;
use crate::engine::download::{Survey, survey};
use crate::engine::{EngineError, Settings};
use crate::format::task::{Download, FileChoice, HubAccess, MountedFile, ProxyChoice, Task, Weights, Work};
use crate::hub::{Hub, Login};
use crate::ident::{ByteRate, Endpoint, ModelRef, RepoId, Revision};
use std::path::PathBuf;

/// The Hub that is meant where none is named.
pub(super) const PUBLIC_HUB: &str = "https://huggingface.co";

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The repo, as on the Hub: org/name
    repo: RepoId,
    /// The folder that is the volume; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    volume: PathBuf,
    /// A branch, tag or commit
    #[arg(long)]
    revision: Option<Revision>,
    /// The Hub
    #[arg(long, env = "HF_ENDPOINT", value_name = "URL", default_value = PUBLIC_HUB)]
    endpoint: Endpoint,
    /// A file that holds the token; else `HF_TOKEN`, `HF_TOKEN_PATH` and ~/.cache/huggingface/token are looked at
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file of CA certificates in PEM, trusted besides the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Keep only files that a glob matches (`*` crosses `/`); may be given several times
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave out files that a glob matches; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// auto, all, safetensors, pytorch, gguf, onnx, tensorflow, flax or rust
    #[arg(long, default_value = "auto", value_parser = weights)]
    weights: Weights,
    /// The most bytes per second, over all connections: 500k, 20M, 10Mi
    #[arg(long, value_name = "RATE")]
    limit_rate: Option<ByteRate>,
    /// Print what would be downloaded, and stop
    #[arg(long)]
    dry_run: bool,
    /// How the outcome is printed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

fn weights(text: &str) -> Result<Weights, String> {
    // The format's own names are those of the API, in camel case.
    let mut name = text.to_lowercase();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    serde_json::from_value(name.into()).map_err(|_| "no such weights".to_owned())
}

pub(super) async fn run(args: Args) -> u8 {
    let (output, dry_run) = (args.output, args.dry_run);
    let settings = match implicit_login(args.token_file.is_some()) {
        Ok(login) => Settings { login, ..Settings::default() },
        Err(error) => return local::fail(local::failed(&error), output),
    };
    let (volume, download) = meant(args);
    if dry_run {
        return match look(&download, &settings).await {
            Ok(survey) => {
                print_survey(&survey, output);
                0
            }
            Err(error) => local::fail(local::failed(&error), output),
        };
    }
    // What cannot be made is reported by the engine, which knows the reasons.
    let _ = std::fs::create_dir_all(&volume);
    let task = Task { nonce: String::new(), volume, sub_path: None, policy: None, work: Work::Download(download) };
    local::run(&task, &settings, output).await
}

/// What the words mean.
fn meant(args: Args) -> (PathBuf, Download) {
    let Args {
        repo,
        volume,
        revision,
        endpoint,
        token_file,
        ca_file,
        include,
        exclude,
        weights,
        limit_rate,
        dry_run: _,
        output: _,
    } = args;
    let file = |path: PathBuf| MountedFile { origin: path.display().to_string(), path };
    let download = Download {
        model: ModelRef { repo, revision },
        hub: HubAccess {
            endpoint,
            token: token_file.map(file),
            ca_bundle: ca_file.map(file),
            proxy: ProxyChoice::default(),
            limit_bytes_per_second: limit_rate.map(ByteRate::bytes_per_second),
        },
        files: FileChoice { weights, include, exclude },
        requested_by: os_user(),
        seen_at: None,
        keep: 0,
        mounted: Vec::new(),
    };
    (volume, download)
}

pub(super) fn os_user() -> String {
    let named = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

/// The token that Hugging Face's own tools would use.
pub(super) fn implicit_login(explicit: bool) -> Result<Option<Login>, EngineError> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    if explicit || set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| value != "0") {
        return Ok(None);
    }
    if let Some(token) = set("HF_TOKEN") {
        return Login::new(&token, "HF_TOKEN".to_owned()).map(Some).map_err(EngineError::Access);
    }
    let home =
        set("HF_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache/huggingface")));
    let path = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home?.join("token")));
    match path.filter(|path| path.exists()) {
        None => Ok(None),
        Some(path) => {
            let file = MountedFile { origin: path.display().to_string(), path };
            Login::read(&file).map(Some).map_err(EngineError::Access)
        }
    }
}

async fn look(download: &Download, settings: &Settings) -> Result<Survey, EngineError> {
    local::log_to_stderr();
    let hub = Hub::new(&download.hub, settings.limits, settings.login.clone()).map_err(EngineError::Access)?;
    survey(&hub, &download.model, &download.files, None, settings.ignores_case.unwrap_or(false)).await
}

fn print_survey(survey: &Survey, output: Output) {
    let plan = &survey.plan;
    match output {
        Output::Text => {
            for file in &plan.files {
                local::print(&format!("{:>10}  {}", progress::bytes(file.size), file.path));
            }
            let (files, bytes) = (plan.files.len(), progress::bytes(plan.bytes));
            local::print(&format!("{files} files, {bytes}, {} at commit {}", plan.model, plan.commit));
        }
        Output::Json => {
            let files: Vec<_> = plan
                .files
                .iter()
                .map(|file| serde_json::json!({"path": file.path, "sizeBytes": file.size, "digest": file.digest.to_string()}))
                .collect();
            let all = serde_json::json!({"type": "plan", "commit": plan.commit, "bytes": plan.bytes, "files": files});
            local::print(&all.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_by_their_names() {
        assert_eq!(weights("auto").unwrap(), Weights::Auto);
        assert_eq!(weights("SafeTensors").unwrap(), Weights::Safetensors);
        assert!(weights("").is_err() && weights("zip").is_err());
    }
}
