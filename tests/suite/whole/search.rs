//! The SDK searches short texts by SIMD instructions that only a module has: here it does, in the sandbox.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use forebay_model::Timestamp;
use forebay_model::ports::{Assets, BatchInput, ModuleLoader as _, SegmentContext, Selection};
use forebay_sandbox::{Sandbox, SandboxOptions};
use serde_json::json;

use super::support::keep_wasm;

/// Texts of few letters, so that much fits and nearly fits, of every length up to beyond what is searched in blocks.
fn texts() -> Vec<String> {
    let mut state = 7_u64;
    let mut letter = |letters: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + u8::try_from((state >> 33) % letters).unwrap())
    };
    let short = (0..2_000).map(|length| length % 70);
    short
        .chain(240..270)
        .enumerate()
        .map(|(n, length)| (0..length).map(|_| letter(2 + n as u64 % 3)).collect())
        .collect()
}

#[test]
fn a_module_finds_in_texts_what_the_standard_library_finds() {
    let texts = texts();
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(&texts));
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(&column)]).unwrap();
    let module = Sandbox::new(SandboxOptions::default()).unwrap().load(&std::fs::read(keep_wasm()).unwrap()).unwrap();
    let context = SegmentContext {
        stream: "texts".into(),
        segment: "texts/0".into(),
        partition: "test".into(),
        first_position: "0".into(),
        landed_at: Timestamp::EPOCH,
        seed: 1,
    };
    for needle in ["", "a", "ab", "aba", "babab", "cabac", "aaaaaaaa", "abababababababab", "aabbaabbaabbaabbaab"] {
        let bound = module.bind(&schema, &json!({ "column": "text", "contains": needle }), &Assets::default()).unwrap();
        let rows = batch.num_rows();
        let input = BatchInput { rows, columns: batch.columns().to_vec(), numbers: (0..rows as u64).collect() };
        let output = bound.instance(&context).unwrap().process(&input).unwrap();
        let mut kept: Vec<u32> = Vec::new();
        for emission in output.emissions {
            match emission.selection {
                Selection::All => kept.extend(0..u32::try_from(rows).unwrap()),
                Selection::Rows(rows) => kept.extend(rows.values()),
            }
        }
        let due: Vec<u32> =
            (0_u32..).zip(&texts).filter(|(_, text)| text.contains(needle)).map(|(row, _)| row).collect();
        assert_eq!(kept, due, "{needle:?}");
    }
}
