//! A power cut under SQLite: a layer between SQLite and its files that remembers each write until the file is synced.
//!
//! It goes in by SQLite's own interface for file systems (a VFS), so what it sees is what SQLite asks of the system, by the
//! settings that the ledger really has: with `synchronous = NORMAL`, seeds fail. After a cut the ledger lies in another folder,
//! as the disk then has it: whatever was synced, and of what was not, each write by itself is there, is not, or is torn at a
//! sector. What a dead process's connections still do there reaches nothing.
//!
//! What it does not show: a disk that writes within a sector, or damages what stands beside; names (SQLite syncs the folder
//! of a log that it has made; the ledger's own name is made durable once, when it is made); `-shm`, which is no more than a
//! cache, and is gone.
#![expect(unsafe_code, reason = "SQLite's interface for file systems is C")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use forebay_disk::Left;
use libsqlite3_sys::{
    SQLITE_IOERR_DELETE, SQLITE_IOERR_FSYNC, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE, SQLITE_OK, sqlite3_file,
    sqlite3_int64, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// The power of a folder with a ledger.
#[derive(Debug)]
pub(super) struct Power {
    folder: PathBuf,
    /// Syncs of logs are answered and not done.
    deaf: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_off: bool,
    /// What was not synced, oldest first.
    files: BTreeMap<PathBuf, Vec<Change>>,
}

/// A change of a file, and what it takes to undo it.
#[derive(Debug)]
enum Change {
    Write { offset: usize, old: Vec<u8>, new: Vec<u8>, length: usize },
    Truncate { to: usize, tail: Vec<u8> },
}

impl Change {
    fn undo(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, old, new: _, length } => {
                bytes.resize(*length, 0);
                bytes.iter_mut().skip(*offset).zip(old).for_each(|(byte, old)| *byte = *old);
            }
            Self::Truncate { to, tail } => {
                bytes.truncate(*to);
                bytes.extend_from_slice(tail);
            }
        }
    }

    fn redo(&self, bytes: &mut Vec<u8>, left: Left) {
        match (self, left) {
            (_, Left::Nothing) => {}
            (Self::Write { offset, old: _, new, length: _ }, _) => {
                let whole = if left == Left::All { new.len() } else { new.len() / 2 / SECTOR * SECTOR };
                if bytes.len() < offset + whole {
                    bytes.resize(offset + whole, 0);
                }
                bytes.iter_mut().skip(*offset).zip(&new[..whole]).for_each(|(byte, new)| *byte = *new);
            }
            (Self::Truncate { to, tail: _ }, _) => bytes.truncate(*to),
        }
    }
}

impl Power {
    /// Of what SQLite does in a folder from now on.
    pub(super) fn of(folder: &Path, deaf: bool) -> Arc<Self> {
        layer();
        // As SQLite names it.
        let folder = folder.canonicalize().unwrap();
        let power = Arc::new(Self { folder, deaf, state: Mutex::default() });
        lock(&POWERS).push(Arc::clone(&power));
        power
    }

    /// From here on nothing reaches the disk.
    pub(super) fn off(&self) {
        lock(&self.state).is_off = true;
    }

