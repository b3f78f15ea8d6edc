//! A table is dropped: its folder goes under another name first, so that whoever dies amid it leaves a table or none.

use std::path::Path;
use std::sync::Arc;

use forebay_model::ports::TableOwner;

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
        let Some(table) = self.load_table(name).await? else { return Ok(false) };
        let snapshot = table.snapshot().map_err(WarehouseError::delta("read", name))?;
        if owner(snapshot.metadata().configuration()).as_ref() != Some(of) {
            return Err(WarehouseError::Refused {
                table: name.to_owned(),
                what: format!("it is not pipeline {}'s, so it is not dropped", of.pipeline),
                hint: "look whose it is, and remove it by hand if nobody needs it",
            });
        }
        let (root, path, disk) = (self.root.clone(), self.table_path(name)?, Arc::clone(&self.options.disk));
        let aside = root.join(format!("{DROPPED}{name}-{}", self.options.random.uuid()));
        blocking(move || {
            disk.rename(&path, &aside).map_err(WarehouseError::io("drop", &path))?;
            disk.sync_folder(&root).map_err(WarehouseError::io("drop", &path))?;
            clear(&root)
        })
        .await?;
        self.folders.forget();
        Ok(true)
    }
}

/// Removes what was dropped; also by a process that died before it had.
fn clear(root: &Path) -> Result<(), WarehouseError> {
    for entry in std::fs::read_dir(root).map_err(WarehouseError::io("list", root))? {
        let entry = entry.map_err(WarehouseError::io("list", root))?;
        if entry.file_name().to_string_lossy().starts_with(DROPPED) {
            std::fs::remove_dir_all(entry.path()).map_err(WarehouseError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}
