//! A table is dropped: its folder goes under another name first, so that whoever dies amid it leaves a table or none.

use std::path::Path;
use std::sync::Arc;

use forebay_model::ports::TableOwner;

use super::log::OWN_FOLDER;
use super::table::owner;
use super::{DeltaWarehouse, blocking};
use crate::error::WarehouseError;

/// What the names of folders begin with that are on their way out.
const DROPPED: &str = ".dropped-";

impl DeltaWarehouse {
    pub(super) async fn drop_owned(&self, name: &str, of: &TableOwner) -> Result<bool, WarehouseError> {
        let slot = self.slot(name);
        let mut state = slot.lock().await;
        // Another process may have dropped it, and made another.
        *state = None;
        let (root, path, disk) = (self.root.clone(), self.table_path(name)?, Arc::clone(&self.options.disk));
        let Some(table) = self.load_table(name).await? else {
            // Files that were staged for a first load, and what a process that died had not removed yet.
            blocking(move || {
                if has_nothing_else(&path) {
                    std::fs::remove_dir_all(&path).map_err(WarehouseError::io("remove", &path))?;
                }
                clear(&root, &name_of(&path))
            })
            .await?;
            self.folders.forget();
            return Ok(false);
        };
        let snapshot = table.snapshot().map_err(WarehouseError::delta("read", name))?;
        if owner(snapshot.metadata().configuration()).as_ref() != Some(of) {
            return Err(WarehouseError::Refused {
                table: name.to_owned(),
                what: format!("it is not pipeline {}'s, so it is not dropped", of.pipeline),
                hint: "look whose it is, and remove it by hand if nobody needs it",
            });
        }
        let aside = root.join(format!("{DROPPED}{name}-{}", self.options.random.uuid().simple()));
        let failpoint = self.options.failpoint;
        blocking(move || {
            disk.rename(&path, &aside).map_err(WarehouseError::io("drop", &path))?;
            disk.sync_folder(&root).map_err(WarehouseError::io("drop", &path))?;
            failpoint("amid_drop");
            clear(&root, &name_of(&path))
        })
        .await?;
        self.folders.forget();
        Ok(true)
    }
}

/// Removes what was dropped of a table, also by a process that died before it had. Of others nothing: they may be on their way.
fn clear(root: &Path, table: &str) -> Result<(), WarehouseError> {
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(WarehouseError::io("list", root))?,
    };
    for entry in entries {
        let entry = entry.map_err(WarehouseError::io("list", root))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let of_table = name.strip_prefix(DROPPED).and_then(|rest| rest.rsplit_once('-'));
        if of_table.is_some_and(|(of, _)| of == table) {
            std::fs::remove_dir_all(entry.path()).map_err(WarehouseError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Whether a folder is there and holds forebay's own data files alone.
fn has_nothing_else(folder: &Path) -> bool {
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name().to_str() == Some(OWN_FOLDER)))
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
