//! Records of production's raw data, as the input of a case.
//!
//! They are decoded as their stream is; the step's config and assets are those of the pipeline that uses the rule. The landing zone
//! and the ledger are only read. Values of masked columns are replaced: the same value by the same word or number, so that what
//! belongs together still does, and nothing is left of the value.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use arrow::datatypes::DataType;
use forebay_model::ids::ModuleName;
use forebay_model::{Error, SegmentId};
use forebay_pipeline::decoding::open_segment;
use forebay_sdk::testing::case::{Case, InputFormat};
use serde_json::{Value, json};

use super::cases;
use crate::assemble::{self, Access};
use crate::cli::{Exit, Failure, find_segment};
use crate::config::Config;
use crate::query::Lake;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The segment's id, or the beginning of it.
    pub(crate) segment: &'a str,
    /// At most so many of its first records.
    pub(crate) records: usize,
    /// Columns whose values are replaced.
    pub(crate) mask: &'a [String],
}

/// Records that were taken.
#[derive(Debug)]
pub(crate) struct Taken {
    /// A case of them, in no folder yet.
    pub(crate) case: Case,
    /// The segment's whole id.
    pub(crate) segment: String,
    /// Whose config and assets these are: `pipeline fraud, step fraud`. `None` where no step of the stream's pipelines uses the rule.
    pub(crate) step: Option<String>,
    /// Records that decoding refused; they are left out.
    pub(crate) malformed: u64,
}

/// Takes records of a segment.
///
/// # Errors
/// Where there is no such segment, it cannot be read, or a masked column is not there.
pub(crate) async fn take(config: Config, wanted: Wanted<'_>, module: &ModuleName) -> anyhow::Result<Taken> {
    let lake = Lake::open(config).await?;
    let id = find_segment(&lake, wanted.segment).await?;
    let stores = lake.stores();
    let segment = stores.ledger.segment(&SegmentId::from_text(&id)).await?;
    let segment = segment.ok_or_else(|| Error::bug(format!("segment {id} is not listed")))?;
    let stream = stores.config.streams.get(&segment.stream).ok_or_else(|| {
        Error::operator(format!("stream {} is not in the config any more", segment.stream))
            .with_hint(format!("add [streams.{}] to read its segments", segment.stream))
    })?;
    let (zone, decoding) = (assemble::open_zone(&stores.config, Access::Read)?, assemble::open_decoding(stream)?);
    let open = || open_segment(zone.as_ref(), decoding.as_ref(), &segment);
    let format = decoding.format(&segment.format)?;
    let schema = format.infer(vec![open()?])?.ok_or_else(|| Error::operator(format!("segment {id} has no columns")))?;
    let mut decoder = format.open(open()?, &schema)?;
    let (mut rows, mut malformed) = (Vec::new(), 0);
    while rows.len() < wanted.records
        && let Some(decoded) = decoder.next_batch()?
    {
        malformed += decoded.rejects.len() as u64;
        let batch = decoded.batch.slice(0, decoded.batch.num_rows().min(wanted.records - rows.len()));
        rows.extend(cases::json_rows(&batch).map_err(Error::bug)?);
    }
    for column in wanted.mask {
        let Ok(field) = schema.field_with_name(column) else {
            let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let failure = Failure::new(Exit::Usage, format!("--mask: the segment has no column {column:?}"));
            return Err(failure.with_hint(format!("there is {}", names.join(", "))).into());
        };
        mask(&mut rows, column, field.data_type());
    }
    let steps = stores.config.written().filter(|(_, pipeline)| pipeline.from == segment.stream);
    let step = steps
        .flat_map(|(name, pipeline)| pipeline.steps.iter().map(move |step| (name, step)))
        .find(|(_, step)| step.module == *module);
    let mut assets = BTreeMap::new();
    for (name, path) in step.iter().flat_map(|(_, step)| &step.assets) {
        let content = std::fs::read(path)
            .map_err(|error| Error::operator(format!("asset {} cannot be read", path.display())).with_source(error))?;
        assets.insert(name.clone(), content);
    }
    let case = Case {
        name: id.clone(),
        folder: std::path::PathBuf::new(),
        format: InputFormat::Json,
        input: rows.iter().map(|row| format!("{row}\n")).collect::<String>().into_bytes(),
        config: step.map_or_else(|| json!({}), |(_, step)| step.config.clone()),
        assets,
        expected: None,
    };
    let step = step.map(|(pipeline, step)| format!("pipeline {pipeline}, step {}", step.name));
    Ok(Taken { case, segment: id, step, malformed })
}

/// Replaces the values of a column by words or numbers of their type.
fn mask(rows: &mut [Value], column: &str, data_type: &DataType) {
    let mut known: HashMap<String, usize> = HashMap::new();
    for value in rows.iter_mut().filter_map(|row| row.get_mut(column)).filter(|value| !value.is_null()) {
        let next = known.len() + 1;
        let number = *known.entry(value.to_string()).or_insert(next);
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing of what is nested or rare is kept")]
        let masked = match data_type {
            DataType::Utf8 => json!(format!("masked-{number}")),
            DataType::Int64 => json!(number),
            #[expect(clippy::cast_precision_loss, reason = "numbers of rows")]
            DataType::Float64 => json!(number as f64 + 0.5),
            DataType::Boolean => json!(false),
            DataType::Timestamp(..) => json!(format!("2000-01-01T00:00:00.{number:06}Z")),
            _ => Value::Null,
        };
        *value = masked;
    }
}

/// Writes the case into a folder that is made for it; `expected` comes with the first update.
///
/// # Errors
/// Where there is something of this name already, or it cannot be written.
pub(crate) fn write(case: &Case, folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    let failed = |error: std::io::Error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Failure::new(Exit::Usage, format!("{shown} is there already, and stays as it is"))
                .with_hint("choose another name for the case");
        }
        Failure::new(Exit::Failed, format!("{shown} cannot be written: {error}"))
            .with_hint("give a folder that this user may write to")
    };
    let Case { name: _, folder: _, format: _, input, config, assets, expected: _ } = case;
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::create_dir(folder).map_err(failed)?;
    std::fs::write(folder.join("input.jsonl"), input).map_err(failed)?;
    std::fs::write(folder.join("config.json"), format!("{config:#}\n")).map_err(failed)?;
    if !assets.is_empty() {
        std::fs::create_dir(folder.join("assets")).map_err(failed)?;
    }
    assets
        .iter()
        .try_for_each(|(name, content)| std::fs::write(folder.join("assets").join(name), content))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_column_keeps_what_is_alike_alike_and_its_type() {
        let mut rows =
            vec![json!({"a": "x", "n": 7}), json!({"a": "y", "n": null}), json!({"a": "x", "n": 7}), json!({})];
        mask(&mut rows, "a", &DataType::Utf8);
        mask(&mut rows, "n", &DataType::Int64);
        let masked = [
            json!({"a": "masked-1", "n": 1}),
            json!({"a": "masked-2", "n": null}),
            json!({"a": "masked-1", "n": 1}),
            json!({}),
        ];
        assert_eq!(rows, masked);
        let mut times = vec![json!({"t": "2026-05-06T07:08:09Z"})];
        mask(&mut times, "t", &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None));
        assert_eq!(times, [json!({"t": "2000-01-01T00:00:00.000001Z"})]);
    }
}
