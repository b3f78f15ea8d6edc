//! Compiled modules: bytes that are machine code, so that running them must be earned.
//!
//! [`Artefact`] can only be had from this process's own compiler or by [`Artefact::verify`], which checks a SHA-256 over the
//! module's digest, the engine's settings and the code. What is damaged, cut off or of another version does not pass.
//! The checksum guards against accidents, not against somebody who may write the folder: keep it to forebay's own user.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use forebay_model::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const MAGIC: &[u8; 16] = b"forebay-wasm-01\n";
const CHECKSUM: usize = 32;
/// Compiled modules that a folder keeps; the one that was used least recently goes first.
const KEPT: usize = 128;
const EXTENSION: &str = "compiled";

/// What a compiled module is made of and for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// The module.
    pub(crate) digest: Digest,
    /// [`crate::engine::settings_hash`].
    pub(crate) settings: [u8; 32],
}

impl Key {
    fn file_name(&self) -> String {
        let settings = hex::encode(self.settings.get(..8).unwrap_or_default());
        format!("{}-{settings}.{EXTENSION}", self.digest)
    }

    fn checksum(&self, code: &[u8]) -> [u8; CHECKSUM] {
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(self.digest.as_bytes());
        hash.update(self.settings);
        hash.update((code.len() as u64).to_le_bytes());
        hash.update(code);
        hash.finalize().into()
    }
}

/// Machine code that a compiler with these settings made.
pub(crate) struct Artefact {
    code: Vec<u8>,
}

impl Artefact {
    /// Compiles, here and now.
    pub(crate) fn compile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Self> {
        Ok(Self { code: engine.precompile_component(wasm)? })
    }

    /// The file's content for this artefact.
    pub(crate) fn seal(&self, key: &Key) -> Vec<u8> {
        let mut file = Vec::with_capacity(MAGIC.len() + CHECKSUM + self.code.len());
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&key.checksum(&self.code));
        file.extend_from_slice(&self.code);
        file
    }

    /// The artefact in a file's content; else what is wrong with it.
    pub(crate) fn verify(mut file: Vec<u8>, key: &Key) -> Result<Self, &'static str> {
        let body = file.strip_prefix(MAGIC).ok_or("it is no compiled module of this version of forebay")?;
        let (checksum, code) = body.split_first_chunk::<CHECKSUM>().ok_or("it is cut off")?;
        if *checksum != key.checksum(code) {
            return Err("its checksum does not match");
        }
        file.drain(..MAGIC.len() + CHECKSUM);
        Ok(Self { code: file })
    }

    /// The component.
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` demands bytes that `precompile_component` made and nobody changed. An `Artefact` holds such
        // bytes alone: its field is private, `compile` has them from the compiler, and `verify` has checked them against
        // the SHA-256 that was made when they were compiled. wasmtime itself refuses other versions and settings.
        #[expect(unsafe_code, reason = "machine code can be loaded in no other way")]
        unsafe {
            Component::deserialize(engine, &self.code)
        }
    }
}

/// A folder of compiled modules. Every failure of it only costs a compilation, and is logged.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// The component, where it is kept and in order. What is not in order is deleted.
    pub(crate) fn get(&self, key: &Key, engine: &Engine) -> Option<Component> {
        let path = self.folder.as_ref()?.join(key.file_name());
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled module cannot be read, compiling again");
                return None;
            }
        };
        let loaded = Artefact::verify(content, key)
            .map_err(str::to_owned)
            .and_then(|artefact| artefact.load(engine).map_err(|error| format!("{error:#}")));
        match loaded {
            Ok(component) => {
                // So that what is in use is not what goes first; that it fails where the folder is read-only is no harm.
                let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(component)
            }
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "compiled module is damaged, compiling again");
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "damaged compiled module cannot be deleted");
                }
                None
            }
        }
    }

    /// Keeps an artefact; under its name there is never half a file.
    pub(crate) fn put(&self, key: &Key, artefact: &Artefact) {
        let Some(folder) = &self.folder else { return };
        let path = folder.join(key.file_name());
        match write_whole(&path, &artefact.seal(key)) {
            Ok(()) => self.sweep(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled module cannot be kept, it will be compiled again");
            }
        }
    }

    /// Deletes what is beyond [`KEPT`].
    fn sweep(&self) {
        let Some(entries) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(KEPT);
        for (_, path) in files.into_iter().take(surplus) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "old compiled module cannot be deleted");
            }
        }
    }
}

/// Writes beside, syncs, renames.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("the path has no folder"))?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".compiling-").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}
