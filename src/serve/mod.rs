//! A read-only Hub over plain folders and cache volumes.
//!
//! This room owns the serving side of the Hub's protocol: what a client of it is told, and how bytes reach it. Its pure parts
//! (`catalog`, `ask`, `answer`, `tree`, `range`, `refusal`) decide; `folder`, `volume`, `body` and `http` do. Files are opened in
//! one place, `root`, which follows no link and cannot write. It must not know the engine, Kubernetes, the command line,
//! standard output or the environment.

mod answer;
mod ask;
mod body;
mod catalog;
mod digest;
mod folder;
mod http;
mod library;
mod listener;
mod range;
mod refusal;
mod root;
mod token;
mod tree;
mod volume;

pub use folder::{Folder, FolderError};
pub use library::{Library, LibraryError};
pub use token::{Token, TokenError};
pub use volume::VolumeError;

use listener::Doorman;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// An error and its causes in one line. A cause that its error tells already is not told again.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// How much a server lets its clients cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most connections at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// A connection on which nothing moves for so long, in either direction, is closed.
    pub idle: Duration,
    /// How long running downloads may go on after the signal to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // A connection holds at most some 600 KiB of buffers; Kubernetes waits 30 s before it kills.
        Self { connections: 256, idle: Duration::from_mins(1), drain: Duration::from_secs(20) }
    }
}

/// A server whose port is open, so that its address is known before it serves.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: axum::Router,
    limits: Limits,
}

impl Server {
    /// Opens the port. Port 0 is any free one.
    pub async fn bind(listen: SocketAddr, library: Library, token: Option<Token>, limits: Limits) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, router: http::router(library, token), limits })
    }

    /// The address that clients reach it at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done and the running answers are out, or the time to drain is over.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let (stopping, mut stopped) = tokio::sync::watch::channel(());
        let doorman = Doorman::new(self.listener, self.limits);
        let serving = axum::serve(doorman, self.router).with_graceful_shutdown(async move {
            stop.await;
            drop(stopping);
        });
        let overtime = async {
            // The channel closes when the signal comes; nothing is ever sent.
            let _ = stopped.changed().await;
            tokio::time::sleep(self.limits.drain).await;
        };
        tokio::select! {
            served = serving => served,
            () = overtime => {
                tracing::warn!("downloads are still running after {} s; they are cut off", self.limits.drain.as_secs());
                Ok(())
            }
        }
    }
}
