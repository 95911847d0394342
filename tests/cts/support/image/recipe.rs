//! Applies the instructions of a Containerfile to an empty root, where buildah cannot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// The root, and the image configuration as Docker has it.
pub fn apply(archive: &Path, root: &Path) -> (PathBuf, Value) {
    fs::create_dir(root).unwrap();
    let mut config = json!({"Env": []});
    let text = fs::read_to_string(archive.join("Containerfile")).unwrap();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').unwrap();
        let words: Vec<&str> = rest.split(' ').collect();
        let inside = |path: &str| root.join(path.trim_start_matches('/'));
        match instruction {
            "COPY" => {
                fs::create_dir_all(inside(words[1]).parent().unwrap()).unwrap();
                fs::copy(archive.join(words[0]), inside(words[1])).unwrap();
            }
            "ADD" => {
                let mut tar = Command::new("tar");
                tar.arg("-xpf").arg(archive.join(words[0])).arg("-C").arg(inside(words[1]));
                assert!(tar.status().unwrap().success());
            }
            "ENV" => config["Env"] = json!(words),
            "USER" => config["User"] = json!(rest),
            "STOPSIGNAL" => config["StopSignal"] = json!(rest),
            "ENTRYPOINT" => config["Entrypoint"] = serde_json::from_str(rest).unwrap(),
            "HEALTHCHECK" => {
                let (_, command) = rest.split_once("CMD ").unwrap();
                let command: Vec<String> = serde_json::from_str(command).unwrap();
                let test: Vec<String> = [vec!["CMD".to_string()], command].concat();
                config["Healthcheck"] = json!({"Test": test});
            }
            "FROM" => assert_eq!(rest, "scratch"),
            "LABEL" | "VOLUME" | "WORKDIR" | "EXPOSE" => {}
            other => panic!("{other} is not known to this test"),
        }
    }
    (root.to_path_buf(), config)
}
