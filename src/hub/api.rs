//! The two questions of the Hub's API that a download asks: which commit, and which files.

use super::body::KEPT;
use super::listing::{Listed, Page};
use super::refusal::Asked;
use super::send::{host_of, next_page};
use super::{Hub, HubError, language};
use crate::ident::{Commit, ModelRef, RepoId, Revision};
use percent_encoding::utf8_percent_encode;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashSet;
use tokio::time::timeout;

/// The longest JSON answer that is read, in bytes.
const JSON_MAX_BYTES: usize = 16 * 1024 * 1024;
/// The most pages and files of one listing.
const PAGES_MAX: usize = 2_000;
const FILES_MAX: usize = 500_000;
/// The longest texts of a model: escaped and indented they must still be readable metadata, of at most 1 MiB.
const TEXTS_MAX_BYTES: usize = 128 * 1024;

/// What the Hub says of a model at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The commit that the revision is now.
    pub commit: Commit,
    /// `lastModified`, as given.
    pub last_modified: Option<String>,
    /// `library_name`.
    pub library_name: Option<String>,
    /// `pipeline_tag`.
    pub pipeline_tag: Option<String>,
    /// `tags`.
    pub tags: Option<Vec<String>>,
    /// The tags that are languages.
    pub languages: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct InfoAnswer {
    sha: String,
    #[serde(default, rename = "lastModified")]
    last_modified: Option<String>,
    #[serde(default)]
    library_name: Option<String>,
    #[serde(default)]
    pipeline_tag: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default, rename = "cardData")]
    card: Option<Value>,
}

impl Hub {
    /// Resolves a revision to a commit. The form with a revision is the only one that every mirror serves.
    pub async fn resolve(&self, repo: &RepoId, revision: &Revision) -> Result<ModelInfo, HubError> {
        let asked = Asked { repo, revision, path: None };
        let quoted = utf8_percent_encode(revision.as_str(), KEPT);
        let url = self.address(&format!("api/models/{repo}/revision/{quoted}"), asked)?;
        let (answer, _) = self.json::<InfoAnswer>(&url, asked).await?;
        let commit = answer.sha.parse().map_err(|_| nonsense(&url, asked, "its `sha` is not a commit"))?;
        let texts = [&answer.last_modified, &answer.library_name, &answer.pipeline_tag].into_iter().flatten();
        let bytes: usize = texts.chain(answer.tags.iter().flatten()).map(String::len).sum();
        if bytes > TEXTS_MAX_BYTES {
            return Err(nonsense(&url, asked, &format!("its tags are longer than {TEXTS_MAX_BYTES} bytes")));
        }
        let languages = answer.tags.as_deref().map(|tags| language::tagged(tags, answer.card.as_ref()));
        Ok(ModelInfo {
            commit,
            last_modified: answer.last_modified,
            library_name: answer.library_name,
            pipeline_tag: answer.pipeline_tag,
            languages,
            tags: answer.tags,
        })
    }

    /// Lists every file of a commit, page by page.
    pub async fn tree(&self, repo: &RepoId, commit: &Commit, revision: &Revision) -> Result<Vec<Listed>, HubError> {
        let asked = Asked { repo, revision, path: None };
        let mut url = self.address(&format!("api/models/{repo}/tree/{commit}"), asked)?;
        url.set_query(Some("recursive=true&expand=false"));
        let mut seen = HashSet::new();
        let mut files = Vec::new();
        loop {
            if seen.len() >= PAGES_MAX || !seen.insert(url.clone()) {
                return Err(nonsense(&url, asked, "its file list does not end"));
            }
            let (page, next) = self.json::<Page>(&url, asked).await?;
            files.extend(page.files().map_err(|why| nonsense(&url, asked, &why))?);
            if files.len() > FILES_MAX {
                return Err(nonsense(&url, asked, &format!("it lists more than {FILES_MAX} files")));
            }
            let Some(next) = next else { return Ok(files) };
            url = self.next_page(&url, &next).map_err(|why| nonsense(&url, asked, &why))?;
        }
    }

    /// A model's page for people, as `url` in its metadata has it.
    pub fn page(&self, model: &ModelRef) -> String {
        let repo = utf8_percent_encode(model.repo.as_str(), KEPT);
        let revision = model.revision_or_main();
        format!("{}/{repo}/tree/{}", self.endpoint, utf8_percent_encode(revision.as_str(), KEPT))
    }

    /// The next page's address, on the Hub itself. A mirror may pass on the address that its own origin gave.
    fn next_page(&self, current: &Url, next: &str) -> Result<Url, String> {
        let next = current.join(next).map_err(|_| "the address of the list's next page is invalid".to_owned())?;
        if next.origin() == self.base.origin() {
            return Ok(next);
        }
        let mut own = current.clone();
        own.set_query(next.query());
        if next.path().trim_end_matches('/').ends_with(current.path().trim_end_matches('/')) {
            Ok(own)
        } else {
            Err(format!("the list's next page is on another host, {}", host_of(&next)))
        }
    }

    pub(super) fn address(&self, path: &str, asked: Asked<'_>) -> Result<Url, HubError> {
        let text = format!("{}/{path}", self.endpoint);
        Url::parse(&text).map_err(|_| nonsense(&self.base, asked, "its address is invalid"))
    }

    async fn json<T: DeserializeOwned>(&self, url: &Url, asked: Asked<'_>) -> Result<(T, Option<String>), HubError> {
        let mut attempts = self.attempts();
        loop {
            let error = match self.json_once(url, asked).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(wait) = attempts.next_wait(&error) else { return Err(error) };
            tracing::warn!("{error}; the next try is in {} s", wait.as_secs());
            tokio::time::sleep(wait).await;
        }
    }

    async fn json_once<T: DeserializeOwned>(
        &self,
        url: &Url,
        asked: Asked<'_>,
    ) -> Result<(T, Option<String>), HubError> {
        let mut response = self.send(url.clone(), None, asked).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no type");
        let kind: String = kind.chars().take(60).collect();
        let next = next_page(&response);
        let bytes = self.read(&mut response, asked).await?;
        let answer = serde_json::from_slice(&bytes).map_err(|error| {
            let why = if kind.contains("json") {
                format!("the JSON is not as expected ({error})")
            } else {
                format!("it sent {kind:?} instead of JSON")
            };
            nonsense(url, asked, &why)
        })?;
        Ok((answer, next))
    }

    async fn read(&self, response: &mut Response, asked: Asked<'_>) -> Result<Vec<u8>, HubError> {
        let url = response.url().clone();
        let mut bytes = Vec::new();
        loop {
            let piece = timeout(self.limits.no_progress, response.chunk()).await.map_err(|_| HubError::Stalled {
                host: host_of(&url),
                thing: asked.thing(),
                after: self.limits.no_progress,
            })?;
            let Some(piece) = piece.map_err(|error| self.network(&url, error))? else { return Ok(bytes) };
            if bytes.len() + piece.len() > JSON_MAX_BYTES {
                return Err(nonsense(&url, asked, &format!("the answer is longer than {JSON_MAX_BYTES} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
    }
}

fn nonsense(url: &Url, asked: Asked<'_>, why: &str) -> HubError {
    HubError::Nonsense { host: host_of(url), thing: asked.thing(), why: why.to_owned() }
}
