use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BinaryArray, Date64Array, DictionaryArray, DurationMillisecondArray, FixedSizeListArray,
    Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray, StructArray, Time64MicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array,
    UInt64Array,
};
use arrow_schema::{DataType, Field, IntervalUnit, Schema};
use forebay_model::ErrorClass;
use forebay_model::column::own_fields;
use forebay_model::ports::{StagingRequest, Warehouse as _};

use super::support::*;
use crate::columns::{storage_field, store_column};

/// One column of each kind that is stored otherwise than it comes, and some that are not.
fn every_kind() -> Vec<(Field, ArrayRef)> {
    let mut headers = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for _ in 0..2 {
        headers.keys().append_value("k");
        headers.values().append_value("v");
        headers.append(true).unwrap();
    }
    let lines = Arc::new(Field::new("x", DataType::Int64, true));
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let parent = Field::new("a b", DataType::UInt8, true);
    let small: ArrayRef = Arc::new(UInt8Array::from(vec![Some(1), None]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("byte", Arc::new(Int8Array::from(vec![1, -1]))),
        ("u8", small.clone()),
        ("u64", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        ("f32", Arc::new(Float32Array::from(vec![0.1, f32::NAN]))),
        ("text view, {}", Arc::new(StringViewArray::from(vec!["a", "b"]))),
        ("large", Arc::new(LargeStringArray::from(vec!["a", "b"]))),
        ("dictionary", Arc::new(DictionaryArray::<arrow_array::types::Int8Type>::from_iter(["a", "b"]))),
        ("bytes", Arc::new(BinaryArray::from(vec![b"a".as_slice(), b"b"]))),
        ("seconds", Arc::new(TimestampSecondArray::from(vec![1, 2]).with_timezone("+02:00"))),
        ("nanos", Arc::new(TimestampNanosecondArray::from(vec![1_000, 2_000]))),
        ("date64", Arc::new(Date64Array::from(vec![86_400_000, 1]))),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![1_500_000, 0]))),
        ("duration", Arc::new(DurationMillisecondArray::from(vec![1, 2]))),
        ("pair", Arc::new(FixedSizeListArray::new(lines, 2, inner, None))),
        ("map", Arc::new(headers.finish())),
        ("object", Arc::new(StructArray::from(vec![(Arc::new(parent), small)]))),
    ];
    columns.into_iter().map(|(name, column)| (Field::new(name, column.data_type().clone(), false), column)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_stored_as_what_every_reader_knows() {
    let world = World::new();
    let warehouse = world.open();
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in every_kind() {
        let stored = storage_field(&field).unwrap();
        assert_eq!(storage_field(&stored).unwrap(), stored, "stored once is stored for good");
        columns.push(store_column(&column, stored.data_type()).unwrap());
        fields.push(stored);
    }
    let own = batch(&schema_of(vec![]), "1", 2);
    fields.extend(own_fields().iter().map(|field| field.as_ref().clone()));
    columns.extend(own.columns().iter().cloned());
    let schema = Arc::new(Schema::new(fields));
    let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let files = stage_batch(&warehouse, "1", &rows).unwrap();
    warehouse.commit(&load_of(1, &schema, files, &[])).await.unwrap();
    assert_eq!(warehouse.table("t").await.unwrap().unwrap().schema, schema);
    let read = warehouse.rows("t").await.unwrap().unwrap();
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        let found = read.column_by_name(field.name()).unwrap();
        assert_eq!(format!("{found:?}"), format!("{column:?}"), "{}", field.name());
    }
    let log = std::fs::read_to_string(world.commit_file(0)).unwrap();
    assert!(!log.contains("timestamp_ntz"));
    assert!(log.contains(r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#), "{log}");
    let text = read.column_by_name("time").unwrap().as_string::<i32>().value(0).to_owned();
    assert_eq!(text, "00:00:01.500");
    keep(&world, &read);
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert!(names.contains(&"text_view____"), "{names:?}");
}

/// Leaves the table to other engines, where the contract suite leaves its own.
fn keep(world: &World, rows: &RecordBatch) {
    let Some(folder) = std::env::var_os("FOREBAY_KEEP_TABLES") else { return };
    let to = std::path::PathBuf::from(folder).join("every_kind_is_stored/t");
    let mut folders = vec![(world.table(), to.clone())];
    while let Some((from, to)) = folders.pop() {
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(&from).unwrap().map(Result::unwrap) {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if from.is_dir() {
                folders.push((from, to));
            } else {
                std::fs::copy(from, to).unwrap();
            }
        }
    }
    let mut counts = serde_json::Map::new();
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        counts.insert(field.name().clone(), (column.len() - column.null_count()).into());
    }
    let expected = serde_json::json!({ "rows": rows.num_rows(), "counts": counts, "sums": {}, "points": [] });
    std::fs::write(to.join("expected.json"), expected.to_string()).unwrap();
}

#[test]
fn what_no_table_can_keep_is_refused_with_the_place() {
    let nested = DataType::Struct(vec![Field::new("deep", DataType::Null, true)].into());
    let refused = [
        ("float16", DataType::Float16, "float16"),
        ("decimal", DataType::Decimal256(50, 2), "decimal"),
        ("interval", DataType::Interval(IntervalUnit::DayTime), "interval"),
        ("empty", DataType::Struct(arrow_schema::Fields::empty()), "empty"),
        ("object", nested, "object.deep"),
    ];
    for (name, data_type, place) in refused {
        let error: forebay_model::Error = storage_field(&Field::new(name, data_type, true)).unwrap_err().into();
        assert_eq!(error.class(), ErrorClass::Operator);
        assert!(error.to_string().contains(&format!("{place:?}")) && error.hint().is_some(), "{error}");
    }
    let twins = vec![Field::new("a b", DataType::Int64, true), Field::new("A,b", DataType::Int64, true)];
    let error = storage_field(&Field::new("o", DataType::Struct(twins.into()), true)).unwrap_err();
    assert!(error.to_string().contains("\"o\""), "{error}");
}

#[test]
fn maps_that_may_grow_and_headers_become_lists() {
    let map_of = |value: DataType| {
        let pair = vec![Field::new("keys", DataType::Utf8, false), Field::new("values", value, true)];
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
    };
    let object = DataType::Struct(vec![Field::new("x", DataType::Int64, true)].into());
    let list_of_object = DataType::List(Arc::new(Field::new("item", object.clone(), true)));
    for growing in [map_of(object), map_of(list_of_object), forebay_model::plan::headers_type()] {
        let stored = storage_field(&Field::new("m", growing, true)).unwrap();
        assert!(matches!(stored.data_type(), DataType::List(_)), "{stored}");
    }
    let stored = storage_field(&Field::new("m", map_of(DataType::Int64), true)).unwrap();
    assert!(matches!(stored.data_type(), DataType::Map(_, _)), "{stored}");
    let mut map = MapBuilder::new(None, StringBuilder::new(), arrow_array::builder::BinaryBuilder::new());
    for value in [b"1".as_slice(), b"2"] {
        map.keys().append_value("twice");
        map.values().append_value(value);
    }
    map.append(true).unwrap();
    map.append(false).unwrap();
    let map: ArrayRef = Arc::new(map.finish());
    let stored = storage_field(&Field::new("h", forebay_model::plan::headers_type(), true)).unwrap();
    let list = store_column(&map, stored.data_type()).unwrap();
    assert_eq!((list.as_list::<i32>().value_length(0), list.is_null(1)), (2, true));
}

#[test]
fn nothing_is_cast_in_silence() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    assert_eq!(store_column(&text, &DataType::Int64).unwrap_err().class(), ErrorClass::Bug);
    let nanos: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
    assert!(store_column(&nanos, &forebay_model::column::timestamp_type()).is_err(), "it would overflow");
    let world = World::new();
    let unstorable = Arc::new(Schema::new(vec![Field::new("n", DataType::UInt32, true)]));
    let request = StagingRequest { table: "t".into(), segment: segment("1"), schema: unstorable, partition_by: vec![] };
    assert_eq!(world.open().stage(request).err().unwrap().class(), ErrorClass::Bug);
}

