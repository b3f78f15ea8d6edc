//! Compiled modules on disk: used when they are whole, deleted and made again when they are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use forebay_model::ports::ModuleLoader as _;
use forebay_sandbox::{Sandbox, SandboxOptions};

use crate::support::{bound, instance, rows, wasm};

fn sandbox(folder: &Path) -> Sandbox {
    Sandbox::new(SandboxOptions { cache_dir: Some(folder.into()), ..Default::default() }).unwrap()
}

/// Loads and calls a module, and says which file is kept, and what is in it.
fn load(folder: &Path) -> (PathBuf, Vec<u8>, Duration) {
    let began = Instant::now();
    let module = sandbox(folder).load(wasm("evil")).unwrap();
    let took = began.elapsed();
    instance(&bound(&module, "identity")).process(&rows(8)).unwrap();
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    (file.clone(), fs::read(file).unwrap(), took)
}

#[test]
fn a_damaged_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (file, good, compiled) = load(folder.path());
    let (_, again, cached) = load(folder.path());
    assert_eq!(again, good);
    assert!(cached < compiled / 2, "compiled in {compiled:?}, from the cache in {cached:?}");

    let middle = good.len() / 2;
    let damaged: [(&str, Vec<u8>); 7] = [
        ("empty", Vec::new()),
        ("only its first bytes", good[..20].to_vec()),
        ("half of it", good[..middle].to_vec()),
        ("without its last byte", good[..good.len() - 1].to_vec()),
        ("one bit of the code", flipped(&good, middle)),
        ("one bit of the checksum", flipped(&good, 20)),
        ("another version", flipped(&good, 14)),
    ];
    for (what, content) in damaged {
        fs::write(&file, content).unwrap();
        let (_, healed, _) = load(folder.path());
        assert!(healed == good, "{what}: the file is not whole again");
    }

    // A whole file under another module's name.
    let other = file.with_file_name(file.file_name().unwrap().to_str().unwrap().replacen(|_| true, "0", 1));
    fs::rename(&file, &other).unwrap();
    let module = sandbox(folder.path()).load(wasm("evil")).unwrap();
    assert!(file.exists(), "{module:?}");
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 4;
    bytes
}

#[test]
fn a_folder_that_cannot_be_written_costs_only_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    fs::write(&file, "").unwrap();
    let module = sandbox(&file).load(wasm("evil")).unwrap();
    instance(&bound(&module, "identity")).process(&rows(8)).unwrap();
}
