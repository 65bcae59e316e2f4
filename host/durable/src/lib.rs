//! Files that are whole and on the disk, also after a crash: written under another name, synchronized and renamed.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Readable and writable by this user alone.
pub const OWN: u32 = 0o600;

/// What stands in the folder of a file that was never finished begins with this.
pub const UNFINISHED: &str = ".new-";

/// Puts `bytes` in the place of a file: whoever reads it finds all of the old or all of the new, also after a crash. It
/// keeps the permissions that it has; a new one has `mode`, less what the umask takes away.
///
/// # Errors
/// When the folder of `path` cannot be written to or is not there. The old file is as it was, unless it is only that the
/// folder could not be synchronized.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder(path);
    let mut builder = tempfile::Builder::new();
    let mut file = builder.prefix(UNFINISHED).permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
    file.write_all(bytes)?;
    if let Ok(before) = fs::metadata(path) {
        file.as_file().set_permissions(before.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    synchronize(folder)
}

/// Makes durable which names are in `folder`: to the disk it is a file of its own.
///
/// # Errors
/// When it cannot be opened or synchronized.
pub fn synchronize(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder that `path` is in.
#[must_use]
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_made_for_whom_it_is_and_replaced_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"old", OWN).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"old".to_vec(), OWN));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"new", OWN).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"new".to_vec(), 0o640));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::create_dir_all(path.join("a folder is in its place")).unwrap();
        assert!(replace(&path, b"new", OWN).is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(replace(&folder.path().join("a/b"), b"", OWN).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_name_alone_is_in_the_folder_that_we_are_in() {
        assert_eq!(folder(Path::new("file")), Path::new("."));
        assert_eq!(folder(Path::new("/a/file")), Path::new("/a"));
    }
}
