//! The webhook's certificate: what is kept of it in its Secret, whether it will do, and how one is made.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;

const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// How long a certificate is good for.
const GOOD_FOR_DAYS: i64 = 90;
/// The authority signs for nobody but this webhook, and goes when its Secret is emptied.
const CA_GOOD_UNTIL: (i32, u8, u8) = (2126, 1, 1);

/// What its Secret holds: an authority, and a certificate that it signed, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) ca: String,
    /// Absent where somebody else makes the certificates.
    ca_key: Option<String>,
    certificate: String,
    key: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    /// It was not made.
    #[error("failed to make a certificate")]
    Make(#[source] rcgen::Error),
    /// Its key does not fit, or it is not one.
    #[error("the certificate in the Secret cannot be used")]
    Load(#[source] rustls::Error),
    /// It is no PEM.
    #[error("the certificate in the Secret cannot be read")]
    Read(#[source] rustls::pki_types::pem::Error),
}

impl Kept {
    /// What a Secret holds; none where something is missing.
    pub(super) fn of(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        Some(Self { ca: text(CA)?, ca_key: text(CA_KEY), certificate: text(CERTIFICATE)?, key: text(KEY)? })
    }

    /// The Secret with this in it.
    pub(super) fn into_secret(self, mut secret: Secret) -> Secret {
        let Self { ca, ca_key, certificate, key } = self;
        let all = [(CA, Some(ca)), (CA_KEY, ca_key), (CERTIFICATE, Some(certificate)), (KEY, Some(key))];
        let all = all.into_iter().filter_map(|(name, text)| Some((name.to_owned(), ByteString(text?.into_bytes()))));
        secret.data = Some(all.collect());
        secret
    }

    /// Whether a client that trusts the authority takes the certificate for this host at this time, and it can be served.
    pub(super) fn is_good(&self, host: &str, at: Timestamp) -> bool {
        self.check(host, at).is_some() && self.certified().is_ok()
    }

    fn check(&self, host: &str, at: Timestamp) -> Option<()> {
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(self.ca.as_bytes()) {
            roots.add(ca.ok()?).ok()?;
        }
        let chain = self.chain().ok()?;
        let (leaf, between) = chain.split_first()?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
        let host = ServerName::try_from(host).ok()?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_second()).ok()?));
        verifier.verify_server_cert(leaf, between, &host, &[], at).ok().map(|_| ())
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let all: Result<_, _> = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        all.map_err(CertificateError::Read)
    }

    /// What a server needs.
    pub(super) fn certified(&self) -> Result<CertifiedKey, CertificateError> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(CertificateError::Read)?;
        CertifiedKey::from_der(self.chain()?, key, &ring::default_provider()).map_err(CertificateError::Load)
    }

    /// A new certificate of the same authority; of a new one where the old one's key is gone, or it signs nothing that is good.
    pub(super) fn renewed(old: Option<&Self>, host: &str, now: Timestamp) -> Result<Self, CertificateError> {
        let by_old = |old: &Self| {
            let key = KeyPair::from_pem(old.ca_key.as_ref()?).ok()?;
            let new = Self::signed(old.ca.clone(), key, host, now).ok()?;
            new.is_good(host, now).then_some(new)
        };
        if let Some(new) = old.and_then(by_old) {
            return Ok(new);
        }
        let key = KeyPair::generate().map_err(CertificateError::Make)?;
        let ca = authority().self_signed(&key).map_err(CertificateError::Make)?;
        Self::signed(ca.pem(), key, host, now)
    }

    fn signed(ca: String, ca_key: KeyPair, host: &str, now: Timestamp) -> Result<Self, CertificateError> {
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(CertificateError::Make)?;
        params.distinguished_name.push(DnType::CommonName, "modelcache webhook");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Clocks differ.
        let ((year, month, first), (last_year, last_month, last)) =
            (day(now, (-1).days()), day(now, GOOD_FOR_DAYS.days()));
        params.not_before = date_time_ymd(year, month, first);
        params.not_after = date_time_ymd(last_year, last_month, last);
        let key = KeyPair::generate().map_err(CertificateError::Make)?;
        let ca_pem = ca_key.serialize_pem();
        let issuer = Issuer::new(authority(), ca_key);
        let certificate = params.signed_by(&key, &issuer).map_err(CertificateError::Make)?;
        Ok(Self { ca, ca_key: Some(ca_pem), certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, "modelcache webhook authority");
    let (year, month, day) = CA_GOOD_UNTIL;
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(year, month, day));
    params
}

/// The day that is so long after now.
fn day(now: Timestamp, after: Span) -> (i32, u8, u8) {
    let date = now.to_zoned(TimeZone::UTC).date().saturating_add(after);
    let part = |number: i8| u8::try_from(number).unwrap_or(1);
    (i32::from(date.year()), part(date.month()), part(date.day()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "modelcache-webhook.modelcache-system.svc";

    fn later(days: i64) -> Timestamp {
        now() + jiff::SignedDuration::from_hours(24 * days)
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_514_400).unwrap()
    }

    #[test]
    fn a_certificate_is_good_for_its_host_and_its_time() {
        let kept = Kept::renewed(None, HOST, now()).unwrap();
        assert!(kept.is_good(HOST, now()) && kept.is_good(HOST, later(89)));
        assert!(!kept.is_good(HOST, later(91)), "it ends");
        assert!(!kept.is_good("modelcache-webhook.other.svc", now()), "it is for one host");
        let secret = kept.clone().into_secret(Secret::default());
        assert_eq!(Kept::of(&secret), Some(kept));
    }

    #[test]
    fn an_authority_stays_until_it_is_no_good() {
        let old = Kept::renewed(None, HOST, now()).unwrap();
        let new = Kept::renewed(Some(&old), HOST, later(80)).unwrap();
        assert_eq!(new.ca, old.ca);
        assert!(new.certificate != old.certificate && new.is_good(HOST, later(160)));
        let other = Kept::renewed(None, HOST, now()).unwrap();
        for damaged in [
            Kept { ca_key: None, ..old.clone() },
            Kept { ca_key: Some("no key".into()), ..old.clone() },
            // Another authority's key.
            Kept { ca_key: other.ca_key, ..old.clone() },
            Kept { ca: "no certificate".into(), ..old.clone() },
        ] {
            let new = Kept::renewed(Some(&damaged), HOST, now()).unwrap();
            assert!(new.ca != old.ca && new.is_good(HOST, now()));
        }
    }

    #[test]
    fn what_cannot_be_served_is_not_good() {
        let (one, other) = (Kept::renewed(None, HOST, now()).unwrap(), Kept::renewed(None, HOST, now()).unwrap());
        assert!(!Kept { key: other.key.clone(), ..one.clone() }.is_good(HOST, now()), "another key");
        assert!(!Kept { ca: other.ca.clone(), ..one.clone() }.is_good(HOST, now()), "another authority");
        assert!(!Kept { certificate: String::new(), ..one }.is_good(HOST, now()), "no certificate");
    }
}
