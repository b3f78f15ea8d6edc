//! Groups of loads: opened once, then only forward.

use std::collections::{BTreeMap, BTreeSet};

use forebay_model::Timestamp;
use forebay_model::ids::{Generation, PipelineName, SegmentId, TableName};
use forebay_model::load::{Again, Load, LoadGroup, LoadReceipt, RefinedSegment};
use forebay_model::segment::SegmentCounts;

use super::again;
use super::db::{Db, query};
use super::fault::Step;
use super::refine::{move_mark, refinement};
use super::rows::Cells as _;
use crate::check::{may_open, signed};
use crate::error::LedgerError;

pub(super) async fn last_number(db: &mut Db<'_>, pipeline: &PipelineName) -> Step<u64> {
    let row = query("SELECT number FROM _groups WHERE pipeline = ? ORDER BY number DESC LIMIT 1")
        .bind(pipeline.as_str())
        .fetch_optional(db)
        .await?;
    Ok(row.map(|row| row.count("number")).transpose()?.unwrap_or(0))
}

/// Writes down a group that was checked.
pub(super) async fn open(db: &mut Db<'_>, group: &LoadGroup) -> Step<()> {
    let LoadGroup { pipeline, number, segments, loads, .. } = group;
    let fingerprint = crate::check::fingerprint(group);
    let former = query("SELECT pipeline, number, fingerprint FROM _groups WHERE pipeline = ? AND number = ?")
        .bind(pipeline.as_str())
        .bind(signed("number", *number)?)
        .fetch_optional(&mut *db)
        .await?;
    if let Some(former) = former {
        let former: String = former.value("fingerprint")?;
        return Ok(crate::check::same_group(pipeline, *number, former == fingerprint)?);
    }
    crate::check::number_follows(pipeline, *number, last_number(db, pipeline).await?)?;
    let streams = check_segments(db, group).await?;
    let body = LoadGroup { loads: Vec::new(), ..group.clone() };
    query("INSERT INTO _groups (pipeline, number, fingerprint, body) VALUES (?, ?, ?, ?)")
        .bind(pipeline.as_str())
        .bind(signed("number", *number)?)
        .bind(fingerprint)
        .bind(serde_json::to_string(&body)?)
        .execute(&mut *db)
        .await?;
    for segment in segments {
        write_segment(db, group, segment).await?;
    }
    let replaced: BTreeSet<_> = segments.iter().flat_map(|segment| &segment.replaces).collect();
    supersede(db, pipeline, &replaced).await?;
    if pipeline.as_side().is_some() {
        super::side::opened(db, group).await?;
    }
    again::answered(db, group).await?;
    again::superseded(db, pipeline, &replaced).await?;
    for load in loads {
        write_load(db, load).await?;
    }
    for stream in streams {
        move_mark(db, pipeline, &stream).await?;
    }
    if loads.is_empty() { finish(db, pipeline, *number).await } else { Ok(()) }
}

/// Each segment may be refined, in that generation; each replaced one is listed. Gives their streams.
async fn check_segments(db: &mut Db<'_>, group: &LoadGroup) -> Step<BTreeSet<String>> {
    let mut streams = BTreeSet::new();
    for segment in &group.segments {
        let Some(known) = refinement(db, &group.pipeline, &segment.segment).await? else {
            return Err(LedgerError::invariant(format!("segment {} is not listed", segment.segment)).into());
        };
        may_open(group, segment, known.standing, known.next_generation)?;
        streams.insert(known.stream);
    }
    let replaced: BTreeSet<&SegmentId> = group.segments.iter().flat_map(|segment| &segment.replaces).collect();
    let unknown = query(
        "SELECT j.value AS value FROM json_each(?) j WHERE NOT EXISTS (SELECT 1 FROM segments s WHERE s.segment = j.value) \
         ORDER BY j.key LIMIT 1",
    )
    .bind(serde_json::to_string(&replaced)?)
    .fetch_optional(&mut *db)
    .await?;
    match unknown {
        None => Ok(streams),
        Some(row) => {
            let id: String = row.value("value")?;
            Err(LedgerError::invariant(format!("segment {id} is replaced, and is not listed")).into())
        }
    }
}

