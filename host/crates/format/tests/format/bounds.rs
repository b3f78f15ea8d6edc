use crate::support::*;

#[test]
fn nesting_is_limited() {
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    let schema = json_format().infer(vec![input("{\"b\":1}")]).unwrap().unwrap();
    let text = format!("{}\n{}\n{}", nested(64), nested(65), nested(100_000));
    let decoded = decode(&*json_format(), input(text), &schema);
    assert_eq!(decoded.codes(), [(1, "record_too_deep"), (2, "record_too_deep")]);
    let known =
        json_format().infer(vec![input(format!("{{\"a\":{}1{}}}", "[".repeat(63), "]".repeat(63)))]).unwrap().unwrap();
    let decoded = decode(&*json_format(), input(nested(65)), &known);
    assert_eq!(decoded.codes(), [(0, "record_too_deep")]);
}

#[test]
fn batches_of_large_records_are_closed_by_their_size() {
    let record = format!("{{\"a\":\"{}\"}}\n", "x".repeat(10 << 20));
    let text = record.repeat(15);
    let schema = json_format().infer(vec![input("{\"a\":\"\"}")]).unwrap().unwrap();
    let sizes = |chunk| -> Vec<u32> {
        decode(&*json_format(), chunked(&text, chunk), &schema).batches.iter().map(|batch| batch.records).collect()
    };
    assert_eq!(sizes(usize::MAX), [7, 7, 1]);
    assert_eq!(sizes(100_000), [7, 7, 1]);
}

#[test]
fn what_is_rescued_is_limited() {
    // A long path before very many small fields.
    let name = "n".repeat(250);
    let schema =
        json_format().infer(vec![input(format!("{{\"{name}\":{{\"{name}\":{{\"a\":1}}}}}}"))]).unwrap().unwrap();
    let fields: Vec<String> = (0..10_000).map(|n| format!("\"{n}\":0")).collect();
    let text = format!("{{\"{name}\":{{\"{name}\":{{{}}}}}}}\n{{\"{name}\":{{}}}}", fields.join(","));
    let decoded = decode(&*json_format(), input(text), &schema);
    assert_eq!(decoded.codes(), [(0, "record_too_large")]);
    assert_eq!(decoded.rows().len(), 1);
    assert!(decoded.evolution.is_none());
}
