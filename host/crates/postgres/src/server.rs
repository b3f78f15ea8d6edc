//! Whether a server will do.

use sqlx::{PgConnection, Row as _};

/// The oldest server that ends sessions that are idle: a host that is stopped loses its lease by that.
const OLDEST_SERVER: i32 = 140_000;

/// Why a server or a database will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// What it is.
    pub what: String,
    /// What would do.
    pub hint: &'static str,
}

/// Why the server, or the database, of this connection will not do; `None` where it will.
///
/// # Errors
/// Where it does not answer.
pub async fn unfit(connection: &mut PgConnection) -> sqlx::Result<Option<Unfit>> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::int4 AS number, current_setting('server_version') AS version, \
         current_setting('server_encoding') AS encoding",
    )
    .fetch_one(connection)
    .await?;
    let (version, encoding): (String, String) = (row.try_get("version")?, row.try_get("encoding")?);
    if row.try_get::<i32, _>("number")? < OLDEST_SERVER {
        let what = format!("the server is PostgreSQL {version}");
        return Ok(Some(Unfit { what, hint: "use PostgreSQL 14 or later" }));
    }
    if encoding != "UTF8" {
        let hint = "make one for it: createdb --encoding=UTF8 --template=template0 …";
        return Ok(Some(Unfit { what: format!("the database's encoding is {encoding}, not UTF8"), hint }));
    }
    Ok(None)
}
