//! `cts --check --ready`: whether the service of this configuration is ready, for the health check of a container.
//! The exit code is 0 or 1: Docker reserves 2, and takes a service that is degraded, and works, for ready.

use std::time::Duration;

use serde_json::Value;

use crate::config::{Flags, Listen};
use crate::error::Result;
use crate::http::client::{HttpResponse, get_from_any};
use crate::system::address::{of_own_listener, resolve};
use crate::system::environment::Environment;
use crate::system::output::print_lines;
use crate::system::visible::Lines;

/// How long the name in HOST may take to be resolved, and then the answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the service at HOST and PORT for `/readyz` and prints one line. The exit code is 0 if it is ready, else 1.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(flags: &Flags, environment: Environment<'_>) -> Result<u8> {
    let answer = Listen::load(flags, environment).map_err(|e| e.to_string()).and_then(ask);
    let mut lines = Lines::new();
    match &answer {
        Ok(state) => lines.add(format!("CTS OK - ready: {state}")),
        Err(reason) => lines.add(format!("CTS CRITICAL - not ready: {reason}")),
    }
    print_lines(&lines)?;
    Ok(u8::from(answer.is_err()))
}

/// The status of the service that is ready, or why it is not.
fn ask(listen: Listen) -> std::result::Result<String, String> {
    let Listen { host, port, .. } = listen;
    if port == 0 {
        return Err("PORT is 0, which stands for a free port, chosen at each start".into());
    }
    let addresses = resolve(&host, port, TIMEOUT).map_err(|e| format!("HOST: {e}"))?;
    let addresses: Vec<_> = addresses.into_iter().map(of_own_listener).collect();
    let shown = addresses.first().map(ToString::to_string).unwrap_or_default();
    let is_cts = |response: &HttpResponse| readiness(&response.body).is_some();
    let response = get_from_any(&addresses, &shown, "/readyz", TIMEOUT, is_cts)
        .map_err(|e| format!("{shown} does not answer: {e}"))?;
    readiness(&response.body)
        .unwrap_or_else(|| Err(format!("{shown} answers, but not as cts does")))
}

/// The status in an answer of `/readyz`, with its reasons: an error where the service is not ready. `None` if it is
/// not an answer of cts.
fn readiness(body: &str) -> Option<std::result::Result<String, String>> {
    let json: Value = serde_json::from_str(body).ok()?;
    let (is_ready, status) = (json["ready"].as_bool()?, json["status"].as_str()?);
    let reasons = json["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reasons: Vec<&str> = reasons.collect();
    let state = match reasons.is_empty() {
        true => status.to_string(),
        false => format!("{status}: {}", reasons.join("; ")),
    };
    Some(if is_ready { Ok(state) } else { Err(state) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degraded_service_is_ready_and_only_cts_is_believed() {
        let degraded = r#"{"ready":true,"status":"degraded","reasons":["a","b"]}"#;
        assert_eq!(readiness(degraded), Some(Ok("degraded: a; b".into())));
        let starting = r#"{"ready":false,"status":"initializing"}"#;
        assert_eq!(readiness(starting), Some(Err("initializing".into())));
        assert_eq!((readiness("ready"), readiness("{}")), (None, None));
    }
}
