//! Which files a task may name.
//!
//! A path becomes a grant, so that it is resolved before it is judged: links are followed first, and what they lead to
//! is what must lie under a root, and what is granted.

use std::path::{Path, PathBuf};

use witan_capability::TaskFile;

use crate::{Code, TaskError};

/// Which paths whoever asks may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Any file that this process can read, relative to its current folder: for whoever started it.
    Any,
    /// Files under these folders, relative to the first of them that has one: the `host.roots` of the system.
    Under(Vec<PathBuf>),
}

impl Paths {
    /// Resolves `paths` into files for one task.
    ///
    /// # Errors
    /// When one is no regular file, is not there, or lies outside of what may be named. Under roots, the latter two
    /// are the same error, so that a client cannot probe for files.
    pub fn resolve(&self, paths: &[String]) -> Result<Vec<TaskFile>, TaskError> {
        paths.iter().enumerate().map(|(index, path)| self.file(index, path)).collect()
    }

    fn file(&self, index: usize, path: &str) -> Result<TaskFile, TaskError> {
        let param = format!("input.paths[{index}]");
        let host = match self {
            Self::Any => open(path).map_err(|error| TaskError::new(Code::PathRefused, error).at(param.as_str()))?,
            Self::Under(roots) => below(roots, Path::new(path)).ok_or_else(|| refused(&param, path, roots.len()))?,
        };
        let file_name = host.file_name().and_then(|name| name.to_str()).filter(|name| !name.contains(char::is_control));
        let Some(file_name) = file_name else {
            let message = format!("the file name of `{path}` is not Unicode text; rename it");
            return Err(TaskError::new(Code::PathRefused, message).at(param));
        };
        Ok(TaskFile { name: path.to_owned(), guest: format!("/task/{index}/{file_name}"), host })
    }
}

fn open(path: &str) -> Result<PathBuf, String> {
    let file = Path::new(path).canonicalize().map_err(|error| format!("cannot read `{path}`: {error}"))?;
    if file.is_file() { Ok(file) } else { Err(format!("`{path}` is no regular file; name the files themselves")) }
}

fn below(roots: &[PathBuf], path: &Path) -> Option<PathBuf> {
    roots.iter().find_map(|root| {
        let root = root.canonicalize().ok()?;
        // An absolute path replaces the root here, and must then lie below it.
        let file = root.join(path).canonicalize().ok()?;
        (file.starts_with(&root) && file.is_file()).then_some(file)
    })
}

fn refused(param: &str, path: &str, roots: usize) -> TaskError {
    let message = if roots == 0 {
        "this host takes no paths over HTTP; send the bytes as `documents`, or list folders in `host.roots` of \
         system.toml"
            .to_owned()
    } else {
        format!("no file `{path}` lies under the folders in `host.roots` of system.toml")
    };
    TaskError::new(Code::PathRefused, message).at(param).setting("host.roots")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn folders() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a.md"), "a").unwrap();
        fs::write(folder.path().join("secret.md"), "s").unwrap();
        fs::create_dir(folder.path().join("root-of-another")).unwrap();
        fs::write(folder.path().join("root-of-another/b.md"), "b").unwrap();
        symlink("../secret.md", root.join("link.md")).unwrap();
        symlink("a.md", root.join("inner.md")).unwrap();
        symlink("..", root.join("up")).unwrap();
        (folder, root)
    }

    #[test]
    fn files_under_a_root_are_found_by_either_form() {
        let (_folder, root) = folders();
        let paths = Paths::Under(vec!["/does/not/exist".into(), root.clone()]);
        let absolute = root.join("a.md").to_str().unwrap().to_owned();
        let files = paths.resolve(&["a.md".into(), absolute, "inner.md".into()]).unwrap();
        let host = root.join("a.md").canonicalize().unwrap();
        assert!(files.iter().all(|file| file.host == host));
        assert_eq!(files[0].guest, "/task/0/a.md");
        assert_eq!((files[2].guest.as_str(), files[2].name.as_str()), ("/task/2/a.md", "inner.md"));
    }

    #[test]
    fn what_lies_outside_is_refused_and_looks_as_if_it_were_not_there() {
        let (folder, root) = folders();
        let paths = Paths::Under(vec![root.clone()]);
        let outside = folder.path().join("secret.md").to_str().unwrap().to_owned();
        let sibling = folder.path().join("root-of-another/b.md").to_str().unwrap().to_owned();
        let message = |path: &str| {
            let error = paths.resolve(&[path.to_owned()]).unwrap_err();
            assert_eq!((error.code, error.setting.as_deref()), (Code::PathRefused, Some("host.roots")), "{path}");
            error.message.replace(&format!("`{path}`"), "`PATH`")
        };
        let missing = message("missing.md");
        for path in ["../secret.md", "link.md", "up/secret.md", "/etc/passwd", &outside, &sibling, ".", ""] {
            assert_eq!(message(path), missing, "{path}");
        }
    }

    #[test]
    fn without_roots_no_path_is_taken() {
        let error = Paths::Under(Vec::new()).resolve(&["/etc/passwd".into()]).unwrap_err();
        assert!(error.message.contains("host.roots"), "{error}");
    }

    #[test]
    fn the_command_line_names_any_file_but_no_folder() {
        let (folder, _root) = folders();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(Paths::Any.resolve(&[path("secret.md")]).unwrap()[0].guest, "/task/0/secret.md");
        assert!(Paths::Any.resolve(&[path("root")]).is_err());
        assert!(Paths::Any.resolve(&[path("missing")]).is_err());
    }
}
