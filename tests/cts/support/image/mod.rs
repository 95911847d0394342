//! The image that a packed archive describes, built by buildah, and containers of it, made of namespaces as a
//! container runtime makes them: cts is the first process, of the user of the image, without a capability, on a
//! read-only root with a network of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::not_tried;

mod containers;
mod recipe;

use containers::ImageRun;

/// An image.
pub struct Image {
    /// Its files.
    root: PathBuf,
    /// The fields of the image configuration, as Docker names them.
    pub config: Value,
    _folder: TempDir,
}

impl Image {
    /// Builds the image of an unpacked archive: with buildah, or where that cannot run, by applying the recipe here,
    /// which is reported.
    pub fn build(archive: &Path) -> Image {
        let folder = TempDir::new().unwrap();
        // Users of the container must be able to reach its files.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (root, config) = by_buildah(archive, folder.path()).unwrap_or_else(|why| {
            not_tried(&format!("buildah, in whose place the test applies the recipe: {why}"));
            recipe::apply(archive, &folder.path().join("applied"))
        });
        Image { root, config, _folder: folder }
    }

    /// A new volume for `/data`: the runtime gives it the owner and the mode of the folder in the image.
    pub fn new_volume(&self) -> TempDir {
        let (volume, model) = (TempDir::new().unwrap(), fs::metadata(self.root.join("data")));
        let model = model.unwrap();
        fs::set_permissions(volume.path(), model.permissions()).unwrap();
        chown(volume.path(), Some(model.uid()), Some(model.gid())).unwrap();
        volume
    }

    /// A container on this volume, to be started.
    pub fn on(&self, volume: &Path) -> ImageRun<'_> {
        ImageRun::new(self, volume)
    }

    /// A field of the image configuration that is a list of words.
    fn words(&self, pointer: &str) -> Vec<String> {
        let field = self.config.pointer(pointer).and_then(Value::as_array);
        let words = field.unwrap_or_else(|| panic!("{pointer}: {}", self.config));
        words.iter().map(|word| word.as_str().unwrap().to_string()).collect()
    }

    /// The command of the health check.
    pub fn health_check(&self) -> Vec<String> {
        let mut words = self.words("/Healthcheck/Test");
        assert_eq!(words.remove(0), "CMD", "it needs no shell");
        words
    }
}

/// The root file system and the configuration.
fn by_buildah(archive: &Path, folder: &Path) -> Result<(PathBuf, Value), String> {
    let buildah = |words: &[&OsStr]| {
        let storage = ["--storage-driver", "vfs", "--root"].map(OsStr::new);
        let (files, running) = (folder.join("storage"), folder.join("run"));
        let storage =
            storage.into_iter().chain([files.as_ref(), "--runroot".as_ref(), running.as_ref()]);
        let done = Command::new("buildah").args(storage).args(words).output();
        let done = done.map_err(|e| format!("{e} (tests/run.sh installs it)"))?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).trim().to_string()),
            false => Err(String::from_utf8_lossy(&done.stderr).trim().replace('\n', " / ")),
        }
    };
    let words = |line: &'static str| line.split(' ').map(OsStr::new).collect::<Vec<_>>();
    let mut build = words("build --isolation chroot --format docker --pull-never --tag cts");
    build.push(archive.as_ref());
    buildah(&build)?;
    let image = buildah(&words("inspect --type image localhost/cts"))?;
    let image: Value = serde_json::from_str(&image).map_err(|e| e.to_string())?;
    let container = buildah(&words("from --pull-never localhost/cts"))?;
    // With this storage driver it is a folder, and nothing is mounted.
    let root = buildah(&["mount".as_ref(), container.as_ref()])?;
    Ok((root.into(), image["Docker"]["config"].clone()))
}
