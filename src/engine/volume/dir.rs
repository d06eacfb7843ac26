//! A folder that is open, and what can be done below it without ever following a link.
//!
//! Paths are walked name by name with `O_NOFOLLOW`. (`openat2` could do it in one call, but not on every kernel and not
//! under every container runtime's filter.)

use super::{Owner, VolumeError, crash};
use crate::format::outcome::Room;
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// What is published can be read by everybody, whatever the worker's umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
/// Set-gid on a folder is how `fsGroup` reaches what is made in it, so it stays.
const SET_GID: Mode = Mode::SGID;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, device, socket, …
    Other,
}

/// An open folder.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

type Result<T> = std::result::Result<T, VolumeError>;

fn fail<T>(verb: &'static str, path: &Path, errno: Errno) -> Result<T> {
    Err(VolumeError::new(verb, path, errno.into()))
}

impl Dir {
    /// Opens a volume's root. Its own path is the administrator's: links in it are followed.
    pub fn open_root(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(Errno::NOENT) => Err(VolumeError::Missing { path: path.to_owned() }),
            Err(errno) => fail("open", path, errno),
        }
    }

    /// A path below this folder, for messages.
    pub fn shown(&self, below: &Path) -> PathBuf {
        if below.as_os_str().is_empty() { self.path.clone() } else { self.path.join(below) }
    }

    /// Opens a folder below this one; none if it is not there.
    pub fn open_dir(&self, below: &Path) -> Result<Option<Self>> {
        let mut current = self.again()?;
        for name in names(below) {
            match rustix::fs::openat(&current.fd, name, FOLDER, Mode::empty()) {
                Ok(fd) => current = Self { fd, path: current.path.join(name) },
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return fail("open", &current.path.join(name), errno),
            }
        }
        Ok(Some(current))
    }

    /// Opens a folder below this one, making what is missing of the way.
    pub fn make_dir(&self, below: &Path) -> Result<Self> {
        let mut current = self.again()?;
        for name in names(below) {
            current = current.make_one(name)?;
        }
        Ok(current)
    }

    fn make_one(&self, name: &OsStr) -> Result<Self> {
        let path = self.path.join(name);
        let made = match crash::point(&path).and_then(|()| rustix::fs::mkdirat(&self.fd, name, FOLDER_MODE)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return fail("create the folder", &path, errno),
        };
        let fd = rustix::fs::openat(&self.fd, name, FOLDER, Mode::empty())
            .or_else(|errno| fail("open the folder", &path, errno))?;
        let folder = Self { fd, path };
        if made {
            folder.set_mode()?;
            self.sync()?;
        }
        Ok(folder)
    }

    /// Gives a folder its published mode; a kill right after `mkdir` may have left it with the umask's.
    pub fn set_mode(&self) -> Result<()> {
        let stat = rustix::fs::fstat(&self.fd).or_else(|errno| fail("look at", &self.path, errno))?;
        let now = Mode::from_raw_mode(stat.st_mode);
        let mode = FOLDER_MODE | (now & SET_GID);
        if now & Mode::from_raw_mode(0o7777) == mode {
            return Ok(());
        }
        let set = crash::point(&self.path).and_then(|()| rustix::fs::fchmod(&self.fd, mode));
        set.or_else(|errno| fail("set the mode of", &self.path, errno))
    }

    fn again(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|error| VolumeError::new("open", &self.path, error))?;
        Ok(Self { fd, path: self.path.clone() })
    }

    /// The folder that a path lies in, and its last name; none if that folder is not there.
    fn parent(&self, below: &Path) -> Result<Option<(Self, OsString)>> {
        let folder = self.open_dir(below.parent().unwrap_or(Path::new("")))?;
        Ok(folder.map(|folder| (folder, below.file_name().unwrap_or_default().to_owned())))
    }

    fn made_parent(&self, below: &Path) -> Result<(Self, OsString)> {
        let folder = self.make_dir(below.parent().unwrap_or(Path::new("")))?;
        Ok((folder, below.file_name().unwrap_or_default().to_owned()))
    }

    /// Opens a regular file for reading, and gives its size; none if it is not there.
    pub fn open_file(&self, below: &Path) -> Result<Option<(File, u64)>> {
        let Some((folder, name)) = self.parent(below)? else { return Ok(None) };
        // Without NONBLOCK a planted fifo would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        folder.open_at(&name, flags)
    }

    /// Opens a file for reading and writing, making it and its folders where they are missing; gives its size.
    pub fn open_part(&self, below: &Path) -> Result<(File, u64)> {
        let (folder, name) = self.made_parent(below)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = folder.path.join(&name);
        crash::point(&path).or_else(|errno| fail("create", &path, errno))?;
        let opened = folder.open_at(&name, flags)?;
        let Some((file, size)) = opened else { return fail("create", &path, Errno::NOENT) };
        rustix::fs::fchmod(&file, FILE_MODE).or_else(|errno| fail("set the mode of", &path, errno))?;
        Ok((file, size))
    }

    fn open_at(&self, name: &OsStr, flags: OFlags) -> Result<Option<(File, u64)>> {
        let path = self.path.join(name);
        let fd = match rustix::fs::openat(&self.fd, name, flags, FILE_MODE) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return fail("open", &path, errno),
        };
        let stat = rustix::fs::fstat(&fd).or_else(|errno| fail("look at", &path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(VolumeError::Occupied { verb: "open", path, why: "it is not a regular file".into() });
        }
        Ok(Some((File::from(fd), u64::try_from(stat.st_size).unwrap_or(0))))
    }

    /// Reads a small file whole; none if it is not there.
    pub fn read(&self, below: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>> {
        let Some((file, _)) = self.open_file(below)? else { return Ok(None) };
        let path = self.shown(below);
        let mut bytes = Vec::new();
        file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(|error| VolumeError::new("read", &path, error))?;
        if bytes.len() as u64 > max_bytes {
            let why = format!("it is longer than {max_bytes} bytes");
            return Err(VolumeError::Occupied { verb: "read", path, why });
        }
        Ok(Some(bytes))
    }

    /// Writes a small file so that there is at any instant the old one or the whole new one. For files of one repo, which
    /// has one writer at a time: what a kill leaves is replaced by the next run.
    pub fn write(&self, below: &Path, bytes: &[u8]) -> Result<()> {
        let mut temporary = OsString::from(".new-");
        temporary.push(below.file_name().unwrap_or_default());
        self.write_by_way_of(&below.with_file_name(temporary), below, bytes)
    }

    /// The same for a file in a folder where workers of several repos write: the new one waits elsewhere.
    pub fn write_by_way_of(&self, temporary: &Path, below: &Path, bytes: &[u8]) -> Result<()> {
        let (waiting, waiting_name) = self.made_parent(temporary)?;
        waiting.write_new(&waiting_name, bytes)?;
        let (folder, name) = self.made_parent(below)?;
        crash::point(&waiting.path.join(&waiting_name))
            .and_then(|()| rustix::fs::renameat(&waiting.fd, &waiting_name, &folder.fd, &name))
            .or_else(|errno| fail("write", &folder.path.join(&name), errno))?;
        folder.sync()
    }

    /// Writes a file that nobody sees yet, in this folder itself; durable when it returns, except for its name.
    pub fn write_new(&self, name: &OsStr, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        // What a killed forerunner left under this name is ours, or a link that must not be written through.
        match crash::point(&path).and_then(|()| rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return fail("remove", &path, errno),
        }
        let mut file = self.create(name)?;
        let written = match crash::point(&path) {
            Ok(()) => file.write_all(bytes).and_then(|()| file.sync_all()),
            // Whoever dies in the middle has written a part.
            Err(errno) => file.write_all(&bytes[..bytes.len() / 2]).and(Err(errno.into())),
        };
        written.map_err(|error| VolumeError::new("write", &path, error))
    }

    /// Makes a file that is not there yet, in this folder itself.
    pub fn create(&self, name: &OsStr) -> Result<File> {
        let path = self.path.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = crash::point(&path)
            .and_then(|()| rustix::fs::openat(&self.fd, name, flags, FILE_MODE))
            .or_else(|errno| fail("create", &path, errno))?;
        let file = File::from(fd);
        rustix::fs::fchmod(&file, FILE_MODE).or_else(|errno| fail("set the mode of", &path, errno))?;
        Ok(file)
    }

    /// Makes a link in this folder itself; false where the file system has none.
    pub fn link_new(&self, name: &OsStr, target: &Path) -> Result<bool> {
        let made = crash::point(&self.path.join(name)).and_then(|()| rustix::fs::symlinkat(target, &self.fd, name));
        match made {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
            Err(errno) => fail("link", &self.path.join(name), errno),
        }
    }

    /// Gives a file a second name, which must be free; false where the file system, or this user, cannot.
    pub fn link(&self, from: &Path, to: &Path) -> Result<bool> {
        let (source, target) = (self.parent(from)?, self.made_parent(to)?);
        let Some((source, source_name)) = source else { return fail("link", &self.shown(from), Errno::NOENT) };
        let made = crash::point(&target.0.path)
            .and_then(|()| rustix::fs::linkat(&source.fd, &source_name, &target.0.fd, &target.1, AtFlags::empty()));
        match made {
            Ok(()) => {
                target.0.sync()?;
                Ok(true)
            }
            // PERM is also what the kernel says of other people's files (`protected_hardlinks`), and MLINK of too many names.
            Err(
                Errno::PERM
                | Errno::ACCESS
                | Errno::MLINK
                | Errno::XDEV
                | Errno::OPNOTSUPP
                | Errno::NOSYS
                | Errno::INVAL,
            ) => Ok(false),
            Err(errno) => fail("link", &self.shown(to), errno),
        }
    }

    /// Where a link points; none if no link is there.
    pub fn read_link(&self, below: &Path) -> Result<Option<PathBuf>> {
        let Some((folder, name)) = self.parent(below)? else { return Ok(None) };
        match rustix::fs::readlinkat(&folder.fd, &name, Vec::new()) {
            Ok(target) => Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes())))),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => fail("read the link", &folder.path.join(&name), errno),
        }
    }

    /// Moves a file or folder to a name that is free; what is under the name already is never replaced.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (source, target) = (self.parent(from)?, self.made_parent(to)?);
        let Some((source, source_name)) = source else { return fail("move", &self.shown(from), Errno::NOENT) };
        crash::point(&target.0.path).or_else(|errno| fail("move", &self.shown(from), errno))?;
        let done = rustix::fs::renameat_with(&source.fd, &source_name, &target.0.fd, &target.1, RenameFlags::NOREPLACE);
        let done = match done {
            // Not every file system knows the flag. One writer at a time makes the look before good enough.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match target.0.kind_of(&target.1)? {
                Some(_) => Err(Errno::EXIST),
                None => rustix::fs::renameat(&source.fd, &source_name, &target.0.fd, &target.1),
            },
            other => other,
        };
        done.or_else(|errno| fail("move a file to", &self.shown(to), errno))
    }

    /// Lets two folders change places; false where the file system cannot.
    pub fn exchange(&self, one: &Path, other: &Path) -> Result<bool> {
        let (Some(one), Some(two)) = (self.parent(one)?, self.parent(other)?) else { return Ok(false) };
        crash::point(&two.0.path).or_else(|errno| fail("replace", &self.shown(other), errno))?;
        match rustix::fs::renameat_with(&one.0.fd, &one.1, &two.0.fd, &two.1, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOENT) => Ok(false),
            Err(errno) => fail("replace", &self.shown(other), errno),
        }
    }

    /// An error where a folder is there and this user may not make, move and remove names in it. The file system is asked, which on
    /// a network means its server.
    pub fn check_writable(&self, below: &Path) -> Result<()> {
        let Some((folder, name)) = self.parent(below)? else { return Ok(()) };
        let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        match rustix::fs::accessat(&folder.fd, &name, access, AtFlags::EACCESS) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => fail("write into", &folder.path.join(&name), errno),
        }
    }

    /// Whether this folder is another one, or lies in it: by what is open and not by name, as a volume may be mounted twice.
    pub fn is_within(&self, other: &Self) -> Result<bool> {
        let identity = |dir: &Self| {
            let stat = rustix::fs::fstat(&dir.fd).or_else(|errno| fail("look at", &dir.path, errno))?;
            Ok((stat.st_dev, stat.st_ino))
        };
        let other = identity(other)?;
        let mut current = self.again()?;
        loop {
            let this = identity(&current)?;
            if this == other {
                return Ok(true);
            }
            // Only passed through: whoever may come from above need not be allowed to read there.
            let above = rustix::fs::openat(&current.fd, "..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let path = current.path.join("..");
            current = Self { fd: above.or_else(|errno| fail("open", &path, errno))?, path };
            if identity(&current)? == this {
                return Ok(false);
            }
        }
    }

    /// What is under a path; none if nothing is.
    pub fn kind(&self, below: &Path) -> Result<Option<Kind>> {
        match self.parent(below)? {
            Some((folder, name)) => folder.kind_of(&name),
            None => Ok(None),
        }
    }

    fn kind_of(&self, name: &OsStr) -> Result<Option<Kind>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Folder,
                _ => Kind::Other,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => fail("look at", &self.path.join(name), errno),
        }
    }

    /// The names in this folder, sorted.
    pub fn list(&self) -> Result<Vec<OsString>> {
        // Opens the folder once more, since the place in the list belongs to what is opened.
        let entries = rustix::fs::Dir::read_from(&self.fd).or_else(|errno| fail("list", &self.path, errno))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.or_else(|errno| fail("list", &self.path, errno))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Removes one file (or link itself); nothing there is fine.
    pub fn remove_file(&self, below: &Path) -> Result<()> {
        self.unlink(below, AtFlags::empty()).map(|_| ())
    }

    /// Removes a folder if it is empty; false if it is not.
    pub fn remove_empty(&self, below: &Path) -> Result<bool> {
        match self.unlink(below, AtFlags::REMOVEDIR) {
            Err(VolumeError::Occupied { .. }) => Ok(false),
            other => other,
        }
    }

    fn unlink(&self, below: &Path, flags: AtFlags) -> Result<bool> {
        let Some((folder, name)) = self.parent(below)? else { return Ok(true) };
        let gone = crash::point(&folder.path).and_then(|()| rustix::fs::unlinkat(&folder.fd, &name, flags));
        match gone {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(errno) => fail("remove", &folder.path.join(&name), errno),
        }
    }

    /// Removes a folder that modelcache made, with everything in it; links themselves, never what they point to.
    pub fn remove_all(&self, below: &Path) -> Result<()> {
        match self.kind(below)? {
            None => Ok(()),
            Some(Kind::Folder) => {
                if let Some(folder) = self.open_dir(below)? {
                    for name in folder.list()? {
                        folder.remove_all(Path::new(&name))?;
                    }
                }
                self.unlink(below, AtFlags::REMOVEDIR).map(|_| ())
            }
            Some(_) => self.remove_file(below),
        }
    }

    /// Whose this folder is.
    pub fn owner(&self) -> Result<Owner> {
        let stat = rustix::fs::fstat(&self.fd).or_else(|errno| fail("look at", &self.path, errno))?;
        Ok(Owner::new(stat.st_uid, stat.st_gid))
    }

    /// Gives this folder to an owner.
    pub fn give(&self, owner: Owner) -> Result<()> {
        let (uid, gid) = owner.ids();
        rustix::fs::fchown(&self.fd, Some(uid), Some(gid))
            .or_else(|errno| fail("change the owner of", &self.path, errno))
    }

    /// Gives what is under a name to an owner, with everything in it; links themselves, never what they point to. What goes
    /// meanwhile is nobody's.
    pub fn give_all(&self, name: &OsStr, owner: Owner) -> Result<()> {
        if self.kind_of(name)? == Some(Kind::Folder)
            && let Some(folder) = self.open_dir(Path::new(name))?
        {
            for inner in folder.list()? {
                folder.give_all(&inner, owner)?;
            }
        }
        let (uid, gid) = owner.ids();
        match rustix::fs::chownat(&self.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => fail("change the owner of", &self.path.join(name), errno),
        }
    }

    /// Makes the names in this folder durable. Some network file systems have no such call for folders, and need none.
    pub fn sync(&self) -> Result<()> {
        match rustix::fs::fsync(&self.fd) {
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::BADF) => Ok(()),
            Err(errno) => fail("sync", &self.path, errno),
        }
    }

    /// What room this user has; none where the file system does not say.
    pub fn room(&self) -> Result<Option<Room>> {
        let stat =
            rustix::fs::fstatvfs(&self.fd).or_else(|errno| fail("ask for the free space of", &self.path, errno))?;
        // What the file system keeps for root is neither used nor to be had.
        let reserved = stat.f_bfree.saturating_sub(stat.f_bavail);
        Ok((stat.f_blocks > 0).then(|| Room {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            capacity_bytes: stat.f_blocks.saturating_sub(reserved).saturating_mul(stat.f_frsize),
        }))
    }
}

/// The ordinary names of a path. All paths here are made by `layout` and `RelPath`, which have no others.
fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
