//! Deployments: which revision is active, which were taken back; and pauses.

use forebay_model::Timestamp;
use forebay_model::ids::PipelineName;
use forebay_model::ports::{Deployment, DeploymentState, Pause, Shadow};
use forebay_model::revision::{RevisionId, canonical};

use super::catalog;
use super::db::{Db, Row, query};
use super::fault::Step;
use super::rows::{self, Cells as _};

pub(super) async fn deploy(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    revision: RevisionId,
    state: DeploymentState,
    reason: &str,
    at: Timestamp,
) -> Step<()> {
    let Some(record) = catalog::revision(db, pipeline, revision).await? else {
        return Err(crate::check::not_recorded(pipeline, revision).into());
    };
    let active = active_revision(db, pipeline).await?;
    let is_active = active == Some(revision);
    match state {
        DeploymentState::Active if is_active => Ok(()),
        DeploymentState::Shadow => Err(crate::check::shadow_without_plan(pipeline).into()),
        DeploymentState::Active => {
            retire(db, pipeline, at).await?;
            supersede(db, pipeline, (revision, record.number), reason, at).await?;
            if leave_shadow(db, pipeline, revision, state, reason, at).await? {
                return Ok(());
            }
            insert_deployment(db, pipeline, revision, state, reason, at).await
        }
        DeploymentState::Retired if is_active => retire(db, pipeline, at).await,
        DeploymentState::Retired => Ok(()),
        DeploymentState::Refused | DeploymentState::Cancelled => {
            let noted = query(
                "SELECT 1 FROM deployments WHERE pipeline = ? AND revision_id = ? AND state = ? AND deployed_at = ?",
            )
            .bind(pipeline.as_str())
            .bind(revision.to_string())
            .bind(rows::word(&state)?)
            .bind(at.as_micros())
            .fetch_optional(&mut *db)
            .await?;
            match noted {
                Some(_) => Ok(()),
                None if leave_shadow(db, pipeline, revision, state, reason, at).await? => Ok(()),
                None => insert_deployment(db, pipeline, revision, state, reason, at).await,
            }
        }
    }
}

async fn active_revision(db: &mut Db<'_>, pipeline: &PipelineName) -> Step<Option<RevisionId>> {
    let row = query("SELECT number, revision_id FROM deployments WHERE pipeline = ? AND state = 'active'")
        .bind(pipeline.as_str())
        .fetch_optional(db)
        .await?;
    row.map(|row| row.parsed("revision_id")).transpose()
}

async fn retire(db: &mut Db<'_>, pipeline: &PipelineName, at: Timestamp) -> Step<()> {
    query("UPDATE deployments SET state = 'retired', retired_at = ? WHERE pipeline = ? AND state = 'active'")
        .bind(at.as_micros())
        .bind(pipeline.as_str())
        .execute(db)
        .await?;
    Ok(())
}

