#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use forebay_model::flow::{OnChange, RawBatch, RawObject};
use forebay_model::{Compression, ErrorClass};
use futures::StreamExt;

use super::*;
use crate::memory::{MemoryProgress, SteppedClock};

const SECOND: Duration = Duration::from_secs(1);

/// A folder, a ledger and a clock, and a source between them.
struct Inbox {
    dir: tempfile::TempDir,
    progress: Arc<MemoryProgress>,
    clock: Arc<SteppedClock>,
    config: FilesConfig,
    once: bool,
    source: FilesSource,
}

/// What one delivery gave: key, where it began, and the content or the error.
type Given = (String, u64, Result<String, String>);

impl Inbox {
    fn new(once: bool, set: impl FnOnce(&mut FilesConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = FilesConfig::new(".");
        set(&mut config);
        let progress = Arc::new(MemoryProgress::default());
        // Late enough that all files are old.
        let clock =
            Arc::new(SteppedClock::at(Timestamp::from_system(std::time::SystemTime::now()).plus(SECOND * 3600)));
        let source = Self::source(&config, dir.path(), &progress, &clock, once);
        Self { dir, progress, clock, config, once, source }
    }

    fn source(
        config: &FilesConfig,
        dir: &Path,
        progress: &Arc<MemoryProgress>,
        clock: &Arc<SteppedClock>,
        once: bool,
    ) -> FilesSource {
        let (progress, clock) = (Arc::clone(progress), Arc::clone(clock));
        let mut source = FilesSource::open(config.clone(), dir, progress, clock, once).unwrap();
        // Tests say themselves when a notification arrives.
        source.watch = None;
        source
    }

    /// The process dies, and another one starts.
    fn restart(&mut self) {
        self.source = Self::source(&self.config, self.dir.path(), &self.progress, &self.clock, self.once);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn append(&self, name: &str, content: &str) {
        OpenOptions::new().append(true).open(self.path(name)).unwrap().write_all(content.as_bytes()).unwrap();
    }

    async fn poll(&mut self) -> Polled {
        self.source.poll().await.unwrap()
    }

    async fn batch(&mut self) -> Vec<RawObject> {
        match self.poll().await {
            Polled::Batch(RawBatch::Objects(objects)) => objects,
            Polled::Batch(RawBatch::Records(_)) => panic!("files are objects"),
            Polled::Idle => Vec::new(),
        }
    }

    /// Lands all there is, and says what it was.
    async fn land(&mut self) -> Vec<Given> {
        let mut all = Vec::new();
        loop {
            match self.poll().await {
                Polled::Batch(RawBatch::Objects(objects)) => {
                    for object in objects {
                        all.push(self.land_one(object).await);
                    }
                    self.source.acknowledge(&[]).await.unwrap();
                }
                Polled::Batch(RawBatch::Records(_)) => panic!("files are objects"),
                Polled::Idle => return all,
            }
        }
    }

    async fn land_one(&self, mut object: RawObject) -> Given {
        let mut content = Vec::new();
        while let Some(chunk) = object.body.next().await {
            match chunk {
                Ok(chunk) => content.extend_from_slice(&chunk),
                Err(error) => return (object.key, object.range.start, Err(error.to_string())),
            }
        }
        assert_eq!(content.len() as u64, object.range.end - object.range.start, "{object:?}");
        self.progress.land_object(&object);
        (object.key, object.range.start, Ok(String::from_utf8(content).unwrap()))
    }
}

fn given(key: &str, start: u64, content: &str) -> Given {
    (key.to_owned(), start, Ok(content.to_owned()))
}

fn tail(config: &mut FilesConfig) {
    config.on_change = OnChange::Tail;
}

#[tokio::test]
async fn what_landed_is_not_delivered_again_and_what_changed_is() {
    let mut inbox = Inbox::new(true, |_| {});
    inbox.write("a.csv", "1");
    inbox.write("sub/b.csv", "22");
    inbox.write("empty", "");
    let mut first = inbox.land().await;
    first.sort();
    assert_eq!(first, [given("a.csv", 0, "1"), given("empty", 0, ""), given("sub/b.csv", 0, "22")]);
    assert_eq!(inbox.land().await, []);
    inbox.restart();
    assert_eq!(inbox.land().await, []);
    inbox.write("a.csv", "333");
    assert_eq!(inbox.land().await, [given("a.csv", 0, "333")]);
    inbox.restart();
    assert_eq!(inbox.land().await, []);
}

#[tokio::test]
async fn a_former_state_that_returns_is_a_version_of_its_own() {
    let mut inbox = Inbox::new(true, |_| {});
    inbox.write("a", "old");
    let first = inbox.batch().await.pop().unwrap();
    let (version, _) = (first.version.clone(), inbox.land_one(first).await);
    fs::rename(inbox.path("a"), inbox.path(".kept")).unwrap();
    inbox.write("a", "newer");
    assert_eq!(inbox.land().await, [given("a", 0, "newer")]);
    fs::rename(inbox.path(".kept"), inbox.path("a")).unwrap();
    let third = inbox.batch().await.pop().unwrap();
    assert_eq!(third.version, format!("{version}~3"));
    assert_eq!(inbox.land_one(third).await, given("a", 0, "old"));
    assert_eq!(inbox.land().await, []);
}

#[tokio::test]
async fn what_was_not_landed_is_delivered_again_by_the_next_source() {
    let mut inbox = Inbox::new(true, |_| {});
    inbox.write("a", "1");
    assert_eq!(inbox.batch().await.len(), 1);
    inbox.restart();
    assert_eq!(inbox.land().await, [given("a", 0, "1")]);
}

#[tokio::test]
async fn a_body_that_nobody_read_is_delivered_again_by_the_same_source() {
    let mut inbox = Inbox::new(false, |_| {});
    inbox.write("small", "1");
    inbox.write("large", vec![b'x'; 200_000]);
    let mut objects = Vec::new();
    for _ in 0..5 {
        objects.extend(inbox.batch().await);
    }
    assert_eq!(objects.len(), 2);
    drop(objects);
    let mut again = Vec::new();
    for _ in 0..10 {
        again.extend(inbox.land().await.into_iter().map(|(key, _, _)| key));
    }
    again.sort();
    assert_eq!(again, ["large", "small"]);
}

#[tokio::test]
async fn the_oldest_that_has_not_landed_is_known_until_it_has() {
    let mut inbox = Inbox::new(false, |config| config.max_batch_objects = 1);
    assert_eq!(inbox.source.oldest_unlanded(), None);
    let hour = |hours: u64| std::time::UNIX_EPOCH + SECOND * u32::try_from(hours * 3600).unwrap();
    for (name, hours) in [("old", 5), ("older", 3)] {
        inbox.write(name, "1");
        fs::File::open(inbox.path(name)).unwrap().set_modified(hour(hours)).unwrap();
    }
    let at = |hours| Some(Timestamp::from_system(hour(hours)));
    let mut taken = Vec::new();
    while taken.is_empty() {
        taken = inbox.batch().await;
    }
    assert_eq!((taken[0].key.as_ref(), inbox.source.oldest_unlanded()), ("older", at(3)));
    // Nobody read it: it comes again, and is as old as it was.
    drop(taken);
    let mut landed = Vec::new();
    while landed.len() < 2 {
        assert!(inbox.source.oldest_unlanded() >= at(3), "{landed:?}");
        landed.extend(inbox.land().await.into_iter().map(|(key, _, _)| key));
    }
    // The one that nobody read comes again after a pause.
    landed.sort();
    assert_eq!(landed, ["old", "older"]);
    inbox.batch().await;
    assert_eq!(inbox.source.oldest_unlanded(), None);
    // A process that starts asks the ledger before it says anything.
    inbox.restart();
    for _ in 0..3 {
        inbox.batch().await;
        assert_eq!(inbox.source.oldest_unlanded(), None);
    }
}

#[tokio::test]
async fn a_file_that_was_read_and_never_listed_is_delivered_again_after_a_while() {
    let mut inbox = Inbox::new(false, |_| {});
    inbox.write("a", "1");
    let mut object = loop {
        if let Some(object) = inbox.batch().await.pop() {
            break object;
        }
    };
    while object.body.next().await.is_some() {}
    let (mut polls, start) = (0, inbox.clock.now());
    while inbox.batch().await.is_empty() {
        polls += 1;
        assert!(polls < 200, "it never comes back");
    }
    let waited = inbox.clock.now().since(start);
    assert!(waited >= flight::LAND_WITHIN && waited < flight::LAND_WITHIN * 2, "{waited:?}");
}

#[tokio::test]
async fn a_file_is_taken_when_it_has_not_changed_for_the_settle_time() {
    let mut inbox = Inbox::new(false, |config| config.settle_milliseconds = 5000);
    inbox.write("growing", "1");
    for n in 0..10 {
        assert_eq!(inbox.land().await, [], "it grew {n} times");
        inbox.clock.advance(SECOND * 2);
        inbox.append("growing", "1");
        inbox.source.noticed.paths.insert(inbox.dir.path().canonicalize().unwrap().join("growing"));
    }
    let mut all = Vec::new();
    for _ in 0..8 {
        all.extend(inbox.land().await);
    }
    assert_eq!(all, [given("growing", 0, "11111111111")]);
}

#[tokio::test]
async fn a_change_that_nobody_told_of_is_seen_when_the_file_is_opened() {
    let mut inbox = Inbox::new(false, |config| config.settle_milliseconds = 5000);
    inbox.write("quiet", "1");
    inbox.source.look(true).await.unwrap();
    inbox.clock.advance(SECOND * 6);
    inbox.append("quiet", "2");
    let changed = inbox.clock.now();
    let mut all = Vec::new();
    while all.is_empty() {
        all = inbox.land().await;
    }
    assert_eq!(all, [given("quiet", 0, "12")]);
    assert!(inbox.clock.now().since(changed) >= SECOND * 5, "it had to settle again");
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_in_line_settles_again() {
    let mut inbox = Inbox::new(false, |config| {
        config.settle_milliseconds = 5000;
        config.max_batch_objects = 1;
    });
    // More than are asked for at once, so that the last ones stay in line.
    for n in 0..600 {
        inbox.write(&format!("{n:03}"), "x");
    }
    inbox.source.look(true).await.unwrap();
    inbox.clock.advance(SECOND * 6);
    assert_eq!(inbox.batch().await.len(), 1);
    let last = inbox.source.queue.first(1000).pop().expect("some are in line");
    inbox.append(&last, "y");
    let changed = inbox.clock.now();
    inbox.source.noticed.paths.insert(inbox.dir.path().canonicalize().unwrap().join(&*last));
    loop {
        let objects = inbox.batch().await;
        let due = inbox.clock.now().since(changed) >= SECOND * 5;
        if objects.iter().any(|object| object.key == *last) {
            assert!(due, "it was taken before it had settled again");
            return;
        }
        for object in objects {
            assert!(inbox.land_one(object).await.2.is_ok());
        }
    }
}

#[tokio::test]
async fn with_once_an_old_file_is_taken_at_once_and_a_young_one_is_waited_for() {
    let mut inbox = Inbox::new(true, |config| config.settle_milliseconds = 3000);
    inbox.write("old", "1");
    let start = inbox.clock.now();
    assert_eq!(inbox.land().await.len(), 1);
    assert_eq!(inbox.clock.now(), start, "nothing was waited for");
    inbox.clock = Arc::new(SteppedClock::at(Timestamp::from_system(std::time::SystemTime::now())));
    inbox.write("young", "2");
    inbox.restart();
    let start = inbox.clock.now();
    assert_eq!(inbox.land().await, [given("young", 0, "2")]);
    let waited = inbox.clock.now().since(start);
    assert!(waited > SECOND && waited < SECOND * 4, "{waited:?}");
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_ends_with_an_error_and_comes_again() {
    let mut inbox = Inbox::new(true, |_| {});
    // More than is read ahead.
    inbox.write("large", vec![b'x'; 12 << 20]);
    let mut object = inbox.batch().await.pop().unwrap();
    assert_eq!(object.body.next().await.unwrap().unwrap().len(), body::CHUNK);
    inbox.append("large", "more");
    let rest: Vec<_> = object.body.by_ref().collect().await;
    let error = rest.last().unwrap().as_ref().unwrap_err();
    assert_eq!(error.class(), ErrorClass::Retry);
    assert!(error.to_string().contains("large"), "{error}");
    drop(object);
    let again = inbox.land().await;
    assert_eq!(again.len(), 1);
    assert_eq!(again.first().unwrap().2.as_ref().unwrap().len(), (12 << 20) + 4);
}

#[tokio::test]
async fn a_large_file_passes_in_chunks_and_its_buffers_are_used_again() {
    let mut inbox = Inbox::new(true, |_| {});
    let content: Vec<u8> = (0..(20u32 << 20) + 17).map(|n| u8::try_from(n.wrapping_mul(31) % 253).unwrap()).collect();
    inbox.write("large", &content);
    let mut object = inbox.batch().await.pop().unwrap();
    let (mut read, mut places) = (Vec::new(), std::collections::HashSet::new());
    while let Some(chunk) = object.body.next().await {
        let chunk = chunk.unwrap();
        assert!(chunk.len() <= body::CHUNK);
        places.insert(chunk.as_ptr());
        read.extend_from_slice(&chunk);
    }
    assert!(read == content, "byte for byte");
    assert!(places.len() <= 5, "{} buffers for 21 chunks", places.len());
}

#[tokio::test]
async fn a_batch_is_bounded_by_count_and_by_bytes() {
    let mut inbox = Inbox::new(true, |config| {
        config.max_batch_objects = 3;
        config.max_batch_bytes = 10;
    });
    for n in 0..4 {
        inbox.write(&format!("{n}"), "x");
    }
    for name in ["large", "larger"] {
        inbox.write(name, "x".repeat(20));
    }
    let mut sizes = Vec::new();
    loop {
        let objects = inbox.batch().await;
        if objects.is_empty() {
            break;
        }
        sizes.push(objects.len());
        for object in objects {
            assert!(inbox.land_one(object).await.2.is_ok());
        }
    }
    assert_eq!(sizes, [3, 1, 1, 1]);
}

#[tokio::test]
async fn files_that_vanish_between_listing_and_opening_are_no_error() {
    let mut inbox = Inbox::new(false, |_| {});
    inbox.write("a", "1");
    inbox.write("b", "2");
    inbox.source.look(true).await.unwrap();
    fs::remove_file(inbox.path("a")).unwrap();
    let mut all = Vec::new();
    for _ in 0..4 {
        all.extend(inbox.land().await);
    }
    assert_eq!(all, [given("b", 0, "2")]);
}

#[tokio::test]
async fn a_missed_notification_costs_time_not_data() {
    let mut inbox = Inbox::new(false, |config| config.scan_seconds = 30);
    assert_eq!(inbox.land().await, []);
    inbox.write("sub/missed.csv", "1");
    let start = inbox.clock.now();
    let mut all = Vec::new();
    while all.is_empty() {
        all = inbox.land().await;
        assert!(inbox.clock.now().since(start) < SECOND * 40, "never found");
    }
    assert_eq!(all, [given("sub/missed.csv", 0, "1")]);
    assert!(inbox.clock.now().since(start) > SECOND * 25);
}

#[tokio::test]
async fn a_notification_tells_of_files_and_of_new_folders() {
    let mut inbox = Inbox::new(false, |config| {
        config.scan_seconds = 86_400;
        config.settle_milliseconds = 1;
    });
    let folder = inbox.dir.path().canonicalize().unwrap();
    inbox.source.watch = start_watch(&folder, false);
    assert_eq!(inbox.land().await, []);
    inbox.write("top.csv", "1");
    inbox.write("new/deep/er.csv", "2");
    fs::rename(inbox.path("top.csv"), inbox.path("moved.csv")).unwrap();
    let mut all = Vec::new();
    for _ in 0..500 {
        all.extend(inbox.land().await);
        if all.len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    all.sort();
    all.retain(|(key, _, _)| key != "top.csv");
    assert_eq!(all, [given("moved.csv", 0, "1"), given("new/deep/er.csv", 0, "2")]);
}

#[tokio::test]
async fn names_that_are_not_utf8_are_delivered_under_an_escaped_key() {
    let mut inbox = Inbox::new(true, |_| {});
    fs::write(inbox.dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.csv")), "1").unwrap();
    assert_eq!(inbox.land().await, [given("caf%E9.csv", 0, "1")]);
    assert_eq!(inbox.land().await, []);
}

#[tokio::test]
async fn compression_is_told_by_the_first_bytes() {
    let mut inbox = Inbox::new(true, |_| {});
    inbox.write("a.csv.gz", [0x1f, 0x8b, 8, 0]);
    inbox.write("b", [0x28, 0xb5, 0x2f, 0xfd, 0]);
    inbox.write("c.csv", "id");
    let mut kinds: Vec<_> = inbox.batch().await.iter().map(|object| (object.key.clone(), object.compression)).collect();
    kinds.sort_by(|a, b| a.0.cmp(&b.0));
    let kinds: Vec<_> = kinds.into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [Compression::Gzip, Compression::Zstd, Compression::None]);
}

#[tokio::test]
async fn what_may_not_be_read_is_told_once_a_minute_and_keeps_nothing_back() {
    use std::os::unix::fs::PermissionsExt;
    let mut inbox = Inbox::new(false, |_| {});
    inbox.write("locked.csv", "1");
    inbox.write("closed/in.csv", "2");
    inbox.write("open.csv", "3");
    let mode = |name: &str, mode| fs::set_permissions(inbox.path(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("locked.csv", 0);
    mode("closed", 0);
    let root = fs::read(inbox.path("locked.csv")).is_ok();
    if root {
        // Root may read everything: then a link that leads out stands for what may not be read.
        eprintln!("running as root: permissions are not tested, a forbidden link is");
        fs::remove_file(inbox.path("locked.csv")).unwrap();
        fs::remove_dir_all(inbox.path("closed")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", inbox.path("locked.csv")).unwrap();
        std::os::unix::fs::symlink("/etc/hosts", inbox.path("closed")).unwrap();
    }
    let (mut told, mut taken, start) = (Vec::new(), Vec::new(), inbox.clock.now());
    while inbox.clock.now().since(start) < SECOND * 50 {
        match inbox.source.poll().await {
            Ok(Polled::Batch(RawBatch::Objects(objects))) => taken.extend(objects.into_iter().map(|object| object.key)),
            Ok(Polled::Batch(RawBatch::Records(_)) | Polled::Idle) => {}
            Err(error) => {
                assert_eq!(error.class(), ErrorClass::Operator, "{error}");
                assert!(error.hint().is_some(), "{error}");
                told.push(error.to_string());
            }
        }
    }
    if !root {
        fs::set_permissions(inbox.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert!(taken.contains(&"open.csv".to_owned()));
    assert_eq!(told.len(), 2, "{told:?}");
    for name in ["locked.csv", "closed"] {
        assert!(told.iter().any(|text| text.contains(name)), "{name}: {told:?}");
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let open = |url: &str| {
        let (progress, clock) = (Arc::new(MemoryProgress::default()), Arc::new(SteppedClock::default()));
        let config = FilesConfig::new(url);
        Error::from(FilesSource::open(config, dir.path(), progress, clock, true).expect_err("refused"))
    };
    for (url, message) in [
        ("nowhere", "cannot be opened"),
        ("file", "is not a folder"),
        ("s3://bucket/a", "is not a folder on this machine"),
    ] {
        let error = open(url);
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.to_string().contains(url), "{error}");
        assert!(error.hint().is_some() && error.class() == ErrorClass::Operator);
    }
}

#[tokio::test]
async fn a_poll_that_is_dropped_loses_nothing() {
    let mut inbox = Inbox::new(true, |_| {});
    for n in 0..20 {
        inbox.write(&format!("{n:02}"), "x");
    }
    let mut keys = Vec::new();
    for steps in 0..40 {
        // Each time it is dropped a little later.
        let mut poll = Box::pin(inbox.source.poll());
        let mut done = None;
        for _ in 0..steps {
            if let std::task::Poll::Ready(polled) = futures::poll!(&mut poll) {
                done = Some(polled.unwrap());
                break;
            }
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        drop(poll);
        if let Some(Polled::Batch(RawBatch::Objects(objects))) = done {
            for object in objects {
                keys.push(inbox.land_one(object).await.0);
            }
        }
    }
    keys.extend(inbox.land().await.into_iter().map(|(key, _, _)| key));
    keys.sort();
    let all: Vec<_> = (0..20).map(|n| format!("{n:02}")).collect();
    assert_eq!(keys, all, "each once");
}

#[tokio::test]
async fn tail_takes_what_was_added_up_to_the_last_complete_line() {
    let mut inbox = Inbox::new(true, tail);
    inbox.config.partial_line_seconds = 86_400;
    inbox.restart();
    inbox.write("app.log", "one\ntwo\nthr");
    assert_eq!(inbox.land().await, [given("app.log", 0, "one\ntwo\n")]);
    assert_eq!(inbox.land().await, []);
    inbox.append("app.log", "ee\n");
    inbox.restart();
    assert_eq!(inbox.land().await, [given("app.log", 8, "three\n")]);
    inbox.append("app.log", "rest");
    assert_eq!(inbox.land().await, []);
    inbox.config.partial_line_seconds = 60;
    inbox.restart();
    assert_eq!(inbox.land().await, [given("app.log", 14, "rest")], "an hour later it counts as complete");
    assert_eq!(inbox.land().await, []);
}

#[tokio::test]
async fn a_half_line_is_taken_by_a_running_source_when_it_is_old() {
    let mut inbox = Inbox::new(false, tail);
    inbox.clock = Arc::new(SteppedClock::at(Timestamp::from_system(std::time::SystemTime::now())));
    inbox.restart();
    inbox.write("app.log", "half");
    let (start, mut all) = (inbox.clock.now(), Vec::new());
    while inbox.clock.now().since(start) < SECOND * 70 {
        all.extend(inbox.land().await);
        if inbox.clock.now().since(start) < SECOND * 55 {
            assert_eq!(all, []);
        }
    }
    assert_eq!(all, [given("app.log", 0, "half")]);
}

#[tokio::test]
async fn truncation_is_noticed_even_where_the_new_content_is_longer() {
    for new in ["x\n", "new-1\nnew-2\nnew-3\nnew-4\n"] {
        let mut inbox = Inbox::new(true, tail);
        inbox.write("app.log", "one\ntwo\n");
        inbox.land().await;
        inbox.write("app.log", new);
        assert_eq!(inbox.land().await, [given("app.log", 0, new)], "same inode, other content");
        assert_eq!(inbox.land().await, []);
        inbox.append("app.log", "z\n");
        assert_eq!(inbox.land().await, [given("app.log", new.len() as u64, "z\n")]);
    }
}

#[tokio::test]
async fn rotation_loses_nothing_and_doubles_nothing() {
    for restart in [false, true] {
        let mut inbox = Inbox::new(true, tail);
        inbox.write("app.log", "a1\n");
        inbox.land().await;
        inbox.append("app.log", "a2\n");
        fs::rename(inbox.path("app.log"), inbox.path("app.log.1")).unwrap();
        inbox.write("app.log", "b1\nb2\nb3\n");
        if restart {
            inbox.restart();
        }
        assert_eq!(inbox.land().await, [given("app.log.1", 3, "a2\n"), given("app.log", 0, "b1\nb2\nb3\n")]);
        assert_eq!(inbox.land().await, []);
        // Twice more, without anything new in the files that move.
        for _ in 0..2 {
            for n in (1..4).rev() {
                let (from, to) = (inbox.path(&format!("app.log.{n}")), inbox.path(&format!("app.log.{}", n + 1)));
                if from.exists() {
                    fs::rename(from, to).unwrap();
                }
            }
            fs::rename(inbox.path("app.log"), inbox.path("app.log.1")).unwrap();
            inbox.write("app.log", "c1\n");
            if restart {
                inbox.restart();
            }
            let given_now: Vec<_> =
                inbox.land().await.into_iter().filter(|(_, _, c)| c.as_ref().unwrap() != "").collect();
            assert_eq!(given_now, [given("app.log", 0, "c1\n")], "restart: {restart}");
            if restart {
                inbox.restart();
            }
            assert_eq!(inbox.land().await, []);
        }
    }
}

#[tokio::test]
async fn a_rotated_file_is_written_down_before_its_former_name_is_taken_again() {
    let mut inbox = Inbox::new(true, tail);
    inbox.write("app.log", "a1\n");
    inbox.land().await;
    fs::rename(inbox.path("app.log"), inbox.path("app.log.1")).unwrap();
    inbox.write("app.log", "b1\n");
    let keys = |objects: &[RawObject]| objects.iter().map(|object| object.key.clone()).collect::<Vec<_>>();
    let first = inbox.batch().await;
    assert_eq!(keys(&first), ["app.log.1"], "if only the new file landed, the old one would be taken for a new one");
    for object in first {
        assert_eq!(inbox.land_one(object).await, given("app.log.1", 3, ""));
    }
    assert_eq!(keys(&inbox.batch().await), ["app.log"]);
}

#[tokio::test]
async fn a_name_whose_former_file_left_the_folder_goes_on_with_the_new_one() {
    let mut inbox = Inbox::new(true, tail);
    inbox.write("app.log", "a1\n");
    inbox.land().await;
    fs::rename(inbox.path("app.log"), inbox.path(".gone")).unwrap();
    inbox.write("app.log", "b1\n");
    assert_eq!(inbox.land().await, [given("app.log", 0, "b1\n")]);
}

#[tokio::test]
async fn a_file_with_two_names_is_tailed_once() {
    let mut inbox = Inbox::new(true, tail);
    inbox.write("a.log", "1\n");
    fs::hard_link(inbox.path("a.log"), inbox.path("b.log")).unwrap();
    assert_eq!(inbox.land().await.len(), 1);
    inbox.append("a.log", "2\n");
    inbox.restart();
    let more = inbox.land().await;
    assert_eq!(more.len(), 1);
    assert_eq!(more.first().unwrap().2.as_ref().unwrap(), "2\n");
}

#[tokio::test]
async fn compressed_files_cannot_be_tailed() {
    let mut inbox = Inbox::new(true, tail);
    inbox.write("app.log", "1\n");
    inbox.write("app.log.2.gz", [0x1f, 0x8b, 8, 0]);
    let error = loop {
        match inbox.source.poll().await {
            Err(error) => break error,
            Ok(Polled::Batch(RawBatch::Objects(objects))) => {
                for object in objects {
                    assert_eq!(inbox.land_one(object).await, given("app.log", 0, "1\n"));
                }
            }
            Ok(other) => panic!("{other:?}"),
        }
    };
    assert!(error.to_string().contains("app.log.2.gz"), "{error}");
    assert!(error.hint().unwrap().contains("exclude"));
    assert!(matches!(inbox.poll().await, Polled::Idle));
}

#[tokio::test]
async fn many_files_are_found_and_remembered_in_linear_time() {
    let mut inbox = Inbox::new(true, |config| config.max_batch_objects = 1000);
    for n in 0..5000 {
        inbox.write(&format!("{}/{n}", n % 50), "x");
    }
    let start = std::time::Instant::now();
    assert_eq!(inbox.land().await.len(), 5000);
    assert_eq!(inbox.land().await.len(), 0);
    inbox.restart();
    assert_eq!(inbox.land().await.len(), 0);
    assert_eq!(inbox.source.landed.len(), 5000);
    fs::remove_dir_all(inbox.path("7")).unwrap();
    inbox.land().await;
    assert_eq!(inbox.source.landed.len(), 4900, "what is gone is forgotten");
    assert!(start.elapsed() < SECOND * 20, "{:?}", start.elapsed());
}
