//! Links: files exist, and anchors are those that GitHub gives to headings.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{Page, files_below, from_root, page, pages, quoted, root};

/// The anchors of a page's headings: lower case, without punctuation, blanks as hyphens; a heading
/// that comes again gets a number.
fn anchors(page: &Page) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let slug = |heading: &str| {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let text = heading.to_lowercase().chars().filter(kept).collect::<String>();
        let slug = text.replace(' ', "-");
        let count = seen.entry(slug.clone()).or_default();
        *count += 1;
        if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
    };
    page.headings().into_iter().map(slug).collect()
}

/// The targets of a page's links.
fn targets(page: &Page) -> Vec<String> {
    let mut targets = Vec::new();
    for line in page.prose() {
        // What stands between backticks is no link.
        let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for rest in text.split("](").skip(1) {
            targets.push(rest.split(')').next().unwrap().to_string());
        }
    }
    targets
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading() {
    let mut count = 0;
    for from in pages() {
        for target in targets(&from) {
            if target.starts_with("https://") {
                continue;
            }
            count += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = Path::new(&from.name).parent().unwrap();
            let path = if path.is_empty() {
                from.name.clone()
            } else {
                let full = root().join(folder).join(path);
                let full = fs::canonicalize(full);
                from_root(&full.unwrap_or_else(|e| panic!("{}: {target}: {e}", from.name)))
            };
            if !anchor.is_empty() {
                let anchors = anchors(&page(&path));
                let is_there = anchors.iter().any(|found| found == anchor);
                assert!(is_there, "{}: {target} is none of {anchors:?}", from.name);
            }
        }
    }
    assert!(count > 60, "only {count} links");
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let mut reached = vec!["README.md".to_string()];
    let mut next = 0;
    while let Some(name) = reached.get(next).cloned() {
        next += 1;
        for target in targets(&page(&name)) {
            let path = target.split('#').next().unwrap();
            let folder = Path::new(&name).parent().unwrap();
            let full = fs::canonicalize(root().join(folder).join(path));
            let Ok(full) = full else { continue };
            let path = from_root(&full);
            if path.ends_with(".md") && !reached.contains(&path) {
                reached.push(path);
            }
        }
    }
    for page in pages() {
        assert!(reached.contains(&page.name), "no link leads to {}", page.name);
    }
}

/// Names of pages, with the heading that may follow: `docs/install.md, "Containers"`.
fn mentions(text: &str) -> Vec<(String, Option<String>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    let mut mentions = Vec::new();
    for (end, _) in text.match_indices(".md") {
        let start = text[..end].rfind(|c: char| !is_name(c)).map_or(0, |at| at + 1);
        let rest = text[end + 3..].replace('\\', "");
        let heading = rest.strip_prefix(", \"").and_then(|rest| rest.split('"').next());
        mentions.push((format!("{}.md", &text[start..end]), heading.map(str::to_string)));
    }
    mentions
}

#[test]
fn every_page_that_the_source_and_the_packages_name_exists() {
    let mut count = 0;
    let folders = ["release", "systemd", "src", "schema", ".ci"].map(files_below).concat();
    let files = folders.into_iter().chain([root().join("Cargo.toml"), root().join("build.rs")]);
    for file in files {
        let name = from_root(&file);
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!text.contains("(README, "), "{name} names a heading of the README");
        for (path, heading) in mentions(&text) {
            // Also as the URL of a file, which has two slashes more.
            let path =
                path.trim_start_matches('/').trim_start_matches("usr/share/doc/cts/").to_string();
            if path.is_empty() || path == ".md" || path.contains("target/") {
                continue;
            }
            count += 1;
            assert!(root().join(&path).is_file(), "{name} names {path}, which is no file");
            if let Some(heading) = heading {
                let page = page(&path);
                let is_there = page.headings().contains(&heading.as_str());
                assert!(is_there, "{name} names {path}, \"{heading}\": {:?}", page.headings());
            }
        }
    }
    assert!(count > 8, "only {count} names of pages");
}

#[test]
fn every_source_file_that_a_page_names_exists() {
    let tops =
        ["src/", "schema/", "tests/", "build.rs", "release/", "systemd/", "benches/", "fuzz/"];
    let mut count = 0;
    for page in pages() {
        // A file that the reader is to add does not exist yet.
        let prose = page.prose().into_iter().filter(|line| !line.contains("072_"));
        for name in prose.flat_map(quoted).filter(|name| tops.iter().any(|t| name.starts_with(t))) {
            if name.contains([' ', '*', '…']) {
                continue;
            }
            assert!(root().join(name).exists(), "{}: {name} does not exist", page.name);
            count += 1;
        }
    }
    assert!(count > 50, "only {count} names of files");
}
