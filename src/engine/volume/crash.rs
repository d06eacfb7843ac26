//! A death at a chosen write, for tests: that write, and every later one below the same folder, does nothing and fails.
//!
//! A folder stands for a process here: a test gives each one a link of its own to the volume, so that what still runs of a
//! dead one stays dead.

#[cfg(test)]
pub(in crate::engine) use armed::{arm, forget, is_dead, kill};

/// Called before each write; in the program it is nothing.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it may fail")]
pub(super) fn point(_: &std::path::Path) -> Result<(), rustix::io::Errno> {
    Ok(())
}

#[cfg(test)]
pub(super) use armed::point;

#[cfg(test)]
mod armed {
    use rustix::io::Errno;
    use std::collections::BTreeMap;
    use std::ops::Bound;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    /// How many writes each process has left.
    static LEFT: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

    fn of<T>(path: &Path, look: impl FnOnce(&mut usize) -> T) -> Option<T> {
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        // The nearest name before a path, in the order of names, is the folder that it is below, if there is one.
        let (folder, writes) = left.range_mut::<Path, _>((Bound::Unbounded, Bound::Included(path))).next_back()?;
        path.starts_with(folder).then(|| look(writes))
    }

    pub(in crate::engine) fn point(path: &Path) -> Result<(), Errno> {
        let may = of(path, |writes| {
            let may = *writes > 0;
            *writes = writes.saturating_sub(1);
            may
        });
        if may.unwrap_or(true) { Ok(()) } else { Err(Errno::IO) }
    }

    /// Lets a process do so many writes.
    pub(in crate::engine) fn arm(folder: &Path, writes: usize) {
        LEFT.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned(), writes);
    }

    pub(in crate::engine) fn is_dead(folder: &Path) -> bool {
        of(folder, |writes| *writes == 0).unwrap_or(false)
    }

    pub(in crate::engine) fn kill(folder: &Path) {
        arm(folder, 0);
    }

    /// Forgets all processes whose folders lie in another one, when nothing of them runs any more.
    pub(in crate::engine) fn forget(place: &Path) {
        LEFT.lock().unwrap_or_else(PoisonError::into_inner).retain(|folder, _| !folder.starts_with(place));
    }
}
