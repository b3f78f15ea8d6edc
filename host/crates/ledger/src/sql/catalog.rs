//! Schemas, modules, revisions and requests.

use arrow_schema::SchemaRef;
use forebay_model::Timestamp;
use forebay_model::ids::{Digest, ModuleName, PipelineName, TableName};
use forebay_model::ports::{AssetRecord, HeldChange, ModuleRecord, RevisionRecord};
use forebay_model::revision::{Revision, RevisionId};
use forebay_model::schema::{SchemaVersion, StreamSchema};

use super::db::{Db, Row, query};
use super::fault::Step;
use super::rows::Cells as _;
use crate::check::signed;
use crate::error::LedgerError;

pub(super) async fn schema(db: &mut Db<'_>, pipeline: &PipelineName) -> Step<Option<StreamSchema>> {
    let row = query("SELECT pipeline, version, schema FROM schemas WHERE pipeline = ? ORDER BY version DESC LIMIT 1")
        .bind(pipeline.as_str())
        .fetch_optional(db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(StreamSchema { version: row.small("version")?, schema: row.json("schema")? }))
}

pub(super) async fn evolve_schema(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    from: Option<SchemaVersion>,
    grown: &SchemaRef,
    at: Timestamp,
) -> Step<Option<StreamSchema>> {
    let stands = schema(db, pipeline).await?;
    let next = match crate::check::evolve(stands, from, grown)? {
        crate::check::Evolve::Write(next) => next,
        crate::check::Evolve::Answer(answer) => return Ok(answer),
    };
    query("INSERT INTO schemas (pipeline, version, schema, created_at) VALUES (?, ?, ?, ?)")
        .bind(pipeline.as_str())
        .bind(i64::from(next.version))
        .bind(serde_json::to_string(&next.schema)?)
        .bind(at.as_micros())
        .execute(db)
        .await?;
    Ok(Some(next))
}

