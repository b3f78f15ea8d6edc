//! A server of S3 within the test's own process: objects in memory, the conditions that forebay's writes have, pages, uploads in parts,
//! and faults by script. It is small, so that nothing of the build changes for it; `tests/services` has a real one for the same tests.

mod faults;
mod http;
mod service;
mod source;
mod store;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_landing::{Encryption, S3Zone};
use forebay_s3::{Bucket, Patience, S3Address, S3Options, S3Settings, Secrets};
use forebay_sources::S3Config;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use self::store::Store;
use super::contract::support::CountingRandom;

/// The one who may.
pub(crate) const ACCESS_KEY: &str = "forebay";
/// Its secret; the real server compares it.
pub(crate) const SECRET_KEY: &str = "forebay-secret";
/// The bucket of tests.
pub(crate) const BUCKET: &str = "forebay-tests";
/// Where the server says that it is.
pub(crate) const REGION: &str = "eu-test-1";

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Get,
    Head,
    Delete,
    List,
    Begin,
    Part,
    Complete,
    Abort,
    Uploads,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Answered so, and not carried out.
    Answer(u16, &'static str),
    /// Carried out, and the connection ends without an answer.
    LostAnswer,
    /// Nothing is carried out, and no answer comes.
    Hang,
    /// The body ends after so many bytes, and with it the connection.
    CutBody(usize),
    /// The body stands still after so many bytes.
    StalledBody(usize),
}

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    store: Mutex<Store>,
    wrong: Mutex<VecDeque<(Operation, Wrong)>>,
    asked: Mutex<Vec<Operation>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tests do not wait.
pub(crate) fn impatient() -> Patience {
    Patience {
        attempts: 4,
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        connect: Duration::from_secs(5),
        answer: Duration::from_millis(500),
        stall: Duration::from_secs(1),
    }
}

/// A zone below a prefix of a server's bucket.
pub(crate) fn zone(url: &str, prefix: &str, patience: Patience, encryption: Option<Encryption>) -> S3Zone {
    signed_zone(url, prefix, SECRET_KEY, patience, encryption)
}

/// A folder of a server's bucket as a source; nothing else of the settings is said.
pub(crate) fn source_config(url: &str, folder: &str) -> S3Config {
    S3Config {
        endpoint: Some(url.to_owned()),
        region: Some(REGION.to_owned()),
        path_style: Some(true),
        ..S3Config::new(format!("s3://{BUCKET}/{folder}"))
    }
}

/// Who asks as a source, and does not wait for long.
pub(crate) fn source_options(secret_key: &str) -> S3Options {
    let secrets = Secrets { access_key: ACCESS_KEY.to_owned(), secret_key: secret_key.to_owned() };
    S3Options { patience: impatient(), secrets: Some(secrets) }
}

/// The same with a secret of its own.
fn signed_zone(
    url: &str,
    prefix: &str,
    secret_key: &str,
    patience: Patience,
    encryption: Option<Encryption>,
) -> S3Zone {
    let settings = S3Settings {
        endpoint: Some(url.to_owned()),
        region: Some(REGION.to_owned()),
        profile: None,
        path_style: Some(true),
    };
    let address = S3Address::parse(&format!("s3://{BUCKET}/{prefix}"), settings).expect("an address");
    let secrets = Secrets { access_key: ACCESS_KEY.to_owned(), secret_key: secret_key.to_owned() };
    let options = S3Options { patience, secrets: Some(secrets) };
    // Writes are known by chance: two zones of one bucket must not count alike.
    let random = CountingRandom::new(u64::from(fastrand::u32(1..)));
    S3Zone::open(address, encryption, options, Arc::new(random)).expect("a zone")
}

/// The bucket of tests on a server.
pub(crate) fn bucket(url: &str) -> Bucket {
    let settings = S3Settings {
        endpoint: Some(url.to_owned()),
        region: Some(REGION.to_owned()),
        profile: None,
        path_style: Some(true),
    };
    let address = S3Address::parse(&format!("s3://{BUCKET}"), settings).expect("an address");
    let secrets = Secrets { access_key: ACCESS_KEY.to_owned(), secret_key: SECRET_KEY.to_owned() };
    Bucket::open(address, S3Options { secrets: Some(secrets), ..S3Options::default() }).expect("a bucket")
}