#[test]
fn statistics_are_the_protocols() {
    let world = World::new();
    let object = vec![(
        Arc::new(Field::new("in", DataType::Int64, true)),
        Arc::new(Int64Array::from(vec![Some(4), None, Some(-2)])) as ArrayRef,
    )];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int64Array::from(vec![Some(3), None, Some(-7)]))),
        ("small", Arc::new(Int8Array::from(vec![1, 2, 3]))),
        ("f", Arc::new(Float64Array::from(vec![1.5, -2.0, 0.0]))),
        ("nan", Arc::new(Float64Array::from(vec![1.5, f64::NAN, 0.0]))),
        ("text", Arc::new(StringArray::from(vec!["b".repeat(40), "a".repeat(40), "b".into()]))),
        ("nothing", Arc::new(StringArray::from(vec![None::<&str>, None, None]))),
        ("object", Arc::new(StructArray::from(object))),
        ("bytes", Arc::new(BinaryArray::from(vec![b"a".as_slice(), b"b", b"c"]))),
    ];
    let fields: Vec<_> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let rows =
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect())
            .unwrap();
    let files = stage_batch(&world.open(), "1", &rows).unwrap();
    let found: serde_json::Value = serde_json::from_str(&files[0].statistics).unwrap();
    let wanted = serde_json::json!({
        "numRecords": 3,
        "minValues": { "n": -7, "small": 1, "f": -2.0, "text": "a".repeat(32), "object": { "in": -2 } },
        "maxValues": { "n": 3, "small": 3, "f": 1.5, "text": format!("{}c", "b".repeat(31)), "object": { "in": 4 } },
        "nullCount": { "n": 1, "small": 0, "f": 0, "nan": 0, "text": 0, "nothing": 3, "object": { "in": 1 }, "bytes": 0 },
    });
    assert_eq!(found, wanted);
}

