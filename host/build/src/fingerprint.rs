//! Whether anything that goes into a workspace's components has changed, without asking cargo.
//!
//! Cargo takes a tenth of a second to find that there is nothing to do, which every start of `witan` in a checkout
//! would pay. Names, sizes and times of change of the sources take a hundredth of that. Cargo still decides what is
//! rebuilt: this only decides whether to ask it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Folders that hold what a build made, not what it is made from.
const OUTPUTS: [&str; 2] = ["target", "build"];

/// A digest over the names, sizes and times of change of all files under `roots`, in a fixed order. A root that does
/// not exist counts as empty.
pub(crate) fn fingerprint<'a>(roots: impl IntoIterator<Item = &'a Path>) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    for root in roots {
        hasher.update(b"root\0");
        if root.exists() {
            visit(root, &mut hasher)?;
        }
    }
    Ok(hasher.finalize())
}

fn visit(path: &Path, hasher: &mut blake3::Hasher) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    hasher.update(path.as_os_str().as_encoded_bytes());
    hasher.update(b"\0");
    if metadata.is_dir() {
        return visit_folder(path, hasher);
    }
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    hasher.update(&metadata.len().to_le_bytes());
    hasher.update(&changed.as_nanos().to_le_bytes());
    Ok(())
}

fn visit_folder(path: &Path, hasher: &mut blake3::Hasher) -> io::Result<()> {
    let mut names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    for name in names {
        if !OUTPUTS.iter().any(|output| name == *output) {
            visit(&path.join(name), hasher)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_count_and_outputs_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("a/src")).unwrap();
        fs::create_dir(root.join("target")).unwrap();
        let empty = fingerprint([root]).unwrap();

        fs::write(root.join("target/x"), "built").unwrap();
        assert_eq!(fingerprint([root]).unwrap(), empty);

        fs::write(root.join("a/src/lib.rs"), "one").unwrap();
        let one = fingerprint([root]).unwrap();
        assert_ne!(one, empty);

        fs::write(root.join("a/src/lib.rs"), "longer").unwrap();
        assert_ne!(fingerprint([root]).unwrap(), one);
    }

    #[test]
    fn a_missing_root_counts_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert!(fingerprint([folder.path().join("none").as_path()]).is_ok());
    }
}
