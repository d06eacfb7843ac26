//! The login to an archive's server, from a mounted folder.

use super::access::{self, TOKEN_MAX_BYTES};
use super::{AccessError, Login};
use crate::format::task::MountedFile;
use reqwest::RequestBuilder;
use reqwest::header::AUTHORIZATION;

/// A login to any server.
#[derive(Clone)]
pub(super) enum Auth {
    None,
    Token(Login),
    Password { username: String, password: String, origin: String },
}

impl Auth {
    /// Reads the file `token`, or the files `username` and `password`, of a folder.
    pub(super) fn read(folder: Option<&MountedFile>) -> Result<Self, AccessError> {
        let Some(folder) = folder else { return Ok(Self::None) };
        let file = |name: &str| MountedFile {
            path: folder.path.join(name),
            origin: format!("{}, key {name:?}", folder.origin),
        };
        if file("token").path.exists() {
            return Login::read(&file("token")).map(Self::Token);
        }
        let text = |name: &str| {
            let bytes = access::read(&file(name), TOKEN_MAX_BYTES).ok()?;
            // Editors end a file with a line feed, and no password does.
            Some(String::from_utf8(bytes).ok()?.trim_end_matches(['\r', '\n']).to_owned())
        };
        match (text("username"), text("password")) {
            (Some(username), Some(password)) => {
                Ok(Self::Password { username, password, origin: folder.origin.clone() })
            }
            _ => Err(AccessError::LoginMissing { origin: folder.origin.clone() }),
        }
    }

    /// Puts the login into a request. Only for the host that was named: no other must learn it.
    pub(super) fn put_into(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Token(login) => request.header(AUTHORIZATION, login.header.clone()),
            Self::Password { username, password, .. } => request.basic_auth(username, Some(password)),
        }
    }

    /// The login for messages, without its secrets.
    pub(super) fn who(&self) -> String {
        match self {
            Self::None => "anonymous access (no login is set)".to_owned(),
            Self::Token(login) => format!("{login:?}"),
            Self::Password { origin, .. } => format!("the login from {origin}"),
        }
    }
}
