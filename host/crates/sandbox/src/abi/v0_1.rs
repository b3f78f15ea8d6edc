//! `forebay:transform@0.1.0`: its types, its imports and its exports.
//!
//! Data crosses once each way. To the guest, buffers are lowered from the slices that Arrow holds. From it, the lists of
//! an `emit` are read where they lie: inside an import the guest stands still, so its memory can be looked at, checked,
//! and copied into Arrow's buffers.

use forebay_model::plan::{InputColumn, InputSource, OutputColumn};
use forebay_model::ports::{AssetWant, BatchInput, LogLevel, SegmentContext};
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, Func, Instance, Lift, Linker, LinkerInstance, Lower, Resource,
    ResourceType, WasmList, WasmStr,
};
use wasmtime::{AsContextMut, Store, StoreContextMut};

use crate::call::Emit;
use crate::lower::{Flat, Node};
use crate::said::{Draft, DraftRoute, Refusal, SelfDescription};
use crate::state::{Denied, GuestState, Mistake};

/// The version of this file.
pub(crate) const VERSION: &str = "0.1.0";
/// Most bytes that an asset hands over at once.
const READ_BYTES: u64 = 1 << 20;

/// An open asset; the number behind it is its place among the assets by name.
struct OpenAsset;

type Context<'a> = StoreContextMut<'a, GuestState>;

#[derive(ComponentType, Lower, Lift, Clone, Copy)]
#[component(record)]
struct WitNode {
    length: u32,
    #[component(name = "null-count")]
    null_count: u32,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct BatchIn<'a> {
    rows: u32,
    nodes: &'a [WitNode],
    buffers: &'a [&'a [u8]],
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct BatchOut {
    rows: u32,
    nodes: WasmList<WitNode>,
    buffers: WasmList<WasmList<u8>>,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum RowNumbers<'a> {
    #[component(name = "from")]
    From(u64),
    #[component(name = "each")]
    Each(&'a [u64]),
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct CallContext<'a> {
    stream: &'a str,
    segment: &'a str,
    partition: &'a str,
    #[component(name = "first-position")]
    first_position: &'a str,
    rows: RowNumbers<'a>,
    #[component(name = "landed-at")]
    landed_at: i64,
    seed: u64,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum Selection {
    #[component(name = "all")]
    All,
    #[component(name = "rows")]
    Rows(WasmList<u32>),
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "only lifted")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitAssetWant {
    name: String,
    doc: String,
    required: bool,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitDescription {
    name: String,
    version: String,
    doc: String,
    #[component(name = "config-schema")]
    config_schema: String,
    assets: Vec<WitAssetWant>,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "only lifted")]
enum WitInputSource {
    #[component(name = "column")]
    Column,
    #[component(name = "record-key")]
    RecordKey,
    #[component(name = "record-headers")]
    RecordHeaders,
    #[component(name = "record-timestamp")]
    RecordTimestamp,
    #[component(name = "record-position")]
    RecordPosition,
    #[component(name = "record-object")]
    RecordObject,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitInputColumn {
    name: String,
    source: WitInputSource,
    required: bool,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitPass {
    input: String,
    output: String,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum WitOutputColumn {
    #[component(name = "pass-others")]
    PassOthers(Vec<String>),
    #[component(name = "pass")]
    Pass(WitPass),
    #[component(name = "computed")]
    Computed(u32),
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitRoute {
    name: String,
    columns: Vec<WitOutputColumn>,
    #[component(name = "computed-schema")]
    computed_schema: Vec<u8>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitPlan {
    inputs: Vec<WitInputColumn>,
    routes: Vec<WitRoute>,
    reusable: bool,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitBindError {
    message: String,
    hint: Option<String>,
    place: Option<String>,
}

/// Defines what a module may call.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    // An interface of types alone, which components import to name them.
    linker.instance("forebay:transform/types@0.1.0")?;
    let mut host = linker.instance("forebay:transform/host@0.1.0")?;
    host.func_wrap("emit", |store: Context<'_>, (route, selection, batch): (u32, Selection, BatchOut)| {
        emit(store, route, &selection, &batch)
    })?;
    host.func_wrap(
        "reject",
        |mut store: Context<'_>, (rows, code, message, retryable): (WasmList<u32>, WasmStr, WasmStr, bool)| {
            // Copied before the store is written to; the strings and rows are bounded by the fuel of a call.
            let rows = rows.as_le_slice(&store).to_vec();
            let code = code.to_str(&store)?.into_owned();
            let message = message.to_str(&store)?.into_owned();
            let (call, limits) = store.data_mut().call("reject")?;
            call.refuse(&rows, &code, &message, retryable, limits).map_err(|why| Mistake(format!("reject: {why}")))?;
            Ok(())
        },
    )?;
    host.func_wrap("log", |mut store: Context<'_>, (level, message): (Level, WasmStr)| {
        let message = message.to_str(&store)?.into_owned();
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        store.data_mut().console.log(level, &message);
        Ok(())
    })?;
    host.func_wrap("count", |mut store: Context<'_>, (name, delta): (String, u64)| {
        let (call, limits) = store.data_mut().call("count")?;
        call.count(&name, delta, limits).map_err(|why| Mistake(format!("count: {why}")))?;
        Ok(())
    })?;
    host.func_wrap("observe", |mut store: Context<'_>, (name, value): (String, f64)| {
        let (call, limits) = store.data_mut().call("observe")?;
        call.observe(&name, value, limits).map_err(|why| Mistake(format!("observe: {why}")))?;
        Ok(())
    })?;
    assets(&mut host)
}

fn emit(mut store: Context<'_>, route: u32, selection: &Selection, batch: &BatchOut) -> wasmtime::Result<()> {
    // More lists than the widest plan has are not even read.
    let most = store.data().limits.columns.saturating_mul(8);
    if batch.nodes.len() > most || batch.buffers.len() > most {
        return Err(Mistake(format!("emit to route {route}: more arrays than any plan has")).into());
    }
    let (call, _) = store.data_mut().call("emit")?;
    let place = call.emit_to(route);
    let nodes = batch
        .nodes
        .iter(&mut store)?
        .map(|node| node.map(|WitNode { length, null_count }| Node { length, null_count }))
        .collect::<wasmtime::Result<Vec<_>>>()?;
    let lists = batch.buffers.iter(&mut store)?.collect::<wasmtime::Result<Vec<_>>>()?;

    // What `admit` counts is written back after the guest's memory has been let go of.
    let mut call = store.data_mut().call.take().ok_or_else(|| Mistake("emit outside process".into()))?;
    let buffers: Vec<&[u8]> = lists.iter().map(|list| list.as_le_slice(&store)).collect();
    let selection = match selection {
        Selection::All => None,
        Selection::Rows(rows) => Some(rows.as_le_slice(&store)),
    };
    let emit = Emit { route, selection, rows: batch.rows, nodes: &nodes, buffers: &buffers };
    let lifted = call.admit(&emit, &store.data().limits).and_then(|()| call.lift(&emit));
    let result = lifted.map(|emission| call.push(emission)).map_err(|why| Mistake(format!("{place}: {why}")));
    store.data_mut().call = Some(call);
    Ok(result?)
}

fn assets(host: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    host.resource("asset", ResourceType::host::<OpenAsset>(), |_, _| Ok(()))?;
    host.func_wrap("[static]asset.open", |store: Context<'_>, (name,): (String,)| {
        let place = store.data().assets.keys().position(|known| *known == name);
        Ok((place.and_then(|place| u32::try_from(place).ok()).map(Resource::<OpenAsset>::new_own),))
    })?;
    host.func_wrap("[method]asset.size", |store: Context<'_>, (asset,): (Resource<OpenAsset>,)| {
        Ok((opened(&store, &asset)?.bytes.len() as u64,))
    })?;
    host.func_wrap("[method]asset.digest", |store: Context<'_>, (asset,): (Resource<OpenAsset>,)| {
        Ok((opened(&store, &asset)?.digest.to_string(),))
    })?;
    host.func_wrap(
        "[method]asset.read",
        |store: Context<'_>, (asset, offset, length): (Resource<OpenAsset>, u64, u32)| {
            let bytes = &opened(&store, &asset)?.bytes;
            let end = bytes.len() as u64;
            let first = offset.min(end);
            let last = first.saturating_add(u64::from(length).min(READ_BYTES)).min(end);
            let place = |offset: u64| usize::try_from(offset).unwrap_or(bytes.len());
            Ok((bytes.slice(place(first)..place(last)).to_vec(),))
        },
    )
}

