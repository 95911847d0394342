//! How certificates are verified, with certificates made by OpenSSL for these tests, and the
//! errors of those that are refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, OtherError};

use super::*;
use crate::store::postgres::url::TlsStart;

/// Self-signed certificate of an authority, for db.example.
const SELF_SIGNED: &str = "\
-----BEGIN CERTIFICATE-----
MIIBijCCATCgAwIBAgIUJOtFk7+n9Y9PPWHB/Npu3H+0ZsYwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEc2VsZjAeFw0yNjExMjMxNDM3MThaFw0zNjExMjAxNDM3MTha
MA8xDTALBgNVBAMMBHNlbGYwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQer9zV
xoBtWlIRo/jM/3AXh0F7qPBg9EejWSLo0TbOpV9pFq3bFCcqgD8aFEg4i//MsPnd
TYkNmt5vY8QZWeOTo2owaDAdBgNVHQ4EFgQUY07D12zoeNVC85sRRD966sbB1asw
HwYDVR0jBBgwFoAUY07D12zoeNVC85sRRD966sbB1aswDwYDVR0TAQH/BAUwAwEB
/zAVBgNVHREEDjAMggpkYi5leGFtcGxlMAoGCCqGSM49BAMCA0gAMEUCIQC6smmD
X+yneFHexAWDMR5Giw7cDcKqjfaeRVYXlK5rJAIgYBRSjbQ/aTiPtGfDBp7rOVl6
zQTuJVGLgYtw0/PkBzs=
-----END CERTIFICATE-----
";
/// Signed by that authority, for db.example and 192.0.2.1.
const LEAF: &str = "\
-----BEGIN CERTIFICATE-----
MIIBfjCCASWgAwIBAgIUaO+K/AwRniscaSP5+kgo09K+ZH8wCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEc2VsZjAeFw0yNjExMjMxNDM3MThaFw0zNjExMjAxNDM3MTha
MA8xDTALBgNVBAMMBGxlYWYwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATbXpL8
O8C4XUIpFCNbyOBrVf6s1EEVqJcai4sJmFYNASHFjU7P5XV6lq3d0qxw/MjJ8Oyc
yPNlcXm9ZL356ONgo18wXTAbBgNVHREEFDASggpkYi5leGFtcGxlhwTAAAIBMB0G
A1UdDgQWBBSpwwFOdX87q8fHzK3StRN1qcISBjAfBgNVHSMEGDAWgBRjTsPXbOh4
1ULzmxFEP3rqxsHVqzAKBggqhkjOPQQDAgNHADBEAiBSCfblCA8Qix/dR0GjoCnw
SlEoH3Dqiawew2PsXWBZOwIgT3XFFEkolYzQZHbHxrb0OGjKdCFlo65TJdbpzWiK
Cqc=
-----END CERTIFICATE-----
";
/// Signed by that authority, of X.509 version 1.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBGDCBvgIUaO+K/AwRniscaSP5+kgo09K+ZH4wCgYIKoZIzj0EAwIwDzENMAsG
A1UEAwwEc2VsZjAeFw0yNjExMjMxNDM3MThaFw0zNjExMjAxNDM3MThaMA4xDDAK
BgNVBAMMA29sZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABD2tDvx6nzNOyl9r
+7g2k9V0hDJvVMkmMS3Du9j1MlqR3NhDPecSfQwhqQ7pj69GUqTN6UPojS++qkUy
Z5JiBrAwCgYIKoZIzj0EAwIDSQAwRgIhAPPpEyBaRlmLqWiVP0HQsKCzvoRx7UkR
eNAycFRHx9JRAiEA6x+rfNSB0JmajloN1HCkYhp1TaLEVUCpWPN/3dYolWk=
-----END CERTIFICATE-----
";
/// The public key of the certificate of version 1, as `openssl x509 -pubkey` writes it.
const VERSION_1_KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEPa0O/HqfM07KX2v7uDaT1XSEMm9U
ySYxLcO72PUyWpHc2EM95xJ9DCGpDumPr0ZSpM3pQ+iNL76qRTJnkmIGsA==
-----END PUBLIC KEY-----
";
/// The private key of a certificate.
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgC4xuc4GZYJUvG1vh
ADrkNGR8DPr14Jc/MKUSj/RHOjihRANCAATbXpL8O8C4XUIpFCNbyOBrVf6s1EEV
qJcai4sJmFYNASHFjU7P5XV6lq3d0qxw/MjJ8OycyPNlcXm9ZL356ONg
-----END PRIVATE KEY-----
";
/// A time at which all are valid, and one at which all have expired, in seconds since 1970.
const DURING: u64 = 1795531038;
const AFTER: u64 = DURING + 11 * 366 * 86_400;

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn settings(mode: SslMode, root: Option<&Path>) -> TlsSettings {
    let root = root.map(|path| Root::File(path.to_path_buf()));
    TlsSettings {
        mode,
        start: TlsStart::Asked,
        versions: TlsVersions::Both,
        sends_host_name: true,
        sends_certificate: true,
        root,
        revoked: None,
        revoked_folder: None,
        accepted_logins: None,
        cert: None,
        key: None,
        folder: None,
    }
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    file
}