/// A revision in shadow gets another state, and keeps what came of it; false where it is not in shadow.
async fn leave_shadow(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    revision: RevisionId,
    state: DeploymentState,
    reason: &str,
    at: Timestamp,
) -> Step<bool> {
    let done = query(
        "UPDATE deployments SET state = ?, reason = ?, deployed_at = ? \
         WHERE pipeline = ? AND revision_id = ? AND state = 'shadow'",
    )
    .bind(rows::word(&state)?)
    .bind(reason)
    .bind(at.as_micros())
    .bind(pipeline.as_str())
    .bind(revision.to_string())
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Cancels another revision that is in shadow.
async fn supersede(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    (revision, number): (RevisionId, u32),
    reason: &str,
    at: Timestamp,
) -> Step<()> {
    query(
        "UPDATE deployments SET state = 'cancelled', reason = ?, deployed_at = ? \
         WHERE pipeline = ? AND revision_id <> ? AND state = 'shadow'",
    )
    .bind(crate::check::superseded(number, reason))
    .bind(at.as_micros())
    .bind(pipeline.as_str())
    .bind(revision.to_string())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn shadow(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    revision: RevisionId,
    plan: &serde_json::Value,
    reason: &str,
    at: Timestamp,
) -> Step<()> {
    let Some(record) = catalog::revision(db, pipeline, revision).await? else {
        return Err(crate::check::not_recorded(pipeline, revision).into());
    };
    if active_revision(db, pipeline).await? == Some(revision) {
        return Err(crate::check::shadow_of_itself(pipeline, revision).into());
    }
    supersede(db, pipeline, (revision, record.number), reason, at).await?;
    // Not `ON CONFLICT DO NOTHING`: what is not inserted would take a number of SQLite's all the same.
    query(
        "INSERT INTO deployments (pipeline, revision_id, state, reason, deployed_at, shadow_since, shadow_plan) \
         SELECT ?1, ?2, 'shadow', ?3, ?4, ?4, ?5 \
         WHERE NOT EXISTS (SELECT 1 FROM deployments d WHERE d.pipeline = ?1 AND d.state = 'shadow')",
    )
    .bind(pipeline.as_str())
    .bind(revision.to_string())
    .bind(reason)
    .bind(at.as_micros())
    .bind(canonical(plan))
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn report_shadow(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    revision: RevisionId,
    report: &serde_json::Value,
) -> Step<bool> {
    let done =
        query("UPDATE deployments SET shadow_report = ? WHERE pipeline = ? AND revision_id = ? AND state = 'shadow'")
            .bind(canonical(report))
            .bind(pipeline.as_str())
            .bind(revision.to_string())
            .execute(db)
            .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn shadows(db: &mut Db<'_>) -> Step<Vec<Shadow>> {
    let rows = query(
        "SELECT d.pipeline, v.revision, v.revision_id, v.body, v.created_at, d.reason, d.shadow_since, d.shadow_plan, \
         d.shadow_report FROM deployments d \
         JOIN revisions v ON v.pipeline = d.pipeline AND v.revision_id = d.revision_id \
         WHERE d.state = 'shadow' ORDER BY d.pipeline",
    )
    .fetch_all(db)
    .await?;
    let shadow = |row: &Row| {
        Ok(Shadow {
            pipeline: row.parsed("pipeline")?,
            revision: catalog::revision_record(row)?,
            since: row.time("shadow_since")?,
            reason: row.value("reason")?,
            plan: row.json_any("shadow_plan")?.unwrap_or_default(),
            report: row.json_any("shadow_report")?.unwrap_or_default(),
        })
    };
    rows.iter().map(shadow).collect()
}

async fn insert_deployment(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    revision: RevisionId,
    state: DeploymentState,
    reason: &str,
    at: Timestamp,
) -> Step<()> {
    query("INSERT INTO deployments (pipeline, revision_id, state, reason, deployed_at) VALUES (?, ?, ?, ?, ?)")
        .bind(pipeline.as_str())
        .bind(revision.to_string())
        .bind(rows::word(&state)?)
        .bind(reason)
        .bind(at.as_micros())
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn active(db: &mut Db<'_>, pipeline: &PipelineName) -> Step<Option<Deployment>> {
    let row = query(
        "SELECT v.pipeline, v.revision, v.revision_id, v.body, v.created_at, d.reason, d.deployed_at FROM deployments d \
         JOIN revisions v ON v.pipeline = d.pipeline AND v.revision_id = d.revision_id \
         WHERE d.pipeline = ? AND d.state = 'active'",
    )
    .bind(pipeline.as_str())
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Deployment {
        pipeline: pipeline.clone(),
        revision: catalog::revision_record(&row)?,
        state: DeploymentState::Active,
        at: row.time("deployed_at")?,
        reason: row.value("reason")?,
    }))
}

pub(super) async fn roll_back(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    to: RevisionId,
    meant: Option<RevisionId>,
    reason: &str,
    at: Timestamp,
) -> Step<()> {
    crate::check::roll_back(to, meant)?;
    deploy(db, pipeline, to, DeploymentState::Active, reason, at).await?;
    if let Some(meant) = meant {
        deploy(db, pipeline, meant, DeploymentState::Cancelled, reason, at).await?;
    }
    Ok(())
}

pub(super) async fn is_cancelled(db: &mut Db<'_>, pipeline: &PipelineName, revision: RevisionId) -> Step<bool> {
    let last = query(
        "SELECT state = 'cancelled' AND substr(reason, 1, length(?1)) <> ?1 AS cancelled FROM deployments \
         WHERE pipeline = ?2 AND revision_id = ?3 ORDER BY number DESC LIMIT 1",
    )
    .bind(crate::check::SUPERSEDED)
    .bind(pipeline.as_str())
    .bind(revision.to_string())
    .fetch_optional(db)
    .await?;
    Ok(last.map(|row| row.value("cancelled")).transpose()?.unwrap_or(false))
}

pub(super) async fn pause(db: &mut Db<'_>, pipeline: &PipelineName, reason: &str, at: Timestamp) -> Step<()> {
    query("INSERT INTO paused (pipeline, reason, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(pipeline.as_str())
        .bind(reason)
        .bind(at.as_micros())
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn resume(db: &mut Db<'_>, pipeline: &PipelineName) -> Step<bool> {
    let done = query("DELETE FROM paused WHERE pipeline = ?").bind(pipeline.as_str()).execute(db).await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn paused(db: &mut Db<'_>, pipeline: &PipelineName) -> Step<Option<Pause>> {
    let row = query("SELECT pipeline, reason, since FROM paused WHERE pipeline = ?")
        .bind(pipeline.as_str())
        .fetch_optional(db)
        .await?;
    row.map(|row| Ok(Pause { reason: row.value("reason")?, since: row.time("since")? })).transpose()
}
