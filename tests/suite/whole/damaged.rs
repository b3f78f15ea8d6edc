//! Files that somebody or a disk damaged, found while the host starts or runs: each costs what needs it, is named with what to do, and
//! brings nothing down. What has landed stays as it came.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::seen::{PLAIN, check};
use super::support::{Place, payments};

/// All files below a folder of the place, relative to it.
fn files(place: &Place, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let root = place.path("");
    let (mut found, mut folders) = (BTreeMap::new(), vec![place.path(folder)]);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(&root).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The files whose paths hold a text, in order.
fn named(place: &Place, folder: &str, part: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = files(place, folder).into_keys().collect();
    found.retain(|path| path.to_str().unwrap().contains(part));
    assert!(!found.is_empty(), "there is no {part} in {folder}");
    found
}

/// Two files, loaded one after the other.
fn with_history() -> Place {
    let place = Place::new();
    for (name, ids) in [("a", 0..100), ("b", 100..200)] {
        place.write(&format!("inbox/{name}.jsonl"), &payments(ids));
        place.run_well(&["run", "--once"]);
    }
    place
}

/// How a file is damaged.
#[derive(Clone, Copy)]
enum Damage {
    Scrambled,
    Halved,
    Emptied,
}

const DAMAGES: [(Damage, &str); 3] =
    [(Damage::Scrambled, "scrambled"), (Damage::Halved, "halved"), (Damage::Emptied, "emptied")];

fn damage(path: &Path, how: Damage) {
    let mut bytes = std::fs::read(path).unwrap();
    match how {
        // As long as it was, and nothing of it is right.
        Damage::Scrambled => bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31) ^ 0xa5),
        Damage::Halved => bytes.truncate(bytes.len() / 2),
        Damage::Emptied => bytes.clear(),
    }
    std::fs::write(path, bytes).unwrap();
}

/// What a run says where a file is damaged; a file more has come. Objects of the zone stay as they are.
fn run_with(place: &Place, told: &mut String, what: &str, verbs: &[&[&str]]) {
    place.write("inbox/c.jsonl", &payments(200..300));
    let before = files(place, "landing");
    let folder = place.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    for verb in verbs {
        // DataFusion's paths have no slash in front.
        let seen = place.sees(verb).replace(folder, "[place]").replace(&folder[1..], "[place]");
        writeln!(told, "# {what}: {}\n{seen}\n", verb.join(" ")).unwrap();
    }
    let after = files(place, "landing");
    for (path, bytes) in before {
        assert_eq!(after.get(&path), Some(&bytes), "{what}: {} is not as it was", path.display());
    }
}

fn no_panic(told: &str) {
    assert!(!told.contains("panicked") && !told.contains("exit 101") && !told.contains("signal"), "{told}");
}

#[test]
fn an_entry_of_a_tables_log_that_is_damaged_is_named() {
    let mut told = String::new();
    for (how, name) in DAMAGES {
        let place = with_history();
        // Not the last: that is moved aside, and committed again.
        damage(&place.path(named(&place, "warehouse/payments/_delta_log", "00.json")[0].to_str().unwrap()), how);
        run_with(&place, &mut told, name, &[&["run", "--once"]]);
    }
    no_panic(&told);
    check("damaged-log", &told);
}

