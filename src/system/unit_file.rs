//! The files of a systemd service, merged as systemd merges them: the unit file and its drop-ins (systemd.unit(5),
//! systemd.syntax(7)). systemd itself is not asked, which would take longer than a command takes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::system::small_file::{self, SETTINGS_BYTES_MAX};

/// The folders of unit files of the system, the one that is preferred first. (`systemd-analyze unit-paths`, without those
/// of generators)
const FOLDERS: [&str; 8] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The settings of the section `[Service]`, in the order in which systemd reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFiles(Vec<UnitSetting>);

/// A setting of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSetting {
    name: String,
    /// Its value, with quotes, escapes and specifiers as they are written.
    pub value: String,
    /// The file that it is in.
    pub file: PathBuf,
}

impl UnitFiles {
    /// Reads the files of a unit. `None` if it is not installed or is masked.
    ///
    /// # Errors
    /// If one of its files cannot be read.
    pub fn read(unit: &str) -> io::Result<Option<UnitFiles>> {
        for folder in FOLDERS {
            let file = Path::new(folder).join(unit);
            match small_file::read(&file, SETTINGS_BYTES_MAX) {
                // A link to /dev/null masks a unit, and so does an empty file.
                Ok(text) if text.is_empty() => return Ok(None),
                Ok(text) => return UnitFiles::with_drop_ins(unit, file, &text).map(Some),
                Err(e) if is_absent(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// The names of the services that begin with `prefix`.
    pub fn services(prefix: &str) -> BTreeSet<String> {
        let entries = FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(prefix) && name.ends_with(".service")).collect()
    }

    fn with_drop_ins(unit: &str, file: PathBuf, text: &[u8]) -> io::Result<UnitFiles> {
        let mut files = UnitFiles::default();
        files.add(file, text);
        for file in drop_ins(unit)? {
            let text = small_file::read(&file, SETTINGS_BYTES_MAX)?;
            files.add(file, &text);
        }
        Ok(files)
    }

    /// Adds the settings of a file.
    pub fn add(&mut self, file: PathBuf, text: &[u8]) {
        let mut is_in_section = false;
        for line in logical_lines(&String::from_utf8_lossy(text)) {
            if line.starts_with('[') {
                is_in_section = line == "[Service]";
            } else if let Some((name, value)) = line.split_once('=').filter(|_| is_in_section) {
                let (name, value) = (name.trim_end().to_string(), value.trim_start().to_string());
                self.0.push(UnitSetting { name, value, file: file.clone() });
            }
        }
    }

    /// The values of a setting that are in effect: an empty one discards those before it.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &UnitSetting> {
        let of_name = move || self.0.iter().filter(move |setting| setting.name == name);
        let emptied = of_name().enumerate().filter(|(_, setting)| setting.value.is_empty()).last();
        of_name().skip(emptied.map_or(0, |(at, _)| at + 1))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The drop-ins of a unit, by name: of those with one name, the one in the preferred folder counts.
fn drop_ins(unit: &str) -> io::Result<Vec<PathBuf>> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for folder in FOLDERS.iter().rev() {
        let entries = match fs::read_dir(Path::new(folder).join(format!("{unit}.d"))) {
            Ok(entries) => entries,
            Err(e) if is_absent(&e) => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                files.insert(path.file_name().unwrap_or_default().into(), path);
            }
        }
    }
    Ok(files.into_values().collect())
}

/// The lines without comments; one that ends with a backslash goes on in the next, and a comment between them is left out.
fn logical_lines(text: &str) -> Vec<String> {
    let (mut lines, mut continued) = (Vec::new(), String::new());
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) || (line.is_empty() && continued.is_empty()) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => continued += &format!("{part} "),
            None => lines.push((std::mem::take(&mut continued) + line).trim_end().to_string()),
        }
    }
    lines.extend((!continued.is_empty()).then(|| continued.trim_end().to_string()));
    lines
}

/// The words of a value, without their quotes and with escapes replaced. `None` if an escape is not known here, or a quote
/// is not closed.
pub fn words(value: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(end)) if c == end => quote = None,
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            ('\\', _) => word.get_or_insert_default().push(escaped(rest.next()?)?),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// The character that an escape stands for; `None` for those of a code.
fn escaped(c: char) -> Option<char> {
    match c {
        's' => Some(' '),
        't' => Some('\t'),
        'n' => Some('\n'),
        '\\' | '"' | '\'' => Some(c),
        _ => None,
    }
}

/// A text with the specifiers replaced that a service of the system has fixed values for; `None` if there is another one.
pub fn without_specifiers(unit: &str, text: &str) -> Option<String> {
    let (mut replaced, mut rest) = (String::new(), text.chars());
    while let Some(c) = rest.next() {
        if c != '%' {
            replaced.push(c);
            continue;
        }
        match rest.next()? {
            '%' => replaced.push('%'),
            'C' => replaced += "/var/cache",
            'd' => replaced += &format!("/run/credentials/{unit}"),
            'E' => replaced += "/etc",
            'L' => replaced += "/var/log",
            'n' => replaced += unit,
            'N' | 'p' => replaced += unit.strip_suffix(".service").unwrap_or(unit),
            'S' => replaced += "/var/lib",
            't' => replaced += "/run",
            _ => return None,
        }
    }
    Some(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, name: &str) -> Vec<String> {
        let mut files = UnitFiles::default();
        files.add("cts.service".into(), text.as_bytes());
        files.values(name).map(|setting| setting.value.clone()).collect()
    }

    #[test]
    fn settings_of_a_service_are_read_as_systemd_reads_them() {
        for (text, expected) in [
            ("[Service]\nEnvironment=A=1\nEnvironment = A=2 \n", vec!["A=1", "A=2"]),
            ("[Unit]\nEnvironment=A=1\n[Service]\n# Environment=A=2\n;Environment=A=3\n", vec![]),
            ("[Service]\nEnvironment=A=1\nEnvironment=\nEnvironment=A=2\n", vec!["A=2"]),
            ("[Service]\nEnvironment=A=1 \\\n# why\n  B=2\r\n", vec!["A=1  B=2"]),
            ("[Service]\nEnvironment=A=1 \\", vec!["A=1"]),
        ] {
            assert_eq!(values(text, "Environment"), expected, "{text:?}");
        }
    }

    #[test]
    fn words_are_split_as_systemd_splits_them() {
        for (text, expected) in [
            ("A=1  B=2", vec!["A=1", "B=2"]),
            ("\"A=1 2\" 'B=\"3\"' C='4 5'", vec!["A=1 2", "B=\"3\"", "C=4 5"]),
            ("A=a\\sb A=\"a\\\"b\" ''", vec!["A=a b", "A=a\"b", ""]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text:?}");
        }
        for text in ["A=\"open", "A=\\x41", "A=\\"] {
            assert_eq!(words(text), None, "{text:?}");
        }
    }

    #[test]
    fn specifiers_with_a_fixed_value_are_replaced() {
        let replaced = |text| without_specifiers("cts.service", text);
        let url = "/run/credentials/cts.service/url 100% /var/lib/cts";
        assert_eq!(replaced("%d/url 100%% %S/%N").as_deref(), Some(url));
        assert_eq!((replaced("%H"), replaced("%")), (None, None));
    }
}