pub(super) async fn hold_changes(db: &mut Db<'_>, changes: &[HeldChange]) -> Step<()> {
    for HeldChange { table, column, data_type, reason, first_seen, approved } in changes {
        query(
            "INSERT INTO held_changes (table_name, column_name, data_type, reason, first_seen, approved) \
             VALUES (?, ?, ?, ?, ?, ?) \
             ON CONFLICT (table_name, column_name) DO UPDATE SET data_type = excluded.data_type, reason = excluded.reason",
        )
        .bind(table.to_string())
        .bind(column.as_str())
        .bind(data_type.as_str())
        .bind(reason.as_str())
        .bind(first_seen.as_micros())
        .bind(*approved)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

pub(super) async fn held_changes(db: &mut Db<'_>) -> Step<Vec<HeldChange>> {
    let rows = query("SELECT * FROM held_changes ORDER BY table_name, column_name").fetch_all(db).await?;
    rows.iter()
        .map(|row| {
            Ok(HeldChange {
                table: row.parsed("table_name")?,
                column: row.value("column_name")?,
                data_type: row.value("data_type")?,
                reason: row.value("reason")?,
                first_seen: row.time("first_seen")?,
                approved: row.value("approved")?,
            })
        })
        .collect()
}

pub(super) async fn approve_change(db: &mut Db<'_>, table: &TableName, column: &str) -> Step<bool> {
    let done = query("UPDATE held_changes SET approved = true WHERE table_name = ? AND column_name = ?")
        .bind(table.to_string())
        .bind(column)
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn record_module(db: &mut Db<'_>, module: &ModuleRecord) -> Step<()> {
    let ModuleRecord { digest, name, version, bytes, origin, at } = module;
    query(
        "INSERT INTO modules (name, sha256, version, bytes, origin, recorded_at) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(name.as_str())
    .bind(digest.to_string())
    .bind(version.as_str())
    .bind(signed("size", *bytes)?)
    .bind(origin.as_str())
    .bind(at.as_micros())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn record_asset(db: &mut Db<'_>, asset: &AssetRecord) -> Step<()> {
    let AssetRecord { digest, name, bytes, origin, at } = asset;
    query(
        "INSERT INTO assets (name, sha256, bytes, origin, recorded_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(name.as_str())
    .bind(digest.to_string())
    .bind(signed("size", *bytes)?)
    .bind(origin.as_str())
    .bind(at.as_micros())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn seen_in_folder(db: &mut Db<'_>, path: &str, digest: Digest, at: Timestamp) -> Step<bool> {
    let row = query("SELECT path, sha256, seen_at FROM module_files WHERE path = ?")
        .bind(path)
        .fetch_optional(&mut *db)
        .await?;
    if let Some(row) = row
        && row.parsed::<Digest>("sha256")? == digest
    {
        // The same call once more, whose first answer may have been lost: it is still new.
        return Ok(row.time("seen_at")? != at);
    }
    query(
        "INSERT INTO module_files (path, sha256, seen_at) VALUES (?, ?, ?) \
         ON CONFLICT (path) DO UPDATE SET sha256 = excluded.sha256, seen_at = excluded.seen_at",
    )
    .bind(path)
    .bind(digest.to_string())
    .bind(at.as_micros())
    .execute(db)
    .await?;
    Ok(false)
}

pub(super) async fn active_module(db: &mut Db<'_>, name: &ModuleName) -> Step<Option<Digest>> {
    let row =
        query("SELECT name, sha256 FROM _active_modules WHERE name = ?").bind(name.as_str()).fetch_optional(db).await?;
    row.map(|row| row.parsed("sha256")).transpose()
}

pub(super) async fn activate_module(db: &mut Db<'_>, name: &ModuleName, digest: Digest, at: Timestamp) -> Step<()> {
    query(
        "INSERT INTO _active_modules (name, sha256, since) VALUES (?, ?, ?) \
         ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, since = excluded.since",
    )
    .bind(name.as_str())
    .bind(digest.to_string())
    .bind(at.as_micros())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn record_revision(db: &mut Db<'_>, revision: &Revision, at: Timestamp) -> Step<RevisionRecord> {
    let id = revision.id();
    if let Some(known) = self::revision(db, &revision.pipeline, id).await? {
        return Ok(known);
    }
    query(
        "INSERT INTO revisions (pipeline, revision, revision_id, body, created_at) \
         SELECT ?1, coalesce(max(revision), 0) + 1, ?2, ?3, ?4 FROM revisions WHERE pipeline = ?1",
    )
    .bind(revision.pipeline.as_str())
    .bind(id.to_string())
    .bind(crate::check::revision_body(revision)?)
    .bind(at.as_micros())
    .execute(&mut *db)
    .await?;
    self::revision(db, &revision.pipeline, id)
        .await?
        .ok_or_else(|| LedgerError::invariant("a revision is gone that was just recorded").into())
}

pub(super) async fn revision(db: &mut Db<'_>, pipeline: &PipelineName, id: RevisionId) -> Step<Option<RevisionRecord>> {
    let row = query(
        "SELECT pipeline, revision, revision_id, body, created_at FROM revisions WHERE pipeline = ? AND revision_id = ?",
    )
    .bind(pipeline.as_str())
    .bind(id.to_string())
    .fetch_optional(db)
    .await?;
    row.map(|row| revision_record(&row)).transpose()
}

pub(super) fn revision_record(row: &Row) -> Step<RevisionRecord> {
    Ok(RevisionRecord {
        number: row.small("revision")?,
        id: row.parsed("revision_id")?,
        revision: row.json("body")?,
        created_at: row.time("created_at")?,
    })
}

pub(super) async fn ask(db: &mut Db<'_>, what: &str, arguments: &serde_json::Value, at: Timestamp) -> Step<u64> {
    let arguments = forebay_model::revision::canonical(arguments);
    let same = query("SELECT number FROM requests WHERE what = ? AND arguments = ? AND asked_at = ?")
        .bind(what)
        .bind(arguments.as_str())
        .bind(at.as_micros())
        .fetch_optional(&mut *db)
        .await?;
    if let Some(same) = same {
        return same.count("number");
    }
    let row = query("INSERT INTO requests (what, arguments, asked_at) VALUES (?, ?, ?) RETURNING number")
        .bind(what)
        .bind(arguments)
        .bind(at.as_micros())
        .fetch_one(db)
        .await?;
    row.count("number")
}

pub(super) async fn asked(db: &mut Db<'_>) -> Step<Vec<(u64, String, serde_json::Value)>> {
    let rows = query("SELECT number, what, arguments FROM requests WHERE answered_at IS NULL ORDER BY number")
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| Ok((row.count("number")?, row.value("what")?, row.json("arguments")?))).collect()
}

pub(super) async fn answer(db: &mut Db<'_>, request: u64, answer: &serde_json::Value, at: Timestamp) -> Step<()> {
    let number = signed("request", request)?;
    let known = query("SELECT 1 FROM requests WHERE number = ?").bind(number).fetch_optional(&mut *db).await?;
    if known.is_none() {
        return Err(LedgerError::invariant(format!("there is no request {request}")).into());
    }
    query("UPDATE requests SET answer = ?, answered_at = ? WHERE number = ? AND answered_at IS NULL")
        .bind(forebay_model::revision::canonical(answer))
        .bind(at.as_micros())
        .bind(number)
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn answered(db: &mut Db<'_>, request: u64) -> Step<Option<serde_json::Value>> {
    let row = query("SELECT number, answer FROM requests WHERE number = ?")
        .bind(signed("request", request)?)
        .fetch_optional(db)
        .await?;
    Ok(row.map(|row| row.json_any("answer")).transpose()?.flatten())
}
