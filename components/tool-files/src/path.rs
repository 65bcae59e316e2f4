//! Which granted folder a path is in.

/// Why a path names nothing that could be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start at the root.
    #[error("`{0}` is not absolute; give a path that begins with `/`")]
    Relative(String),
    /// It leads out of a folder.
    #[error("`{0}` contains `..`; give the path without it")]
    Parent(String),
    /// It cannot be the name of a file.
    #[error("the path contains a zero byte")]
    Zero,
}

/// A path within a granted folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Which of the roots it is in.
    pub root: usize,
    /// The path from there, `.` for the root itself.
    pub relative: &'a str,
}

/// The path without doubled, closing and pointless parts: `//a/./b/` is `/a/b`.
///
/// # Errors
/// Where it is relative, leads out of a folder or cannot be the name of a file.
pub fn normalise(path: &str) -> Result<String, PathError> {
    if path.contains('\0') {
        return Err(PathError::Zero);
    }
    if !path.starts_with('/') {
        return Err(PathError::Relative(path.to_owned()));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(PathError::Parent(path.to_owned()));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// The longest of `roots` that holds `path`; both normalised.
#[must_use]
pub fn locate<'a>(roots: &[String], path: &'a str) -> Option<Place<'a>> {
    let places = roots.iter().enumerate().filter_map(|(root, name)| Some((root, name, within(name, path)?)));
    let (root, _, relative) = places.max_by_key(|(_, name, _)| name.len())?;
    Some(Place { root, relative })
}

/// `name` in the folder `folder`.
#[must_use]
pub fn join(folder: &str, name: &str) -> String {
    match folder {
        "." => name.to_owned(),
        _ if folder.ends_with('/') => format!("{folder}{name}"),
        _ => format!("{folder}/{name}"),
    }
}

fn within<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    match rest.strip_prefix('/') {
        Some("") => Some("."),
        Some(relative) => Some(relative),
        None => rest.is_empty().then_some("."),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pointless_parts_go_and_wrong_ones_are_refused() {
        assert_eq!(normalise("//a/./b/").as_deref(), Ok("/a/b"));
        assert_eq!(normalise("/").as_deref(), Ok("/"));
        assert_eq!(normalise("a"), Err(PathError::Relative("a".to_owned())));
        assert_eq!(normalise("/a/../b"), Err(PathError::Parent("/a/../b".to_owned())));
        assert_eq!(normalise("/a/..b").as_deref(), Ok("/a/..b"));
        assert_eq!(normalise("/a\0"), Err(PathError::Zero));
    }

    #[test]
    fn the_longest_root_wins_and_names_do_not_half_match() {
        let roots = ["/task".to_owned(), "/task/0".to_owned(), "/data".to_owned()];
        assert_eq!(locate(&roots, "/task/0/a.md"), Some(Place { root: 1, relative: "a.md" }));
        assert_eq!(locate(&roots, "/task/01/a.md"), Some(Place { root: 0, relative: "01/a.md" }));
        assert_eq!(locate(&roots, "/data"), Some(Place { root: 2, relative: "." }));
        assert_eq!(locate(&roots, "/database"), None);
        assert_eq!(locate(&["/".to_owned()], "/a"), Some(Place { root: 0, relative: "a" }));
        assert_eq!(locate(&["/".to_owned()], "/"), Some(Place { root: 0, relative: "." }));
    }

    proptest! {
        #[test]
        fn what_is_located_never_leads_out(path in "[/a.\u{0}é]{0,12}", root in "/[/a.]{0,5}") {
            if let (Ok(path), Ok(root)) = (normalise(&path), normalise(&root))
                && let Some(place) = locate(std::slice::from_ref(&root), &path)
            {
                prop_assert!(!place.relative.starts_with('/'));
                prop_assert!(!place.relative.is_empty());
                prop_assert!(place.relative.split('/').all(|part| part != ".."));
                let joined = join(&root, place.relative);
                prop_assert_eq!(normalise(&joined), Ok(path));
            }
        }
    }
}
