use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Disk, LocalDisk};

/// What a power cut leaves of something that nobody synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing: a file has no bytes, a name is gone.
    Nothing,
    /// Half of a file's bytes; a name whole.
    Half,
    /// All, as if it had been synced.
    All,
}

/// A sync that is answered and not done: what code is that forgets it.
#[derive(Debug, Clone, Copy)]
pub enum Lie {
    /// Of the bytes of such files, by the names that they have when the power is cut.
    Bytes(fn(&Path) -> bool),
    /// Of the names in such folders.
    Names(fn(&Path) -> bool),
}

/// A disk whose power can be cut: it keeps real files, remembers what of them was not synced, and [loses](Self::lose) that.
///
/// A removal is durable at once, which a file system does not promise: what comes back after a power cut is an orphan.
#[derive(Debug, Default)]
pub struct ForgetfulDisk {
    lie: Option<Lie>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_off: bool,
    /// Calls until the power is cut, where that is decided.
    left: Option<usize>,
    /// Files whose bytes may be lost, by inode, since a link gives a file another name.
    bytes: BTreeMap<u64, Unsynced>,
    /// Names that may be lost, and the one that the file has then, where it was renamed.
    names: BTreeMap<PathBuf, Option<PathBuf>>,
}

#[derive(Debug)]
struct Unsynced {
    path: PathBuf,
    /// A sync was answered, and perhaps not done.
    answered: bool,
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

impl ForgetfulDisk {
    /// A disk that does so many calls, and then has no power.
    #[must_use]
    pub fn cut_after(calls: usize) -> Self {
        let state = State { is_off: calls == 0, left: Some(calls), ..State::default() };
        Self { lie: None, state: Mutex::new(state) }
    }

    /// A disk that answers for what it does not do.
    #[must_use]
    pub fn lying(lie: Lie) -> Self {
        Self { lie: Some(lie), state: Mutex::default() }
    }

    /// Cuts the power: from here on nothing reaches the disk.
    pub fn off(&self) {
        self.state().is_off = true;
    }