    /// Cuts the power; what is left then lies in another folder, which is made.
    pub(super) fn lose(&self, to: &Path, mut left: impl FnMut() -> Left) {
        self.off();
        let mut state = lock(&self.state);
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(&self.folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with("-shm") || name.ends_with(".lock") {
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            let changes = state.files.remove(&path).unwrap_or_default();
            changes.iter().rev().for_each(|change| change.undo(&mut bytes));
            changes.iter().for_each(|change| change.redo(&mut bytes, left()));
            std::fs::write(to.join(name), bytes).unwrap();
        }
    }

    /// Nobody will ask for those below a folder any more.
    pub(super) fn forget(folder: &Path) {
        lock(&POWERS).retain(|power| !power.folder.starts_with(folder));
    }

    fn is_log(path: &Path) -> bool {
        path.as_os_str().as_bytes().ends_with(b"-wal")
    }
}

/// A file that SQLite has open in a folder with a power.
struct Open {
    power: Arc<Power>,
    path: PathBuf,
    /// What the layer lies on.
    below: &'static sqlite3_io_methods,
}

/// The file system that SQLite has on this machine.
struct Below {
    vfs: *mut sqlite3_vfs,
    open: unsafe extern "C" fn(*mut sqlite3_vfs, *const c_char, *mut sqlite3_file, c_int, *mut c_int) -> c_int,
    delete: unsafe extern "C" fn(*mut sqlite3_vfs, *const c_char, c_int) -> c_int,
}

// SAFETY: SQLite's file systems are used by all threads at once, and this one is never changed or freed.
unsafe impl Send for Below {}
// SAFETY: as above.
unsafe impl Sync for Below {}

static BELOW: OnceLock<Below> = OnceLock::new();
static POWERS: Mutex<Vec<Arc<Power>>> = Mutex::new(Vec::new());
/// By the address of SQLite's file, which is its own while it is open.
static FILES: LazyLock<Mutex<HashMap<usize, Arc<Open>>>> = LazyLock::new(Mutex::default);
/// The layer for each kind of file that lies below, by its address.
static LAYERS: LazyLock<Mutex<HashMap<usize, &'static sqlite3_io_methods>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lays the layer over the file system that SQLite uses by default. Files in other folders never meet it again after they were
/// opened.
fn layer() {
    BELOW.get_or_init(|| {
        // SAFETY: the default one is there from SQLite's initialisation on, which the call sees to, and is never freed. The copy
        // is leaked, as SQLite wants it, and differs in its name and two functions, which have the types that they must have.
        unsafe {
            let vfs = sqlite3_vfs_find(std::ptr::null());
            let below = Below { vfs, open: (*vfs).xOpen.unwrap(), delete: (*vfs).xDelete.unwrap() };
            let layered = Box::leak(Box::new(*vfs));
            layered.pNext = std::ptr::null_mut();
            layered.zName = c"forebay-power".as_ptr();
            layered.xOpen = Some(open);
            layered.xDelete = Some(delete);
            // It may be asked from here on; who asks waits until this is done.
            assert_eq!(sqlite3_vfs_register(layered, 1), SQLITE_OK);
            below
        }
    });
}

fn below() -> &'static Below {
    BELOW.wait()
}

fn power_of(path: &Path) -> Option<Arc<Power>> {
    lock(&POWERS).iter().find(|power| path.parent() == Some(&power.folder)).cloned()
}

/// # Safety
/// As SQLite calls it: a name that ends in a zero, or none.
unsafe fn path_of(name: *const c_char) -> Option<PathBuf> {
    if name.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    given: *mut c_int,
) -> c_int {
    let Below { vfs, open, delete: _ } = below();
    // SAFETY: the arguments are SQLite's own; the file gets the layer's methods only where it was opened, and a copy of what
    // lies below, which never changes, is in their place.
    unsafe {
        let answer = open(*vfs, name, file, flags, given);
        let path = path_of(name).filter(|_| answer == SQLITE_OK);
        if let Some((path, power)) = path.and_then(|path| Some((path.clone(), power_of(&path)?))) {
            let below: &'static sqlite3_io_methods = &*(*file).pMethods;
            lock(&FILES).insert(file.addr(), Arc::new(Open { power, path, below }));
            (*file).pMethods = layered(below);
        }
        answer
    }
}

