//! The bytes of a file, whole or not.

use super::{Fault, Hub, HubFile};
use axum::body::Body;
use axum::http::Response;
use futures::stream::{self, StreamExt};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many bytes are sent at a time.
const PIECE: usize = 16 * 1024;

pub(super) fn answer(hub: &Arc<Hub>, file: &HubFile, range: Option<String>, fault: Option<Fault>) -> Response<Body> {
    let mut bytes = file.bytes.clone();
    let total = bytes.len();
    let mut asked = range.map(|range| {
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        (first.parse::<usize>().unwrap(), last.parse::<usize>().unwrap() + 1)
    });
    match fault {
        Some(Fault::IgnoreRange) => asked = None,
        Some(Fault::Corrupt) => bytes[total / 2] ^= 1,
        Some(Fault::Flip(bit)) => bytes[bit / 8] ^= 1 << (bit % 8),
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
    let length = bytes.len();
    let first = |after: usize| pieces(hub, &bytes[..after.min(length)]);
    match fault {
        Some(Fault::Short(after)) => {
            response.header("content-length", after.min(length)).body(Body::from_stream(first(after))).unwrap()
        }
        Some(Fault::Cut(after)) => {
            // The server writes out what it has whenever it has to wait.
            let lost = stream::once(async {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                Err(io::Error::other("cut"))
            });
            response.header("content-length", length).body(Body::from_stream(first(after).chain(lost))).unwrap()
        }
        Some(Fault::Hang { after, reached }) => {
            let told = stream::once(async move {
                reached.add_permits(1);
                std::future::pending::<io::Result<Vec<u8>>>().await
            });
            response.header("content-length", length).body(Body::from_stream(first(after).chain(told))).unwrap()
        }
        Some(Fault::Pause { after, reached, open }) => {
            let rest = pieces(hub, &bytes[after.min(length)..]);
            let opened = async move {
                reached.add_permits(1);
                open.acquire().await.unwrap().forget();
                rest
            };
            let all = first(after).chain(stream::once(opened).flatten());
            response.header("content-length", length).body(Body::from_stream(all)).unwrap()
        }
        Some(Fault::Chunked | Fault::Long) => response.body(Body::from_stream(first(length))).unwrap(),
        _ => response.header("content-length", length).body(Body::from_stream(first(length))).unwrap(),
    }
}

/// A body on its way.
struct Open(Arc<Hub>);

impl Open {
    fn new(hub: &Arc<Hub>) -> Self {
        let open = hub.open.fetch_add(1, Ordering::Relaxed) + 1;
        hub.most_open.fetch_max(open, Ordering::Relaxed);
        Self(Arc::clone(hub))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bytes, counted when they are sent, and as slow as the Hub is told to be.
fn pieces(hub: &Arc<Hub>, bytes: &[u8]) -> impl futures::Stream<Item = io::Result<Vec<u8>>> + Send + use<> {
    let pieces: Vec<_> = bytes.chunks(PIECE).map(<[u8]>::to_vec).collect();
    let open = Arc::new(Open::new(hub));
    stream::iter(pieces).then(move |piece| {
        let open = Arc::clone(&open);
        async move {
            let hub = &open.0;
            let wait = hub.wait_micros.load(Ordering::Relaxed);
            if wait > 0 {
                tokio::time::sleep(Duration::from_micros(wait)).await;
            }
            hub.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(piece)
        }
    })
}
