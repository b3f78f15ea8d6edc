//! By which clock a span of time chooses segments: when they landed, or when their records happened.
//!
//! When records happened is told by what stands in the tables, or by what an envelope of a record stream says of itself: no raw record is
//! read. A segment of which it is not known is chosen too, and that is said: a span that left it out in silence would not be replayed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::DataType;
use clap::ValueEnum;
use datafusion::common::ScalarValue;
use forebay_model::ports::LandingZone;
use forebay_model::revision::RouteTarget;
use forebay_model::segment::SegmentContent;
use forebay_model::{LandedSegment, PipelineName, SegmentId, TableName, Timestamp, column};

use super::kept::blocking;
use super::listing::{self, number, quoted, text, time_value};
use super::{Exit, Failure};
use crate::assemble::{self, Access};
use crate::query::{Lake, Object};

/// What a span of time is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Clock {
    /// When the segment landed.
    #[default]
    Landed,
    /// When its records happened.
    Record,
}

/// From, and before.
pub(super) type Span = (Option<Timestamp>, Option<Timestamp>);

/// What the tables tell of a segment's records.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    /// Records that one table has, each with its time.
    dated: u64,
    /// Rows within the span, in all tables.
    within: u64,
}

/// Keeps the rows of a choice (`segment`, `state`, `records`) of which a record may be within the span; of how many it is not known.
///
/// # Errors
/// Where nothing tells when the records of the stream are, a column is no time, or something cannot be read.
pub(super) async fn within(
    lake: &Lake,
    pipeline: &PipelineName,
    rows: &mut Vec<Object>,
    span: Span,
    time_column: Option<&str>,
) -> anyhow::Result<u64> {
    let keeps = match time_column {
        Some(name) => by_tables(lake, pipeline, rows, span, name).await?,
        None => by_envelopes(lake, pipeline, rows, span).await?,
    };
    let unknown = keeps.iter().filter(|keep| keep.is_none()).count() as u64;
    let mut keeps = keeps.into_iter();
    rows.retain(|_| keeps.next().flatten() != Some(false));
    Ok(unknown)
}

/// Of each row: whether one of its records is within the span; `None` where that is not known.
async fn by_tables(
    lake: &Lake,
    pipeline: &PipelineName,
    rows: &[Object],
    span: Span,
    name: &str,
) -> anyhow::Result<Vec<Option<bool>>> {
    let tables = tables_with(lake, pipeline, name).await?;
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    for table in tables {
        for row in listing::objects(lake, &times_in(&table, name), values(span)).await? {
            let of = told.entry(text(&row, "segment").to_owned()).or_default();
            of.dated = of.dated.max(number(&row, "dated"));
            of.within += number(&row, "within");
        }
    }
    let keep = |row: &Object| {
        let Told { dated, within } = told.get(text(row, "segment")).copied().unwrap_or_default();
        // Filtered and rejected records stand in no table, and neither do those that are just loading.
        let all_known = text(row, "state") == "loaded" && dated >= number(row, "records");
        if within > 0 { Some(true) } else { all_known.then_some(false) }
    };
    Ok(rows.iter().map(keep).collect())
}

/// Of each segment in a table: how many records have a time, and how many rows are within `$since` and `$until`.
fn times_in(table: &TableName, name: &str) -> String {
    let (segment, item, time) = (column::SEGMENT, column::ITEM, format!("CAST({} AS TIMESTAMP)", quoted(name)));
    let (warehouse, table) = (quoted(table.warehouse.as_str()), quoted(&table.table));
    let within = format!(
        "({time} >= CAST($since AS TIMESTAMP) OR $since IS NULL) AND ({time} < CAST($until AS TIMESTAMP) OR $until IS NULL)"
    );
    format!(
        "SELECT {segment} AS segment, sum(CASE WHEN {item} = 0 AND {time} IS NOT NULL THEN 1 ELSE 0 END) AS dated,
                sum(CASE WHEN {time} IS NOT NULL AND {within} THEN 1 ELSE 0 END) AS within
         FROM {warehouse}.{table} GROUP BY {segment}"
    )
}

fn values((since, until): Span) -> Vec<(&'static str, ScalarValue)> {
    let time =
        |time: Option<Timestamp>| time.map_or(ScalarValue::TimestampMicrosecond(None, Some("UTC".into())), time_value);
    vec![("since", time(since)), ("until", time(until))]
}

