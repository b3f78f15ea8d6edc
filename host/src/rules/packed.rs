//! Cases that a module carries: the same files as in `cases/`, in a custom section of the component.
//!
//! `forebay build` packs them, and whoever takes the module runs them: a deployment that does not pass its own cases is refused. What
//! stands in the section is as hostile as the rest of a module: it is bounded before it is unpacked, and nothing of it is written
//! to a disk.
//!
//! | in the section | |
//! |---|---|
//! | one byte | the version of what follows, 1 |
//! | one zstd frame | the number of files, and each as path and content, in postcard's encoding, sorted by path |
//!
//! The same cases give the same bytes, so the module's digest depends on its code and its cases alone.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use forebay_sandbox::{SectionError, cases_section, with_cases_section};
use forebay_sdk::testing::case::{Case, CaseFiles, InputFormat};

use crate::cli::{counted, thousands};
use crate::config::format_bytes;

/// The version of the archive.
const VERSION: u8 = 1;
/// Cases of a module.
const MOST_CASES: usize = 256;
/// Files of all of them.
const MOST_FILES: usize = 4_096;
/// Bytes of all files: a case is a few rows that a person can read, and all of it is held at once when it is run.
const MOST_BYTES: usize = 8_000_000;
/// Bytes of the section.
const MOST_PACKED: usize = 4_000_000;
/// As much as [`MOST_BYTES`] needs: a frame that wants a larger window is refused before it is given memory.
const WINDOW_LOG: u32 = 23;
/// Modules are packed seldom, and read often.
const LEVEL: i32 = 19;

/// Cases, packed.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    /// Their names.
    pub(crate) cases: Vec<String>,
    /// Files of all of them.
    pub(crate) files: usize,
    /// Bytes of the files.
    pub(crate) bytes: usize,
    /// What stands in the section; nothing where there is no case.
    pub(crate) section: Vec<u8>,
    /// Cases that are not packed, with why.
    pub(crate) left_out: Vec<(String, String)>,
}

/// What is wrong with cases that are to be packed, or with a section.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackedError {
    #[error("{0}")]
    Section(#[from] SectionError),
    #[error("{0}")]
    Broken(String),
}

fn broken<T>(what: impl Into<String>) -> Result<T, PackedError> {
    Err(PackedError::Broken(what.into()))
}

/// Packs the cases of a folder. One that cannot pass yet, since nothing is expected of it, is left out.
///
/// # Errors
/// Where they are more than a module may carry.
pub(crate) fn pack(folder: &Path) -> Result<Packed, PackedError> {
    let mut packed = Packed::default();
    let mut all = CaseFiles::new();
    for case in Case::folders(folder).unwrap_or_default() {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = match Case::files(&case).and_then(|files| Case::of(&case, files.clone()).map(|case| (case, files)))
        {
            Ok((Case { format: InputFormat::Parquet, .. }, _)) => {
                packed.left_out.push((name, "input.parquet is not packed: `forebay test` runs it".to_owned()));
                continue;
            }
            Ok((Case { expected: Some(_), .. }, files)) => files,
            Ok((Case { expected: None, .. }, _)) => {
                let why = "nothing is expected of it yet: `forebay test --update` writes what comes out";
                packed.left_out.push((name, why.to_owned()));
                continue;
            }
            Err(error) => {
                packed.left_out.push((name, error.to_string()));
                continue;
            }
        };
        all.extend(files.into_iter().map(|(path, content)| (format!("{name}/{path}"), content)));
        packed.cases.push(name);
    }
    if packed.cases.is_empty() {
        return Ok(packed);
    }
    packed.files = all.len();
    packed.bytes = all.values().map(Vec::len).sum();
    within("cases", packed.cases.len(), MOST_CASES)?;
    within("files", packed.files, MOST_FILES)?;
    if packed.bytes > MOST_BYTES {
        return broken(too_large(packed.bytes, MOST_BYTES));
    }
    all.keys().try_for_each(|path| place(path).map(drop))?;
    packed.section = archive(&all)?;
    if packed.section.len() > MOST_PACKED {
        return broken(format!("packed {}", too_large(packed.section.len(), MOST_PACKED)));
    }
    Ok(packed)
}

fn archive(files: &CaseFiles) -> Result<Vec<u8>, PackedError> {
    let mut plain = encoded(&files.len())?;
    for file in files {
        plain.extend(encoded(&file)?);
    }
    let frame = zstd::bulk::compress(&plain, LEVEL).map_err(|error| PackedError::Broken(error.to_string()))?;
    Ok([&[VERSION], frame.as_slice()].concat())
}

fn encoded<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, PackedError> {
    postcard::to_allocvec(value).map_err(|error| PackedError::Broken(error.to_string()))
}

fn within(what: &str, count: usize, most: usize) -> Result<(), PackedError> {
    if count <= most {
        return Ok(());
    }
    broken(format!(
        "there are {} {what}, and a module carries at most {}",
        thousands(count as u64),
        thousands(most as u64)
    ))
}

