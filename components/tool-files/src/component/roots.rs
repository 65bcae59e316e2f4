//! The folders that the host opened for this component: all that it can reach.

use super::bindings::exports::witan::tools::tool::Error;
use super::bindings::wasi::filesystem::preopens::get_directories;
use super::bindings::wasi::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorStat, ErrorCode, OpenFlags, PathFlags,
};
use super::failure::failed;
use super::files;
use crate::path::{locate, normalise};
use crate::report::{Entry, Kind};

/// The granted folders, each with its path.
pub(super) struct Roots {
    folders: Vec<Descriptor>,
    paths: Vec<String>,
}

/// A path within one of them.
pub(super) struct Located<'a> {
    pub(super) root: &'a Descriptor,
    pub(super) relative: &'a str,
    pub(super) path: &'a str,
}

impl Roots {
    /// The roots of this call. A root whose own name is no absolute path cannot be named by a caller and is left out.
    pub(super) fn open() -> Self {
        let named = get_directories().into_iter().filter_map(|(folder, name)| Some((folder, normalise(&name).ok()?)));
        let (folders, paths) = named.unzip();
        Self { folders, paths }
    }

    /// The roots, as entries of a list.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut paths = self.paths.clone();
        paths.sort();
        paths.into_iter().map(|path| Entry { path, kind: Kind::Folder }).collect()
    }

    /// The root that holds `path`.
    pub(super) fn locate<'a>(&'a self, path: &'a str) -> Result<Located<'a>, Error> {
        let located = locate(&self.paths, path)
            .and_then(|place| Some((self.folders.get(place.root)?, place.relative)))
            .map(|(root, relative)| Located { root, relative, path });
        located.ok_or_else(|| Error::Denied(format!("`{path}` is in no granted folder; {}", self.in_words())))
    }

    /// Opens the file at `path`. What is there and is no file is refused before it is opened, since opening some
    /// devices and pipes waits or acts.
    pub(super) async fn file(&self, path: &str, open: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, Error> {
        let located = self.locate(path)?;
        match located.stat().await {
            Ok(stat) => match files::kind(&stat.type_) {
                Kind::File => {}
                Kind::Folder => return Err(Error::Failed(format!("`{path}` is a folder; `list` shows what is in it"))),
                _ => return Err(Error::Failed(format!("`{path}` is no file"))),
            },
            Err(error) if !open.contains(OpenFlags::CREATE) => return Err(error),
            Err(_) => {}
        }
        let opened = located.root.open_at(PathFlags::SYMLINK_FOLLOW, located.relative.to_owned(), open, flags).await;
        opened.map_err(|code| match code {
            ErrorCode::NoEntry if open.contains(OpenFlags::CREATE) => {
                Error::Failed(format!("the folder of `{path}` does not exist"))
            }
            ErrorCode::Access | ErrorCode::NotPermitted if flags.contains(DescriptorFlags::WRITE) => {
                Error::Denied(format!("`{path}` may not be written"))
            }
            code => failed(path, &code),
        })
    }

    fn in_words(&self) -> String {
        match self.paths.as_slice() {
            [] => "none is granted".to_owned(),
            paths => format!("granted: `{}`", paths.join("`, `")),
        }
    }
}

impl Located<'_> {
    /// The attributes of what is there, links followed.
    pub(super) async fn stat(&self) -> Result<DescriptorStat, Error> {
        let stat = self.root.stat_at(PathFlags::SYMLINK_FOLLOW, self.relative.to_owned()).await;
        stat.map_err(|code| failed(self.path, &code))
    }
}
