//! The config: whatever a file holds, it is a config or a list of what is wrong, each with a place in the file.

use crate::config;

pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder");
    }
    FOLDER.with(|folder| {
        let path = folder.path().join(config::FILE_NAME);
        std::fs::write(&path, data).expect("written");
        let environment = |name: &str| name.len().is_multiple_of(2).then(|| name.to_lowercase());
        match config::load(&path, &environment) {
            Ok(config) => drop(config.tables()),
            Err(problems) => assert!(problems.iter().next().is_some_and(|problem| !problem.message.is_empty())),
        }
    });
}
