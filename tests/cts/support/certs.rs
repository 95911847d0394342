//! Certificates of test servers, made by `openssl` for each test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIGURATION: &str = "
[req]
distinguished_name = name
[name]
[ca]
default_ca = authority
[authority]
database = index
rand_serial = yes
new_certs_dir = .
default_md = sha256
unique_subject = no
policy = policy
[policy]
commonName = supplied
[version_2]
authorityKeyIdentifier = keyid
";

/// An authority that signed three certificates, and one that signed none.
pub struct Certs {
    /// The certificate of the authority.
    pub ca: PathBuf,
    /// The certificate of an authority that has signed none of these.
    pub other_ca: PathBuf,
    /// For localhost and 127.0.0.1.
    pub server: Pair,
    /// For another host.
    pub foreign: Pair,
    /// For localhost and 127.0.0.1, and expired.
    pub expired: Pair,
}

/// A certificate and its key.
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Certs {
    pub fn make(folder: &Path) -> Certs {
        fs::write(folder.join("openssl.cnf"), CONFIGURATION).unwrap();
        fs::write(folder.join("index"), "").unwrap();
        let here = "DNS:localhost,IP:127.0.0.1";
        let (now, then) =
            (("20200101000000Z", "20480101000000Z"), ("20200101000000Z", "20210101000000Z"));
        let ca = authority(folder, "ca");
        Certs {
            other_ca: authority(folder, "other-ca"),
            server: signed(folder, "server", here, now),
            foreign: signed(folder, "foreign", "DNS:db.example.com", now),
            expired: signed(folder, "expired", here, then),
            ca,
        }
    }
}

impl Pair {
    fn of(folder: &Path, name: &str) -> Pair {
        Pair { cert: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) }
    }
}

fn authority(folder: &Path, name: &str) -> PathBuf {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key \
             -out {name}.crt -subj /CN={name} -days 3650 -config openssl.cnf \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"
        ),
    );
    folder.join(format!("{name}.crt"))
}

fn signed(folder: &Path, name: &str, hosts: &str, dates: (&str, &str)) -> Pair {
    let extensions = format!(
        "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName={hosts}\n"
    );
    issued(folder, "ca", name, &extensions, dates)
}

/// A certificate with these extensions and dates, signed by an authority, by itself if that has its name.
pub fn issued(
    folder: &Path,
    authority: &str,
    name: &str,
    extensions: &str,
    (from, to): (&str, &str),
) -> Pair {
    fs::write(folder.join(format!("{name}.ext")), extensions).unwrap();
    openssl(
        folder,
        &format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key \
             -out {name}.csr -subj /CN={name} -config openssl.cnf"
        ),
    );
    let signer = match authority == name {
        true => "-selfsign".to_string(),
        false => format!("-cert {authority}.crt"),
    };
    openssl(
        folder,
        &format!(
            "ca -batch -notext -config openssl.cnf {signer} -keyfile {authority}.key -in {name}.csr \
             -out {name}.crt -extfile {name}.ext -startdate {from} -enddate {to}"
        ),
    );
    Pair::of(folder, name)
}

/// The revocation list of an authority, with these certificates in it, current until a date.
/// `options` are more words for `openssl ca`.
pub fn revocation_list(
    folder: &Path,
    authority: &str,
    revoked: &[&str],
    until: &str,
    options: &str,
) -> PathBuf {
    // The file of the issued certificates is shared by all authorities here.
    fs::write(folder.join("index"), "").unwrap();
    let signer = format!("ca -config openssl.cnf -cert {authority}.crt -keyfile {authority}.key");
    for name in revoked {
        openssl(folder, &format!("{signer} -revoke {name}.crt"));
    }
    let file = format!("{authority}-{}-{until}{}.crl", revoked.join("-"), options.len());
    openssl(
        folder,
        &format!(
            "{signer} -gencrl -crl_lastupdate 20200101000000Z -crl_nextupdate {until} {options} -out {file}"
        ),
    );
    folder.join(file)
}

fn openssl(folder: &Path, words: &str) {
    let mut command = Command::new("openssl");
    let done = command.args(words.split_whitespace()).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
}