fn layered(below: &'static sqlite3_io_methods) -> &'static sqlite3_io_methods {
    lock(&LAYERS).entry(std::ptr::from_ref(below).addr()).or_insert_with(|| {
        Box::leak(Box::new(sqlite3_io_methods {
            xClose: Some(close),
            xWrite: Some(write),
            xTruncate: Some(truncate),
            xSync: Some(sync),
            ..*below
        }))
    })
}

/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, durably: c_int) -> c_int {
    let Below { vfs, open: _, delete } = below();
    // SAFETY: the arguments are SQLite's own.
    unsafe {
        let path = path_of(name);
        if let Some((path, power)) = path.and_then(|path| Some((path.clone(), power_of(&path)?))) {
            let mut state = lock(&power.state);
            if state.is_off {
                return SQLITE_IOERR_DELETE;
            }
            state.files.remove(&path);
        }
        delete(*vfs, name, durably)
    }
}

fn opened(file: *mut sqlite3_file) -> Arc<Open> {
    Arc::clone(&lock(&FILES)[&file.addr()])
}

/// # Safety
/// As SQLite calls it: a file that [`open`] opened, and nobody else uses at this moment.
unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let open = lock(&FILES).remove(&file.addr()).unwrap();
    // SAFETY: the caller's promise; all files have this function.
    unsafe { open.below.xClose.unwrap()(file) }
}

/// The bytes of a file from an offset on, at most so many, and its length.
///
/// # Safety
/// As [`close`].
unsafe fn present(open: &Open, file: *mut sqlite3_file, offset: usize, most: usize) -> (Vec<u8>, usize) {
    let mut length: sqlite3_int64 = 0;
    // SAFETY: the caller's promise; the buffer is as long as is said.
    unsafe {
        assert_eq!(open.below.xFileSize.unwrap()(file, &raw mut length), SQLITE_OK);
        let length = usize::try_from(length).unwrap();
        let mut old = vec![0; most.min(length.saturating_sub(offset))];
        if !old.is_empty() {
            let (bytes, amount) = (old.as_mut_ptr().cast(), c_int::try_from(old.len()).unwrap());
            let answer = open.below.xRead.unwrap()(file, bytes, amount, sqlite3_int64::try_from(offset).unwrap());
            assert_eq!(answer, SQLITE_OK);
        }
        (old, length)
    }
}

/// # Safety
/// As [`close`], with so many bytes.
unsafe extern "C" fn write(file: *mut sqlite3_file, bytes: *const c_void, amount: c_int, at: sqlite3_int64) -> c_int {
    let open = opened(file);
    let mut state = lock(&open.power.state);
    if state.is_off {
        return SQLITE_IOERR_WRITE;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let (offset, length) = (usize::try_from(at).unwrap(), usize::try_from(amount).unwrap());
        let new = std::slice::from_raw_parts(bytes.cast::<u8>(), length).to_vec();
        let (old, length) = present(&open, file, offset, length);
        let answer = open.below.xWrite.unwrap()(file, bytes, amount, at);
        if answer == SQLITE_OK {
            let change = Change::Write { offset, old, new, length };
            state.files.entry(open.path.clone()).or_default().push(change);
        }
        answer
    }
}

/// # Safety
/// As [`close`].
unsafe extern "C" fn truncate(file: *mut sqlite3_file, to: sqlite3_int64) -> c_int {
    let open = opened(file);
    let mut state = lock(&open.power.state);
    if state.is_off {
        return SQLITE_IOERR_TRUNCATE;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let place = usize::try_from(to).unwrap();
        let (tail, _) = present(&open, file, place, usize::MAX);
        let answer = open.below.xTruncate.unwrap()(file, to);
        if answer == SQLITE_OK {
            let change = Change::Truncate { to: place, tail };
            state.files.entry(open.path.clone()).or_default().push(change);
        }
        answer
    }
}

/// What counts is that SQLite asked: the system is spared the work.
///
/// # Safety
/// As [`close`].
unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    let open = opened(file);
    let mut state = lock(&open.power.state);
    if state.is_off {
        return SQLITE_IOERR_FSYNC;
    }
    if !(open.power.deaf && Power::is_log(&open.path)) {
        state.files.remove(&open.path);
    }
    SQLITE_OK
}
