//! Getting ready to talk to a Hub: token, certificates, proxies, client.

use super::{Limits, Login};
use crate::format::task::{HubAccess, MountedFile, ProxyChoice};
use crate::ident::{Endpoint, Reason};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy, Url, redirect};
use std::io::{self, Read};

/// The longest token file and CA bundle that are read, in bytes.
pub(super) const TOKEN_MAX_BYTES: u64 = 64 * 1024;
const CA_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Why no request can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The endpoint is no address.
    #[error("the endpoint {endpoint} is not an address that can be asked: correct the connection's endpoint")]
    Endpoint {
        /// As given.
        endpoint: String,
    },
    /// The token's file cannot be read.
    #[error("failed to read the Hub token from {origin} ({source}): check that the secret and its key exist")]
    TokenMissing {
        /// What a person calls the file.
        origin: String,
        /// What the system said.
        source: io::Error,
    },
    /// The token's file holds no token.
    #[error("the Hub token in {origin} {why}: store the token there, one line of text that begins with `hf_`")]
    TokenInvalid {
        /// What a person calls the file.
        origin: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A folder that holds no login.
    #[error("the login in {origin} is incomplete: it needs the key `token`, or the keys `username` and `password`")]
    LoginMissing {
        /// What a person calls the folder.
        origin: String,
    },
    /// The CA bundle cannot be read.
    #[error("failed to read the CA bundle from {origin} ({source}): check that the object and its key exist")]
    CaMissing {
        /// What a person calls the file.
        origin: String,
        /// What the system said.
        source: io::Error,
    },
    /// The CA bundle holds no certificate.
    #[error("the CA bundle in {origin} {why}: store certificates in PEM there (`-----BEGIN CERTIFICATE-----`)")]
    CaInvalid {
        /// What a person calls the file.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
    /// A proxy's address is no address. It may hold a password, so it is not repeated.
    #[error("the {scheme} proxy's address is invalid: it must be like `http://proxy.example:3128`")]
    Proxy {
        /// `http` or `https`.
        scheme: &'static str,
    },
    /// There are no certificates to trust.
    #[error(
        "no trusted certificates were found on this system, so {endpoint} cannot be trusted: set a CA bundle or SSL_CERT_FILE"
    )]
    NoRoots {
        /// The Hub.
        endpoint: Endpoint,
        /// What the library said.
        #[source]
        source: reqwest::Error,
    },
}

impl AccessError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Endpoint { .. } => Reason::HubUnavailable,
            Self::TokenMissing { .. } | Self::TokenInvalid { .. } | Self::LoginMissing { .. } => Reason::SecretNotFound,
            Self::CaMissing { .. } | Self::CaInvalid { .. } | Self::NoRoots { .. } => Reason::TLSUntrusted,
            Self::Proxy { .. } => Reason::ProxyError,
        }
    }
}

/// Makes ring the cryptography of this process; the first call counts, so tests may call it as often as they like.
pub fn install_crypto() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(super) fn base(endpoint: &Endpoint) -> Result<Url, AccessError> {
    match Url::parse(endpoint.as_str()) {
        Ok(url) if url.has_host() => Ok(url),
        _ => Err(AccessError::Endpoint { endpoint: endpoint.to_string() }),
    }
}

impl Login {
    /// Reads a token from its file.
    pub fn read(file: &MountedFile) -> Result<Self, AccessError> {
        let origin = || file.origin.clone();
        let bytes =
            read(file, TOKEN_MAX_BYTES).map_err(|source| AccessError::TokenMissing { origin: origin(), source })?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| AccessError::TokenInvalid { origin: origin(), why: "is not text" })?;
        Self::new(&text, origin())
    }

    /// A token that is in no file.
    pub fn new(text: &str, origin: String) -> Result<Self, AccessError> {
        let text = text.trim();
        let why = match HeaderValue::try_from(format!("Bearer {text}")) {
            _ if text.is_empty() => "is empty",
            Ok(mut header) if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                header.set_sensitive(true);
                return Ok(Self { header, origin });
            }
            _ => "holds characters that no token has",
        };
        Err(AccessError::TokenInvalid { origin, why })
    }
}

pub(super) fn client(access: &HubAccess, limits: &Limits) -> Result<Client, AccessError> {
    let roots = access.ca_bundle.as_ref().map(certificates).transpose()?.unwrap_or_default();
    let built = builder(access, limits)?.tls_certs_merge(roots.clone()).build();
    let source = match built {
        Ok(client) => return Ok(client),
        Err(source) => source,
    };
    if let Some(bundle) = access.ca_bundle.as_ref().filter(|_| !roots.is_empty()) {
        let why = format!("holds a certificate that cannot be read ({})", super::error::chain(&source));
        return Err(AccessError::CaInvalid { origin: bundle.origin.clone(), why });
    }
    if access.endpoint.as_str().starts_with("https:") {
        return Err(AccessError::NoRoots { endpoint: access.endpoint.clone(), source });
    }
    // An image without any certificates can still speak to a plain Hub; with no roots, TLS trusts nobody.
    let plain = builder(access, limits)?.tls_certs_only([]).build();
    plain.map_err(|source| AccessError::NoRoots { endpoint: access.endpoint.clone(), source })
}

