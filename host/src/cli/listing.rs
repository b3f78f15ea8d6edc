//! What the verbs that list have in common: their rows come from SQL over the ledger's documented tables.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use datafusion::common::ScalarValue;
use forebay_model::Timestamp;
use serde_json::Value;

use super::{Exit, Global};
use crate::config::{Config, parse_duration};
use crate::query::render::{Format, Writer};
use crate::query::{Lake, Object, Rows};

/// Now, for what is asked "since".
pub(super) fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// A point in time: so long ago (`2d`), or a date or time in UTC (`2026-01-02`, `2026-01-02T03:04:05Z`).
pub(super) fn parse_since(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = parse_duration(text) {
        let micros = i64::try_from(ago.as_micros()).map_err(|_| "that is too long ago".to_owned())?;
        return Ok(Timestamp::from_micros(now().as_micros().saturating_sub(micros)));
    }
    Timestamp::parse(text)
        .or_else(|| Timestamp::parse(&format!("{text}T00:00:00Z")))
        .ok_or_else(|| "expected a duration (\"2d\") or a time (\"2026-01-02\", \"2026-01-02T03:04:05Z\")".to_owned())
}

/// A time as a value of SQL.
pub(super) fn time_value(time: Timestamp) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(time.as_micros()), Some("UTC".into()))
}

/// Text as a value of SQL; null where there is none.
pub(super) fn text_value(text: Option<&str>) -> ScalarValue {
    ScalarValue::Utf8(text.map(str::to_owned))
}

/// [`list`] of rows that were asked for one beyond `limit`: says so where there are more.
pub(super) fn list_first(global: &Global, mut rows: Rows, limit: u32) -> anyhow::Result<Exit> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut left = limit;
    let mut more = false;
    for batch in &mut rows.batches {
        more |= batch.num_rows() > left;
        *batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
    }
    let exit = list(global, &rows)?;
    if more && !global.quiet() {
        eprintln!("there are more: these are {limit}, --limit shows others");
    }
    Ok(exit)
}

/// The items of a host's answer as rows of these columns, shown as they are beside the ledger.
///
/// # Errors
/// Where the answer has other columns: the host is another forebay.
pub(super) fn of_items(answer: &Value, schema: SchemaRef) -> anyhow::Result<Rows> {
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).build_decoder()?;
    decoder.serialize(&items).context("the host's answer is not that of this forebay's host")?;
    Ok(Rows { schema, batches: decoder.flush()?.into_iter().collect() })
}

/// Writes rows as a table, or with `--json` as JSON lines.
pub(super) fn list(global: &Global, rows: &Rows) -> anyhow::Result<Exit> {
    let format = if global.json() { Format::Jsonl } else { Format::Table };
    let mut writer = Writer::new(format, Arc::clone(&rows.schema), std::io::stdout().lock());
    for batch in &rows.batches {
        writer.write(batch.clone())?;
    }
    writer.finish()?;
    Ok(Exit::Ok)
}

/// The query `work`: each segment with each pipeline of its stream, `pending` where the pipeline has not met it; of a replay into tables
/// beside, its own segments. Names in a config are letters, digits, `_`, `-` and `~`, so they can stand in SQL.
pub(super) fn work_query(config: &Config) -> String {
    let pairs: Vec<_> =
        config.pipelines.iter().map(|(name, pipeline)| format!("('{name}', '{}')", pipeline.from)).collect();
    let pairs = if pairs.is_empty() {
        "SELECT CAST(NULL AS VARCHAR) AS pipeline, CAST(NULL AS VARCHAR) AS stream WHERE false".to_owned()
    } else {
        format!("SELECT column1 AS pipeline, column2 AS stream FROM (VALUES {})", pairs.join(", "))
    };
    let has_sides = config.pipelines.keys().any(|name| name.as_side().is_some());
    let own = if has_sides {
        "LEFT JOIN ledger.side_segments c ON c.pipeline = p.pipeline AND c.segment = s.segment
            WHERE strpos(coalesce(p.pipeline, ''), '~') = 0 OR c.segment IS NOT NULL"
    } else {
        ""
    };
    format!(
        "WITH pairs AS ({pairs}), work AS (
            SELECT s.number, s.segment, s.stream, coalesce(s.key, s.partition) AS object, s.bytes, s.landed_at,
                   p.pipeline, CASE WHEN p.pipeline IS NULL THEN NULL ELSE coalesce(r.state, 'pending') END AS state,
                   r.generation, r.revision, r.records, r.loaded, r.filtered, r.rejected, r.rescued, r.attempts,
                   r.error_message, r.error_hint, r.failed_at, r.retry_at
            FROM ledger.segments s
            LEFT JOIN pairs p ON p.stream = s.stream
            LEFT JOIN ledger.refinements r ON r.segment = s.segment AND r.pipeline = p.pipeline
            {own})"
    )
}

/// The rows of a statement as JSON objects.
pub(super) async fn objects(lake: &Lake, sql: &str, values: Vec<(&str, ScalarValue)>) -> anyhow::Result<Vec<Object>> {
    lake.rows(sql, values).await?.objects()
}

/// A name as SQL writes it, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text of a row; empty where it is null.
pub(super) fn text<'a>(row: &'a Object, key: &str) -> &'a str {
    row.get(key).and_then(|value| value.as_str()).unwrap_or_default()
}

/// The first line of a message: what follows, a guest's stack say, is for who looks at one thing alone.
pub(super) fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// A count of a row; 0 where it is null.
pub(super) fn number(row: &Object, key: &str) -> u64 {
    row.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// A time of a row for people: of today the time alone, else date and time. UTC.
pub(super) fn moment(row: &Object, key: &str) -> String {
    let text = text(row, key);
    let Some(time) = Timestamp::parse(text) else { return "never".to_owned() };
    let (time, today) = (time.to_utc(), now().to_utc());
    let format = if time.date_naive() == today.date_naive() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.format(format).to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_duration_a_date_or_a_time() {
        assert_eq!(parse_since("2026-01-02").unwrap().to_string(), "2026-01-02T00:00:00Z");
        assert_eq!(parse_since("2026-01-02T03:04:05Z").unwrap().to_string(), "2026-01-02T03:04:05Z");
        let ago = now().since(parse_since("2d").unwrap());
        assert!((172_790..172_810).contains(&ago.as_secs()), "{ago:?}");
        for bad in ["", "yesterday", "2 days", "2026-13-01"] {
            assert!(parse_since(bad).is_err(), "{bad:?}");
        }
    }
}