/// The server that `FOREBAY_S3` names, with the bucket of tests; `None`, and a word about it, where there is none.
pub(crate) async fn service() -> Option<String> {
    let Ok(url) = std::env::var("FOREBAY_S3") else {
        eprintln!("skipped, no S3 server (make test-services)");
        return None;
    };
    let bucket = bucket(&url);
    let asking = bucket.clone();
    let made = bucket.run(async move {
        let made = asking.client().await?.create_bucket().bucket(BUCKET).send().await;
        // Another test may have been first.
        let there = asking.client().await?.head_bucket().bucket(BUCKET).send().await;
        Ok(there.map(drop).map_err(|error| format!("{error:?}, {made:?}")))
    });
    made.await.expect("a server").unwrap_or_else(|error| panic!("no bucket {BUCKET} at {url}: {error}"));
    Some(url)
}

impl Server {
    /// Starts one, with an empty bucket. It ends when it is dropped.
    pub(crate) fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let (found, address) = std::sync::mpsc::channel();
        let (stop, mut stopped) = oneshot::channel();
        let of_server = Arc::clone(&shared);
        // Zones block the thread of a test: so it stands on another.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
                found.send(listener.local_addr().expect("its address")).expect("who started it");
                loop {
                    let connection = tokio::select! {
                        _ = &mut stopped => return,
                        connection = listener.accept() => connection,
                    };
                    let Ok((connection, _)) = connection else { continue };
                    let shared = Arc::clone(&of_server);
                    tokio::spawn(async move { http::serve(connection, &shared).await });
                }
            });
        });
        Self { address: address.recv().expect("a server"), shared, _stop: stop }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A zone in it, which does not wait for long.
    pub(crate) fn zone(&self) -> S3Zone {
        zone(&self.url(), "zone/of tests", impatient(), None)
    }

    /// From now on, each of these happens to one request of that kind, in this order.
    pub(crate) fn goes_wrong(&self, what: impl IntoIterator<Item = (Operation, Wrong)>) {
        lock(&self.shared.wrong).extend(what);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn goes_right(&self) {
        lock(&self.shared.wrong).clear();
    }

    /// What was to go wrong, and has not.
    pub(crate) fn still_to_go_wrong(&self) -> usize {
        lock(&self.shared.wrong).len()
    }

    /// How often something was asked.
    pub(crate) fn asked(&self, what: Operation) -> usize {
        lock(&self.shared.asked).iter().filter(|asked| **asked == what).count()
    }

    /// So many entries stand on a page.
    pub(crate) fn pages_of(&self, entries: usize) {
        lock(&self.shared.store).page = entries;
    }

    /// It takes no notice of conditions.
    pub(crate) fn ignores_conditions(&self) {
        lock(&self.shared.store).conditions = false;
    }

    /// The keys of the objects.
    pub(crate) fn keys(&self) -> Vec<String> {
        lock(&self.shared.store).objects.keys().cloned().collect()
    }

    /// The bytes of an object.
    pub(crate) fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        lock(&self.shared.store).objects.get(key).map(|object| object.bytes.to_vec())
    }

    /// The header that an object was sent with.
    pub(crate) fn header(&self, key: &str, name: &str) -> Option<String> {
        lock(&self.shared.store).objects.get(key)?.headers.get(name).cloned()
    }

    /// Another writes to the bucket.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        lock(&self.shared.store).put(key, bytes.to_vec().into(), Default::default());
    }

    /// Nobody may read an object.
    pub(crate) fn forbid(&self, key: &str) {
        lock(&self.shared.store).forbidden.insert(key.to_owned());
    }

    /// Another removes from the bucket.
    pub(crate) fn remove(&self, key: &str) {
        lock(&self.shared.store).objects.remove(key);
    }

    /// The keys of uploads that were begun and not ended.
    pub(crate) fn uploads(&self) -> Vec<String> {
        lock(&self.shared.store).uploads.values().map(|upload| upload.key.clone()).collect()
    }

    /// Another begins an upload.
    pub(crate) fn begin_upload(&self, key: &str) {
        lock(&self.shared.store).begin(key, Default::default());
    }
}
