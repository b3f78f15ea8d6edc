//! Time and chance that a test steers, rows, and layers over the disk and the store that fail on purpose.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use forebay_model::column::{self, own_fields};
use forebay_model::ports::{Clock, MaintainOptions, Random, StagingRequest, Warehouse as _};
use forebay_model::{Digest, Load, PipelineName, SEGMENT, SegmentId, StagedFile, Timestamp};
use futures::stream::BoxStream;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use uuid::Uuid;

use super::super::{DeltaOptions, DeltaWarehouse, StoreLayer};

pub(super) const LEDGER: Uuid = Uuid::from_u128(0x1ed6e2);

/// The system's time, and what a test adds.
#[derive(Debug, Default)]
pub(super) struct TestClock(AtomicI64);

impl TestClock {
    pub(super) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::from_system(std::time::SystemTime::now());
        Timestamp::from_micros(now.as_micros() + self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[derive(Debug)]
struct TestRandom(AtomicU64);

impl Random for TestRandom {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.bits()))
    }

    fn bits(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Chance that lets something happen the first time a data file gets its name.
pub(super) struct Intruding {
    inner: Arc<dyn Random>,
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Intruding {
    pub(super) fn new(inner: Arc<dyn Random>, act: impl FnOnce() + Send + 'static) -> Self {
        Self { inner, act: Mutex::new(Some(Box::new(act))) }
    }
}

impl std::fmt::Debug for Intruding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intruding")
    }
}

impl Random for Intruding {
    fn uuid(&self) -> Uuid {
        let act = self.act.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
        self.inner.uuid()
    }

    fn bits(&self) -> u64 {
        self.inner.bits()
    }
}

/// A folder with a warehouse, which many processes may open.
pub(super) struct World {
    folder: tempfile::TempDir,
    pub(super) clock: Arc<TestClock>,
    processes: AtomicU64,
}

impl World {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::default(), processes: AtomicU64::new(1) }
    }

    pub(super) fn options(&self) -> DeltaOptions {
        let process = self.processes.fetch_add(1, Ordering::SeqCst);
        let random = TestRandom(AtomicU64::new(process << 32));
        DeltaOptions { checkpoint_interval: 10, ..DeltaOptions::new(self.clock.clone(), Arc::new(random)) }
    }

    /// Another process.
    pub(super) fn open(&self) -> DeltaWarehouse {
        self.open_with(self.options())
    }

    pub(super) fn open_with(&self, options: DeltaOptions) -> DeltaWarehouse {
        DeltaWarehouse::open(self.root(), options).unwrap()
    }

    pub(super) fn layered(
        &self,
        layer: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> + Send + Sync + 'static,
    ) -> DeltaWarehouse {
        let layer: StoreLayer = Arc::new(layer);
        self.open_with(DeltaOptions { store_layer: Some(layer), ..self.options() })
    }

    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("warehouse")
    }

    pub(super) fn table(&self) -> PathBuf {
        self.root().join("t")
    }

    pub(super) fn commit_file(&self, version: u64) -> PathBuf {
        self.table().join(format!("_delta_log/{version:020}.json"))
    }

    pub(super) fn maintenance(&self) -> MaintainOptions {
        MaintainOptions {
            target_file_bytes: 64 << 20,
            retention: Duration::from_secs(3600),
            dry_run: false,
            now: self.clock.now(),
            keep_staged: Vec::new(),
        }
    }
}

pub(super) fn segment(name: &str) -> SegmentId {
    SegmentId::from_text(format!("s/{name:0>24}"))
}

pub(super) fn schema_of(fields: Vec<Field>) -> SchemaRef {
    let own = own_fields();
    let own = own.iter().map(|field| field.as_ref().clone());
    let stored = fields.into_iter().chain(own).map(|field| crate::columns::storage_field(&field).unwrap());
    Arc::new(Schema::new(stored.collect::<Vec<_>>()))
}

pub(super) fn schema() -> SchemaRef {
    schema_of(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)])
}

