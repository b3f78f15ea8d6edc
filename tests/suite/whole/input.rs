//! Records that are wrong, and files that are cut off, empty or huge: each is told, its bytes are kept, and the rest loads.

use std::io::Write as _;

use super::seen::{PLAIN, check};
use super::support::Place;

/// Good records as JSON lines.
fn good(ids: std::ops::Range<u32>) -> String {
    ids.map(|id| format!("{{\"id\":{id},\"v\":\"x\"}}\n")).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// The corpus of JSON texts that must, must not and may be read; `None`, said aloud, where it is not on this machine.
fn json_test_suite() -> Option<Vec<(String, Vec<u8>)>> {
    let root = std::env::var_os("FOREBAY_DATA").map_or_else(
        || std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        std::path::PathBuf::from,
    );
    let folder = root.join("json/JSONTestSuite/test_parsing");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        assert!(
            std::env::var_os("FOREBAY_REQUIRE_ALL").is_none(),
            "FOREBAY_REQUIRE_ALL is set, and there is no corpus {}: set FOREBAY_DATA",
            folder.display()
        );
        eprintln!("skipped, no corpus: set FOREBAY_DATA to the folder that holds json/JSONTestSuite");
        return None;
    };
    let files = entries.map(|entry| entry.unwrap());
    Some(files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect())
}

#[test]
fn malformed_lines_among_good_ones_cost_only_themselves() {
    let place = Place::with(PLAIN);
    let bad = "{\"id\":3,\"v\"\nnonsense\n[1,2]\n\"text\"\n{\"id\":6,\"v\":\"x\"}}\n{'id':7}\n{\"id\":01}\n";
    let text = format!("{}{bad}{}{{\"id\":99,\"v\":\"open\n", good(0..3), good(10..13));
    place.write("inbox/a.jsonl", &text);
    place.write("inbox/b.jsonl", &good(20..30));
    let mut utf8 = b"{\"id\":30,\"v\":\"\xff\xfe\"}\n\xc3{\"id\":31}\n".to_vec();
    utf8.extend(good(40..42).bytes());
    place.write_bytes("inbox/utf8.jsonl", &utf8);
    check("malformed-lines", &place.sees(&["run", "--once"]));
    check("malformed-lines-rejects", &place.rejects("plain"));
    assert_eq!(place.rows("lake.events"), 18);
    assert_eq!(place.landed("a.jsonl"), [text.into_bytes()]);
    assert_eq!(place.landed("utf8.jsonl"), [utf8]);
    place.adds_up();
}

#[test]
fn a_gzip_that_is_cut_off_or_damaged_fails_alone_and_loads_once_it_is_delivered_again() {
    let place = Place::with(PLAIN);
    // Random enough that half of the bytes is about half of the text.
    let text: String =
        (0..20_000_u32).map(|n| format!("{{\"id\":{n},\"v\":\"{:08x}\"}}\n", n.wrapping_mul(2_654_435_761))).collect();
    let whole = gzip(&text);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    place.write_bytes("inbox/cut.jsonl.gz", &whole[..middle]);
    place.write_bytes("inbox/damaged.jsonl.gz", &damaged);
    place.write_bytes("inbox/head.jsonl.gz", &whole[..5]);
    place.write_bytes("inbox/no.jsonl.gz", b"this was never gzip\n");
    place.write("inbox/good.jsonl", &good(30_000..30_010));
    place.run(&["run", "--once"]);
    let failures = place.failures();
    // How far it was read depends on the compressor.
    let numbers = |c: char| c.is_ascii_digit();
    let words: Vec<_> = failures.split(numbers).filter(|part| !part.is_empty()).collect();
    check("gzip", &words.join("N"));
    assert_eq!(place.rows("lake.events"), 10, "nothing of a file that fails is loaded");
    assert_eq!(place.landed("cut.jsonl.gz"), [whole[..middle].to_vec()]);
    place.write_bytes("inbox/cut.jsonl.gz", &whole);
    place.run(&["run", "--once"]);
    assert_eq!(place.rows("lake.events"), 20_010);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.events"), 20_010);
    place.adds_up();
}

