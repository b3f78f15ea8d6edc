//! One connection, whichever database it goes to, and statements that both understand.
//!
//! A statement is written once, in the SQL that both databases take; [`dialect`](super::dialect) has what is left between
//! them. Values are texts, whole numbers and booleans: all that the ledger's columns are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr as _, SqlStr, Sqlite};

use super::dialect;

/// The tables of a schema, by their numbers: what PostgreSQL tells of a column's origin.
pub(crate) type Tables = Arc<BTreeMap<u32, String>>;

/// A connection, within a transaction.
#[derive(Debug)]
pub(crate) enum Db<'c> {
    /// To a file.
    Sqlite(&'c mut SqliteConnection),
    /// To a server.
    Postgres(&'c mut PgConnection, Tables),
}

/// A row of an answer; [`Cells`](super::rows::Cells) reads it.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow, Tables),
}

/// What is given to a statement.
#[derive(Debug, Clone)]
pub(crate) enum Value<'q> {
    Text(Option<Cow<'q, str>>),
    Number(Option<i64>),
    Truth(bool),
}

/// A statement and its values.
#[derive(Debug)]
pub(crate) struct Query<'q> {
    sql: Cow<'static, str>,
    values: Vec<Value<'q>>,
    persistent: bool,
}

/// What a statement did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    rows: u64,
}

impl Done {
    /// How many rows it wrote.
    pub(crate) fn rows_affected(self) -> u64 {
        self.rows
    }
}

/// A statement; its values are `?` in order, or `?1`, `?2` …, by their place.
pub(crate) fn query<'q>(sql: impl Into<Cow<'static, str>>) -> Query<'q> {
    Query { sql: sql.into(), values: Vec::new(), persistent: true }
}

/// The values of a statement, as a database takes them.
macro_rules! bound {
    ($query:expr, $values:expr, $persistent:expr, $text:expr) => {{
        let mut query = $query.persistent($persistent);
        for value in $values {
            query = match value {
                Value::Text(text) => query.bind(text.map($text)),
                Value::Number(number) => query.bind(number),
                Value::Truth(truth) => query.bind(truth),
            };
        }
        query
    }};
}

impl<'q> Query<'q> {
    /// The next value.
    pub(crate) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    fn sqlite(self) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
        let Self { sql, values, persistent } = self;
        bound!(sqlx::query(trusted(sql)), values, persistent, Cow::into_owned)
    }

    fn postgres(self) -> sqlx::query::Query<'static, Postgres, PgArguments> {
        let Self { sql, values, persistent } = self;
        let sql = AssertSqlSafe(dialect::placeholders(&sql));
        bound!(sqlx::query(sql), values, persistent, dialect::text)
    }

    /// Carries it out.
    pub(crate) async fn execute(self, db: &mut Db<'_>) -> sqlx::Result<Done> {
        let rows = match db {
            Db::Sqlite(connection) => self.sqlite().execute(&mut **connection).await?.rows_affected(),
            Db::Postgres(connection, _) => self.postgres().execute(&mut **connection).await?.rows_affected(),
        };
        Ok(Done { rows })
    }

    /// All rows of its answer.
    pub(crate) async fn fetch_all(self, db: &mut Db<'_>) -> sqlx::Result<Vec<Row>> {
        Ok(match db {
            Db::Sqlite(connection) => {
                let rows = self.sqlite().fetch_all(&mut **connection).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Db::Postgres(connection, tables) => {
                let rows = self.postgres().fetch_all(&mut **connection).await?;
                rows.into_iter().map(|row| Row::Postgres(row, Arc::clone(tables))).collect()
            }
        })
    }

    /// The first row of its answer, where there is one.
    pub(crate) async fn fetch_optional(self, db: &mut Db<'_>) -> sqlx::Result<Option<Row>> {
        Ok(match db {
            Db::Sqlite(connection) => self.sqlite().fetch_optional(&mut **connection).await?.map(Row::Sqlite),
            Db::Postgres(connection, tables) => {
                let row = self.postgres().fetch_optional(&mut **connection).await?;
                row.map(|row| Row::Postgres(row, Arc::clone(tables)))
            }
        })
    }

    /// The first row of its answer; there must be one.
    pub(crate) async fn fetch_one(self, db: &mut Db<'_>) -> sqlx::Result<Row> {
        self.fetch_optional(db).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

/// A statement's text holds no value: it is made of this crate's constants alone.
fn trusted(sql: Cow<'static, str>) -> SqlStr {
    match sql {
        Cow::Borrowed(sql) => sql.into_sql_str(),
        Cow::Owned(sql) => AssertSqlSafe(sql).into_sql_str(),
    }
}

/// `INSERT` of many rows.
#[derive(Debug)]
pub(crate) struct Insert<'q> {
    sql: String,
    values: Vec<Value<'q>>,
}

/// The values of one row.
#[derive(Debug)]
pub(crate) struct Values<'i, 'q> {
    of: &'i mut Insert<'q>,
    first: bool,
}

impl<'q> Insert<'q> {
    /// `INSERT INTO table (columns) `.
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new() }
    }

    /// `VALUES` of rows, each as `row` gives its values.
    pub(crate) fn push_values<T>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        mut row: impl FnMut(&mut Values<'_, 'q>, T),
    ) {
        self.sql.push_str("VALUES ");
        for (place, values) in rows.into_iter().enumerate() {
            self.sql.push_str(if place > 0 { ", (" } else { "(" });
            row(&mut Values { of: self, first: true }, values);
            self.sql.push(')');
        }
    }

    /// What follows.
    pub(crate) fn push(&mut self, sql: &'static str) {
        self.sql.push_str(sql);
    }

    /// The statement; its text is of that many rows, so that it is not kept prepared.
    pub(crate) fn build(self) -> Query<'q> {
        Query { sql: Cow::Owned(self.sql), values: self.values, persistent: false }
    }
}

impl<'q> Values<'_, 'q> {
    /// The next value.
    pub(crate) fn push_bind(&mut self, value: impl Into<Value<'q>>) -> &mut Self {
        self.of.sql.push_str(if self.first { "?" } else { ", ?" });
        self.of.values.push(value.into());
        self.first = false;
        self
    }
}

impl<'q> From<&'q str> for Value<'q> {
    fn from(text: &'q str) -> Self {
        Self::Text(Some(Cow::Borrowed(text)))
    }
}
impl<'q> From<Option<&'q str>> for Value<'q> {
    fn from(text: Option<&'q str>) -> Self {
        Self::Text(text.map(Cow::Borrowed))
    }
}
impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(Cow::Owned(text)))
    }
}
impl From<Option<String>> for Value<'_> {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(Cow::Owned))
    }
}
impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}
impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}
impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}