/// The result of a verifier that trusts the self-signed certificate.
fn verdict(
    mode: SslMode,
    root: &str,
    server: &str,
    name: &str,
    at: u64,
) -> Result<(), rustls::Error> {
    let root = file(root);
    let settings = settings(mode, Some(root.path()));
    let demand = demand(&settings).unwrap();
    let verifier = verifier(&settings, &demand, &ring::default_provider()).unwrap();
    let name = ServerName::try_from(name).unwrap();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
    verifier.verify_server_cert(&certificate(server), &[], &name, &[], at).map(|_| ())
}

fn refusal(mode: SslMode, server: &str, name: &str, at: u64) -> CertificateError {
    match verdict(mode, SELF_SIGNED, server, name, at) {
        Err(rustls::Error::InvalidCertificate(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_certificate_of_the_authority_is_accepted_for_its_names() {
    for name in ["db.example", "192.0.2.1"] {
        assert_eq!(verdict(SslMode::VerifyFull, SELF_SIGNED, LEAF, name, DURING), Ok(()));
    }
    for name in ["other.example", "192.0.2.2"] {
        let why = refusal(SslMode::VerifyFull, LEAF, name, DURING);
        assert!(matches!(why, CertificateError::NotValidForNameContext { .. }), "{why:?}");
        assert_eq!(verdict(SslMode::VerifyCa, SELF_SIGNED, LEAF, name, DURING), Ok(()));
    }
}

#[test]
fn a_self_signed_certificate_in_the_file_is_accepted() {
    let of = |mode, name, at| verdict(mode, SELF_SIGNED, SELF_SIGNED, name, at);
    assert_eq!(of(SslMode::VerifyFull, "db.example", DURING), Ok(()));
    assert_eq!(of(SslMode::VerifyCa, "other.example", DURING), Ok(()));
    let why = refusal(SslMode::VerifyFull, SELF_SIGNED, "other.example", DURING);
    assert!(matches!(why, CertificateError::NotValidForNameContext { .. }), "{why:?}");
    assert!(verdict(SslMode::VerifyCa, LEAF, SELF_SIGNED, "db.example", DURING).is_err());
}

#[test]
fn an_expired_certificate_is_refused_even_if_it_is_in_the_file() {
    for server in [LEAF, SELF_SIGNED] {
        let why = refusal(SslMode::VerifyCa, server, "db.example", AFTER);
        assert!(matches!(why, CertificateError::ExpiredContext { .. }), "{why:?}");
    }
}

#[test]
fn prefer_verifies_nothing_and_require_only_with_a_root_certificate() {
    let root = Path::new("/ca.pem");
    let proof = |mode, root| demand(&settings(mode, root)).unwrap().proof;
    assert_eq!(proof(SslMode::Prefer, Some(root)), Proof::Nothing);
    assert_eq!(proof(SslMode::Require, None), Proof::Nothing);
    assert_eq!(proof(SslMode::Require, Some(root)), Proof::Chain);
    assert_eq!(proof(SslMode::VerifyCa, Some(root)), Proof::Chain);
    assert_eq!(proof(SslMode::VerifyFull, None), Proof::Name);
    assert_eq!(verdict(SslMode::Prefer, LEAF, VERSION_1, "x", AFTER), Ok(()));
}

#[test]
fn the_root_certificate_of_the_home_directory_is_the_default() {
    let home = tempfile::tempdir().unwrap();
    let mut settings = settings(SslMode::VerifyCa, None);
    settings.folder = Some(home.path().to_path_buf());
    let text = demand(&settings).unwrap_err().to_string();
    assert!(text.contains("root.crt") && text.contains("sslrootcert="), "{text}");
    let root = home.path().join("root.crt");
    fs::write(&root, SELF_SIGNED).unwrap();
    assert_eq!(demand(&settings).unwrap().roots, Some(root));
    settings.mode = SslMode::Require;
    assert_eq!(demand(&settings).unwrap().proof, Proof::Chain);
    settings.root = Some(Root::System);
    settings.mode = SslMode::VerifyFull;
    assert_eq!(demand(&settings).unwrap().roots, None);
}

#[test]
fn an_unusable_root_file_is_named() {
    let (empty, key) = (file(""), file(KEY));
    for (path, said) in [
        (Path::new("/nonexistent/ca.pem"), "cannot be read"),
        (empty.path(), "contains no certificate"),
        (key.path(), "contains no certificate"),
    ] {
        let error = Tls::new(&settings(SslMode::VerifyFull, Some(path))).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, Kind::Config);
        let text = error.to_string();
        assert!(text.contains(said) && text.contains(path.to_str().unwrap()), "{text}");
        assert!(Tls::new(&settings(SslMode::Prefer, Some(path))).is_ok());
    }
}

#[test]
fn a_client_certificate_needs_its_key_and_the_key_is_private() {
    let (cert, key, wrong) = (file(LEAF), file(KEY), file(SELF_SIGNED));
    let with = |key: Option<&Path>| {
        let mut settings = settings(SslMode::Require, None);
        settings.cert = Some(cert.path().to_path_buf());
        settings.key = key.map(Path::to_path_buf);
        Tls::new(&settings).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(with(Some(key.path())), Ok(()));
    assert!(with(None).unwrap_err().contains("sslkey"));
    assert!(with(Some(wrong.path())).unwrap_err().contains("no usable private key"));
    fs::set_permissions(key.path(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(with(Some(key.path())).unwrap_err().contains("chmod 600"));
}

#[test]
fn the_key_of_a_certificate_of_any_version_is_found() {
    let expected = SubjectPublicKeyInfoDer::from_pem_slice(VERSION_1_KEY.as_bytes()).unwrap();
    assert_eq!(verifier::public_key(&certificate(VERSION_1)), Some(expected.as_ref()));
    let leaf = certificate(LEAF);
    assert!(verifier::public_key(&leaf).is_some());
    for end in 0..leaf.len() {
        assert_eq!(verifier::public_key(&leaf[..end]), None);
    }
}

#[test]
fn a_socket_never_has_tls() {
    let tls = Tls::new(&settings(SslMode::Require, None)).unwrap();
    let host = |endpoint| Host { endpoint, address: None, port: 5432, password: None };
    let mode = |endpoint| tls.connector(&host(endpoint)).negotiation;
    assert_eq!(mode(Endpoint::Unix("/run".into())), Negotiation::Disable);
    assert_eq!(mode(Endpoint::Tcp("db".into())), Negotiation::Require);
}

#[test]
fn a_failed_handshake_is_explained_with_the_setting_to_change() {
    let root = file(SELF_SIGNED);
    let full = Tls::new(&settings(SslMode::VerifyFull, Some(root.path()))).unwrap();
    let ours = root.path().to_str().unwrap().to_string();
    let name = |presented: &[&str]| CertificateError::NotValidForNameContext {
        expected: ServerName::try_from("db.example").unwrap(),
        presented: presented.iter().map(ToString::to_string).collect(),
    };
    for (why, kind, said, remedy) in [
        (CertificateError::UnknownIssuer, Kind::Config, &*ours, "sslmode=require"),
        (CertificateError::Expired, Kind::Unavailable, "expired", "renew"),
        (CertificateError::NotValidYet, Kind::Unavailable, "not valid yet", "clock"),
        (name(&["DnsName(\"a.b\")", "IpAddress(::1)"]), Kind::Config, "a.b, ::1", "verify-ca"),
        (name(&[]), Kind::Config, "names no host", "subjectAltName"),
        (CertificateError::Revoked, Kind::Config, "is revoked", "new certificate"),
        (
            CertificateError::UnknownRevocationStatus,
            Kind::Config,
            "none of the authority",
            "sslcrl",
        ),
        (CertificateError::ExpiredRevocationList, Kind::Unavailable, "out of date", "fetch"),
        (
            CertificateError::InvalidPurpose,
            Kind::Config,
            "may not be used by a server",
            "version 3",
        ),
        (
            CertificateError::Other(OtherError(Arc::new(webpki::Error::NameConstraintViolation))),
            Kind::Config,
            "may not issue certificates for this name",
            "version 3",
        ),
    ] {
        let error = full.explain_tls(&rustls::Error::InvalidCertificate(why));
        assert_eq!(error.kind, kind);
        assert!(error.message().contains(said), "{error}");
        assert!(error.remedy.as_deref().unwrap_or_default().contains(remedy), "{error}");
    }
}
