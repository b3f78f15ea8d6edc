//! The object store that the Delta crate writes its log through, made durable.
//!
//! The crate never syncs, nor does the local store that it would use: after a power cut an empty `N.json` reads as an empty
//! commit, and half a file makes the table unreadable. Here a file is written under a temporary name, synced, given its name
//! (by a link that fails where the name is taken, or by a rename), and its folder is synced; only then the call returns.
//! So a name in the log stands for whole bytes, always, and what was answered survives. A checkpoint's digest is kept while it
//! is written, and compared before it is read: see [`super::checkpoint`].

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use forebay_disk::Disk;
use forebay_model::ports::Random;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use super::checkpoint::{self, Compared};
use forebay_model::Digest;

const NAME: &str = "DurableStore";

/// The whole file system, durably.
#[derive(Debug, Clone)]
pub(super) struct DurableStore {
    // Reads, lists and deletes, and knows how paths become files.
    inner: Arc<LocalFileSystem>,
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    compared: Arc<Compared>,
}

impl DurableStore {
    pub(super) fn new(disk: Arc<dyn Disk>, random: Arc<dyn Random>, compared: Arc<Compared>) -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()), disk, random, compared }
    }

    /// A name beside `path` that listings of a local store leave out.
    fn temporary(&self, path: &FilePath) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{}", self.random.bits()));
        PathBuf::from(name)
    }
}

impl std::fmt::Display for DurableStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(NAME)
    }
}

fn failed(path: &FilePath, source: std::io::Error) -> object_store::Error {
    let text = path.display().to_string();
    if source.kind() == std::io::ErrorKind::AlreadyExists {
        object_store::Error::AlreadyExists { path: text, source: Box::new(source) }
    } else if source.kind() == std::io::ErrorKind::PermissionDenied {
        object_store::Error::PermissionDenied { path: text, source: Box::new(source) }
    } else {
        object_store::Error::Generic { store: NAME, source: Box::new(source) }
    }
}

fn not_supported(what: &str) -> object_store::Error {
    object_store::Error::NotImplemented { operation: what.to_owned(), implementer: NAME.to_owned() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Gives `temporary`, whose bytes are synced, its name.
fn publish(disk: &dyn Disk, temporary: &FilePath, path: &FilePath, taken_is_an_error: bool) -> std::io::Result<()> {
    if taken_is_an_error {
        let linked = disk.link(temporary, path);
        // Either it has its name now or it is of no use.
        let removed = disk.remove(temporary);
        linked?;
        removed?;
    } else {
        disk.rename(temporary, path)?;
    }
    path.parent().map_or(Ok(()), |folder| disk.sync_folder(folder))
}

/// Keeps the digest of what is to be a checkpoint; nothing where it is to be another file.
fn keep_digest(disk: &dyn Disk, temporary: &FilePath, path: &FilePath, bits: u64) -> std::io::Result<()> {
    match checkpoint::digest_path(path) {
        Some(at) => checkpoint::keep(disk, &at, &Digest::of_reader(File::open(temporary)?)?, bits),
        None => Ok(()),
    }
}

#[async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return Err(not_supported("put_opts with mode update")),
        };
        let path = self.inner.path_to_filesystem(location)?;
        let (temporary, bits) = (self.temporary(&path), self.random.bits());
        let disk = Arc::clone(&self.disk);
        blocking(move || {
            let write = || {
                let mut file = disk.create(&temporary)?;
                payload.iter().try_for_each(|part| file.write_all(part))?;
                disk.sync(&file, &temporary)?;
                keep_digest(disk.as_ref(), &temporary, &path, bits)?;
                publish(disk.as_ref(), &temporary, &path, create)
            };
            write().map_err(|source| {
                // Best effort: what stays is swept when the table is opened.
                let _ = disk.remove(&temporary);
                failed(&path, source)
            })?;
            Ok(PutResult { e_tag: None, version: None })
        })
        .await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let (temporary, bits) = (self.temporary(&path), self.random.bits());
        let disk = Arc::clone(&self.disk);
        blocking(move || {
            let file = disk.create(&temporary).map_err(|source| failed(&path, source))?;
            let upload: Box<dyn MultipartUpload> =
                Box::new(DurableUpload { disk, file: Arc::new(file), temporary, path, bits, length: 0 });
            Ok(upload)
        })
        .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = self.inner.path_to_filesystem(location)?;
        if !options.head && checkpoint::digest_path(&path).is_some() {
            let compared = Arc::clone(&self.compared);
            blocking(move || compared.check(&path).map_err(|source| failed(&path, source))).await?;
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    // The crate copies and renames only for stores without conditional puts; undurable answers would be worse than none.

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_supported("copy_opts"))
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        Err(not_supported("rename_opts"))
    }
}

/// A file that comes in parts: a checkpoint.
#[derive(Debug)]
struct DurableUpload {
    disk: Arc<dyn Disk>,
    file: Arc<File>,
    temporary: PathBuf,
    path: PathBuf,
    bits: u64,
    length: u64,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.length;
        self.length += data.content_length() as u64;
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        Box::pin(blocking(move || {
            for part in data.iter() {
                file.write_all_at(part, offset).map_err(|source| failed(&path, source))?;
                offset += part.len() as u64;
            }
            Ok(())
        }))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (disk, file) = (Arc::clone(&self.disk), Arc::clone(&self.file));
        let (temporary, path, bits) = (self.temporary.clone(), self.path.clone(), self.bits);
        blocking(move || {
            disk.sync(&file, &temporary)
                .and_then(|()| keep_digest(disk.as_ref(), &temporary, &path, bits))
                .and_then(|()| publish(disk.as_ref(), &temporary, &path, false))
                .map_err(|source| failed(&path, source))?;
            Ok(PutResult { e_tag: None, version: None })
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        let (disk, temporary) = (Arc::clone(&self.disk), self.temporary.clone());
        blocking(move || disk.remove(&temporary).map_err(|source| failed(&temporary, source))).await
    }
}