async fn write_segment(db: &mut Db<'_>, group: &LoadGroup, segment: &RefinedSegment) -> Step<()> {
    let RefinedSegment { segment: id, generation, again: why, terms, counts, rejects, retryable, replaces: _ } =
        segment;
    match why {
        Some(Again::Heal) => again::write_healed(db, group, segment).await?,
        Some(Again::Replay) | None => {
            again::forget_heals(db, &group.pipeline, id).await?;
            write_whole(db, group, (id, *generation), counts, (*retryable, terms.revision.is_some())).await?;
        }
    }
    for reject in rejects {
        query(
            "INSERT INTO reject_counts (pipeline, segment, generation, stage, code, records) VALUES (?, ?, ?, ?, ?, ?) \
             ON CONFLICT (pipeline, segment, generation, stage, code) DO UPDATE SET records = excluded.records",
        )
        .bind(group.pipeline.as_str())
        .bind(id.as_str())
        .bind(i64::from(*generation))
        .bind(reject.stage.as_str())
        .bind(reject.code.as_str())
        .bind(signed("count", reject.records)?)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

async fn write_whole(
    db: &mut Db<'_>,
    group: &LoadGroup,
    (segment, generation): (&SegmentId, Generation),
    counts: &SegmentCounts,
    (retryable, chosen): (u64, bool),
) -> Step<()> {
    query(
        "INSERT INTO refinements (pipeline, segment, state, generation, load_number, revision_id, records, loaded, \
         filtered, rejected, rescued, retryable, chosen, attempts) VALUES (?, ?, 'loading', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0) \
         ON CONFLICT (pipeline, segment) DO UPDATE SET state = excluded.state, generation = excluded.generation, \
         load_number = excluded.load_number, revision_id = excluded.revision_id, records = excluded.records, \
         loaded = excluded.loaded, filtered = excluded.filtered, rejected = excluded.rejected, \
         rescued = excluded.rescued, retryable = excluded.retryable, chosen = excluded.chosen, attempts = 0, \
         error_class = NULL, error_message = NULL, error_hint = NULL, failed_at = NULL, retry_at = NULL",
    )
    .bind(group.pipeline.as_str())
    .bind(segment.as_str())
    .bind(i64::from(generation))
    .bind(signed("number", group.number)?)
    .bind(group.revision.to_string())
    .bind(signed("count", counts.records)?)
    .bind(signed("count", counts.loaded)?)
    .bind(signed("count", counts.filtered)?)
    .bind(signed("count", counts.rejected)?)
    .bind(signed("count", counts.rescued)?)
    .bind(signed("count", retryable)?)
    .bind(chosen)
    .execute(db)
    .await?;
    Ok(())
}

/// Segments whose rows a group removes are no work any more.
async fn supersede(db: &mut Db<'_>, pipeline: &PipelineName, replaced: &BTreeSet<&SegmentId>) -> Step<()> {
    query(
        "INSERT INTO refinements (pipeline, segment, state, attempts) SELECT ?, j.value, 'superseded', 0 \
         FROM json_each(?) j WHERE true ON CONFLICT (pipeline, segment) DO UPDATE SET state = 'superseded', attempts = 0, \
         error_class = NULL, error_message = NULL, error_hint = NULL, failed_at = NULL, retry_at = NULL",
    )
    .bind(pipeline.as_str())
    .bind(serde_json::to_string(replaced)?)
    .execute(db)
    .await?;
    Ok(())
}

async fn write_load(db: &mut Db<'_>, load: &Load) -> Step<()> {
    // What a table got of each segment: files and rows.
    let mut shares: BTreeMap<&SegmentId, (u64, u64)> = BTreeMap::new();
    for file in &load.files {
        let share = shares.entry(&file.segment).or_default();
        share.0 += 1;
        share.1 = share.1.saturating_add(file.rows);
    }
    let (files, bytes, rows) = crate::check::totals(load);
    let table = load.table.to_string();
    query(
        "INSERT INTO loads (pipeline, number, table_name, id, state, revision_id, schema_version, files, bytes, rows, \
         begun_at, body) VALUES (?, ?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(load.pipeline.as_str())
    .bind(signed("number", load.number)?)
    .bind(table.as_str())
    .bind(load.id.to_string())
    .bind(load.revision.to_string())
    .bind(i64::from(load.schema_version))
    .bind(signed("count", files)?)
    .bind(signed("size", bytes)?)
    .bind(signed("count", rows)?)
    .bind(load.begun_at.as_micros())
    .bind(serde_json::to_string(load)?)
    .execute(&mut *db)
    .await?;
    for (segment, (files, rows)) in shares {
        query(
            "INSERT INTO load_segments (pipeline, number, table_name, segment, files, rows) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(load.pipeline.as_str())
        .bind(signed("number", load.number)?)
        .bind(table.as_str())
        .bind(segment.as_str())
        .bind(signed("count", files)?)
        .bind(signed("count", rows)?)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// The segments of a group are loaded, except what a later group superseded since.
async fn finish(db: &mut Db<'_>, pipeline: &PipelineName, number: u64) -> Step<()> {
    query(
        "UPDATE refinements SET state = 'loaded', loaded_generation = generation \
         WHERE pipeline = ?1 AND state = 'loading' AND (load_number = ?2 OR segment IN \
         (SELECT h.segment FROM heals h WHERE h.pipeline = ?1 AND h.load_number = ?2))",
    )
    .bind(pipeline.as_str())
    .bind(signed("number", number)?)
    .execute(&mut *db)
    .await?;
    query("UPDATE _groups SET body = NULL WHERE pipeline = ? AND number = ?")
        .bind(pipeline.as_str())
        .bind(signed("number", number)?)
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn close_load(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    number: u64,
    table: &TableName,
    receipt: &LoadReceipt,
    at: Timestamp,
) -> Step<()> {
    let row = query(
        "SELECT pipeline, number, table_name, state FROM loads WHERE pipeline = ? AND number = ? AND table_name = ?",
    )
    .bind(pipeline.as_str())
    .bind(signed("number", number)?)
    .bind(table.to_string())
    .fetch_optional(&mut *db)
    .await?;
    let state: Option<String> = row.map(|row| row.value("state")).transpose()?;
    match state.as_deref() {
        None => return Err(crate::check::no_load(pipeline, number, table).into()),
        // A group that was withdrawn stays so.
        Some("done" | "withdrawn") => return Ok(()),
        Some(_) => {}
    }
    query(
        "UPDATE loads SET state = 'done', body = NULL, done_at = ?, table_version = ?, removed_rows = ? \
         WHERE pipeline = ? AND number = ? AND table_name = ?",
    )
    .bind(at.as_micros())
    .bind(signed("version", receipt.table_version)?)
    .bind(signed("count", receipt.rows_removed)?)
    .bind(pipeline.as_str())
    .bind(signed("number", number)?)
    .bind(table.to_string())
    .execute(&mut *db)
    .await?;
    let open = query("SELECT 1 FROM loads WHERE pipeline = ? AND number = ? AND state = 'open'")
        .bind(pipeline.as_str())
        .bind(signed("number", number)?)
        .fetch_optional(&mut *db)
        .await?;
    if open.is_some() { Ok(()) } else { finish(db, pipeline, number).await }
}

pub(super) async fn open_groups(db: &mut Db<'_>, pipeline: &PipelineName) -> Step<Vec<LoadGroup>> {
    let rows =
        query("SELECT pipeline, number, body FROM _groups WHERE pipeline = ? AND body IS NOT NULL ORDER BY number")
            .bind(pipeline.as_str())
            .fetch_all(&mut *db)
            .await?;
    let mut groups = Vec::with_capacity(rows.len());
    for row in rows {
        let group: LoadGroup = row.json("body")?;
        let loads = query(
            "SELECT pipeline, number, table_name, body FROM loads WHERE pipeline = ? AND number = ? AND state = 'open' ORDER BY table_name",
        )
        .bind(pipeline.as_str())
        .bind(signed("number", group.number)?)
        .fetch_all(&mut *db)
        .await?;
        let loads = loads.iter().map(|row| row.json("body")).collect::<Step<Vec<Load>>>()?;
        groups.push(LoadGroup { loads, ..group });
    }
    Ok(groups)
}