fn opened<'a>(
    store: &'a Context<'_>,
    asset: &Resource<OpenAsset>,
) -> wasmtime::Result<&'a forebay_model::ports::Asset> {
    let found = store.data().assets.values().nth(asset.rep() as usize);
    found.ok_or_else(|| wasmtime::Error::new(Denied("the asset is gone".into())))
}

/// Where a component's exports are.
#[derive(Debug, Clone)]
pub(crate) struct ExportIndexes {
    describe: ComponentExportIndex,
    bind: ComponentExportIndex,
    process: ComponentExportIndex,
}

impl ExportIndexes {
    /// Finds them; an error names the one that is missing.
    pub(crate) fn find(component: &Component) -> Result<Self, &'static str> {
        let find = |name| component.get_export_index(None, name).ok_or(name);
        Ok(Self { describe: find("describe")?, bind: find("bind")?, process: find("process")? })
    }
}

/// The exports of an instance.
#[derive(Debug)]
pub(crate) struct Exports {
    describe: Func,
    bind: Func,
    process: Func,
}

impl Exports {
    /// The exports, whose types are checked.
    pub(crate) fn of(
        mut store: impl AsContextMut<Data = GuestState>,
        instance: &Instance,
        indexes: &ExportIndexes,
    ) -> wasmtime::Result<Self> {
        let mut find = |index: &ComponentExportIndex, name: &str| {
            instance
                .get_func(&mut store, index)
                .ok_or_else(|| wasmtime::Error::msg(format!("the export {name} is not a function")))
        };
        let exports = Self {
            describe: find(&indexes.describe, "describe")?,
            bind: find(&indexes.bind, "bind")?,
            process: find(&indexes.process, "process")?,
        };
        Ok(exports)
    }