#[test]
fn csv_with_ragged_rows_line_breaks_quotes_and_markers_of_nothing() {
    let config = PLAIN.replace("format = \"auto\"", "format = { type = \"csv\", nulls = [\"NA\", \"\"] }");
    let place = Place::with(&config);
    let text =
        "id,text,n\n1,\"two\nlines\",NA\n2,b\n3,c,4,d\n4,\"a \"\"q\"\"\",5\n5,\"x\"y,6\n6,\"NA\",\n7,\"open,8\n9,z,1\n";
    place.write("inbox/a.csv", text);
    place.write("inbox/b.csv", "id,text,n\n20,good,1\n");
    place.write("inbox/header.csv", "id,\"text,n\n1,2,3\n");
    check("csv", &place.sees(&["run", "--once"]));
    check("csv-rejects", &place.rejects("plain"));
    let rows = place.query("SELECT id, text, n FROM lake.events ORDER BY id");
    let rows: Vec<_> = rows.iter().map(ToString::to_string).collect();
    assert_eq!(
        rows,
        [
            r#"{"id":1,"text":"two\nlines","n":null}"#,
            r#"{"id":4,"text":"a \"q\"","n":5}"#,
            r#"{"id":6,"text":"NA","n":null}"#,
            r#"{"id":20,"text":"good","n":1}"#
        ]
    );
    assert_eq!(place.landed("a.csv"), [text.as_bytes().to_vec()]);
    place.adds_up();
}

#[test]
fn a_line_of_a_hundred_megabytes_is_a_reject() {
    let place = Place::with(PLAIN);
    let mut bytes = good(0..5).into_bytes();
    bytes.extend(b"{\"id\":5,\"v\":\"");
    bytes.resize(bytes.len() + 100_000_000, b'x');
    bytes.extend(b"\"}\n");
    bytes.extend(good(6..10).into_bytes());
    place.write_bytes("inbox/big.jsonl", &bytes);
    place.write("inbox/good.jsonl", &good(20..30));
    check("large-line", &place.sees(&["run", "--once"]));
    let rejects = place.query("SELECT code, message, length(raw) AS kept, _forebay_row AS row FROM rejects.plain");
    check("large-line-rejects", &rejects.iter().map(|row| format!("{row}\n")).collect::<String>());
    assert_eq!(place.rows("lake.events"), 19);
    assert!(place.landed("big.jsonl") == [bytes], "it lies in the zone as it came");
    place.adds_up();
}

#[test]
fn files_without_content_are_loaded_and_bring_nothing() {
    let place = Place::with(PLAIN);
    place.write("inbox/empty.jsonl", "");
    place.write("inbox/empty.csv", "");
    place.write("inbox/nameless", "");
    place.write("inbox/header.csv", "id,v\n");
    place.write("inbox/blank.jsonl", "\n \n\n");
    place.write_bytes("inbox/empty.jsonl.gz", &gzip(""));
    place.write("inbox/good.jsonl", &good(0..2));
    check("empty", &place.sees(&["run", "--once"]));
    assert_eq!(place.rows("lake.events"), 2);
    place.adds_up();
}

#[test]
fn each_text_of_the_json_test_suite_is_read_or_rejected_as_its_name_says() {
    let Some(corpus) = json_test_suite() else { return };
    let of = |letter| corpus.iter().filter(|(name, _)| name.starts_with(letter)).count();
    assert_eq!((of('y'), of('n'), of('i')), (95, 188, 35));
    let place = Place::with(&PLAIN.replace("format = \"auto\"", "format = \"json\""));
    for (name, text) in &corpus {
        // As the value of a field, on a line of its own: so each text that is JSON is a record, whatever it is.
        let inside: Vec<u8> = text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
        place.write_bytes(&format!("inbox/{name}l"), &[b"{\"x\":", &inside[..], b"}\n"].concat());
    }
    place.write("inbox/z.jsonl", &good(0..10));
    let output = place.run(&["run", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", super::support::texts(&output).1);
    let fates = place.query(
        "SELECT s.key AS object, r.state AS state, r.loaded AS loaded, r.rejected AS rejected \
         FROM ledger.refinements r JOIN ledger.segments s ON r.segment = s.segment",
    );
    assert_eq!(fates.len(), corpus.len() + 1);
    for fate in fates {
        let (object, loaded, rejected) = (fate["object"].as_str().unwrap(), &fate["loaded"], &fate["rejected"]);
        assert_eq!(fate["state"], "loaded", "{fate}");
        match object.as_bytes() {
            // Its newline was what was wrong with it.
            b"n_string_unescaped_newline.jsonl" | [b'y', ..] => assert!(*loaded == 1 && *rejected == 0, "{fate}"),
            [b'n', ..] => assert!(*loaded == 0 && *rejected == 1, "{fate}"),
            [b'i', ..] => assert!(loaded.as_u64().unwrap() + rejected.as_u64().unwrap() == 1, "{fate}"),
            _ => assert!(*loaded == 10 && *rejected == 0, "{fate}"),
        }
    }
    assert_eq!(place.number("SELECT count(*) FROM lake.events WHERE id IS NOT NULL"), 10);
    place.adds_up();
}
