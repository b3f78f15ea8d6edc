//! `forebay init`: a commented config to begin with.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Exit, Failure, Global, show};
use crate::config;

/// Write a commented config, ready to run, into a folder.
///
/// The config lands what is put into the folder `inbox`, and loads it into the table `lake.events` as it is. `inbox`, and
/// `modules` for rules, are made beside it. A config that is there already stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay init                  here
  forebay init payments         in the folder payments, which is made where it is not there")]
pub(super) struct InitArgs {
    /// The folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// What is written.
const TEMPLATE: &str = include_str!("init.toml");

pub(super) fn init(global: &Global, args: &InitArgs) -> anyhow::Result<Exit> {
    let InitArgs { folder } = args;
    let cannot = |what: &str, error: &std::io::Error| {
        Failure::new(Exit::Failed, format!("{what} cannot be written: {error}"))
            .with_hint("give a folder that this user may write to")
    };
    std::fs::create_dir_all(folder).map_err(|error| cannot(&folder.display().to_string(), &error))?;
    for made in ["inbox", "modules"] {
        let made = folder.join(made);
        std::fs::create_dir_all(&made).map_err(|error| cannot(&made.display().to_string(), &error))?;
    }
    // Here is where nobody needs to be told of.
    let here = folder.as_os_str() == ".";
    let folder = if here { Path::new("") } else { folder };
    let file = folder.join(config::FILE_NAME);
    let shown = file.display().to_string();
    let written = std::fs::File::create_new(&file).and_then(|mut file| {
        file.write_all(TEMPLATE.as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let failure = Failure::new(Exit::Usage, format!("{shown} is there already, and stays as it is"));
            return Err(failure.with_hint("`forebay init FOLDER` writes one elsewhere").into());
        }
        Err(error) => return Err(cannot(&shown, &error).into()),
    }
    if global.json() {
        show::object(&json!({ "config": shown }))?;
    } else {
        let config = if here { String::new() } else { format!(" -c {shown}") };
        show::line(&format!(
            "wrote {shown}\nnext: put CSV or JSON lines into {}, then `forebay run --once{config}`",
            folder.join("inbox").display()
        ))?;
    }
    Ok(Exit::Ok)
}
