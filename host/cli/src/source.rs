//! Where the system comes from, and building what a checkout lacks.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use witan_build::{Checkout, Progress, Workspace};
use witan_system::System;

use crate::Global;

/// Reads and checks the system: `--system`, else `system.toml` here, else that of the checkout.
pub(crate) fn load(global: &Global) -> anyhow::Result<System> {
    let path = find(global)?;
    let system = System::load(&path)?;
    build_missing(&system)?;
    Ok(system)
}

/// The file that [`load`] reads.
pub(crate) fn find(global: &Global) -> anyhow::Result<PathBuf> {
    let here = || Some(PathBuf::from("system.toml")).filter(|here| here.is_file());
    if let Some(path) = global.system.clone().or_else(here) {
        return Ok(path);
    }
    Checkout::find()
        .map(|checkout| checkout.root().join("system.toml"))
        .filter(|path| path.is_file())
        .context("there is no `system.toml` in this folder; go where one is, or name it with `--system FILE`")
}

/// Builds the first-party components of this checkout, if the system uses them. An installed `witan` builds nothing.
fn build_missing(system: &System) -> anyhow::Result<()> {
    let Some(checkout) = Checkout::find() else { return Ok(()) };
    let folder = checkout.build_folder(Workspace::Components);
    let folder = folder.canonicalize().unwrap_or(folder);
    let ours = |source: &Path| {
        let parent = source.parent().map(|parent| parent.canonicalize().unwrap_or_else(|_| parent.to_owned()));
        parent.is_some_and(|parent| parent == folder) || parent_will_be(source, &folder)
    };
    if system.components.values().filter_map(|component| component.source.file()).any(ours) {
        checkout.build_missing(Workspace::Components, &Progress::stderr()).context("cannot build the components")?;
    }
    Ok(())
}

/// Whether `source` would lie in `folder`, which need not exist yet.
fn parent_will_be(source: &Path, folder: &Path) -> bool {
    let Some(parent) = source.parent() else { return false };
    let absolute = std::path::absolute(parent).unwrap_or_else(|_| parent.to_owned());
    absolute.components().eq(folder.components())
}