    /// Whether the power is cut.
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Cuts the power and loses what was not synced; `left` decides what is left of each file and each name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn lose(&self, mut left: impl FnMut() -> Left) -> io::Result<()> {
        let State { is_off, left: _, bytes, names } = &mut *self.state();
        *is_off = true;
        for Unsynced { path, answered } in std::mem::take(bytes).into_values() {
            let synced = answered && !matches!(self.lie, Some(Lie::Bytes(of)) if of(&path));
            if synced || !path.exists() {
                continue;
            }
            let file = File::options().write(true).open(path)?;
            let length = file.metadata()?.len();
            file.set_len(match left() {
                Left::Nothing => 0,
                Left::Half => length / 2,
                Left::All => length,
            })?;
        }
        // What is in a folder before the folder.
        for (path, former) in std::mem::take(names).into_iter().rev() {
            let gone = match (left(), former) {
                (Left::Half | Left::All, _) => Ok(()),
                (Left::Nothing, Some(former)) => fs::rename(&path, former),
                (Left::Nothing, None) if path.is_dir() => fs::remove_dir_all(&path),
                (Left::Nothing, None) => fs::remove_file(&path),
            };
            match gone {
                // It went with its folder, or was removed by another way than this.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                gone => gone?,
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for one call, which the power may be cut before.
    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match &mut state.left {
            Some(0) => state.is_off = true,
            Some(calls) => *calls -= 1,
            None => {}
        }
        if state.is_off { Err(io::Error::other("the power is cut")) } else { Ok(state) }
    }
}

impl State {
    fn named(&mut self, path: &Path, former: Option<PathBuf>) -> io::Result<()> {
        if let Some(unsynced) = self.bytes.get_mut(&inode(path)?) {
            path.clone_into(&mut unsynced.path);
        }
        self.names.insert(path.to_owned(), former);
        Ok(())
    }

    /// A name is about to be another's or nobody's. A file without a name is gone, and its inode may be another's next.
    fn unnamed(&mut self, path: &Path) {
        if let Ok(found) = fs::metadata(path)
            && found.nlink() == 1
        {
            self.bytes.remove(&found.ino());
        }
    }
}

impl Disk for ForgetfulDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.create_folder(parent)?;
        let mut state = self.call()?;
        match fs::create_dir(folder) {
            Ok(()) => {
                state.bytes.remove(&inode(folder)?);
                state.names.insert(folder.to_owned(), None);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(error) => return Err(error),
        }
        drop(state);
        self.sync_folder(parent)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        if let Some(folder) = path.parent() {
            self.create_folder(folder)?;
        }
        let mut state = self.call()?;
        let file = LocalDisk.create(path)?;
        state.bytes.insert(file.metadata()?.ino(), Unsynced { path: path.to_owned(), answered: false });
        state.names.insert(path.to_owned(), None);
        Ok(file)
    }

    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        let inode = file.metadata()?.ino();
        match self.lie {
            // Which file it is, is known when it has its name.
            Some(Lie::Bytes(_)) => {
                state.bytes.entry(inode).and_modify(|unsynced| unsynced.answered = true);
            }
            Some(Lie::Names(_)) | None => {
                state.bytes.remove(&inode);
            }
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        // The system's refusals are the caller's to see: here too the folder must be one.
        fs::read_dir(folder)?;
        if !matches!(self.lie, Some(Lie::Names(of)) if of(folder)) {
            state.names.retain(|name, _| name.parent() != Some(folder));
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        LocalDisk.link(from, to)?;
        state.named(to, None)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        state.unnamed(to);
        LocalDisk.rename(from, to)?;
        let former = state.names.remove(from).unwrap_or_else(|| Some(from.to_owned()));
        state.named(to, former)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        state.unnamed(path);
        LocalDisk.remove(path)?;
        state.names.remove(path);
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A file is begun and written, its bytes are synced, it gets its name, the folder is synced: how far it comes, and what is
    /// left of it in the worst case.
    fn publish(disk: &ForgetfulDisk, folder: &Path) -> io::Result<()> {
        let (begun, name) = (folder.join("new/begun"), folder.join("new/name"));
        let mut file = disk.create(&begun)?;
        file.write_all(b"bytes")?;
        disk.sync(&file, &begun)?;
        disk.link(&begun, &name)?;
        disk.remove(&begun)?;
        disk.sync_folder(&folder.join("new"))
    }

    fn after_a_cut(disk: &ForgetfulDisk, left: Left) -> (bool, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let published = publish(disk, folder.path()).is_ok();
        disk.lose(|| left).unwrap();
        (published, fs::read_to_string(folder.path().join("new/name")).ok())
    }

    #[test]
    fn what_was_synced_survives_a_cut_at_any_call_and_nothing_else_does() {
        for calls in 0..7 {
            assert_eq!(after_a_cut(&ForgetfulDisk::cut_after(calls), Left::Nothing), (false, None), "{calls}");
        }
        assert_eq!(after_a_cut(&ForgetfulDisk::cut_after(7), Left::Nothing), (true, Some("bytes".to_owned())));
        assert_eq!(after_a_cut(&ForgetfulDisk::cut_after(6), Left::All), (false, Some("bytes".to_owned())));
    }

    #[test]
    fn a_lie_is_seen_after_the_cut() {
        let all = |_: &Path| true;
        let bytes = ForgetfulDisk::lying(Lie::Bytes(all));
        assert_eq!(after_a_cut(&bytes, Left::Nothing), (true, Some(String::new())));
        assert_eq!(after_a_cut(&ForgetfulDisk::lying(Lie::Names(all)), Left::Nothing), (true, None));
        let half = ForgetfulDisk::lying(Lie::Bytes(|path| path.ends_with("new/name")));
        assert_eq!(after_a_cut(&half, Left::Half), (true, Some("by".to_owned())));
    }

    #[test]
    fn a_name_that_was_given_for_another_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other, third) = (folder.path().join("one"), folder.path().join("other"), folder.path().join("third"));
        let disk = ForgetfulDisk::default();
        drop(disk.create(&one).unwrap());
        disk.sync_folder(folder.path()).unwrap();
        disk.rename(&one, &other).unwrap();
        disk.rename(&other, &third).unwrap();
        disk.lose(|| Left::Nothing).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names, [one]);
        assert!(disk.is_off() && disk.create(&other).is_err());
    }
}
