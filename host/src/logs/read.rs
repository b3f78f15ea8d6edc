//! The reader's side: what two files hold, then what comes.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};

use forebay_model::Timestamp;

use super::{Files, Level, Line};

/// The longest line that is read; a longer one is none of ours.
const LINE_BYTES: u64 = 1 << 20;

/// Which lines.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Of this module only.
    pub(crate) module: Option<String>,
    /// This loud or louder.
    pub(crate) level: Level,
    /// Said since then.
    pub(crate) since: Option<Timestamp>,
}

impl Wanted {
    fn holds(&self, line: &Line) -> bool {
        let Self { module, level, since } = self;
        let of = module.as_ref().is_none_or(|module| *module == line.module);
        of && line.level >= *level && since.is_none_or(|since| line.at >= since)
    }
}

/// Reads on from where it was, also when the files have changed places.
#[derive(Debug)]
pub(crate) struct Follower {
    files: Files,
    wanted: Wanted,
    open: Option<(BufReader<File>, u64)>,
    began: bool,
}

impl Follower {
    /// From the oldest line.
    pub(crate) fn new(files: Files, wanted: Wanted) -> Self {
        Self { files, wanted, open: None, began: false }
    }

    /// Hands over what is there and was not read before.
    ///
    /// # Errors
    /// Where a file cannot be read; one that is not there holds nothing.
    pub(crate) fn read(&mut self, each: &mut dyn FnMut(Line)) -> io::Result<()> {
        if !std::mem::replace(&mut self.began, true)
            && let Some(former) = open(&self.files.former())?
        {
            self.open = Some((former, 0));
            self.rest(each)?;
            self.open = None;
        }
        loop {
            self.rest(each)?;
            let moved = match (&self.open, std::fs::metadata(self.files.current())) {
                (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                (_, Err(error)) => return Err(error),
                (None, Ok(_)) => true,
                // The file that was read has become the former one.
                (Some((_, read)), Ok(current)) => current.len() < *read,
            };
            if !moved {
                return Ok(());
            }
            // What came before it moved.
            self.rest(each)?;
            self.open = open(&self.files.current())?.map(|file| (file, 0));
            if self.open.is_none() {
                return Ok(());
            }
        }
    }

    fn rest(&mut self, each: &mut dyn FnMut(Line)) -> io::Result<()> {
        let Some((reader, read)) = &mut self.open else { return Ok(()) };
        loop {
            let mut bytes = Vec::new();
            let taken = io::Read::take(&mut *reader, LINE_BYTES).read_until(b'\n', &mut bytes)?;
            if taken == 0 {
                return Ok(());
            }
            if !bytes.ends_with(b"\n") && (taken as u64) < LINE_BYTES {
                // Half a line: the rest may come.
                reader.seek(SeekFrom::Start(*read))?;
                return Ok(());
            }
            *read = read.saturating_add(taken as u64);
            if let Ok(line) = serde_json::from_slice::<Line>(&bytes)
                && self.wanted.holds(&line)
            {
                each(line);
            }
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
