//! Small rules, each of which shows one promise of the SDK, run in the harness.
#![expect(clippy::unwrap_used, reason = "tests")]

use forebay_sdk::arrow::{DataType, Field, TimeUnit};
use forebay_sdk::build::{BinaryBuilder, BoolBuilder, ListBuilder, NumberBuilder, StringBuilder, StructBuilder};
use forebay_sdk::random::Random;
use forebay_sdk::testing::arrow_array::{
    BinaryArray, Date32Array, Decimal128Array, TimestampNanosecondArray, UInt16Array,
};
use forebay_sdk::testing::{Harness, HarnessError};
use forebay_sdk::*;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// A rule made of two functions, so that each test is only what it is about.
macro_rules! rule {
    ($name:ident, |$input:ident| $plan:expr, |$batch:ident, $output:ident| $process:expr) => {
        struct $name;
        impl Transform for $name {
            type Config = Empty;
            const ASSETS: &'static [AssetWant] = &[AssetWant::optional("list", "A list.")];
            fn new(_: Empty, $input: &InputSchema) -> Result<(Self, Plan), BindError> {
                Ok((Self, $plan))
            }
            fn process(&mut self, $batch: &Batch, $output: &mut Output) -> Result<(), RuleError> {
                $process
            }
        }
        export!($name);
    };
}

#[derive(Deserialize, JsonSchema)]
struct Empty {}

fn bind_error<T: Module>(harness: &Harness<T>) -> BindError {
    match harness.run() {
        Err(HarnessError::Bind(error)) => error,
        other => unreachable!("expected a bind error, got {other:?}"),
    }
}

mod reading {
    use super::*;

