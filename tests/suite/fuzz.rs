//! Each fuzz target over its seeds, cut short and changed: so that none of them rots between two runs of the fuzzer.

use std::path::Path;

/// The names of what is in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn each_target_takes_its_seeds_whole_and_broken() {
    let fuzz = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"));
    let all: Vec<_> = fuzz_targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz.join("fuzz_targets")), all, "each is run here");
    for (name, target) in fuzz_targets::ALL {
        let folder = fuzz.join("seeds").join(name);
        let seeds: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!seeds.is_empty(), "{name} has no seed");
        for seed in seeds {
            let bytes = std::fs::read(seed).unwrap();
            target(&bytes);
            // Where it breaks and how: a hundred places are enough for a test, the fuzzer has the others.
            for place in (0..bytes.len()).step_by(bytes.len() / 100 + 1) {
                target(&bytes[..place]);
                let mut changed = bytes.clone();
                changed[place] ^= 1 << (place % 8);
                target(&changed);
            }
        }
    }
}