#[test]
fn memory_is_bounded_and_a_file_has_many_row_groups() {
    let world = World::new();
    let warehouse = world.open();
    let schema = schema_of(vec![Field::new("noise", DataType::Utf8, true)]);
    let request =
        StagingRequest { table: "t".into(), segment: segment("1"), schema: schema.clone(), partition_by: vec![] };
    let mut writer = warehouse.stage(request).unwrap();
    let mut most = 0;
    let mut state = 1_u64;
    for _ in 0..60 {
        let noise: StringArray = (0..1000)
            .map(|_| {
                let words = (0..64).map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    format!("{state:016x}")
                });
                Some(words.collect::<String>())
            })
            .collect();
        let mut rows = batch(&schema, "1", 1000).columns().to_vec();
        rows[0] = Arc::new(noise);
        writer.write(&RecordBatch::try_new(schema.clone(), rows).unwrap()).unwrap();
        most = most.max(writer.buffered_bytes());
    }
    assert!(most < 24 << 20, "{most} bytes were held");
    let files = writer.finish().unwrap();
    assert_eq!((files.len(), files[0].rows), (1, 60_000));
    let statistics: serde_json::Value = serde_json::from_str(&files[0].statistics).unwrap();
    assert_eq!(statistics["maxValues"]["_forebay_row"], 999);
    let file = std::fs::File::open(world.table().join(&files[0].path)).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert!(reader.metadata().num_row_groups() > 1);
}