fn too_large(bytes: usize, most: usize) -> String {
    format!("they are {}, and a module carries at most {}", format_bytes(bytes as u64), format_bytes(most as u64))
}

/// The module with these cases; as it was where there are none.
///
/// # Errors
/// Where it is no component.
pub(crate) fn into_module(wasm: &[u8], packed: &Packed) -> Result<Vec<u8>, PackedError> {
    if packed.section.is_empty() {
        return Ok(wasm.to_vec());
    }
    Ok(with_cases_section(wasm, &packed.section)?)
}

/// Cases that a module carries.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// By name.
    pub(crate) cases: Vec<Case>,
    /// Bytes of the section.
    pub(crate) bytes: usize,
}

impl Carried {
    /// `2 cases, 1.2 KiB: first, late`, for people.
    pub(crate) fn told(&self) -> String {
        let Self { cases, bytes } = self;
        if cases.is_empty() {
            return "none".to_owned();
        }
        let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
        let count = counted(cases.len() as u64, "case");
        format!("{count}, {} packed: {}", format_bytes(*bytes as u64), names.join(", "))
    }

    /// The names.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.cases.iter().map(|case| case.name.as_str()).collect()
    }
}

/// The cases that a module carries; none where it has no section of them.
///
/// # Errors
/// Where the section is none that [`pack`] could have made.
pub(crate) fn carried(wasm: &[u8]) -> Result<Carried, PackedError> {
    let Some(section) = cases_section(wasm)? else { return Ok(Carried::default()) };
    let cases = unpack(section)?;
    Ok(Carried { cases, bytes: section.len() })
}

fn unpack(section: &[u8]) -> Result<Vec<Case>, PackedError> {
    if section.len() > MOST_PACKED {
        return broken(format!("packed {}", too_large(section.len(), MOST_PACKED)));
    }
    let frame = match section.split_first() {
        Some((&VERSION, frame)) => frame,
        Some((version, _)) => {
            return broken(format!("they are packed in version {version}, and this forebay reads version {VERSION}"));
        }
        None => return broken("the section is empty"),
    };
    let plain = decompress(frame)?;
    let cut = |_| PackedError::Broken("the archive is cut off or damaged".to_owned());
    let (count, mut rest) = postcard::take_from_bytes::<usize>(&plain).map_err(cut)?;
    within("files", count, MOST_FILES)?;
    let mut cases: BTreeMap<String, CaseFiles> = BTreeMap::new();
    for _ in 0..count {
        let ((path, content), after) = postcard::take_from_bytes::<(&str, &[u8])>(rest).map_err(cut)?;
        rest = after;
        let (case, file) = place(path)?;
        if cases.entry(case.to_owned()).or_default().insert(file.to_owned(), content.to_vec()).is_some() {
            return broken(format!("the file {path:?} is there twice"));
        }
    }
    if !rest.is_empty() {
        return broken("the archive goes on after its last file");
    }
    within("cases", cases.len(), MOST_CASES)?;
    let case = |(name, files): (String, CaseFiles)| {
        let wrong = |error| PackedError::Broken(format!("case {name}: {error}"));
        match Case::of(&PathBuf::from(&name), files).map_err(wrong)? {
            // Its reader asks for as much memory as a file says.
            Case { format: InputFormat::Parquet, .. } => broken(format!("case {name}: a module carries no Parquet")),
            case => Ok(case),
        }
    };
    cases.into_iter().map(case).collect()
}

/// What the frame holds, and never more than may be.
fn decompress(frame: &[u8]) -> Result<Vec<u8>, PackedError> {
    let damaged = |error: std::io::Error| PackedError::Broken(format!("the section is no archive of cases: {error}"));
    let mut decoder = zstd::Decoder::with_buffer(frame).map_err(damaged)?.single_frame();
    decoder.window_log_max(WINDOW_LOG).map_err(damaged)?;
    let mut plain = Vec::new();
    // Beside the contents there are paths.
    let most = 2 * MOST_BYTES;
    decoder.by_ref().take(most as u64 + 1).read_to_end(&mut plain).map_err(damaged)?;
    if plain.len() > most {
        return broken(format!("unpacked they are more than {}", format_bytes(MOST_BYTES as u64)));
    }
    if !decoder.finish().is_empty() {
        return broken("the section goes on after its archive");
    }
    Ok(plain)
}

/// The case that a path is of, and the file's path below its folder: never anywhere else.
fn place(path: &str) -> Result<(&str, &str), PackedError> {
    let name = |part: &str| !(part.is_empty() || part == "." || part == ".." || part.contains('\\'));
    let parts: Vec<_> = path.split('/').collect();
    let well = !path.chars().any(char::is_control)
        && match parts.as_slice() {
            [case, file] => name(case) && name(file),
            [case, "expected", ""] => name(case),
            [case, "assets" | "expected", file] => name(case) && name(file),
            _ => false,
        };
    match path.split_once('/').filter(|_| well) {
        Some(parts) => Ok(parts),
        None => broken(format!("{path:?} is no file of a case")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
