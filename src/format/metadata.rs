//! `model_metadata.json`, schema version 0: read leniently, written strictly and stably (design 4).
//!
//! This module owns the one description of the schema; volumes, archives and statuses all go through it. It must not
//! know where the file lies, nor what time it is.

mod json;
#[cfg(test)]
mod tests;

use crate::ident::{Commit, InvalidIdent, ModelKey, Reason};
use json::Fields;
use serde_json::{Map, Value};

/// The version of the schema that is read and written.
pub const VERSION: u64 = 0;
/// The deepest nesting of JSON that is read.
pub const DEPTH_MAX: usize = 64;

/// Why a text is not a model's metadata.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Not JSON at all.
    #[error("it is not valid JSON")]
    Json(#[source] serde_json::Error),
    /// A field is there twice; which one counts would be anybody's guess.
    #[error("the field `{field}` is given twice")]
    Duplicate {
        /// The field.
        field: String,
    },
    /// Nested too deeply.
    #[error("it is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// One of the important fields is not there.
    #[error("the field `{field}` is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A known field holds another type.
    #[error("the field `{field}` must be {expected}")]
    WrongType {
        /// The field.
        field: &'static str,
        /// What it must be, for a person.
        expected: &'static str,
    },
    /// A name in it breaks its rule.
    #[error("the field `{field}` is invalid")]
    Invalid {
        /// The field.
        field: &'static str,
        /// The rule.
        #[source]
        source: InvalidIdent,
    },
    /// A schema that this release does not know.
    #[error("its version is {found}, and this release knows version {VERSION} only: use a newer release")]
    UnsupportedVersion {
        /// The version that was found.
        found: String,
    },
}

impl MetadataError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnsupportedVersion { .. } => Reason::UnsupportedVersion,
            Self::Json(_)
            | Self::Duplicate { .. }
            | Self::TooDeep
            | Self::Missing { .. }
            | Self::WrongType { .. }
            | Self::Invalid { .. } => Reason::ArchiveInvalid,
        }
    }
}

/// A model's metadata. Fields that the Hub does not give are left out, and those that nobody here knows are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelMetadata {
    /// The commit that the revision resolved to.
    pub commit_hash: Option<Commit>,
    /// When it was published, in milliseconds since the epoch.
    pub download_date: Option<i64>,
    /// Who asked for it.
    pub downloaded_by: Option<String>,
    /// When it was last seen in use, in milliseconds since the epoch.
    pub last_dss_usage: Option<i64>,
    /// The Hub's `lastModified`, as given.
    pub last_modified: Option<String>,
    /// Who was last seen using it.
    pub last_used_by: Option<String>,
    /// The Hub's `library_name`.
    pub library_name: Option<String>,
    /// `modelDefinition.key`.
    pub key: ModelKey,
    /// What else `modelDefinition` holds.
    pub definition_extra: Map<String, Value>,
    /// The Hub's `pipeline_tag`.
    pub pipeline_name: Option<String>,
    /// The sum of the sizes of all the entry's files.
    pub size_in_bytes: Option<u64>,
    /// The tags that are languages, in the Hub's order.
    pub tagged_languages: Option<Vec<String>>,
    /// The Hub's `tags`.
    pub tags: Option<Vec<String>>,
    /// Where the model was fetched.
    pub url: String,
    /// Fields that the schema does not name.
    pub extra: Map<String, Value>,
}

impl ModelMetadata {
    /// Metadata with only the important fields.
    pub fn new(key: ModelKey, url: String) -> Self {
        Self {
            commit_hash: None,
            download_date: None,
            downloaded_by: None,
            last_dss_usage: None,
            last_modified: None,
            last_used_by: None,
            library_name: None,
            key,
            definition_extra: Map::new(),
            pipeline_name: None,
            size_in_bytes: None,
            tagged_languages: None,
            tags: None,
            url,
            extra: Map::new(),
        }
    }

    /// Reads metadata: only the key, the version and the URL must be there.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        // Editors on some systems begin a file with a byte order mark.
        Self::from_value(json::parse(text.trim_start_matches('\u{feff}'))?)
    }

    /// Reads metadata that is JSON already, such as a status's.
    pub fn from_value(value: Value) -> Result<Self, MetadataError> {
        let mut fields = Fields::of("the whole", value)?;
        // The version first: what the other fields mean depends on it.
        let version = fields.take("version").ok_or(MetadataError::Missing { field: "version" })?;
        if !version.is_u64() && !version.is_i64() {
            return Err(MetadataError::WrongType { field: "version", expected: "a whole number" });
        }
        if version.as_u64() != Some(VERSION) {
            return Err(MetadataError::UnsupportedVersion { found: version.to_string() });
        }
        let definition = fields.take("modelDefinition").ok_or(MetadataError::Missing { field: "modelDefinition" })?;
        let mut definition = Fields::of("modelDefinition", definition)?;
        let key = definition
            .string("key", "modelDefinition.key")?
            .ok_or(MetadataError::Missing { field: "modelDefinition.key" })?
            .parse()
            .map_err(|source| MetadataError::Invalid { field: "modelDefinition.key", source })?;
        Ok(Self {
            commit_hash: fields.commit("commitHash")?,
            download_date: fields.integer("downloadDate")?,
            downloaded_by: fields.string("downloadedBy", "downloadedBy")?,
            last_dss_usage: fields.integer("lastDssUsage")?,
            last_modified: fields.string("lastModified", "lastModified")?,
            last_used_by: fields.string("lastUsedBy", "lastUsedBy")?,
            library_name: fields.string("libraryName", "libraryName")?,
            key,
            definition_extra: definition.rest(),
            pipeline_name: fields.string("pipelineName", "pipelineName")?,
            size_in_bytes: fields.size("sizeInBytes")?,
            tagged_languages: fields.strings("taggedLanguages")?,
            tags: fields.strings("tags")?,
            url: fields.string("url", "url")?.ok_or(MetadataError::Missing { field: "url" })?,
            extra: fields.rest(),
        })
    }

    /// The metadata as JSON, its fields in alphabetical order.
    pub fn to_value(&self) -> Value {
        let mut all = self.extra.clone();
        let mut definition = self.definition_extra.clone();
        definition.insert("key".into(), self.key.to_string().into());
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                all.insert(name.to_owned(), value);
            }
        };
        put("commitHash", self.commit_hash.map(|commit| commit.to_string().into()));
        put("downloadDate", self.download_date.map(Value::from));
        put("downloadedBy", self.downloaded_by.clone().map(Value::from));
        put("lastDssUsage", self.last_dss_usage.map(Value::from));
        put("lastModified", self.last_modified.clone().map(Value::from));
        put("lastUsedBy", self.last_used_by.clone().map(Value::from));
        put("libraryName", self.library_name.clone().map(Value::from));
        put("modelDefinition", Some(Value::Object(definition)));
        put("pipelineName", self.pipeline_name.clone().map(Value::from));
        put("sizeInBytes", self.size_in_bytes.map(Value::from));
        put("taggedLanguages", self.tagged_languages.clone().map(Value::from));
        put("tags", self.tags.clone().map(Value::from));
        put("url", Some(self.url.clone().into()));
        put("version", Some(VERSION.into()));
        json::sorted(Value::Object(all))
    }

    /// The file's text: alphabetical, four spaces of indentation, one newline at the end. Same input, same bytes.
    pub fn to_json(&self) -> String {
        json::pretty(&self.to_value())
    }
}
