//! `modelcache serve`: folders or a volume as a read-only Hub.

use super::local;
use crate::ident::{InvalidIdent, ModelKey, ModelRef};
use crate::serve::{Folder, Library, Limits, Server, Token, explain};
use anyhow::Context;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Serve a folder as a model: org/name=DIR, or org/name@revision=DIR; may be given several times
    #[arg(long, value_name = "REPO=DIR")]
    model: Vec<Named>,
    /// What to tell of such a model: a `model_metadata.json`, instead of the one beside its folder
    #[arg(long, value_name = "REPO=FILE", requires = "model")]
    metadata: Vec<Named>,
    /// Serve the entries of a cache volume, as they come and go
    #[arg(long, value_name = "DIR", required_unless_present = "model")]
    volume: Option<PathBuf>,
    /// Where to listen; port 0 is any free one, and the address is printed
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// A file that holds the token every request must come with
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A model and a path, as `REPO=PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    model: ModelRef,
    path: PathBuf,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (model, path) = text.split_once('=').ok_or("expected REPO=PATH")?;
        if path.is_empty() {
            return Err("the path is empty".to_owned());
        }
        let key: ModelKey = format!("hf@{model}").parse().map_err(|error: InvalidIdent| error.to_string())?;
        Ok(Self { model: key.model().clone(), path: path.into() })
    }
}

/// Serves until a signal comes.
pub(super) async fn run(args: ServeArgs) -> u8 {
    local::log_to_stderr();
    match serve(args).await {
        Ok(()) => 0,
        Err(error) => {
            local::complain(&explain(error.as_ref()));
            1
        }
    }
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let folders = folders(args.model, args.metadata)?;
    let token = args.token_file.as_deref().map(Token::read).transpose()?;
    // From here on, so that a signal is not missed while the files are hashed.
    let mut stop = Stop::new().context("failed to wait for signals")?;
    let opening = tokio::task::spawn_blocking(move || Library::open(&folders, args.volume.as_deref()));
    let library = tokio::select! {
        library = opening => library.context("failed to open what is to be served")??,
        () = stop.signalled() => return Ok(()),
    };
    let server = Server::bind(args.listen, library, token, Limits::default())
        .await
        .with_context(|| format!("failed to listen on {}", args.listen))?;
    local::print(&format!("listening on http://{}", server.address()));
    server.run(async move { stop.signalled().await }).await.context("failed to serve")
}

fn folders(models: Vec<Named>, metadata: Vec<Named>) -> anyhow::Result<Vec<Folder>> {
    let mut folders: Vec<Folder> =
        models.into_iter().map(|Named { model, path }| Folder { model, path, metadata: None }).collect();
    for Named { model, path } in metadata {
        let folder = folders.iter_mut().find(|folder| folder.model == model);
        folder.with_context(|| format!("--metadata names {model}, but no --model does"))?.metadata = Some(path);
    }
    Ok(folders)
}

/// What ends a server: SIGTERM from a kubelet, SIGINT from a terminal.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn signalled(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_by_name_and_revision() {
        let named: Named = "a/b@v1=/x=y".parse().unwrap();
        assert_eq!((named.model.to_string(), named.path), ("a/b@v1".to_owned(), PathBuf::from("/x=y")));
        for text in ["a/b", "a/b=", "a b=/x", "=/x"] {
            assert!(text.parse::<Named>().is_err(), "{text}");
        }
    }

    #[test]
    fn metadata_needs_its_model() {
        let named = |text: &str| text.parse::<Named>().unwrap();
        let folders = folders(vec![named("a/b=/x")], vec![named("a/b=/m")]).unwrap();
        assert_eq!(folders[0].metadata.as_deref(), Some("/m".as_ref()));
        assert!(super::folders(vec![named("a/b=/x")], vec![named("a/c=/m")]).is_err());
    }
}
