//! What a guest says beside its buffers: its description, its plan, and emits, refusals, counts, observations and log lines under a
//! plan that passed. What passes holds what its consumers build on; what does not is an error of bounded length.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use arrow_array::Array as _;
use arrow_schema::{DataType, Field, Schema};
use forebay_model::plan::{InputColumn, InputSource, OutputColumn, Plan};
use forebay_model::ports::{AssetWant, LogLevel, Selection};

use super::bytes::Bytes;
use crate::call::{Call, Emit};
use crate::limits::Limits;
use crate::output::{Console, GuestLog, Stream};
use crate::said::{Draft, DraftRoute, SelfDescription};
use crate::{description, plan, schema};

/// An error is shown to a person, and stands in a ledger: whatever a guest sends, it is no longer than this.
const MESSAGE_BYTES: usize = 64 << 10;

fn limits() -> Limits {
    Limits {
        output_mib: 1,
        output_rows: 64,
        emits: 6,
        columns: 24,
        routes: 4,
        depth: 4,
        refusal_bytes: 16,
        metrics: 3,
        observations: 4,
        log_lines: 5,
        log_kib: 1,
        ..Limits::default()
    }
}

fn input() -> Schema {
    let names = ["id", "Amount", "", "_forebay_id", "a \"b\".c", "país"];
    Schema::new(names.map(|name| Field::new(name, DataType::Utf8, true)).to_vec())
}

impl Bytes<'_> {
    fn flag(&mut self) -> bool {
        !self.byte().is_multiple_of(2)
    }

    /// A name that often is one of the input's.
    fn name(&mut self) -> String {
        match self.byte() {
            0..=19 => self.text(),
            20..=29 => "x".repeat(usize::from(self.byte()) * 8),
            other => ["id", "Amount", "", "_forebay_id", "out", "c0", "c1", "país", "x"]
                .get(usize::from(other % 9))
                .map(|name| (*name).to_owned())
                .unwrap_or_default(),
        }
    }

    fn names(&mut self) -> Vec<String> {
        (0..self.byte() % 4).map(|_| self.name()).collect()
    }

    fn number(&mut self) -> u32 {
        match self.byte() {
            255 => u32::MAX,
            254 => u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
            small => u32::from(small % 24),
        }
    }

    fn rows(&mut self) -> Vec<u32> {
        (0..self.byte() % 24).map(|_| self.number()).collect()
    }

    fn description(&mut self) -> SelfDescription {
        let asset = |bytes: &mut Self| AssetWant { name: bytes.name(), doc: bytes.name(), required: bytes.flag() };
        SelfDescription {
            name: self.name(),
            version: self.name(),
            doc: self.name(),
            config_schema: if self.flag() { "{}".to_owned() } else { self.name() },
            assets: (0..self.byte() % 80).map(|_| asset(self)).collect(),
        }
    }

    fn draft(&mut self) -> Draft {
        let source = |byte: u8| match byte % 12 {
            0 => InputSource::RecordKey,
            1 => InputSource::RecordHeaders,
            2 => InputSource::RecordTimestamp,
            3 => InputSource::RecordPosition,
            4 => InputSource::RecordObject,
            _ => InputSource::Column,
        };
        let read =
            |bytes: &mut Self| InputColumn { name: bytes.name(), source: source(bytes.byte()), required: bytes.flag() };
        let column = |bytes: &mut Self| match bytes.byte() % 4 {
            0 => OutputColumn::PassOthers { except: bytes.names() },
            1 => OutputColumn::Pass { input: bytes.name(), output: bytes.name() },
            _ => OutputColumn::Computed(bytes.number() as usize % 30),
        };
        let route = |bytes: &mut Self| {
            let count = bytes.byte() % 4;
            let fields = bytes.fields(count);
            let computed_schema = match bytes.byte() {
                0..=9 => bytes.text().into_bytes(),
                _ => schema::encode(&Schema::new(fields)).unwrap_or_default(),
            };
            let columns = (0..bytes.byte() % 30).map(|_| column(bytes)).collect();
            DraftRoute { name: bytes.name(), columns, computed_schema }
        };
        Draft {
            inputs: (0..self.byte() % 30).map(|_| read(self)).collect(),
            routes: (0..self.byte() % 6).map(|_| route(self)).collect(),
            reusable: self.flag(),
        }
    }
}

/// What the log gets.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl GuestLog for Lines {
    fn line(&self, _: &str, _: LogLevel, text: &str) {
        self.0.lock().expect("nobody panics with it").push(text.to_owned());
    }
}

