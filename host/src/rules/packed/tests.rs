use std::fs;

use super::*;

/// A component with nothing in it.
const MODULE: &[u8] = b"\0asm\x0d\0\x01\0";

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

const FILES: &[(&str, &[u8])] = &[
    ("first/input.jsonl", b"{\"n\":1}\n"),
    ("first/config.toml", b"above = 2\n"),
    ("first/assets/blocked.txt", b"\xff\x00x"),
    ("first/expected/out.jsonl", b"{\"n\":1}\n"),
    ("late/input.csv", b"n\n1\n"),
    ("late/expected/.hidden", b"of an editor's"),
];

/// A section whose archive is what these bytes are, compressed.
fn section(plain: &[u8]) -> Vec<u8> {
    [&[VERSION], zstd::bulk::compress(plain, 3).unwrap().as_slice()].concat()
}

/// A section with these files, whatever they are.
fn files(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut plain = encoded(&files.len()).unwrap();
    files.iter().for_each(|file| plain.extend(encoded(file).unwrap()));
    section(&plain)
}

fn refused(section: &[u8]) -> String {
    let wasm = with_cases_section(MODULE, section).unwrap();
    carried(&wasm).unwrap_err().to_string()
}

#[test]
fn what_was_packed_comes_out_and_the_same_cases_are_the_same_bytes() {
    let (one, other) = (folder(FILES), folder(&FILES.iter().rev().copied().collect::<Vec<_>>()));
    fs::write(one.path().join("first/notes.md"), "no part of the case").unwrap();
    let packed = pack(one.path()).unwrap();
    assert_eq!(packed.section, pack(other.path()).unwrap().section);
    let wasm = into_module(MODULE, &packed).unwrap();
    let Carried { cases, bytes } = carried(&wasm).unwrap();
    assert_eq!(bytes, packed.section.len());
    let Case { name, folder: _, format: _, input, config, assets, expected } = &cases[0];
    assert_eq!((name.as_str(), input.as_slice()), ("first", &b"{\"n\":1}\n"[..]));
    assert_eq!((config["above"].as_i64(), assets["blocked"].as_slice()), (Some(2), &b"\xff\x00x"[..]));
    assert_eq!(expected.as_ref().unwrap()["out"], b"{\"n\":1}\n");
    assert_eq!(cases[1].expected.as_ref().unwrap().len(), 0, "that nothing comes out is expected too");
    assert_eq!(Carried { cases, bytes: 1_500 }.told(), "2 cases, 1.5 kB packed: first, late");
}

#[test]
fn a_module_without_cases_stays_as_it_is() {
    let packed = pack(&folder(&[]).path().join("cases")).unwrap();
    assert_eq!(into_module(MODULE, &packed).unwrap(), MODULE);
    assert!(carried(MODULE).unwrap().cases.is_empty());
}

#[test]
fn a_case_that_cannot_pass_is_left_out_and_said() {
    let cases = folder(&[
        ("both/input.csv", b"n\n1\n"),
        ("both/input.jsonl", b"{}\n"),
        ("new/input.csv", b"n\n1\n"),
        ("typed/input.parquet", b"PAR1"),
        ("well/input.csv", b"n\n1\n"),
        ("well/expected/out.jsonl", b""),
    ]);
    let packed = pack(cases.path()).unwrap();
    assert_eq!(packed.cases, ["well"]);
    let told: Vec<_> = packed.left_out.iter().map(|(case, why)| format!("{case}: {why}")).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn more_than_a_module_carries_is_not_packed() {
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(MOST_PACKED + 200_000).collect();
    let zeros = vec![b' '; MOST_BYTES + 200_000];
    let mut told = Vec::new();
    for asset in [&noise, &zeros] {
        let cases = folder(&[("a/input.csv", b"n\n1\n"), ("a/expected/out.jsonl", b""), ("a/assets/x", asset)]);
        told.push(pack(cases.path()).unwrap_err().to_string());
    }
    let names: Vec<_> =
        (0..=MOST_CASES).map(|case| (format!("{case}/input.csv"), format!("{case}/expected/x"))).collect();
    let many = names.iter().flat_map(|(input, x)| [(input.as_str(), &b"n\n1\n"[..]), (x.as_str(), &b""[..])]);
    told.push(pack(folder(&many.collect::<Vec<_>>()).path()).unwrap_err().to_string());
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_section_that_no_build_made_is_refused_before_it_costs_anything() {
    let good = files(&[("a/input.csv", b"n\n1\n")]);
    let input: &[u8] = b"n\n1\n";
    let many: Vec<_> = (0..=MOST_CASES).map(|case| format!("{case}/input.csv")).collect();
    let many: Vec<_> = many.iter().map(|path| (path.as_str(), input)).collect();
    // A gigabyte of one byte, in some ten thousand.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    let told = [
        ("nothing", refused(b"")),
        ("another version", refused(&[9, 9])),
        ("no archive", refused(b"\x01this is no archive")),
        ("half of it", refused(&good[..good.len() / 2])),
        ("more behind it", refused(&[good.as_slice(), b"more"].concat())),
        ("a bomb", refused(&[&[VERSION], bomb.as_slice()].concat())),
        ("a count of files alone", refused(&section(&encoded(&4_000_usize).unwrap()))),
        ("a billion files", refused(&section(&encoded(&1_000_000_000_usize).unwrap()))),
        ("an archive in which more follows", refused(&section(&[encoded(&0_usize).unwrap(), vec![7]].concat()))),
        ("a path that climbs", refused(&files(&[("../input.csv", input)]))),
        ("a path that climbs further in", refused(&files(&[("a/assets/../../x", input)]))),
        ("a path from the root", refused(&files(&[("/input.csv", input)]))),
        ("a control character", refused(&files(&[("a/in\nput.csv", input)]))),
        ("twice the same", refused(&files(&[("a/input.csv", input), ("a/input.csv", input)]))),
        ("many cases", refused(&files(&many))),
        ("no input", refused(&files(&[("a/config.toml", b"")]))),
        ("Parquet", refused(&files(&[("a/input.parquet", b"PAR1")]))),
        ("not text", refused(&files(&[("a/input.jsonl", b"\xff")]))),
    ];
    let told: Vec<_> = told.iter().map(|(what, refused)| format!("{what}: {refused}")).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_frame_that_wants_a_large_window_is_refused_before_it_gets_it() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(1 << 10), &mut encoder).unwrap();
    let frame = encoder.finish().unwrap();
    let told = refused(&[&[VERSION], frame.as_slice()].concat());
    assert!(told.contains("no archive of cases"), "{told}");
}

#[test]
fn damage_anywhere_in_a_section_is_an_error_or_other_cases_and_never_a_panic() {
    let packed = pack(folder(FILES).path()).unwrap().section;
    for at in 0..packed.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut broken = packed.clone();
            broken[at] ^= flip;
            drop(unpack(&broken));
        }
        assert!(unpack(&packed[..at]).is_err(), "cut at {at}");
    }
}
