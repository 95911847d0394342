//! How URLs are read, and that no error about one shows a password.

mod environment;
mod parameters;
mod parts;
mod passfile;
mod secrets;
mod tls;

use std::ffi::OsString;

use super::*;
use crate::error::Result;

fn read_with(url: &str, variables: &[(&str, &str)]) -> Result<Target> {
    Target::read("DATABASE_URL", url, &|name| {
        variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
    })
}

fn read(url: &str) -> Target {
    read_with(url, &[]).unwrap_or_else(|e| panic!("{url}: {e}"))
}

fn error_text(url: &str) -> String {
    match read_with(url, &[]) {
        Ok(target) => panic!("{url} was taken for {target:?}"),
        Err(error) => {
            assert_eq!(error.kind, Kind::Config);
            assert!(error.to_string().starts_with("DATABASE_URL: "), "{error}");
            assert!(error.remedy.is_some(), "{error}");
            error.to_string()
        }
    }
}

fn password(target: &Target) -> Option<&[u8]> {
    target.hosts[0].password.as_ref().map(Password::expose)
}

fn host_list(target: &Target) -> Vec<String> {
    target.hosts.iter().map(Host::to_string).collect()
}
