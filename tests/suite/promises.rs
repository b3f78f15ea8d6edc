//! `docs/promises.md` names tests: each of them is there.

use std::collections::BTreeMap;
use std::path::Path;

/// Each source below a folder of tests or of a crate: the name of its module, as the page writes it, and its text.
type Sources = BTreeMap<String, String>;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(folder: &Path, name: &str, sources: &mut Sources) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let stem = entry.file_stem().unwrap().to_str().unwrap();
        // A folder of the crate's own name, and the file that stands for its folder, say nothing.
        let below = if matches!(stem, "mod" | "main" | "lib") || stem == name {
            name.to_owned()
        } else {
            format!("{name}::{stem}")
        };
        if entry.is_dir() {
            read(&entry, &below, sources);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            *sources.entry(below).or_default() += &std::fs::read_to_string(&entry).unwrap();
        }
    }
}

fn sources() -> Sources {
    let mut sources = Sources::new();
    read(&root().join("tests/suite"), "suite", &mut sources);
    for room in std::fs::read_dir(root().join("host/crates")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = room.file_name().unwrap().to_str().unwrap();
        for folder in ["src", "tests"].map(|folder| room.join(folder)).iter().filter(|folder| folder.exists()) {
            read(folder, name, &mut sources);
        }
    }
    sources
}

/// Whether what stands in backticks on the page is there.
fn is_there(word: &str, sources: &Sources) -> bool {
    let has_fn = |text: &str, name: &str| text.contains(&format!("fn {name}("));
    if let Some(target) = word.strip_prefix("make ") {
        let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
        return makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
    }
    if word.contains('/') {
        return root().join(word).exists();
    }
    if let Some((point, _)) = word.split_once('@') {
        return sources.values().any(|text| text.contains(&format!("failpoint)(\"{point}\")")));
    }
    let path = word.trim_end_matches("::");
    if !word.contains("::") {
        let target = root().join(format!("fuzz/fuzz_targets/{word}.rs")).exists();
        return target || sources.values().any(|text| has_fn(text, word));
    }
    let is_module = sources.keys().any(|name| name == path || name.starts_with(&format!("{path}::")));
    let is_test =
        path.rsplit_once("::").is_some_and(|(module, test)| sources.get(module).is_some_and(|text| has_fn(text, test)));
    is_module || is_test
}

#[test]
fn each_test_that_the_page_names_is_there() {
    let page = std::fs::read_to_string(root().join("docs/promises.md")).unwrap();
    let sources = sources();
    // The first two lines say how names are written.
    let words: Vec<_> = page.split('`').skip(1).step_by(2).filter(|word| !matches!(*word, "suite" | "::")).collect();
    assert!(words.len() > 40, "the page names tests: {}", words.len());
    let missing: Vec<_> = words.into_iter().filter(|word| !is_there(word, &sources)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "named in docs/promises.md, and not in the sources");
    // What it says is there must be able to be missing.
    for word in [
        "make nothing",
        "suite::whole::nowhere::",
        "suite::whole::kills::nothing",
        "no_test",
        "no_point@2",
        "docs/nowhere.md",
    ] {
        assert!(!is_there(word, &sources), "{word}");
    }
}