#[test]
fn a_checkpoint_that_is_damaged_is_named() {
    let mut told = String::new();
    for (how, name) in DAMAGES {
        let place = with_history();
        // Any Parquet file but a checkpoint, and what remains of it.
        let data = place.path(named(&place, "warehouse/payments/_forebay", ".parquet")[0].to_str().unwrap());
        let log = place.path("warehouse/payments/_delta_log");
        let checkpoint = log.join("00000000000000000001.checkpoint.parquet");
        std::fs::copy(data, &checkpoint).unwrap();
        damage(&checkpoint, how);
        std::fs::write(log.join("_last_checkpoint"), r#"{"version":1,"size":4}"#).unwrap();
        run_with(&place, &mut told, name, &[&["run", "--once"]]);
    }
    no_panic(&told);
    check("damaged-checkpoint", &told);
}

#[test]
fn a_data_file_that_is_damaged_is_named_where_it_is_read_and_loads_go_on() {
    let mut told = String::new();
    for (how, name) in DAMAGES {
        let place = with_history();
        damage(&place.path(named(&place, "warehouse/payments/_forebay", ".parquet")[0].to_str().unwrap()), how);
        let sum = ["query", "SELECT sum(\"Amount\") AS amount FROM lake.payments"];
        run_with(&place, &mut told, name, &[&["run", "--once"], &sum, &["maintain", "--table", "lake.payments"]]);
        assert_eq!(place.number("SELECT sum(loaded) FROM ledger.refinements WHERE state = 'loaded'"), 300);
        place.adds_up();
    }
    no_panic(&told);
    check("damaged-data", &told);
}

#[test]
fn an_envelope_that_is_damaged_fails_its_segments_and_loads_once_it_is_whole() {
    let config = "[landing]\nurl = \"landing\"\n[ledger]\nurl = \"sqlite:forebay.db\"\n[modules]\nwatch = \"modules\"\n\
                  [warehouses.lake]\ntype = \"delta\"\nurl = \"warehouse\"\n[streams.auctions]\n\
                  source = { type = \"generator\", events = 300, partitions = 1 }\nformat = \"json\"\n\
                  [pipelines.auctions]\nfrom = \"auctions\"\nroutes = { out = \"lake.auctions\" }\n";
    let mut told = String::new();
    for (how, name) in DAMAGES {
        let place = Place::with(config);
        place.dies_at("before_acknowledge", &["run", "--once"]);
        let envelope = place.path(named(&place, "landing", ".parquet")[0].to_str().unwrap());
        let whole = std::fs::read(&envelope).unwrap();
        damage(&envelope, how);
        run_with(&place, &mut told, name, &[&["run", "--once"]]);
        writeln!(told, "{}", place.failures()).unwrap();
        place.adds_up();
        std::fs::write(&envelope, whole).unwrap();
        place.run_well(&["run", "--once"]);
        assert_eq!(place.rows("lake.auctions"), 300);
        place.adds_up();
    }
    no_panic(&told);
    check("damaged-envelope", &told);
}

#[test]
fn a_revision_or_a_module_that_was_kept_and_is_damaged_is_named() {
    let mut told = String::new();
    for (how, name) in DAMAGES {
        let place = with_history();
        damage(&place.path(named(&place, "landing", "modules/")[0].to_str().unwrap()), how);
        run_with(&place, &mut told, &format!("module {name}"), &[&["run", "--once"]]);
        let place = with_history();
        damage(&place.path(named(&place, "landing", "revisions/")[0].to_str().unwrap()), how);
        run_with(&place, &mut told, &format!("revision {name}"), &[&["run", "--once"]]);
        place.remove_ledger();
        writeln!(told, "# revision {name}: recover\n{}\n", place.sees(&["recover"])).unwrap();
    }
    no_panic(&told);
    check("damaged-kept", &told);
}

#[test]
fn a_zone_whose_identity_is_damaged_is_not_taken_for_another() {
    let mut told = String::new();
    for (how, name) in DAMAGES {
        let place = with_history();
        let identity = named(&place, "landing/_forebay", "zone");
        damage(&place.path(identity[0].to_str().unwrap()), how);
        run_with(&place, &mut told, name, &[&["run", "--once"], &["recover", "--replace"]]);
    }
    no_panic(&told);
    check("damaged-zone", &told);
}

/// As long as it was, and one byte is another: of text, and of what is compressed.
fn change_a_byte(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// What becomes of a file, and its name.
type Fate = (&'static str, fn(&Path));

/// What becomes of an object in the zone between its landing and its refining.
const FATES: [Fate; 4] = [
    ("changed", change_a_byte),
    ("cut", |path| damage(path, Damage::Halved)),
    ("emptied", |path| damage(path, Damage::Emptied)),
    ("missing", |path| std::fs::remove_file(path).unwrap()),
];

/// The same records in each way that a file may come, with the end of its name.
fn ways(text: &str) -> [(&'static str, Vec<u8>); 3] {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    [
        ("jsonl", text.as_bytes().to_vec()),
        ("jsonl.gz", gzip.finish().unwrap()),
        ("jsonl.zst", zstd::encode_all(text.as_bytes(), 1).unwrap()),
    ]
}

#[test]
fn an_object_that_is_damaged_fails_its_segment_in_a_host_that_goes_on_and_loads_once_it_is_whole() {
    let place = Place::with(PLAIN);
    let mut ids = 0..;
    for (name, _) in FATES {
        for (end, _) in ways("") {
            let first = ids.next().unwrap() * 100;
            let (_, bytes) = ways(&payments(first..first + 100)).into_iter().find(|(of, _)| *of == end).unwrap();
            place.write_bytes(&format!("inbox/{name}.{end}"), &bytes);
        }
    }
    place.write("inbox/good.jsonl", &payments(2_000..2_100));
    // They land, and nothing refines them yet.
    place.dies_at("before_acknowledge", &["run", "--once"]);
    assert_eq!(place.number("SELECT count(*) FROM ledger.segments"), 13);
    let whole = files(&place, "landing");
    for (name, change) in FATES {
        for object in named(&place, "landing/events", &format!("-{name}.jsonl")) {
            change(&place.path(object.to_str().unwrap()));
        }
    }
    let mut running = place.start();
    place.write("inbox/later.jsonl", &payments(2_100..2_200));
    place.until("what is whole is loaded", || place.rows("lake.events") == 200);
    let failed = "SELECT count(*) FROM ledger.refinements WHERE state = 'failed'";
    place.until("what is damaged has failed", || place.number(failed) == 12);
    check("damaged-object", &place.failures());
    place.write("inbox/last.jsonl", &payments(2_200..2_300));
    place.until("it goes on", || place.rows("lake.events") == 300);
    assert!(running.is_alive(), "{}", place.log());
    no_panic(&place.log());
    assert!(running.stop().success());
    for (path, bytes) in whole {
        std::fs::write(place.path(path.to_str().unwrap()), bytes).unwrap();
    }
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.events"), 1_500);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.events"), 1_500);
    place.adds_up();
}
