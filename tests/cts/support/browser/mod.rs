//! Chromium as Debian has it, driven over WebDriver (W3C) by its chromedriver on a free port. Both end when the value
//! is dropped.

mod wire;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{TIMEOUT, await_that};
use super::not_tried;

/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Arguments of Chromium: no window, root in a container, and what a machine without a screen needs.
const ARGUMENTS: [&str; 6] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--font-render-hinting=none",
];

/// The size of the window and the colours that its user prefers.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub is_dark: bool,
}

/// A running browser with a window.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// The files of Chromium: the driver leaves them where it is killed.
    _folder: TempDir,
}

impl Browser {
    /// Starts it. `None` where it is not installed.
    pub fn start() -> Option<Browser> {
        let folder = TempDir::new().unwrap();
        let Some((driver, port)) = (0..5).find_map(|_| start_driver(&folder)) else {
            not_tried("chromedriver does not start (Debian: chromium, chromium-driver)");
            return None;
        };
        let mut browser = Browser { driver, port, session: String::new(), _folder: folder };
        let capabilities = json!({"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": ARGUMENTS}});
        let body = json!({"capabilities": {"alwaysMatch": capabilities}});
        let session = wire::ask(browser.port, "POST", "/session", Some(&body)).unwrap();
        browser.session = session["sessionId"].as_str().unwrap().to_string();
        Some(browser)
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        wire::ask(self.port, "POST", &path, Some(body))
            .unwrap_or_else(|error| panic!("{command} {body}: {error}"))
    }

    /// Asks the browser itself. (Chrome DevTools Protocol)
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    pub fn open(&self, address: &str) -> &Browser {
        self.post("url", &json!({"url": address}));
        self
    }

    pub fn look(&self, view: View) -> &Browser {
        let View { width, height, is_dark } = view;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let value = if is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value},
            {"name": "prefers-reduced-motion", "value": "reduce"}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
        self
    }

    /// Lets pages run their scripts, or not.
    pub fn permit_scripts(&self, is_permitted: bool) -> &Browser {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": !is_permitted}));
        self
    }

    /// The value of an expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        self.post("execute/sync", &json!({"script": format!("return {expression}"), "args": []}))
    }

    /// Runs a script in the page, which calls its last argument when it is done.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/async", &json!({"script": script, "args": []}))
    }

    /// The text of the elements as they are seen.
    pub fn text(&self, selector: &str) -> String {
        let expression = format!(
            "[...document.querySelectorAll({})].map(node => node.innerText).join('\\n')",
            json!(selector)
        );
        self.value(&expression).as_str().unwrap().to_string()
    }

    /// Waits until this expression holds in the page.
    pub fn until(&self, expression: &str) -> &Browser {
        await_that(expression, || {
            let done = self.value(&format!("Boolean({expression})"));
            done == Value::Bool(true)
        });
        self
    }

    /// Waits until the page shows this status: a word of its own list.
    pub fn until_word(&self, word: &str) -> &Browser {
        self.until(&format!("document.getElementById('word')?.textContent === {}", json!(word)))
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("element", &json!({"using": "css selector", "value": selector}));
        found[ELEMENT].as_str().unwrap().to_string()
    }

    pub fn click(&self, selector: &str) -> &Browser {
        self.post(&format!("element/{}/click", self.element(selector)), &json!({}));
        self
    }

    /// Types into an element; `\u{e007}` is the key Enter.
    pub fn type_into(&self, selector: &str, text: &str) -> &Browser {
        self.post(&format!("element/{}/value", self.element(selector)), &json!({"text": text}));
        self
    }

    /// Presses a key where the focus is.
    pub fn press(&self, key: &str) -> &Browser {
        let (down, up) =
            (json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key}));
        self.post(
            "actions",
            &json!({"actions": [{"type": "key", "id": "keys", "actions": [down, up]}]}),
        );
        self
    }

    /// Opens a tab and goes on in it.
    pub fn new_tab(&self) -> &Browser {
        let tab = self.post("window/new", &json!({"type": "tab"}));
        self.post("window", &json!({"handle": tab["handle"]}));
        self
    }

    /// The errors of the console since the last call: those of scripts, and violations of a policy. That a request
    /// was answered with an error or not at all is none of the page.
    pub fn errors(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().unwrap().iter();
        let is_error = |entry: &&Value| entry["level"] == "SEVERE" && entry["source"] != "network";
        entries.filter(is_error).map(Value::to_string).collect()
    }

    /// What axe-core finds that is serious or worse: rule, and the elements. `None` where it is not installed.
    pub fn accessibility_faults(&self) -> Option<Vec<String>> {
        let home = std::env::var("HOME").unwrap_or_default();
        let folder = Path::new(&home).join(".cache/cts/axe-core");
        let Ok(engine) = fs::read_to_string(folder.join("axe.min.js")) else {
            not_tried("axe-core is not in ~/.cache/cts (tests/run.sh puts it there)");
            return None;
        };
        let script = format!(
            "{engine}; const done = arguments[arguments.length - 1]; axe.run().then(r => done(r.violations))"
        );
        let found = self.run(&script);
        let is_serious = |v: &&Value| matches!(v["impact"].as_str(), Some("serious" | "critical"));
        let faults = found.as_array().unwrap().iter().filter(is_serious);
        let shown = |fault: &Value| {
            let nodes = fault["nodes"].as_array().unwrap().iter();
            let nodes: Vec<String> =
                nodes.map(|n| format!("{} {}", n["target"], n["failureSummary"])).collect();
            format!("{}: {}", fault["id"], nodes.join("; "))
        };
        Some(faults.map(shown).collect())
    }

    /// A picture of the window as a PNG file.
    pub fn picture(&self) -> Vec<u8> {
        let path = format!("/session/{}/screenshot", self.session);
        let picture = wire::ask(self.port, "GET", &path, None).unwrap();
        wire::from_base64(picture.as_str().unwrap())
    }
}

/// Starts the driver and reads its port. `None` where it is not installed, or another program took the port.
fn start_driver(folder: &TempDir) -> Option<(Child, u16)> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").env("TMPDIR", folder.path()).env("HOME", folder.path());
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut driver = command.spawn().ok()?;
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| {
        let rest = line.unwrap().split_once("successfully on port ")?.1.to_string();
        rest.trim_end_matches('.').parse().ok()
    });
    let Some(port) = port else {
        driver.wait().unwrap();
        return None;
    };
    // It must not meet a closed pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Some((driver, port))
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium; the driver alone would leave it.
        let _ = wire::ask(self.port, "DELETE", &format!("/session/{}", self.session), None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
