//! What a module says of itself to `describe`, checked: its name is one that forebay's stores can hold, and texts have bounds.

use std::collections::BTreeSet;

use forebay_model::ids::ModuleName;
use forebay_model::ports::Description;

use crate::said::{SelfDescription, cut};

const TEXT_BYTES: usize = 64 << 10;
const VERSION_BYTES: usize = 64;
const ASSETS: usize = 64;

/// The description, or what is wrong with it.
pub(crate) fn check(said: SelfDescription) -> Result<Description, String> {
    let SelfDescription { name, version, doc, config_schema, assets } = said;
    let name = ModuleName::new(cut(&name, 128)).map_err(|error| error.to_string())?;
    if version.len() > VERSION_BYTES || version.chars().any(char::is_control) {
        return Err(format!("its version is longer than {VERSION_BYTES} bytes or has control characters"));
    }
    if doc.len() > TEXT_BYTES || config_schema.len() > TEXT_BYTES {
        return Err(format!("its doc or config-schema is longer than {TEXT_BYTES} bytes"));
    }
    let config_schema: serde_json::Value =
        serde_json::from_str(&config_schema).map_err(|error| format!("its config-schema is not JSON: {error}"))?;
    if !(config_schema.is_object() || config_schema.is_boolean()) {
        return Err("its config-schema is not a JSON Schema: neither an object nor a boolean".into());
    }
    if assets.len() > ASSETS {
        return Err(format!("it wants {} assets, more than {ASSETS}", assets.len()));
    }
    let mut names = BTreeSet::new();
    for asset in &assets {
        let fits = (1..=128).contains(&asset.name.len()) && !asset.name.chars().any(char::is_control);
        if !fits || asset.doc.len() > TEXT_BYTES {
            return Err(format!("the name or doc of its asset {:?} is empty or too long", cut(&asset.name, 80)));
        }
        if !names.insert(asset.name.as_str()) {
            return Err(format!("it wants two assets named {:?}", asset.name));
        }
    }
    Ok(Description { name, version, doc, config_schema, assets })
}
