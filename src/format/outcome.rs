//! What a worker says: one JSON object a line, below 8 KiB, each with its task's nonce (design 6).

use crate::ident::{Commit, Reason, RelPath, Sha256};
use serde::{Deserialize, Serialize};

/// The longest line a worker writes, in bytes. The container runtime cuts longer ones into pieces of 16 KiB.
pub const LINE_MAX_BYTES: usize = 8 * 1024;
/// The longest text that the kubelet takes from `/dev/termination-log`, in bytes.
pub const TERMINATION_MAX_BYTES: usize = 4096;
/// The longest `model_metadata.json` (or listing, or inventory) that is read or sent, in bytes.
pub const METADATA_MAX_BYTES: usize = 1024 * 1024;
/// The longest message that an outcome carries, in bytes: it must fit the termination log with its frame.
pub const MESSAGE_MAX_BYTES: usize = 2048;

/// One line of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The task's nonce.
    pub nonce: String,
    /// What is said.
    #[serde(flatten)]
    pub say: Say,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Say {
    /// How far the work is.
    Progress(Progress),
    /// A sentence for people.
    Log {
        /// `info`, `warn` or `error`.
        level: String,
        /// The sentence.
        message: String,
    },
    /// A numbered piece of the model's metadata, of a [`Listing`] or of an [`super::inventory::Inventory`]; each may be longer
    /// than a line.
    Metadata {
        /// 1 to `of`.
        part: usize,
        /// How many parts there are.
        of: usize,
        /// The piece of JSON text.
        text: String,
    },
    /// The last line of a task that was done.
    Done(Done),
    /// The last line of a task that was not.
    Failed(Failed),
}

/// How far the work is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Bytes that arrived (or were found already there).
    pub bytes_done: u64,
    /// Bytes of the whole plan; 0 while the plan is not known.
    pub bytes_total: u64,
    /// Files that are complete and verified.
    pub files_done: u64,
    /// Files of the whole plan.
    pub files_total: u64,
    /// The rate over the last seconds.
    pub bytes_per_second: u64,
}

/// A task that was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// The model's folder below the volume's root, `subPath` included; absent after a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RelPath>,
    /// The snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// The published files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// Bytes that came over the network in this attempt.
    #[serde(default)]
    pub bytes_fetched: u64,
    /// The archive that was written by an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
    /// Why the published bytes are not proved, where they are not: an archive without `SHA256SUMS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unverified: Option<String>,
    /// What room the volume has at the end of a task that may write to it; absent where its file system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
    /// What a model is and takes, after a [`crate::format::task::Resolve`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Box<Resolved>>,
    /// What a Hub says of its token, after a [`crate::format::task::Check`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Box<Checked>>,
}

/// What a Hub that was reached says of the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Checked {
    /// It is this account's.
    Account {
        /// The account.
        name: String,
    },
    /// It is not taken.
    Refused {
        /// Why, and what to do.
        why: String,
    },
    /// There is none.
    Anonymous,
    /// Nothing.
    Untold {
        /// Why.
        why: String,
    },
}

/// The room of a volume, or of what a quota gives of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// What this user can still write.
    pub free_bytes: u64,
    /// All there is.
    pub capacity_bytes: u64,
}

/// What a model is and takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The commit that the revision is at; absent for an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// How many files; absent where only the whole archive would tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The room that their bytes take, at most. For a zip at an address the zip itself counts: it lies beside them meanwhile.
    pub bytes: u64,
}

/// The files of a folder of archives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// The names of those whose first bytes are an archive's, sorted.
    pub archives: Vec<String>,
    /// How many other files there are.
    pub others: u64,
    /// The names of some of them.
    #[serde(default)]
    pub such_as: Vec<String>,
}

/// An archive that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// SHA-256 of all its bytes.
    pub sha256: Sha256,
    /// How many they are.
    pub size_bytes: u64,
}

/// The published files in three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// SHA-256 of the entry's `SHA256SUMS`.
    pub sha256: Sha256,
    /// How many files.
    pub files: u64,
    /// Their sizes' sum.
    pub bytes: u64,
}

/// A task that was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// The reason.
    pub reason: Reason,
    /// The thing, the cause and the next step.
    pub message: String,
    /// How long the Hub wants to be left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done(Done),
    /// Not done.
    Failed(Failed),
}

/// What was heard of a worker so far; fed line by line with the tail of its log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    /// The newest progress.
    pub progress: Option<Progress>,
    /// The end, once it was heard.
    pub outcome: Option<Outcome>,
    parts: Vec<Option<String>>,
}

