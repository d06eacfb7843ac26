//! A folder that is open for reading, and what lies below it, without ever following a link.
//!
//! The engine has such a folder too; it can write and remove. A server that only reads is given nothing that could.

use rustix::fs::{Dir, Mode, OFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Without NONBLOCK a planted fifo would be waited for.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// An open folder.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens a folder. Its own path is the administrator's: links in it are followed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())?, path: path.to_owned() })
    }

    /// A path below this folder, for messages.
    pub(super) fn shown(&self, below: &Path) -> PathBuf {
        self.path.join(below)
    }

    /// Opens a regular file. (`openat2` could walk in one call, but not under every container runtime's filter.)
    pub(super) fn file(&self, below: &Path) -> io::Result<File> {
        let folder = self.folder(below.parent().unwrap_or(Path::new("")))?;
        let name = below.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let file = File::from(rustix::fs::openat(&folder, name, FILE, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
    }

    /// Reads a small text file whole; none if it is not there.
    pub(super) fn text(&self, below: &Path, max_bytes: u64) -> io::Result<Option<String>> {
        let Some(file) = if_there(self.file(below))? else { return Ok(None) };
        let mut text = String::new();
        file.take(max_bytes + 1).read_to_string(&mut text)?;
        if text.len() as u64 > max_bytes {
            return Err(io::Error::other(format!("it is longer than {max_bytes} bytes")));
        }
        Ok(Some(text))
    }

    /// The names in a folder, except those that are no text; none at all if it is not there.
    pub(super) fn names(&self, below: &Path) -> io::Result<Vec<String>> {
        let Some(folder) = if_there(self.folder(below))? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder)? {
            names.extend(
                entry?.file_name().to_str().ok().filter(|name| !matches!(*name, "." | "..")).map(str::to_owned),
            );
        }
        names.sort_unstable();
        Ok(names)
    }

    fn folder(&self, below: &Path) -> io::Result<OwnedFd> {
        let mut folder = self.fd.try_clone()?;
        for name in names(below)? {
            folder = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
        }
        Ok(folder)
    }
}

/// What is not there is no error.
pub(super) fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names of a path that goes down only.
fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let name = |component| match component {
        Component::Normal(name) => Ok(name),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    path.components().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("root/a")).unwrap();
        std::fs::write(place.path().join("root/a/b"), "x").unwrap();
        std::fs::write(place.path().join("secret"), "s").unwrap();
        let root = Root::open(&place.path().join("root")).unwrap();
        (place, root)
    }

    #[test]
    fn files_below_are_read() {
        let (_place, root) = root();
        assert_eq!(root.text(Path::new("a/b"), 1).unwrap().as_deref(), Some("x"));
        assert_eq!(root.text(Path::new("a/c"), 1).unwrap(), None);
        assert!(root.text(Path::new("a/b"), 0).is_err());
        assert_eq!(root.names(Path::new("")).unwrap(), ["a"]);
        assert!(root.names(Path::new("nowhere")).unwrap().is_empty());
    }

    #[test]
    fn nothing_else_is() {
        let (place, root) = root();
        let inside = |name: &str| place.path().join("root").join(name);
        symlink("../secret", inside("file")).unwrap();
        symlink("..", inside("folder")).unwrap();
        symlink("a/b", inside("own")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, inside("fifo"), Mode::RWXU).unwrap();
        for path in ["../secret", "a/../../secret", "/etc/passwd", "file", "folder/secret", "own", "fifo", "a", "", "."]
        {
            assert!(root.file(Path::new(path)).is_err(), "{path}");
        }
    }
}
