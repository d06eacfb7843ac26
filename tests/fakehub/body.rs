//! The bytes of a file, whole or not.

use super::{Fault, HubFile};
use axum::body::Body;
use axum::http::Response;
use futures::stream::{self, StreamExt};
use std::io;

/// How many bytes are sent at a time.
const PIECE: usize = 16 * 1024;

pub(super) fn answer(file: &HubFile, range: Option<String>, fault: Option<Fault>) -> Response<Body> {
    let mut bytes = file.bytes.clone();
    let total = bytes.len();
    let mut asked = range.map(|range| {
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        (first.parse::<usize>().unwrap(), last.parse::<usize>().unwrap() + 1)
    });
    match fault {
        Some(Fault::IgnoreRange) => asked = None,
        Some(Fault::Corrupt) => bytes[total / 2] ^= 1,
        Some(Fault::Long) => bytes.extend_from_slice(b"more than was promised"),
        _ => {}
    }
    let mut response = Response::builder();
    if let Some((from, to)) = asked {
        let first = if matches!(fault, Some(Fault::WrongRange)) { from + 1 } else { from };
        response = response.status(206).header("content-range", format!("bytes {first}-{}/{total}", to - 1));
        bytes.truncate(to);
        bytes.drain(..from);
    }
    // Etags bare, weak and quoted: nobody may depend on their form.
    let etag = ["bare", "W/\"weak\"", "\"quoted\""][total % 3];
    response = response.header("etag", etag).header("x-repo-commit", super::COMMIT);
    let rest = bytes;
    let length = rest.len();
    match fault {
        Some(Fault::Short(after)) => {
            let short = rest[..after.min(length)].to_vec();
            response.header("content-length", short.len()).body(short.into()).unwrap()
        }
        Some(Fault::Cut(after)) => {
            // The server writes out what it has whenever it has to wait.
            let lost = stream::once(async {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                Err(io::Error::other("cut"))
            });
            let pieces = pieces(&rest[..after.min(length)]).chain(lost);
            response.header("content-length", length).body(Body::from_stream(pieces)).unwrap()
        }
        Some(Fault::Hang { after, reached }) => {
            let told = stream::once(async move {
                reached.add_permits(1);
                std::future::pending::<io::Result<Vec<u8>>>().await
            });
            let pieces = pieces(&rest[..after.min(length)]).chain(told);
            response.header("content-length", length).body(Body::from_stream(pieces)).unwrap()
        }
        Some(Fault::Pause { after, reached, open }) => {
            let (first, last) = rest.split_at(after.min(length));
            let last = last.to_vec();
            let paused = stream::once(async move {
                reached.add_permits(1);
                open.acquire().await.unwrap().forget();
                Ok(last)
            });
            let body = pieces(first).chain(paused);
            response.header("content-length", length).body(Body::from_stream(body)).unwrap()
        }
        Some(Fault::Chunked | Fault::Long) => response.body(Body::from_stream(pieces(&rest))).unwrap(),
        _ => response.header("content-length", length).body(rest.into()).unwrap(),
    }
}

fn pieces(bytes: &[u8]) -> impl futures::Stream<Item = io::Result<Vec<u8>>> + Send + use<> {
    let pieces: Vec<_> = bytes.chunks(PIECE).map(|piece| Ok(piece.to_vec())).collect();
    stream::iter(pieces)
}