impl Heard {
    /// Takes one line of the log. Foreign lines, broken ones and those with another nonce are passed over.
    pub fn hear(&mut self, nonce: &str, line: &str) {
        if line.len() > LINE_MAX_BYTES || self.outcome.is_some() {
            return;
        }
        let Ok(line) = serde_json::from_str::<Line>(line) else { return };
        if line.nonce != nonce {
            return;
        }
        match line.say {
            Say::Progress(progress) => self.progress = Some(progress),
            Say::Log { .. } => {}
            Say::Metadata { part, of, text } => self.hear_part(part, of, text),
            Say::Done(done) => self.outcome = Some(Outcome::Done(done)),
            Say::Failed(failed) => self.outcome = Some(Outcome::Failed(failed)),
        }
    }

    fn hear_part(&mut self, part: usize, of: usize, text: String) {
        // A part holds at least one byte, so more parts than bytes is nonsense, and no reason to allocate.
        if part == 0 || part > of || of > METADATA_MAX_BYTES {
            return;
        }
        if self.parts.len() != of {
            self.parts = vec![None; of];
        }
        self.parts[part - 1] = Some(text);
    }

    /// The metadata's text, when every part was heard.
    pub fn metadata(&self) -> Option<String> {
        if self.parts.is_empty() {
            return None;
        }
        self.parts.iter().map(Option::as_deref).collect()
    }
}

/// Cuts metadata into lines of at most [`LINE_MAX_BYTES`].
pub fn metadata_lines(nonce: &str, json: &str) -> Vec<Line> {
    // Escaping at most doubles printable text; other control characters never occur in JSON text.
    const PIECE_BYTES: usize = 3 * 1024;
    let mut pieces = Vec::new();
    let mut rest = json;
    while !rest.is_empty() {
        let mut end = rest.len().min(PIECE_BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    let of = pieces.len();
    pieces
        .into_iter()
        .enumerate()
        .map(|(index, text)| Line {
            nonce: nonce.to_owned(),
            say: Say::Metadata { part: index + 1, of, text: text.to_owned() },
        })
        .collect()
}

/// Cuts a text to at most `max_bytes`, at a character's border, with an ellipsis where something was cut.
pub fn shorten(text: &str, max_bytes: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let mut end = max_bytes.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(nonce: &str, say: Say) -> String {
        serde_json::to_string(&Line { nonce: nonce.into(), say }).unwrap()
    }

    #[test]
    fn only_the_tasks_own_lines_are_heard() {
        let mut heard = Heard::default();
        let failed = |message: &str| {
            Say::Failed(Failed { reason: Reason::Stalled, message: message.into(), retry_after_seconds: None })
        };
        heard.hear("mine", "thread panicked at …");
        heard.hear("mine", &line("other", failed("forged")));
        heard.hear("mine", &line("mine", Say::Progress(Progress { bytes_done: 3, ..Progress::default() })));
        assert_eq!(heard.progress.unwrap().bytes_done, 3);
        assert_eq!(heard.outcome, None);
        heard.hear("mine", &line("mine", failed("real")));
        heard.hear("mine", &line("mine", failed("after the last line")));
        assert!(matches!(heard.outcome, Some(Outcome::Failed(f)) if f.message == "real"));
    }

    #[test]
    fn metadata_with_a_missing_part_is_none() {
        let json = format!("{{\"tags\":\"{}\"}}", "x".repeat(10_000));
        let lines = metadata_lines("n", &json);
        assert!(lines.len() > 2);
        let mut heard = Heard::default();
        for one in lines.iter().skip(1) {
            heard.hear("n", &serde_json::to_string(one).unwrap());
        }
        assert_eq!(heard.metadata(), None);
        heard.hear("n", &serde_json::to_string(&lines[0]).unwrap());
        assert_eq!(heard.metadata().unwrap(), json);
    }

    proptest! {
        #[test]
        fn metadata_survives_the_log_in_short_lines(tags in proptest::collection::vec("\\PC{0,400}|[\"\\\\]{0,400}", 0..40)) {
            let json = serde_json::to_string(&tags).unwrap();
            let mut heard = Heard::default();
            for one in metadata_lines("n", &json) {
                let text = serde_json::to_string(&one).unwrap();
                prop_assert!(text.len() < LINE_MAX_BYTES);
                heard.hear("n", &text);
            }
            prop_assert_eq!(heard.metadata().unwrap(), json);
        }
    }
}