fn told(error: &str) {
    assert!(error.len() <= MESSAGE_BYTES, "a message of {} bytes", error.len());
}

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    match description::check(bytes.description()) {
        Ok(description) => assert!(description.config_schema.is_object() || description.config_schema.is_boolean()),
        Err(error) => told(&error),
    }
    let (limits, input) = (limits(), input());
    let plan = match plan::check("m", bytes.draft(), &input, &limits) {
        Ok(plan) => plan,
        Err(error) => return told(&error.to_string()),
    };
    for (route, planned) in plan.routes.iter().enumerate() {
        let (of_route, columns) = plan.resolve(route, &input).expect("a plan that passed resolves");
        let names: BTreeSet<_> = of_route.fields().iter().map(|field| field.name()).collect();
        assert_eq!((names.len(), of_route.fields().len()), (columns.len(), columns.len()), "{}", planned.name);
    }
    call(&mut bytes, &Arc::new(plan), &limits);
}

/// A call under the plan.
fn call(bytes: &mut Bytes<'_>, plan: &Arc<Plan>, limits: &Limits) {
    let rows = u32::from(bytes.byte() % 20);
    let lines = Arc::new(Lines::default());
    let mut console = Console::new(Arc::<Lines>::clone(&lines), "m".into());
    let mut call = Call::new(Arc::clone(plan), rows);
    console.begin(limits);
    // The first mistake ends a call, as it does behind the boundary.
    while !bytes.0.is_empty() {
        let done = match bytes.byte() % 6 {
            0 | 1 => emit(bytes, &mut call, limits),
            2 => {
                let (rows, code, message, retryable) = (bytes.rows(), bytes.name(), bytes.name(), bytes.flag());
                call.refuse(&rows, &code, &message, retryable, limits)
            }
            3 => call.count(&bytes.name(), u64::MAX - u64::from(bytes.byte()), limits),
            4 => call.observe(&bytes.name(), f64::from(bytes.number()), limits),
            _ => {
                console.log(LogLevel::Info, &bytes.text());
                let stream = if bytes.flag() { Stream::Stdout } else { Stream::Stderr };
                console.print(stream, bytes.text().as_bytes());
                Ok(())
            }
        };
        if let Err(error) = done {
            told(&error);
            return;
        }
    }
    console.end();
    finished(call, rows, plan, limits);
    let lines = lines.0.lock().expect("nobody panics with it");
    assert!(lines.len() <= limits.log_lines + 1, "{} lines", lines.len());
    assert!(lines.iter().all(|line| !line.chars().any(|c| c.is_control() && c != '\t')), "a line steers a terminal");
}

fn emit(bytes: &mut Bytes<'_>, call: &mut Call, limits: &Limits) -> Result<(), String> {
    let route = bytes.number();
    told(&call.emit_to(route));
    let selection = bytes.flag().then(|| bytes.rows());
    let due = selection.as_ref().map_or(call.rows, |rows| u32::try_from(rows.len()).unwrap_or(u32::MAX));
    let rows = if bytes.byte() == 0 { bytes.number() } else { due };
    let plan = Arc::clone(&call.plan);
    // A route that is not there gets the columns of one that is.
    let planned = plan.routes.get(route as usize).or(plan.routes.first()).ok_or("no route")?;
    let (nodes, buffers) = bytes.flat(planned.computed.fields(), rows);
    let emit = Emit { route, selection: selection.as_deref(), rows, nodes: &nodes, buffers: &buffers };
    call.admit(&emit, limits)?;
    let emission = call.lift(&emit)?;
    call.push(emission);
    Ok(())
}

/// What the pipeline builds on.
fn finished(call: Call, rows: u32, plan: &Plan, limits: &Limits) {
    let output = call.finish();
    assert!(output.emissions.len() as u64 <= limits.emits);
    let mut emitted = 0;
    for emission in &output.emissions {
        let planned = &plan.routes[emission.route];
        let selected = match &emission.selection {
            Selection::All => rows as usize,
            Selection::Rows(selected) => {
                assert!(selected.values().iter().all(|row| *row < rows));
                selected.len()
            }
        };
        emitted += selected as u64;
        assert_eq!(emission.computed.len(), planned.computed.fields().len());
        for (column, field) in emission.computed.iter().zip(planned.computed.fields()) {
            assert_eq!((column.len(), column.data_type()), (selected, field.data_type()));
            column.to_data().validate_full().expect("what was lifted is valid");
            assert!(field.is_nullable() || column.logical_null_count() == 0, "nulls where none may be");
        }
    }
    assert!(emitted <= limits.output_rows);
    let refused: BTreeSet<_> = output.refusals.iter().map(|refusal| refusal.row).collect();
    assert_eq!(refused.len(), output.refusals.len(), "a row is refused once");
    assert!(refused.iter().all(|row| *row < rows));
    assert!(output.refusals.iter().all(|refusal| refusal.message.len() <= limits.refusal_bytes.max('…'.len_utf8())));
    assert!(output.counts.len() <= limits.metrics && output.observations.len() <= limits.observations);
    let names = output.counts.keys().chain(output.observations.iter().map(|(name, _)| name));
    assert!(names.into_iter().all(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')));
}
