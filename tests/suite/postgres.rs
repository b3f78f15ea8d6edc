//! A schema of its own for each test, on the server that `FOREBAY_POSTGRES` names (`make test-services` starts one).
//!
//! Also a part of the ledger's own tests, by its path.
#![allow(dead_code, clippy::allow_attributes, reason = "not each test that has a schema looks into it")]

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// Dropped, it is removed, with what was moved aside for it.
#[derive(Debug)]
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// A name that nothing has; `None`, and a word about it, where there is no server.
    pub(crate) fn new() -> Option<Self> {
        let Ok(server) = std::env::var("FOREBAY_POSTGRES") else {
            eprintln!("skipped, no PostgreSQL (make test-services)");
            return None;
        };
        let name = format!("t_{}", &uuid::Uuid::new_v4().simple().to_string()[..16]);
        Some(Self { server, name })
    }

    /// The url of the ledger that it is.
    pub(crate) fn url(&self) -> String {
        format!("{}?schema={}", self.server, self.name)
    }

    /// The url of the server.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Carries statements out within it.
    pub(crate) async fn sql(&self, statements: &str) {
        let mut connection = self.connect().await;
        let answer = connection.execute(AssertSqlSafe(statements.to_owned())).await;
        answer.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// A connection that looks for names in it.
    pub(crate) async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.server).await.expect("the server of FOREBAY_POSTGRES");
        let path = format!("SET search_path = {}", self.name);
        connection.execute(AssertSqlSafe(path)).await.expect("a search path");
        connection
    }

    async fn remove(&self) -> sqlx::Result<()> {
        let mut connection = PgConnection::connect(&self.server).await?;
        let names =
            sqlx::query_scalar::<_, String>("SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname, $1)")
                .bind(&self.name)
                .fetch_all(&mut connection)
                .await?;
        // Of a test that ended within a transaction: its runtime does not come to end it.
        sqlx::query(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE starts_with(n.nspname, $1) AND l.pid <> pg_backend_pid()",
        )
        .bind(&self.name)
        .execute(&mut connection)
        .await?;
        for name in names {
            connection.execute(AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"))).await?;
        }
        connection.close().await
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // Within a runtime nothing can be waited for, so another thread has one of its own.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                if let Err(error) = runtime.block_on(self.remove()) {
                    eprintln!("schema {} is left: {error}", self.name);
                }
            });
        });
    }
}
