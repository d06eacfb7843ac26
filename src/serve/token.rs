//! The one token that a server may ask for. Its text is kept nowhere.

use super::refusal::Refusal;
use axum::http::HeaderValue;
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("failed to read the token file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Nothing is in it: that must not mean that everybody may read.
    #[error("failed to read the token file {}: it is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// A token, as its digest: comparing digests tells nobody how much of a guess was right.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Token {
    /// Reads a token from a file.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| TokenError::Read { path: path.to_owned(), source })?;
        match text.trim() {
            "" => Err(TokenError::Empty { path: path.to_owned() }),
            token => Ok(Self(Sha256::digest(token).into())),
        }
    }

    /// Looks at a request's `Authorization`.
    pub(super) fn check(&self, header: Option<&HeaderValue>) -> Result<(), Refusal> {
        let Some(header) = header else { return Err(Refusal::NoToken) };
        let text = header.to_str().unwrap_or_default();
        let (scheme, given) = text.split_once(' ').unwrap_or_default();
        let given: [u8; 32] = Sha256::digest(given.trim()).into();
        if scheme.eq_ignore_ascii_case("bearer") && given == self.0 { Ok(()) } else { Err(Refusal::BadToken) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_opens() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Token::read(file.path()), Err(TokenError::Empty { .. })));
        std::fs::write(file.path(), "hf_secret\n").unwrap();
        let token = Token::read(file.path()).unwrap();
        let check = |header: &str| token.check(Some(&HeaderValue::from_str(header).unwrap()));
        assert_eq!(check("Bearer hf_secret"), Ok(()));
        assert_eq!(check("bearer  hf_secret"), Ok(()));
        for header in ["Bearer hf_secre", "Bearer", "", "Basic hf_secret", "hf_secret"] {
            assert_eq!(check(header), Err(Refusal::BadToken), "{header}");
        }
        assert_eq!(token.check(None), Err(Refusal::NoToken));
        assert!(!format!("{token:?}").contains("secret"));
    }
}