    #[derive(Row)]
    struct Wide<'a> {
        flag: bool,
        small: i32,
        large: i64,
        share: f64,
        #[column("Full Name")]
        name: &'a str,
        raw: &'a [u8],
        day: Date,
        at: Timestamp,
        gone: Option<f64>,
        maybe: Option<&'a str>,
    }

    rule!(
        Reads,
        |input| Plan::new(input)
            .row::<Wide<'_>>()
            .route("out", |columns| columns.pass("large").computed("text", DataType::Utf8)),
        |batch, output| {
            let mut texts = StringBuilder::new();
            for row in Wide::rows(batch)? {
                let Wide { flag, small, large, share, name, raw, day, at, gone, maybe } = row;
                texts.push_with(|text| {
                    write!(text, "{flag} {small} {large} {share} {name} {raw:?} {} {} {gone:?} {maybe:?}", day.0, at.0)
                });
            }
            output.emit_all("out").column(&texts).send()
        }
    );

    /// Each field from a type that its kind takes, most of them by conversion.
    #[test]
    fn a_row_has_its_columns_values_whatever_type_they_came_in() {
        let outcome = Harness::<Reads>::new()
            .input_json(
                r#"{"flag": true, "large": 7, "share": 3, "FULL NAME": "Ada", "maybe": null}
                   {"flag": false, "large": -7, "share": 4, "FULL NAME": "Bö", "maybe": "x"}"#,
            )
            .column("small", UInt16Array::from(vec![1, 65_535]))
            .column("raw", BinaryArray::from(vec![b"ab".as_slice(), b""]))
            .column("day", Date32Array::from(vec![1, -1]))
            .column("at", TimestampNanosecondArray::from(vec![1_999, -1]))
            .run()
            .unwrap();
        assert_eq!(
            outcome.column("out", "text"),
            ["true 1 7 3 Ada [97, 98] 1 1 None None", "false 65535 -7 4 Bö [] -1 -1 None Some(\"x\")"]
        );
    }

    #[test]
    fn a_row_that_lacks_a_required_column_never_reaches_the_rule() {
        let outcome = Harness::<Reads>::new().input_json(r#"{"flag": true, "large": 1}"#).run().unwrap();
        assert_eq!((outcome.rejects.len(), outcome.rows("out").len()), (1, 0));
        assert!(outcome.rejects[0].by_host);
    }

    #[test]
    fn a_type_that_the_kind_does_not_take_is_a_bind_error_with_its_place() {
        let error = bind_error(&Harness::<Reads>::new().input_json(r#"{"flag": "yes"}"#));
        assert_eq!(error.get_place(), Some("flag"));
        assert!(error.message().contains("Utf8") && error.message().contains("Boolean"), "{error}");
    }

    rule!(
        Nested,
        |input| Plan::new(input)
            .optional("tags", Kind::List)
            .optional("who", Kind::Struct)
            .record("key", Source::RecordKey, false)
            .route("out", |columns| columns
                .computed("tags", DataType::Utf8)
                .computed("city", DataType::Utf8)
                .computed("key", DataType::Binary)),
        |batch, output| {
            let (mut tags, mut cities, mut keys) = (StringBuilder::new(), StringBuilder::new(), BinaryBuilder::new());
            let list = batch.list("tags")?;
            let texts = list.items().ok_or("no items")?.str()?;
            let who = batch.column("who").ok_or("no who")?;
            let city = who.field("CITY")?.ok_or("no city")?.str()?;
            let key = batch.bytes("key")?;
            for row in 0..batch.rows() {
                let found: Vec<_> = list.range(row).map(|at| texts.get(at).unwrap_or("null")).collect();
                tags.push(&found.join("+"));
                cities.push_option(if who.nulls().is_null(row) { None } else { city.get(row) });
                keys.push_option(key.get(row));
            }
            output.emit_all("out").column(&tags).column(&cities).column(&keys).send()
        }
    );

    #[test]
    fn lists_structs_and_what_is_the_records_own_can_be_read() {
        let outcome = Harness::<Nested>::new()
            .input_json(
                r#"{"tags": ["a", null, "c"], "who": {"city": "Rome"}}
                   {"tags": null, "who": null}
                   {"tags": [], "who": {"city": null}}"#,
            )
            .record(Source::RecordKey, BinaryArray::from(vec![Some(b"k".as_slice()), None, Some(b"")]))
            .run()
            .unwrap();
        assert_eq!(outcome.column("out", "tags"), ["a+null+c", "", ""]);
        assert_eq!(outcome.column("out", "city"), [json!("Rome"), Value::Null, Value::Null]);
        assert_eq!(outcome.column("out", "key"), [json!("6b"), Value::Null, json!("")]);
    }

    rule!(
        Decimals,
        |input| Plan::new(input)
            .require("price", Kind::Decimal)
            .route("out", |columns| columns.computed("cents", DataType::Int64).computed("float", DataType::Float64)),
        |batch, output| {
            let column = batch.column("price").ok_or("no price")?;
            let (values, scale) = column.decimal()?;
            let cents: Vec<i64> =
                values.values().iter().map(|&value| i64::try_from(value).unwrap() + i64::from(scale)).collect();
            let floats = column.f64()?.values().to_vec();
            output.emit_all("out").column(&cents).column(&floats).send()
        }
    );

    #[test]
    fn decimals_come_with_their_scale() {
        let price = Decimal128Array::from(vec![1_299, -5]).with_precision_and_scale(10, 2).unwrap();
        let outcome = Harness::<Decimals>::new().column("price", price).run().unwrap();
        assert_eq!(outcome.rows("out")[0], json!({"cents": 1301, "float": 12.99}));
        assert_eq!(outcome.rows("out")[1], json!({"cents": -3, "float": -0.05}));
    }
}

mod writing {
    use super::*;

    fn point() -> DataType {
        let fields = vec![Field::new("x", DataType::Float64, true), Field::new("name", DataType::Utf8, true)];
        DataType::Struct(fields.into())
    }

    rule!(
        Builds,
        |input| Plan::new(input).require("n", Kind::I64).route("out", |columns| columns
            .computed("tags", DataType::List(Field::new("item", DataType::Utf8, true).into()))
            .computed("point", point())
            .computed("odd", DataType::Boolean)
            .computed("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
            .computed("n2", DataType::Int64)),
        |batch, output| {
            let mut tags = ListBuilder::<StringBuilder>::new();
            let mut points = StructBuilder::<(NumberBuilder<f64>, StringBuilder)>::new();
            let (mut odd, mut at) = (BoolBuilder::new(), NumberBuilder::<i64>::new());
            for value in batch.i64("n")?.values() {
                if *value == 3 {
                    tags.push_null();
                } else {
                    (0..*value).for_each(|tag| tags.values().push_with(|text| write!(text, "t{tag}")));
                    tags.close();
                }
                points.fields().0.push(*value as f64 / 2.0);
                points.fields().1.push_option((*value > 1).then_some("big"));
                if *value == 0 {
                    points.close_null()
                } else {
                    points.close()
                }
                odd.push_option((*value != 2).then_some(value % 2 == 1));
                at.push(*value * 1_000_000);
            }
            // An input column can be handed back as a computed one, and its memory is lent too.
            let n2 = batch.column("n").ok_or("no n")?;
            output.emit_all("out").column(&tags).column(&points).column(&odd).column(&at).column(&n2).send()?;
            let mut backwards: Vec<u32> = (0..).take(batch.rows()).collect();
            backwards.reverse();
            backwards.push(0);
            let emit = output.emit_rows("out", &backwards).pick(&tags).pick(&points).pick(&odd);
            emit.pick(&at).pick(&n2).send()
        }
    );

    #[test]
    fn every_builder_makes_what_arrow_accepts_and_picks_rows_of_it() {
        let outcome = Harness::<Builds>::new().input_json("{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n{\"n\":3}").run().unwrap();
        let rows = outcome.rows("out");
        let expected = [
            json!({"tags": [], "point": null, "odd": false, "at": "1970-01-01T00:00:00Z", "n2": 0}),
            json!({"tags": ["t0"], "point": {"x": 0.5, "name": null}, "odd": true, "at": "1970-01-01T00:00:01Z", "n2": 1}),
            json!({"tags": ["t0", "t1"], "point": {"x": 1.0, "name": "big"}, "odd": null, "at": "1970-01-01T00:00:02Z", "n2": 2}),
            json!({"tags": null, "point": {"x": 1.5, "name": "big"}, "odd": true, "at": "1970-01-01T00:00:03Z", "n2": 3}),
        ];
        // All, then 3, 2, 1, 0 and 0 again: rows are in the order of their records, as a table has them.
        let order = [0, 0, 0, 1, 1, 2, 2, 3, 3];
        assert_eq!(rows, order.map(|row: usize| expected[row].clone()));
    }

    #[test]
    fn what_does_not_fit_the_plan_is_an_error_that_names_route_and_column() {
        macro_rules! refused {
            ($name:ident, $output:ident => $send:expr, $expected:literal) => {{
                rule!(
                    $name,
                    |input| Plan::new(input).route("out", |columns| columns
                        .computed("a", DataType::Float64)
                        .computed_field(Field::new("b", DataType::Utf8, false))),
                    |_batch, $output| $send
                );
                let error = Harness::<$name>::new().input_json("{\"n\":0}\n{\"n\":1}").run().unwrap_err().to_string();
                assert!(error.contains($expected), "{error}");
            }};
        }
        refused!(NoRoute, output => output.emit_all("ouch").send(), "no route \"ouch\"");
        refused!(TooFew, output => output.emit_all("out").column(&vec![1.0, 2.0]).send(), "computes 2 columns, 1 were given");
        refused!(
            OtherType,
            output => output.emit_all("out").column(&vec![1_i64, 2]).column(&vec![1.0, 2.0]).send(),
            "column \"a\" is planned as Float64"
        );
        refused!(
            TooShort,
            output => output.emit_all("out").column(&vec![1.0]).column(&StringBuilder::new()).send(),
            "column \"a\" has 1 values for 2 rows"
        );
        refused!(
            Null,
            output => {
                let mut texts = StringBuilder::new();
                texts.push("x");
                texts.push_option(None);
                output.emit_all("out").column(&vec![1.0, 2.0]).column(&texts).send()
            },
            "column \"b\" is planned without nulls"
        );
        refused!(
            Beyond,
            output => output.emit_rows("out", &[2]).pick(&vec![1.0, 2.0]).send(),
            "beyond its end"
        );
    }

    rule!(
        Shadows,
        |input| Plan::new(input)
            .require("n", Kind::Any)
            .route("out", |columns| columns.pass_all().pass_as("n", "m").computed("Score", DataType::Int64)),
        |batch, output| output.emit_all("out").column(&vec![5_i64; batch.rows()]).send()
    );

    /// A stream that gains a column of a computed one's name must not stop the pipeline.
    #[test]
    fn a_computed_column_takes_the_place_of_a_passed_one() {
        let outcome = Harness::<Shadows>::new().input_json(r#"{"n": 1, "score": 2, "x": 3}"#).run().unwrap();
        assert_eq!(outcome.rows("out"), [json!({"x": 3, "m": 1, "Score": 5})]);
    }

    #[test]
    fn a_plan_that_cannot_be_is_a_bind_error() {
        macro_rules! refused {
            ($name:ident, $input:ident => $plan:expr, $expected:literal) => {{
                rule!($name, |$input| $plan, |_batch, _output| Ok(()));
                let error = bind_error(&Harness::<$name>::new().input_json(r#"{"n": 1}"#)).to_string();
                assert!(error.contains($expected), "{error}");
            }};
        }
        refused!(None, input => Plan::new(input), "plans no route");
        refused!(Twice, input => Plan::new(input).route("a", |c| c).route("a", |c| c), "planned twice");
        refused!(Lacks, input => Plan::new(input).route("a", |c| c.pass("x")), "x: route \"a\" passes column \"x\"");
        refused!(Same, input => Plan::new(input).route("a", |c| c.pass("n").computed("N", DataType::Int8)), "two columns");
        refused!(Reads, input => Plan::new(input).require("n", Kind::Any).optional("n", Kind::Any), "twice");
        refused!(Half, input => Plan::new(input).route("a", |c| c.computed("h", DataType::Float16)), "Float16");
    }
}

mod answering {
    use super::*;

    rule!(
        Refuses,
        |input| Plan::new(input).require("n", Kind::I64).route("out", |columns| columns.pass_all()).reusable(),
        |batch, output| {
            for (row, value) in batch.i64("n")?.values().iter().enumerate() {
                match value {
                    1 | 2 => output.reject(row, "small", "too small"),
                    3 => output.reject_final(row, "three", format!("{value} is three")),
                    _ => {}
                }
            }
            output.reject(0, "late", "the first reason counts");
            info!("saw {} rows", batch.rows());
            warn!("landed at {}", batch.context().landed_at);
            count("rows", 1);
            count("rows", batch.rows() as u64);
            observe("share", 0.5);
            output.emit_all("out").send()
        }
    );

    #[test]
    fn a_rejected_row_is_on_no_route_and_its_first_reason_counts() {
        let outcome = Harness::<Refuses>::new()
            .input_json("{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n{\"n\":4}")
            .landed_at(9)
            .run()
            .unwrap();
        let rejects: Vec<_> =
            outcome.rejects.iter().map(|r| (r.row, r.code.as_str(), r.message.as_str(), r.retryable)).collect();
        assert_eq!(
            rejects,
            [(0, "small", "too small", true), (1, "small", "too small", true), (2, "three", "3 is three", false)]
        );
        assert_eq!(outcome.column("out", "n"), [4]);
        assert_eq!(outcome.logs, [(Level::Info, "saw 4 rows".to_owned()), (Level::Warn, "landed at 9".to_owned())]);
        assert_eq!(outcome.counts["rows"], 5);
        assert_eq!(outcome.observations, [("share".to_owned(), 0.5)]);
        assert!(outcome.reusable);
    }

    rule!(
        Samples,
        |input| Plan::new(input)
            .require("n", Kind::I64)
            .route("out", |columns| columns.pass("n").computed("draw", DataType::Float64)),
        |batch, output| {
            let draws: Vec<f64> = (0..batch.rows()).map(|row| Random::new(batch.seed(row)).next_f64()).collect();
            output.emit_all("out").column(&draws).send()
        }
    );

    #[test]
    fn chance_is_the_rows_own() {
        let rows: String = (0..50).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let harness = Harness::<Samples>::new().input_json(&rows);
        harness.check_splits().unwrap();
        let draws = |seed| harness.clone().seed(seed).run().unwrap().column("out", "draw");
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }

    struct Remembers(i64);
    impl Transform for Remembers {
        type Config = Empty;
        fn new(_: Empty, input: &InputSchema) -> Result<(Self, Plan), BindError> {
            let plan = Plan::new(input).require("n", Kind::I64);
            Ok((Self(0), plan.route("out", |columns| columns.computed("sum", DataType::Int64))))
        }
        fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
            let sums: Vec<i64> = batch
                .i64("n")?
                .values()
                .iter()
                .map(|n| {
                    self.0 += n;
                    self.0
                })
                .collect();
            output.emit_all("out").column(&sums).send()
        }
    }
    export!(Remembers);

    rule!(
        LooksAround,
        |input| Plan::new(input)
            .require("n", Kind::I64)
            .route("out", |columns| columns.computed("rows", DataType::Int64)),
        |batch, output| output.emit_all("out").column(&vec![batch.rows() as i64; batch.rows()]).send()
    );

    #[test]
    fn a_rule_whose_rows_depend_on_one_another_is_found_out() {
        let rows = "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n{\"n\":4}";
        let remembers = Harness::<Remembers>::new().input_json(rows).check_splits().unwrap_err();
        assert!(remembers.to_string().contains("depends on the batch"), "{remembers}");
        let looks = Harness::<LooksAround>::new().input_json(rows).check_splits().unwrap_err();
        assert!(looks.to_string().contains("row by row"), "{looks}");
    }

    rule!(
        Lists,
        |input| Plan::new(input).route("out", |columns| columns.computed("size", DataType::UInt64)),
        |batch, output| {
            use std::io::Read as _;
            let size = match Asset::open("list") {
                None => 0,
                Some(asset) => {
                    let (whole, mut streamed) = (asset.read_all(), Vec::new());
                    asset.reader().read_to_end(&mut streamed).map_err(|error| error.to_string())?;
                    assert_eq!((asset.size(), asset.digest().len()), (whole.len() as u64, 64));
                    assert_eq!(whole, streamed);
                    whole.len() as u64
                }
            };
            output.emit_all("out").column(&vec![size; batch.rows()]).send()
        }
    );

    /// More than the host hands over in one call.
    #[test]
    fn assets_are_read_whole_and_in_parts() {
        let harness = Harness::<Lists>::new().input_json("{\"n\":1}");
        assert_eq!(harness.run().unwrap().column("out", "size"), [0]);
        let large: Vec<u8> = (0..2_500_000_u32).map(|byte| (byte % 251) as u8).collect();
        assert_eq!(harness.clone().asset("list", large).run().unwrap().column("out", "size"), [2_500_000]);
        assert!(matches!(harness.asset("lisp", "").run(), Err(HarnessError::Test(_))));
    }
}

mod configuring {
    use super::*;

    #[derive(Deserialize, JsonSchema)]
    struct Config {
        limit: f64,
        #[serde(default)]
        nested: Nested,
    }

    #[derive(Default, Deserialize, JsonSchema)]
    struct Nested {
        #[serde(default)]
        word: Option<String>,
    }

    struct Configured;
    impl Transform for Configured {
        type Config = Config;
        fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
            assert!(config.limit > 0.0 && config.nested.word.is_none_or(|word| !word.is_empty()));
            Ok((Self, Plan::new(input).route("out", |columns| columns.pass_all())))
        }
        fn process(&mut self, _: &Batch, output: &mut Output) -> Result<(), RuleError> {
            output.emit_all("out").send()
        }
    }
    export!(Configured, doc = "Says nothing.\n\nBut at length.");

    #[test]
    fn a_config_that_does_not_fit_says_where() {
        for (config, place) in [
            (json!({"limit": "1"}), "config.limit"),
            (json!({"limit": 1, "limt": 2}), "config.limt"),
            (json!({"limit": 1, "nested": {"wort": "x"}}), "config.nested.wort"),
            (json!({"limit": 1, "nested": {"word": 1}}), "config.nested.word"),
            (json!({}), "config"),
        ] {
            let error = bind_error(&Harness::<Configured>::new().input_json("{\"n\":1}").config(config.clone()));
            assert_eq!(error.get_place(), Some(place), "{config}: {error}");
            assert!(!error.message().contains("line 1"), "{error}");
        }
        assert!(Harness::<Configured>::new().input_json("{\"n\":1}").config(json!({"limit": 1})).run().is_ok());
    }

    #[test]
    fn a_module_describes_itself_after_its_crate() {
        let about = guest::describe::<Configured>();
        assert_eq!((about.name, about.version), ("forebay-sdk", env!("CARGO_PKG_VERSION")));
        assert!(about.doc.starts_with("Says nothing."));
        let schema: Value = serde_json::from_str(&about.config_schema).unwrap();
        assert_eq!(schema["properties"]["limit"]["type"], "number");
        assert_eq!(schema["required"], json!(["limit"]));
    }
}

/// The types of the harness's own input.
#[test]
fn text_input_gets_the_types_that_forebay_infers() {
    rule!(Passes, |input| Plan::new(input).route("out", |columns| columns.pass_all()), |_batch, output| output
        .emit_all("out")
        .send());
    let outcome = Harness::<Passes>::new()
        .input_csv("i,f,b,t,s,n\n1,1,true,2026-01-01T00:00:00Z,01x,\n,2.5,false,2026-01-01T00:00:00+01:00,,\n")
        .run()
        .unwrap();
    let schema = outcome.schema("out").unwrap();
    let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
    // `n` has only nulls, so no type and no column yet.
    assert_eq!(types, ["Int64", "Float64", "Boolean", "Timestamp(µs, \"UTC\")", "Utf8"]);
    let declared = Harness::<Passes>::new().input_csv("i\n1\n").declare("i", DataType::Float32).run().unwrap();
    assert_eq!(declared.schema("out").unwrap().field(0).data_type(), &DataType::Float32);
    let conflict = Harness::<Passes>::new().input_json("{\"a\":1}\n{\"a\":\"x\"}").run().unwrap_err();
    assert!(conflict.to_string().contains("column \"a\""), "{conflict}");
}