fn builder(access: &HubAccess, limits: &Limits) -> Result<ClientBuilder, AccessError> {
    let mut builder = Client::builder()
        .user_agent(concat!("modelcache/", env!("CARGO_PKG_VERSION")))
        // HTTP/2 would put every file on one connection, which is as fast as one file.
        .http1_only()
        // Redirects are followed by hand: the token must not go along to another host.
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(limits.connect);
    let ProxyChoice { http, https, no_proxy } = &access.proxy;
    if http.is_none() && https.is_none() && no_proxy.is_none() {
        // reqwest reads the environment when no proxy is set.
        return Ok(builder);
    }
    builder = builder.no_proxy();
    let exceptions = || no_proxy.as_deref().and_then(NoProxy::from_string);
    if let Some(address) = http {
        let proxy = Proxy::http(address).map_err(|_| AccessError::Proxy { scheme: "http" })?;
        builder = builder.proxy(proxy.no_proxy(exceptions()));
    }
    if let Some(address) = https {
        let proxy = Proxy::https(address).map_err(|_| AccessError::Proxy { scheme: "https" })?;
        builder = builder.proxy(proxy.no_proxy(exceptions()));
    }
    Ok(builder)
}

/// The same decision that the client makes, for telling a dead proxy from a dead Hub.
pub(super) fn proxies(choice: &ProxyChoice) -> Matcher {
    if choice.is_empty() {
        return Matcher::from_env();
    }
    let ProxyChoice { http, https, no_proxy } = choice;
    Matcher::builder()
        .http(http.clone().unwrap_or_default())
        .https(https.clone().unwrap_or_default())
        .no(no_proxy.clone().unwrap_or_default())
        .build()
}

fn certificates(file: &MountedFile) -> Result<Vec<Certificate>, AccessError> {
    let origin = || file.origin.clone();
    let bytes = read(file, CA_MAX_BYTES).map_err(|source| AccessError::CaMissing { origin: origin(), source })?;
    let invalid = |why: &str| AccessError::CaInvalid { origin: origin(), why: why.to_owned() };
    let certificates =
        Certificate::from_pem_bundle(&bytes).map_err(|_| invalid("holds a certificate that cannot be read"))?;
    if certificates.is_empty() { Err(invalid("holds no certificate")) } else { Ok(certificates) }
}

pub(super) fn read(file: &MountedFile, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(&file.path)?.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::other(format!("it is longer than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// The host and port of the proxy on the way to an address. A login, where the proxy's address holds one, is nobody's business.
pub(super) fn proxy_of(proxies: &Matcher, url: &Url) -> Option<String> {
    let intercepted = proxies.intercept(&url.as_str().parse().ok()?)?;
    let authority = intercepted.uri().authority()?.as_str();
    authority.rsplit('@').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(endpoint: &str) -> HubAccess {
        serde_json::from_value(serde_json::json!({"endpoint": endpoint})).unwrap()
    }

    fn mounted(text: &str) -> (tempfile::TempDir, MountedFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, text).unwrap();
        (folder, MountedFile { path, origin: "Secret \"hub\", key \"token\"".into() })
    }

    #[test]
    fn bad_token_files_are_named_by_their_origin() {
        for text in ["", " \n", "two words", "päss"] {
            let (_folder, file) = mounted(text);
            let error = Login::read(&file).err().unwrap();
            assert_eq!(error.reason(), Reason::SecretNotFound, "{text:?}");
            assert!(error.to_string().contains("Secret \"hub\", key \"token\""), "{error}");
            assert!(text.trim().is_empty() || !error.to_string().contains(text), "{error}");
        }
        let absent = MountedFile { path: "/nonexistent/token".into(), origin: "Secret x".into() };
        assert_eq!(Login::read(&absent).err().unwrap().reason(), Reason::SecretNotFound);
        let (_folder, file) = mounted(" hf_abc\n");
        assert_eq!(Login::read(&file).ok().unwrap().header, "Bearer hf_abc");
    }

    #[test]
    fn bad_bundles_are_untrusted() {
        for text in ["", "garbage", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"] {
            let (_folder, file) = mounted(text);
            let error = certificates(&file).unwrap_err();
            assert_eq!(error.reason(), Reason::TLSUntrusted, "{text:?}");
        }
        install_crypto();
        // Well-formed PEM around bytes that are no certificate is seen only when the client is built.
        let (_folder, file) = mounted("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
        let access = HubAccess { ca_bundle: Some(file), ..access("https://hub.example") };
        let error = client(&access, &Limits::default()).unwrap_err();
        assert!(matches!(error, AccessError::CaInvalid { .. }), "{error}");
    }

    #[test]
    fn a_proxys_password_is_not_repeated() {
        let proxy = ProxyChoice { https: Some("http://me:hunter2@[bad".into()), ..ProxyChoice::default() };
        let access = HubAccess { proxy, ..access("https://hub") };
        let error = builder(&access, &Limits::default()).err().unwrap();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
