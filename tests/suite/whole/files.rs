//! Files and disks that resist: a file that grows, what may not be read or written, a disk that is full.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::seen::{PLAIN, check};
use super::support::{Place, forebay};

fn lines(ids: std::ops::Range<u32>) -> String {
    ids.map(|id| format!("{{\"id\":{id},\"v\":\"{:08x}\"}}\n", id.wrapping_mul(2_654_435_761))).collect()
}

/// All of these, once each.
fn has_all(place: &Place, rows: i64) {
    assert_eq!(place.rows("lake.events"), rows);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.events"), rows);
    place.adds_up();
}

#[test]
fn a_file_that_grows_while_it_is_read_is_loaded_once_and_whole() {
    let place = Place::with(PLAIN);
    // So large that reading it takes longer than it takes to grow again.
    place.write("inbox/grows.jsonl", &lines(0..200_000));
    let running = place.start();
    let mut file = fs::OpenOptions::new().append(true).open(place.path("inbox/grows.jsonl")).unwrap();
    for part in 0..100_u32 {
        // A line in two writes: whoever reads in between sees half a record.
        let text = lines(200_000 + part * 10..200_010 + part * 10);
        let (one, other) = text.split_at(text.len() - 7);
        file.write_all(one.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        file.write_all(other.as_bytes()).unwrap();
    }
    place.until("all of it is loaded", || place.rows("lake.events") == 201_000);
    assert!(running.stop().success());
    has_all(&place, 201_000);
    let output = place.run(&["query", "SELECT count(*) FROM rejects.plain"]);
    assert!(!output.status.success() || output.stdout.starts_with(b"0"), "no half record was taken for one");
}

/// Somebody who is not root, where the tests are root: nothing is forbidden to root.
const NOBODY: u32 = 65_534;

/// A place that belongs to somebody else, and how that one runs forebay in it.
struct Unprivileged {
    place: Place,
    binary: PathBuf,
    is_root: bool,
}

impl Unprivileged {
    fn new() -> Self {
        let place = Place::with(PLAIN);
        let binary = place.path("forebay");
        // The way to the build may be closed to others.
        if fs::hard_link(forebay(), &binary).is_err() {
            fs::copy(forebay(), &binary).unwrap();
        }
        let is_root = fs::metadata(place.path("")).unwrap().uid() == 0;
        Self { place, binary, is_root }
    }

    /// Gives everything away that lies in the place.
    fn give(&self) {
        fn all(path: &Path) {
            if path.file_name().is_some_and(|name| name == "forebay") {
                return;
            }
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            if path.is_dir() {
                fs::read_dir(path).unwrap().for_each(|entry| all(&entry.unwrap().path()));
            }
        }
        if self.is_root {
            let folder = self.place.path("");
            all(&folder);
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn sees(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(self.place.path(""));
        if self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        self.place.seen_of(command)
    }

    fn forbid(&self, name: &str, mode: u32) {
        fs::set_permissions(self.place.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn what_may_not_be_read_is_named_and_the_rest_loads() {
    let other = Unprivileged::new();
    let place = &other.place;
    fs::create_dir(place.path("inbox/closed")).unwrap();
    place.write("inbox/closed/a.jsonl", &lines(0..10));
    place.write("inbox/secret.jsonl", &lines(10..20));
    place.write("inbox/good.jsonl", &lines(20..30));
    other.give();
    other.forbid("inbox/closed", 0);
    other.forbid("inbox/secret.jsonl", 0);
    check("unreadable", &other.sees(&["run", "--once"]));
    assert_eq!(place.rows("lake.events"), 10);
    other.forbid("inbox/closed", 0o755);
    other.forbid("inbox/secret.jsonl", 0o644);
    assert!(other.sees(&["run", "--once"]).starts_with("exit 0"));
    has_all(place, 30);
}

#[test]
fn what_may_not_be_written_is_named_and_nothing_is_lost() {
    let other = Unprivileged::new();
    let place = &other.place;
    place.write("inbox/a.jsonl", &lines(0..10));
    other.give();
    assert!(other.sees(&["run", "--once"]).starts_with("exit 0"));
    place.write("inbox/b.jsonl", &lines(10..20));
    other.give();
    for (name, what) in [("landing/events", "landing"), ("warehouse/events/_forebay", "warehouse"), ("inbox", "inbox")]
    {
        let open = fs::metadata(place.path(name)).unwrap().permissions();
        // The day's folder, not that of the stream, is what is written to.
        let closed: Vec<PathBuf> = folders(&place.path(name));
        closed.iter().for_each(|path| fs::set_permissions(path, fs::Permissions::from_mode(0o100)).unwrap());
        check(&format!("unwritable-{what}"), &other.sees(&["run", "--once"]));
        closed.iter().for_each(|path| fs::set_permissions(path, open.clone()).unwrap());
        if what == "inbox" {
            continue;
        }
        assert_eq!(place.rows("lake.events"), 10, "{what}");
    }
    assert!(other.sees(&["run", "--once"]).starts_with("exit 0"));
    has_all(place, 20);
}

/// A folder and all below it.
fn folders(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    let inner = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    all.extend(inner.flat_map(|path| folders(&path)));
    all
}

/// A small disk of its own in a folder of the place; unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        fs::create_dir(folder).unwrap();
        let options = format!("size={size},mode=755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder.to_owned()));
        }
        assert!(
            ["FOREBAY_REQUIRE_ALL", "FOREBAY_REQUIRE_DISK"].iter().all(|name| std::env::var_os(name).is_none()),
            "a small disk is required, and none can be mounted"
        );
        eprintln!("skipped, no small disk: only root may mount one");
        None
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// A small file, and one that the disk has no room for.
fn small_and_large(place: &Place) {
    place.write("inbox/a-small.jsonl", &lines(0..10));
    place.write("inbox/b-large.jsonl", &lines(10..100_000));
}

#[test]
fn a_landing_zone_that_is_full_is_told_and_goes_on_when_there_is_room() {
    let place = Place::with(PLAIN);
    let Some(disk) = SmallDisk::mount(&place.path("landing"), "1m") else { return };
    small_and_large(&place);
    // Whether the first schema was kept before the disk was full is chance.
    let seen = place.sees(&["run", "--once"]);
    let lines = seen.lines().filter(|line| !line.contains("binding the revision failed and is tried again"));
    check("full-landing", &lines.collect::<Vec<_>>().join("\n"));
    assert_eq!(place.rows("lake.events"), 10, "what found room is loaded");
    disk.grow("64m");
    place.run_well(&["run", "--once"]);
    has_all(&place, 100_000);
}

#[test]
fn a_warehouse_that_is_full_is_told_and_goes_on_when_there_is_room() {
    let place = Place::with(PLAIN);
    let Some(disk) = SmallDisk::mount(&place.path("warehouse"), "256k") else { return };
    small_and_large(&place);
    check("full-warehouse", &place.sees(&["run", "--once"]));
    assert_eq!(place.landed("b-large.jsonl").len(), 1, "raw data is not kept back");
    // A host that runs goes on by itself.
    let running = place.start();
    place.until("it is told", || place.log().contains("No space left on device"));
    disk.grow("64m");
    place.until("it goes on", || place.rows("lake.events") == 100_000);
    assert!(running.stop().success());
    has_all(&place, 100_000);
}

#[test]
fn a_ledger_whose_disk_is_full_is_told_and_goes_on_when_there_is_room() {
    let config = PLAIN.replace("sqlite:forebay.db", "sqlite:ledger/forebay.db");
    let place = Place::with(&config);
    let Some(disk) = SmallDisk::mount(&place.path("ledger"), "4m") else { return };
    let running = place.start();
    place.until("it runs", || place.log().contains("revision is active"));
    let fill = || fs::File::create(place.path("ledger/filler")).unwrap().write_all(&vec![0; 80 << 20]).unwrap_err();
    fill();
    for id in 0..300 {
        place.write(&format!("inbox/{id}.jsonl"), &lines(id..id + 1));
    }
    place.until("it is told", || place.log().contains("database or disk is full"));
    let log = place.log();
    let told = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let full = |line: &serde_json::Value| line.to_string().contains("database or disk is full");
    let line = told.into_iter().find(full).unwrap();
    let text = |key: &str| place.steady(line[key].as_str().unwrap_or("-"));
    // Which call finds it full first is chance.
    let error = text("error");
    let (ledger, rest) = error.split_once("forebay.db: ").unwrap();
    let (_, why) = rest.split_once(": ").unwrap();
    let told = format!("{} {ledger}forebay.db: [action]: {why}\nhint: {}\n", text("level"), text("hint"));
    check("full-ledger", &told);
    fs::remove_file(place.path("ledger/filler")).unwrap();
    disk.grow("64m");
    place.until("it goes on", || place.rows("lake.events") == 300);
    assert!(running.stop().success());
    has_all(&place, 300);
}