/// Rows of a segment; columns that are not known here are null.
pub(super) fn batch(schema: &SchemaRef, name: &str, rows: usize) -> RecordBatch {
    let numbers = || (0..rows).map(|row| i64::try_from(row).unwrap());
    let column = |field: &Field| -> ArrayRef {
        match field.name().as_str() {
            "id" => Arc::new(numbers().collect::<Int64Array>()),
            "name" => Arc::new(numbers().map(|row| Some(format!("name {row}"))).collect::<StringArray>()),
            SEGMENT => Arc::new(StringArray::from(vec![segment(name).as_str(); rows])),
            column::ROW => Arc::new(numbers().collect::<Int64Array>()),
            column::ITEM => Arc::new(Int32Array::from(vec![0; rows])),
            column::LOADED_AT => {
                Arc::new(TimestampMicrosecondArray::from(vec![1_767_323_045_000_000; rows]).with_timezone("UTC"))
            }
            _ => new_null_array(field.data_type(), rows),
        }
    };
    let columns = schema.fields().iter().map(|field| column(field)).collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

pub(super) fn stage_batch(
    warehouse: &DeltaWarehouse,
    name: &str,
    batch: &RecordBatch,
) -> forebay_model::Result<Vec<StagedFile>> {
    let request =
        StagingRequest { table: "t".into(), segment: segment(name), schema: batch.schema(), partition_by: vec![] };
    let mut writer = warehouse.stage(request)?;
    writer.write(batch)?;
    writer.finish()
}

pub(super) fn stage(warehouse: &DeltaWarehouse, name: &str, rows: usize) -> Vec<StagedFile> {
    stage_batch(warehouse, name, &batch(&schema(), name, rows)).unwrap()
}

pub(super) fn load_of(number: u64, schema: &SchemaRef, files: Vec<StagedFile>, removes: &[&str]) -> Load {
    Load {
        ledger: LEDGER,
        pipeline: PipelineName::new("p").unwrap(),
        number,
        id: Uuid::from_u128(u128::from(number) << 64 | 7),
        table: "lake.t".parse().unwrap(),
        revision: Digest::of(b"revision"),
        schema_version: 1,
        begun_at: Timestamp::from_micros(1_767_323_045_000_000),
        schema: schema.clone(),
        partition_by: Vec::new(),
        files,
        removes: removes.iter().map(|name| segment(name)).collect(),
        chosen: false,
    }
}

pub(super) fn a_load(number: u64, files: Vec<StagedFile>, removes: &[&str]) -> Load {
    load_of(number, &schema(), files, removes)
}

/// How many rows of each segment a query sees.
pub(super) async fn counts(warehouse: &DeltaWarehouse) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    if let Some(rows) = warehouse.rows("t").await.unwrap() {
        for name in rows.column_by_name(SEGMENT).unwrap().as_string::<i32>().iter().flatten() {
            *counts.entry(name.trim_start_matches("s/").trim_start_matches('0').to_owned()).or_default() += 1;
        }
    }
    counts
}

pub(super) fn are(wanted: &[(&str, usize)]) -> BTreeMap<String, usize> {
    wanted.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect()
}

pub(super) fn ids(rows: &RecordBatch) -> i64 {
    rows.column_by_name("id").unwrap().as_primitive::<Int64Type>().iter().flatten().sum()
}

/// A store that fails on purpose, and counts.
#[derive(Debug)]
pub(super) struct FaultyStore {
    pub(super) inner: Arc<dyn ObjectStore>,
    pub(super) faults: Arc<Faults>,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    /// So many commits are written, and answered with an error.
    pub(super) lose_answers: AtomicUsize,
    /// So many commits are answered with an error, and not written.
    pub(super) refuse_commits: AtomicUsize,
    /// Checkpoints are refused.
    pub(super) refuse_checkpoints: AtomicUsize,
    /// Reads so far.
    pub(super) reads: AtomicUsize,
}

fn take(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn broken() -> object_store::Error {
    object_store::Error::Generic { store: "FaultyStore", source: "as the test asked".into() }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyStore")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let name = location.filename().unwrap_or_default();
        let is_commit = name.len() == 25;
        if is_commit && take(&self.faults.refuse_commits) {
            return Err(broken());
        }
        if name.contains("checkpoint") && take(&self.faults.refuse_checkpoints) {
            return Err(broken());
        }
        let answer = self.inner.put_opts(location, payload, options).await;
        if is_commit && answer.is_ok() && take(&self.faults.lose_answers) {
            return Err(broken());
        }
        answer
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        if location.as_ref().contains("checkpoint") && take(&self.faults.refuse_checkpoints) {
            return Err(broken());
        }
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> object_store::Result<GetResult> {
        self.faults.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<StorePath>>,
    ) -> BoxStream<'static, object_store::Result<StorePath>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
