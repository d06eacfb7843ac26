//! Where a Hub is.

use super::{InvalidIdent, string_newtype};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The base address of a Hub: `http(s)://host[:port][/path]`, without a trailing slash, user, query or fragment.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(String);

string_newtype!(Endpoint);

impl Endpoint {
    /// The host, and the port where it is not the scheme's own, in lower case: `hub.example:8443`.
    pub fn host_and_port(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let authority = rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
        let usual = if scheme == "https" { ":443" } else { ":80" };
        authority.strip_suffix(usual).map(str::to_owned).unwrap_or(authority)
    }
}

impl FromStr for Endpoint {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, InvalidIdent> {
        let invalid = |why| Err(InvalidIdent::new("endpoint", text, why));
        let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
            return invalid("it must begin with `https://` or `http://`");
        };
        if rest.contains(['?', '#']) {
            return invalid("a query or fragment is not allowed");
        }
        // A token belongs into a Secret: an address is shown to everybody.
        if rest.contains('@') {
            return Err(InvalidIdent::new("endpoint", "(hidden)", "a user or password in it is not allowed"));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return invalid("spaces, control characters and backslashes are not allowed");
        }
        let trimmed = text.trim_end_matches('/');
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || host.starts_with(':') {
            return invalid("it names no host");
        }
        Ok(Self(trimmed.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_name() {
        let of = |text: &str| text.parse::<Endpoint>().unwrap().host_and_port();
        for (text, host) in [
            ("https://Hub.Example/mirror", "hub.example"),
            ("https://hub.example:443", "hub.example"),
            ("http://hub.example:80/", "hub.example"),
            ("http://hub.example:443", "hub.example:443"),
            ("https://10.0.0.1:8443", "10.0.0.1:8443"),
        ] {
            assert_eq!(of(text), host);
        }
    }

    #[test]
    fn endpoints_lose_their_last_slash() {
        assert_eq!("http://hub:8080/mirror/".parse::<Endpoint>().unwrap().as_str(), "http://hub:8080/mirror");
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let error = "https://me:hunter2@hub".parse::<Endpoint>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "hub", "ftp://hub", "https://", "https://:80", "https://hub?x", "https://hub/#a", "https://a b"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