    /// Whether the exports have the types of the WIT.
    pub(crate) fn check(&self, store: &Store<GuestState>) -> wasmtime::Result<()> {
        self.describe.typed::<(), (WitDescription,)>(store)?;
        self.bind.typed::<(&[u8], &str), (Result<WitPlan, WitBindError>,)>(store)?;
        self.process.typed::<(CallContext<'_>, BatchIn<'_>), (Result<(), String>,)>(store)?;
        Ok(())
    }

    pub(crate) fn describe(&self, store: &mut Store<GuestState>) -> wasmtime::Result<SelfDescription> {
        let describe = self.describe.typed::<(), (WitDescription,)>(&*store)?;
        let (WitDescription { name, version, doc, config_schema, assets },) = describe.call(store, ())?;
        let want = |WitAssetWant { name, doc, required }| AssetWant { name, doc, required };
        Ok(SelfDescription { name, version, doc, config_schema, assets: assets.into_iter().map(want).collect() })
    }

    pub(crate) fn bind(
        &self,
        store: &mut Store<GuestState>,
        schema: &[u8],
        config: &str,
    ) -> wasmtime::Result<Result<Draft, Refusal>> {
        let bind = self.bind.typed::<(&[u8], &str), (Result<WitPlan, WitBindError>,)>(&*store)?;
        let (answer,) = bind.call(store, (schema, config))?;
        Ok(answer.map(Draft::from).map_err(|WitBindError { message, hint, place }| Refusal { message, hint, place }))
    }

    /// The inner result is the rule's own.
    pub(crate) fn process(
        &self,
        store: &mut Store<GuestState>,
        segment: &SegmentContext,
        input: &BatchInput,
        flat: &Flat,
    ) -> wasmtime::Result<Result<(), String>> {
        let SegmentContext { stream, segment, partition, first_position, landed_at, seed } = segment;
        let first = input.numbers.first().copied().unwrap_or(0);
        // Without a branch or a compare, which baseline SIMD has none of for 64 bits.
        let strays = (first..).zip(&input.numbers).fold(0, |strays, (due, number)| strays | (due ^ number));
        let context = CallContext {
            stream,
            segment,
            partition,
            first_position,
            rows: if strays == 0 { RowNumbers::From(first) } else { RowNumbers::Each(&input.numbers) },
            landed_at: landed_at.as_micros(),
            seed: *seed,
        };
        let nodes: Vec<WitNode> = flat
            .nodes
            .iter()
            .map(|Node { length, null_count }| WitNode { length: *length, null_count: *null_count })
            .collect();
        let buffers: Vec<&[u8]> = flat.buffers.iter().map(|buffer| buffer.as_slice()).collect();
        let rows = u32::try_from(input.rows).map_err(|_| Mistake("the batch has too many rows".into()))?;
        let batch = BatchIn { rows, nodes: &nodes, buffers: &buffers };
        let process = self.process.typed::<(CallContext<'_>, BatchIn<'_>), (Result<(), String>,)>(&*store)?;
        Ok(process.call(store, (context, batch))?.0)
    }
}

impl From<WitPlan> for Draft {
    fn from(WitPlan { inputs, routes, reusable }: WitPlan) -> Self {
        let input = |WitInputColumn { name, source, required }| InputColumn { name, source: source.into(), required };
        let route = |WitRoute { name, columns, computed_schema }| DraftRoute {
            name,
            columns: columns.into_iter().map(OutputColumn::from).collect(),
            computed_schema,
        };
        Self {
            inputs: inputs.into_iter().map(input).collect(),
            routes: routes.into_iter().map(route).collect(),
            reusable,
        }
    }
}

impl From<WitInputSource> for InputSource {
    fn from(source: WitInputSource) -> Self {
        match source {
            WitInputSource::Column => Self::Column,
            WitInputSource::RecordKey => Self::RecordKey,
            WitInputSource::RecordHeaders => Self::RecordHeaders,
            WitInputSource::RecordTimestamp => Self::RecordTimestamp,
            WitInputSource::RecordPosition => Self::RecordPosition,
            WitInputSource::RecordObject => Self::RecordObject,
        }
    }
}

impl From<WitOutputColumn> for OutputColumn {
    fn from(column: WitOutputColumn) -> Self {
        match column {
            WitOutputColumn::PassOthers(except) => Self::PassOthers { except },
            WitOutputColumn::Pass(WitPass { input, output }) => Self::Pass { input, output },
            // An index that no host can count is out of range, which the check of the plan says.
            WitOutputColumn::Computed(index) => Self::Computed(usize::try_from(index).unwrap_or(usize::MAX)),
        }
    }
}
