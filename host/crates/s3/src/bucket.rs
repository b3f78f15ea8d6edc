//! A bucket, and the runtime that its requests run on.
//!
//! A connection lives as long as the runtime that made it, and workers that read are no tasks of any: so a bucket has a runtime of its
//! own, and may be used from everywhere.

use std::fmt;
use std::sync::{Arc, mpsc};

use aws_sdk_s3::Client;
use forebay_model::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::OnceCell;

use crate::address::S3Address;
use crate::client::{Patience, S3Options, connect};

/// What waits for a server needs few threads.
const THREADS: usize = 2;

struct Inner {
    address: S3Address,
    options: S3Options,
    client: OnceCell<Client>,
    /// Always there, until it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime that is dropped within another waits, which is not allowed there.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A bucket of a server.
#[derive(Clone)]
pub struct Bucket(Arc<Inner>);

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.0.address).finish()
    }
}

fn ended(how: impl fmt::Display) -> Error {
    Error::bug(format!("a task that asks an S3 server ended: {how}"))
}

impl Bucket {
    /// The bucket at an address. Nothing is asked of its server before the first request.
    ///
    /// # Errors
    /// Class operator, where no thread can be started.
    pub fn open(address: S3Address, options: S3Options) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("forebay-s3")
            .enable_all()
            .build()
            .map_err(|error| Error::operator("threads for requests to S3 cannot be started").with_source(error))?;
        let handle = runtime.handle().clone();
        Ok(Self(Arc::new(Inner { address, options, client: OnceCell::new(), runtime: Some(runtime), handle })))
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &S3Address {
        &self.0.address
    }

    /// How long its server is waited for.
    #[must_use]
    pub fn patience(&self) -> &Patience {
        &self.0.options.patience
    }

    /// Its runtime.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// What asks its server; to be used within [`Bucket::run`], [`Bucket::wait`] and tasks of [`Bucket::handle`] only.
    ///
    /// # Errors
    /// Where no region is known.
    pub async fn client(&self) -> Result<&Client> {
        self.0.client.get_or_try_init(|| connect(&self.0.address, &self.0.options)).await
    }

    /// Does work on the bucket's runtime. It goes on when the future is dropped.
    pub fn run<T, W>(&self, work: W) -> impl Future<Output = Result<T>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let running = self.0.handle.spawn(work);
        async { running.await.unwrap_or_else(|error| Err(ended(error))) }
    }

    /// The same for work that blocks.
    pub fn run_blocking<T, W>(&self, work: W) -> impl Future<Output = Result<T>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let running = self.0.handle.spawn_blocking(work);
        async { running.await.map_err(ended) }
    }

    /// Does work on the bucket's runtime, and blocks this thread meanwhile.
    ///
    /// # Errors
    /// Those of the work.
    pub fn wait<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.0.handle.spawn(async move {
            // Who waits is there, or does not want it any more.
            let _ = sender.send(work.await);
        });
        receiver.recv().unwrap_or_else(|error| Err(ended(error)))
    }
}