/// The pipeline's tables that have the column, as a time.
async fn tables_with(lake: &Lake, pipeline: &PipelineName, name: &str) -> anyhow::Result<Vec<TableName>> {
    let mut with = Vec::new();
    let mut columns: Vec<String> = Vec::new();
    let config = lake.stores().config.pipelines.get(pipeline);
    for target in config.into_iter().flat_map(|config| config.routes.values()) {
        let RouteTarget::Table { table, .. } = target else { continue };
        if !lake.has(table) {
            continue;
        }
        let (warehouse, of) = (quoted(table.warehouse.as_str()), quoted(&table.table));
        let frame = lake.sql(&format!("SELECT * FROM {warehouse}.{of} LIMIT 0")).await?;
        let schema = Arc::clone(frame.schema().inner());
        let times = schema.fields().iter().filter(|field| is_time(field.data_type()));
        columns.extend(times.map(|field| field.name().clone()).filter(|name| name != column::LOADED_AT));
        match schema.fields().iter().find(|field| field.name() == name).map(|field| field.data_type()) {
            Some(of_type) if is_time(of_type) => with.push(table.clone()),
            Some(other) => {
                let failure =
                    Failure::new(Exit::Usage, format!("column `{name}` of {table} is no time, but of type {other}"));
                return Err(failure.with_hint(hint(columns)).into());
            }
            None => {}
        }
    }
    if with.is_empty() {
        let failure = Failure::new(Exit::NotFound, format!("no table of {pipeline} has a column `{name}`"));
        return Err(failure.with_hint(hint(columns)).into());
    }
    Ok(with)
}

fn is_time(of: &DataType) -> bool {
    matches!(of, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64)
}

fn hint(mut columns: Vec<String>) -> String {
    columns.sort();
    columns.dedup();
    match columns.as_slice() {
        [] => "--clock landed chooses by when the segments landed".to_owned(),
        columns => format!("columns that are times: {}", columns.join(", ")),
    }
}

/// The same of record streams, whose sources give each record its time.
async fn by_envelopes(
    lake: &Lake,
    pipeline: &PipelineName,
    rows: &[Object],
    span: Span,
) -> anyhow::Result<Vec<Option<bool>>> {
    let zone = assemble::open_zone(&lake.stores().config, Access::Read)?;
    let mut keeps = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(segment) = lake.stores().ledger.segment(&SegmentId::from_text(text(row, "segment"))).await? else {
            keeps.push(None);
            continue;
        };
        let times = match &segment.content {
            SegmentContent::Envelope { rows } => times_of(&zone, &segment, rows.clone()).await,
            SegmentContent::Bytes { .. } => {
                let failure = Failure::new(
                    Exit::Usage,
                    format!("nothing tells when the records of stream {} are: it is made of objects", segment.stream),
                );
                let hint = format!("say which column of {pipeline}'s tables does: --clock record --time-column when");
                return Err(failure.with_hint(hint).into());
            }
        };
        keeps.push(times.map(|times| overlap(&times, span)));
    }
    Ok(keeps)
}

/// `None` where the envelope does not tell; one that cannot be read is replayed, and fails by its name.
async fn times_of(
    zone: &Arc<dyn LandingZone>,
    segment: &LandedSegment,
    rows: std::ops::Range<u64>,
) -> Option<RangeInclusive<Timestamp>> {
    let (zone, name, digest) = (Arc::clone(zone), segment.object.clone(), segment.digest);
    let times = blocking(move || zone.times_of(&name, rows, digest)).await;
    times.unwrap_or_else(|error| {
        tracing::warn!(object = segment.object, error = error.chain(), hint = error.hint(), "its times are not known");
        None
    })
}

fn overlap(times: &RangeInclusive<Timestamp>, (since, until): Span) -> bool {
    since.is_none_or(|since| *times.end() >= since) && until.is_none_or(|until| *times.start() < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_half_open() {
        let at = Timestamp::from_micros;
        let times = at(10)..=at(20);
        assert!(overlap(&times, (None, None)));
        assert!(overlap(&times, (Some(at(20)), None)) && !overlap(&times, (Some(at(21)), None)));
        assert!(overlap(&times, (None, Some(at(11)))) && !overlap(&times, (None, Some(at(10)))));
    }
}
