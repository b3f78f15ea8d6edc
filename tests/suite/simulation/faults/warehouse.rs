use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use async_trait::async_trait;
use forebay_model::ports::{
    CommittedLoad, MaintainOptions, MaintainReport, StagedWriter, StagingRequest, TableHistory, TableInfo, TableOwner,
    Warehouse,
};
use forebay_model::{ErrorClass, Load, LoadReceipt, Result, SegmentId, StagedFile};
use uuid::Uuid;

use super::Chaos;

/// A warehouse that fails.
#[derive(Debug)]
pub(crate) struct FaultyWarehouse {
    pub(crate) inner: Arc<dyn Warehouse>,
    pub(crate) chaos: Arc<Chaos>,
}

impl FaultyWarehouse {
    /// As where somebody has removed a staged file: this load can never be, now or at another time. One that is done is done.
    async fn lose_a_file(&self, load: &Load) -> Result<()> {
        let Some(file) = load.files.first().filter(|_| self.chaos.loses("lake.commit")) else { return Ok(()) };
        let table = load.table.table.as_str();
        let last = self.inner.committed(table, load.ledger, load.pipeline.as_str()).await?;
        if last.is_none_or(|last| last.number < load.number) {
            self.inner.discard(table, std::slice::from_ref(file)).await?;
            self.chaos.count(|tally| tally.staged_file_gone += 1);
        }
        Ok(())
    }
}

#[async_trait]
impl Warehouse for FaultyWarehouse {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn storage_field(&self, field: &Field) -> Result<Field> {
        self.inner.storage_field(field)
    }

    fn store_column(&self, column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        self.inner.store_column(column, to)
    }

    async fn table(&self, table: &str) -> Result<Option<TableInfo>> {
        self.chaos.call("lake.table", || table.to_owned(), self.inner.table(table)).await
    }

    async fn tables(&self) -> Result<Vec<String>> {
        self.chaos.call("lake.tables", String::new, self.inner.tables()).await
    }

    fn stage(&self, request: StagingRequest) -> Result<Box<dyn StagedWriter>> {
        let detail = || format!("{} {}", request.table, request.segment);
        let inner = self.chaos.call_now("lake.stage", detail, || self.inner.stage(request.clone()))?;
        Ok(Box::new(FaultyWriter { inner, chaos: Arc::clone(&self.chaos) }))
    }

    async fn commit(&self, load: &Load) -> Result<LoadReceipt> {
        let detail = || {
            let files: Vec<_> = load.files.iter().map(|file| file.path.as_str()).collect();
            format!("{} load {} adds {files:?} removes {:?}", load.table, load.number, load.removes)
        };
        let work = async {
            self.lose_a_file(load).await?;
            let committed = self.inner.commit(load).await;
            if matches!(&committed, Err(error) if error.class() == ErrorClass::RejectRows) {
                self.chaos.count(|tally| tally.refused += 1);
            }
            committed
        };
        self.chaos.call("lake.commit", detail, work).await
    }

    async fn history(&self, table: &str) -> Result<Option<TableHistory>> {
        self.chaos.call("lake.history", || table.to_owned(), self.inner.history(table)).await
    }

    async fn committed(&self, table: &str, ledger: Uuid, pipeline: &str) -> Result<Option<CommittedLoad>> {
        self.chaos.call("lake.committed", || table.to_owned(), self.inner.committed(table, ledger, pipeline)).await
    }

    async fn rows_of(&self, table: &str, segment: &SegmentId) -> Result<Vec<RecordBatch>> {
        self.chaos.call("lake.rows_of", || format!("{table} {segment}"), self.inner.rows_of(table, segment)).await
    }

    async fn discard(&self, table: &str, files: &[StagedFile]) -> Result<()> {
        let detail = || format!("{table} {:?}", files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>());
        self.chaos.call("lake.discard", detail, self.inner.discard(table, files)).await
    }

    async fn maintain(&self, table: &str, options: &MaintainOptions) -> Result<MaintainReport> {
        self.chaos.call("lake.maintain", || table.to_owned(), self.inner.maintain(table, options)).await
    }

    async fn drop_table(&self, table: &str, owner: &TableOwner) -> Result<bool> {
        self.chaos.call("lake.drop_table", || table.to_owned(), self.inner.drop_table(table, owner)).await
    }
}

struct FaultyWriter {
    inner: Box<dyn StagedWriter>,
    chaos: Arc<Chaos>,
}

impl StagedWriter for FaultyWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let Self { inner, chaos } = self;
        chaos.call_now("lake.write", || format!("{} rows", batch.num_rows()), || inner.write(batch))
    }

    fn buffered_bytes(&self) -> usize {
        self.inner.buffered_bytes()
    }

    fn finish(self: Box<Self>) -> Result<Vec<StagedFile>> {
        let Self { inner, chaos } = *self;
        chaos.call_now("lake.finish", String::new, || inner.finish())
    }
}
