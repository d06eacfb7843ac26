//! A worker's output: one JSON object a line, below the limit, and nothing after the last one (design 6).

use crate::format::outcome::{Failed, LINE_MAX_BYTES, Line, MESSAGE_MAX_BYTES, Say, TERMINATION_MAX_BYTES, shorten};
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Mutex, TryLockError};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer};

/// The worker's one writer.
pub(super) struct Lines {
    nonce: String,
    /// None after the last line.
    out: Mutex<Option<Box<dyn Write + Send>>>,
}

impl Lines {
    pub(super) fn new(nonce: &str, out: Box<dyn Write + Send>) -> Self {
        Self { nonce: nonce.to_owned(), out: Mutex::new(Some(out)) }
    }

    /// One line. Who reads may be gone; the work goes on without.
    pub(super) fn say(&self, say: Say) {
        let text = self.text(say, LINE_MAX_BYTES);
        // A panic while it was locked left at worst half a line, and the newline ends that.
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(out) = out.as_mut() {
            write_line(out, &text);
        }
    }

    /// One line from a panic's hook, which may run in the middle of [`Self::say`].
    pub(super) fn try_say(&self, say: Say) {
        let text = self.text(say, LINE_MAX_BYTES);
        let mut out = match self.out.try_lock() {
            Ok(out) => out,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Some(out) = out.as_mut() {
            write_line(out, &text);
        }
    }

    /// Several lines and the last one: nothing comes between them or after.
    pub(super) fn end(&self, before: Vec<Line>, last: Say) {
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(mut out) = out.take() else { return };
        for line in before {
            write_line(&mut out, &serde_json::json!(line).to_string());
        }
        write_line(&mut out, &self.text(last, LINE_MAX_BYTES));
    }

    /// The outcome as the kubelet takes it.
    pub(super) fn termination(&self, last: Say) -> String {
        self.text(last, TERMINATION_MAX_BYTES)
    }

    /// A line's text of less than `max_bytes`. Only messages can be too long: they are cut until the escaped text fits.
    fn text(&self, mut say: Say, max_bytes: usize) -> String {
        let mut limit = MESSAGE_MAX_BYTES;
        loop {
            if let Say::Log { message, .. } | Say::Failed(Failed { message, .. }) = &mut say {
                *message = shorten(message, limit);
            }
            let text = serde_json::json!(Line { nonce: self.nonce.clone(), say: say.clone() }).to_string();
            if text.len() < max_bytes || limit < 16 {
                return text;
            }
            limit /= 2;
        }
    }
}

fn write_line(out: &mut impl Write, text: &str) {
    // One write, so that the runtime never sees half a line.
    let _ = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
}

/// Turns the events of `tracing` into lines.
pub(super) struct LogLayer(pub(super) std::sync::Arc<Lines>);

impl<S: tracing::Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let level = event.metadata().level().to_string().to_lowercase();
        self.0.say(Say::Log { level, message: message.0 });
    }
}

/// The sentence of an event, and its other fields after it.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.insert_str(0, &format!("{value:?}"));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Reason;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn failed(message: &str) -> Say {
        Say::Failed(Failed { reason: Reason::Stalled, message: message.into(), retry_after_seconds: None })
    }

    #[test]
    fn nothing_follows_the_last_line() {
        let buffer = Buffer::default();
        let lines = Lines::new("n", Box::new(buffer.clone()));
        lines.say(Say::Log { level: "info".into(), message: "one".into() });
        lines.end(Vec::new(), failed("two"));
        lines.say(Say::Log { level: "info".into(), message: "three".into() });
        lines.end(Vec::new(), failed("four"));
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn whatever_the_message_the_limits_hold() {
        let lines = Lines::new("nonce", Box::new(std::io::sink()));
        for message in ["\u{1}".repeat(5000), "\"\\".repeat(5000), "ä".repeat(5000)] {
            let text = lines.termination(failed(&message));
            assert!(text.len() < TERMINATION_MAX_BYTES);
            assert!(serde_json::from_str::<Line>(&text).is_ok());
        }
    }
}
