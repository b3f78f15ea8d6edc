//! A ledger that was rebuilt: all of it in one transaction, into one that is empty.

use forebay_model::flow::OnChange;
use forebay_model::ids::PipelineName;
use forebay_model::ports::{
    NewObject, Rebuilt, RebuiltLoad, RebuiltPartition, RebuiltPipeline, RebuiltSegment, Standing,
};

use super::db::{Db, query};
use super::fault::Step;
use super::rows::Cells as _;
use super::{catalog, deployments, intake};
use crate::check::{not_empty, rebuilt_revisions, signed};

pub(crate) async fn import(db: &mut Db<'_>, content: &Rebuilt) -> Step<()> {
    let Rebuilt { landings, partitions, modules, assets, pipelines } = content;
    let row = query(
        "SELECT EXISTS (SELECT 1 FROM _landings) OR EXISTS (SELECT 1 FROM _groups) OR EXISTS (SELECT 1 FROM modules) \
         OR EXISTS (SELECT 1 FROM revisions) OR EXISTS (SELECT 1 FROM schemas) AS filled",
    )
    .fetch_one(&mut *db)
    .await?;
    if row.value("filled")? {
        return Err(not_empty().into());
    }
    for landing in landings {
        let objects: Vec<&NewObject> = landing.objects.iter().collect();
        intake::insert_objects(db, landing, &objects).await?;
        intake::insert_segments(db, landing, &objects).await?;
        if objects.iter().any(|object| object.on_change == OnChange::Replace) {
            intake::replace(db, landing, &objects).await?;
        }
        query("INSERT INTO _landings (attempt, stream, landed_at) VALUES (?, ?, ?)")
            .bind(landing.attempt.to_string())
            .bind(landing.stream.as_str())
            .bind(landing.landed_at.as_micros())
            .execute(&mut *db)
            .await?;
    }
    for RebuiltPartition { stream, partition, next, at } in partitions {
        query("INSERT INTO partitions (stream, partition, next_position, advanced_at) VALUES (?, ?, ?, ?)")
            .bind(stream.as_str())
            .bind(partition.as_str())
            .bind(next.to_string())
            .bind(at.as_micros())
            .execute(&mut *db)
            .await?;
    }
    for module in modules {
        catalog::record_module(db, module).await?;
    }
    for asset in assets {
        catalog::record_asset(db, asset).await?;
    }
    for pipeline in pipelines {
        import_pipeline(db, pipeline).await?;
    }
    Ok(())
}

async fn import_pipeline(db: &mut Db<'_>, content: &RebuiltPipeline) -> Step<()> {
    let RebuiltPipeline { pipeline, last_number, loads, segments, schemas, revisions, active } = content;
    rebuilt_revisions(content)?;
    if *last_number > 0 {
        query("INSERT INTO _groups (pipeline, number, fingerprint) VALUES (?, ?, '')")
            .bind(pipeline.as_str())
            .bind(signed("number", *last_number)?)
            .execute(&mut *db)
            .await?;
    }
    for load in loads {
        import_load(db, pipeline, load).await?;
    }
    for segment in segments {
        import_segment(db, pipeline, segment).await?;
    }
    for (schema, at) in schemas {
        query("INSERT INTO schemas (pipeline, version, schema, created_at) VALUES (?, ?, ?, ?)")
            .bind(pipeline.as_str())
            .bind(i64::from(schema.version))
            .bind(serde_json::to_string(&schema.schema)?)
            .bind(at.as_micros())
            .execute(&mut *db)
            .await?;
    }
    for record in revisions {
        query("INSERT INTO revisions (pipeline, revision, revision_id, body, created_at) VALUES (?, ?, ?, ?, ?)")
            .bind(pipeline.as_str())
            .bind(i64::from(record.number))
            .bind(record.id.to_string())
            .bind(crate::check::revision_body(&record.revision)?)
            .bind(record.created_at.as_micros())
            .execute(&mut *db)
            .await?;
    }
    if let Some((revision, at)) = active {
        let state = forebay_model::ports::DeploymentState::Active;
        deployments::deploy(db, pipeline, *revision, state, crate::check::REBUILT, *at).await?;
        let steps = revisions.iter().filter(|record| record.id == *revision).flat_map(|record| &record.revision.steps);
        for step in steps {
            catalog::activate_module(db, &step.module, step.digest, *at).await?;
        }
    }
    Ok(())
}

async fn import_load(db: &mut Db<'_>, pipeline: &PipelineName, load: &RebuiltLoad) -> Step<()> {
    let RebuiltLoad { number, table, id, revision, table_version, rows_removed, at, rows } = load;
    let (number, table) = (signed("number", *number)?, table.to_string());
    query(
        "INSERT INTO loads (pipeline, number, table_name, id, state, revision_id, schema_version, files, bytes, rows, \
         removed_rows, table_version, begun_at, done_at) VALUES (?1, ?2, ?3, ?4, 'done', ?5, 0, ?6, 0, ?7, ?8, ?9, ?10, ?10)",
    )
    .bind(pipeline.as_str())
    .bind(number)
    .bind(table.as_str())
    .bind(id.to_string())
    .bind(revision.to_string())
    .bind(i64::try_from(rows.len()).unwrap_or(i64::MAX))
    .bind(signed("count", rows.iter().map(|(_, rows)| *rows).fold(0, u64::saturating_add))?)
    .bind(signed("count", *rows_removed)?)
    .bind(signed("version", *table_version)?)
    .bind(at.as_micros())
    .execute(&mut *db)
    .await?;
    for (segment, rows) in rows {
        query(
            "INSERT INTO load_segments (pipeline, number, table_name, segment, files, rows) VALUES (?, ?, ?, ?, 1, ?)",
        )
        .bind(pipeline.as_str())
        .bind(number)
        .bind(table.as_str())
        .bind(segment.as_str())
        .bind(signed("count", *rows)?)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

async fn import_segment(db: &mut Db<'_>, pipeline: &PipelineName, content: &RebuiltSegment) -> Step<()> {
    let RebuiltSegment { segment, standing, number, revision } = content;
    let (state, has_rows, again) = match standing {
        Standing::Loaded => ("loaded", true, None),
        Standing::Again { why, at } => ("failed", true, Some((why, at.as_micros()))),
        Standing::Superseded => ("superseded", false, None),
    };
    let generation = has_rows.then_some(0_i64);
    query(
        "INSERT INTO refinements (pipeline, segment, state, generation, loaded_generation, load_number, revision_id, \
         attempts, error_class, error_message, error_hint, failed_at, retry_at) \
         VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, ?10)",
    )
    .bind(pipeline.as_str())
    .bind(segment.as_str())
    .bind(state)
    .bind(generation)
    .bind(number.map(|number| signed("number", number)).transpose()?)
    .bind(revision.map(|revision| revision.to_string()))
    .bind(again.is_some().then_some("retry"))
    .bind(again.map(|(why, _)| why.as_str()))
    .bind(again.is_some().then_some(crate::check::AGAIN_HINT))
    .bind(again.map(|(_, at)| at))
    .execute(db)
    .await?;
    Ok(())
}