#[test]
fn columns_are_encoded_by_what_they_hold() {
    use crate::files::{ColumnPlan, plan_columns};
    use parquet::basic::Encoding;
    let rows = 4000_i32;
    let object = StructArray::from(vec![(
        Arc::new(Field::new("flag", DataType::Boolean, true)),
        Arc::new((0..rows).map(|row| Some(row % 2 == 0)).collect::<arrow_array::BooleanArray>()) as ArrayRef,
    )]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new((0..rows).map(|row| Some(i64::from(row) * 7919)).collect::<Int64Array>())),
        (
            "country",
            Arc::new((0..rows).map(|row| Some(["NL", "DE"][usize::from(row % 2 == 0)])).collect::<StringArray>()),
        ),
        ("city", Arc::new((0..rows).map(|row| Some(format!("city {}", row % 100))).collect::<StringArray>())),
        ("card", Arc::new((0..rows).map(|row| Some(format!("{row:016}"))).collect::<StringArray>())),
        ("body", Arc::new((0..rows).map(|row| Some(format!("{row:0100}"))).collect::<StringArray>())),
        ("amount", Arc::new((0..rows).map(|row| Some(f64::from(row) / 3.0)).collect::<Float64Array>())),
        ("code", Arc::new((0..rows).map(|row| Some(row % 3)).collect::<Int32Array>())),
        ("object", Arc::new(object)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let plan = |dictionary, encoding, compressed, page_statistics| ColumnPlan {
        dictionary,
        encoding,
        compressed,
        page_statistics,
    };
    assert_eq!(
        plan_columns(&batch),
        [
            plan(false, Encoding::DELTA_BINARY_PACKED, true, true),
            plan(true, Encoding::DELTA_LENGTH_BYTE_ARRAY, false, true),
            plan(true, Encoding::DELTA_LENGTH_BYTE_ARRAY, true, true),
            plan(false, Encoding::DELTA_LENGTH_BYTE_ARRAY, true, true),
            plan(false, Encoding::DELTA_LENGTH_BYTE_ARRAY, true, false),
            plan(false, Encoding::PLAIN, true, true),
            plan(true, Encoding::DELTA_BINARY_PACKED, false, true),
            plan(false, Encoding::PLAIN, false, true),
        ]
    );
}

/// Says how the chosen encodings compare with the plain ones: `cargo test --lib measure_ -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn measure_encodings_against_plain_ones() {
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::WriterProperties;
    let rows = 8192_i64;
    let mut state = 1_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let batches: Vec<_> = (0..60_i64)
        .map(|round| {
            let base = round * rows;
            let texts = |f: &mut dyn FnMut(i64) -> String| -> ArrayRef {
                Arc::new((0..rows).map(|row| Some(f(base + row))).collect::<StringArray>())
            };
            let mut columns: Vec<(&str, ArrayRef)> = vec![
                ("event_id", texts(&mut |row| format!("e-{row:012}"))),
                ("user", texts(&mut |_| format!("user-{:06}", random() % 500_000))),
                ("card", texts(&mut |_| format!("{:016x}", random()))),
                (
                    "country",
                    texts(&mut |_| ["NL", "DE", "FR", "GB"][usize::try_from(random() % 4).unwrap()].to_owned()),
                ),
                ("merchant", texts(&mut |_| format!("merchant-{:04}", random() % 2000))),
                ("channel", texts(&mut |_| ["web", "app"][usize::try_from(random() % 2).unwrap()].to_owned())),
            ];
            let amounts = (0..rows).map(|_| f64::from(u32::try_from(random() % 100_000).unwrap()) / 100.0);
            columns.push(("amount", Arc::new(amounts.collect::<Float64Array>())));
            let times = (0..rows).map(|row| 1_767_323_045_000_000 + (base + row) * 1_000 + row % 7);
            let times = arrow_array::TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
            columns.push(("at", Arc::new(times)));
            let own = batch(&schema_of(vec![]), "1", usize::try_from(rows).unwrap());
            for (field, column) in own.schema().fields().iter().zip(own.columns()) {
                columns.push((Box::leak(field.name().clone().into_boxed_str()), column.clone()));
            }
            RecordBatch::try_from_iter(columns).unwrap()
        })
        .collect();
    let arrow: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let report = |what: &str, seconds: f64, bytes: u64| {
        println!("{what}: {:.0} MB/s of Arrow, {bytes} bytes", arrow as f64 / seconds / 1e6);
    };
    for _ in 0..3 {
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()));
        let start = std::time::Instant::now();
        let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties.build())).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        let bytes = writer.into_inner().unwrap().len() as u64;
        report("plain, zstd 1, in memory", start.elapsed().as_secs_f64(), bytes);
        let world = World::new();
        let warehouse = world.open();
        let request = StagingRequest {
            table: "t".into(),
            segment: segment("1"),
            schema: batches[0].schema(),
            partition_by: vec![],
        };
        let start = std::time::Instant::now();
        let mut writer = warehouse.stage(request).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        let files = writer.finish().unwrap();
        report("staged, on disk and synced", start.elapsed().as_secs_f64(), files.iter().map(|file| file.bytes).sum());
    }
}
