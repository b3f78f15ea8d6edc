//! Which format an object has: by its name, and where the name says nothing, by its first bytes.

use std::io::Read;

use forebay_model::Compression;

use crate::decompress::decompress;
use crate::error::FormatError;

/// JSON lines; and any JSON whose records lie at a configured path.
pub(crate) const JSON: &str = "json";
/// One JSON list of records: it cannot be cut at its lines.
pub(crate) const JSON_ARRAY: &str = "json_array";
/// CSV.
pub(crate) const CSV: &str = "csv";
/// CSV with tabs.
pub(crate) const TSV: &str = "tsv";

/// How much text is looked at.
const LOOK: usize = 64 << 10;

/// The name of an object's format: `json`, `json_array`, `csv` or `tsv`. `head` is its first bytes (some KiB), compressed or not.
///
/// # Errors
/// [`FormatError::Unknown`] where neither name nor bytes tell.
pub fn detect(key: &str, head: &[u8]) -> Result<&'static str, FormatError> {
    let text = text_of(head);
    let name = key.rsplit('/').next().unwrap_or(key).to_ascii_lowercase();
    let name = [".gz", ".zst", ".zstd"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json" | "jsonl" | "ndjson") => Ok(json_by_text(&text)),
        Some("csv") => Ok(CSV),
        Some("tsv") => Ok(TSV),
        _ => by_text(&text).map_err(|reason| FormatError::Unknown { key: key.to_owned(), reason }),
    }
}

/// Whether JSON is one list.
pub(crate) fn json_by_text(text: &[u8]) -> &'static str {
    if first_byte(text) == Some(b'[') { JSON_ARRAY } else { JSON }
}

fn by_text(text: &[u8]) -> Result<&'static str, &'static str> {
    match first_byte(text) {
        None => return Err("its name has no known ending, and it is empty"),
        Some(b'{' | b'[') => return Ok(json_by_text(text)),
        Some(_) => {}
    }
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    // The head may end within a character.
    let is_text = |line: &[u8]| match std::str::from_utf8(line) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && line.len() == text.len(),
    };
    if line.contains(&0) || !is_text(line) {
        return Err("its name has no known ending, and its first bytes are no text");
    }
    let count = |wanted: u8| line.iter().filter(|&&byte| byte == wanted).count();
    match (count(b','), count(b'\t')) {
        (0, 0) => {
            Err("its name has no known ending, and its first line is neither JSON nor fields with commas or tabs")
        }
        (commas, tabs) if commas >= tabs => Ok(CSV),
        _ => Ok(TSV),
    }
}

fn first_byte(text: &[u8]) -> Option<u8> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// The beginning of the text: what can be had of it where the head is compressed.
pub(crate) fn text_of(head: &[u8]) -> Vec<u8> {
    let compression = match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => return head.to_vec(),
    };
    let mut text = Vec::new();
    let reader = decompress(Box::new(std::io::Cursor::new(head.to_vec())), compression);
    if let Ok(reader) = reader {
        // The head ends within the stream, so an error at its end is expected; what was read before counts.
        let read = reader.take(LOOK as u64).read_to_end(&mut text);
        tracing::trace!(bytes = text.len(), whole = read.is_ok(), "looked into a compressed head");
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_name_tells() {
        for (key, head, right) in [
            ("a/b.csv", "", CSV),
            ("b.CSV.gz", "", CSV),
            ("b.tsv.zst", "", TSV),
            ("b.jsonl", "{\"a\":1}\n", JSON),
            ("b.ndjson", "", JSON),
            ("b.json", " \n[{\"a\":1}]", JSON_ARRAY),
            ("b.json", "{\"a\":1}", JSON),
            ("a.csv/part-0", "{\"a\":1}", JSON),
        ] {
            assert_eq!(detect(key, head.as_bytes()).unwrap(), right, "{key} {head}");
        }
    }

    #[test]
    fn the_first_bytes_tell() {
        assert_eq!(detect("part-0", b"\xef\xbb\xbf {\"a\":1}").unwrap(), JSON);
        assert_eq!(detect("part-0", b"a,b\n1,2\n").unwrap(), CSV);
        assert_eq!(detect("part-0", b"a\tb,c\td\n").unwrap(), TSV);
        assert_eq!(detect("part-0", "a,ä".as_bytes().split_last().unwrap().1).unwrap(), CSV);
        for unknown in [&b""[..], b"  \n", b"PAR1\x00,\xff", b"just some text\n", b"a,\xff\xfe,b\n"] {
            let error = detect("part-0", unknown).unwrap_err();
            assert!(error.hint().unwrap().contains("format = \"json\""), "{unknown:?}");
        }
    }

    #[test]
    fn compressed_heads_are_looked_into() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for number in 0..20_000_u32 {
            gzip.write_all(format!("{{\"n\":{}}}\n", number.wrapping_mul(2_654_435_761)).as_bytes()).unwrap();
        }
        let gzip = gzip.finish().unwrap();
        assert_eq!(detect("part-0", &gzip[..4096]).unwrap(), JSON);
        let zstd = zstd::encode_all(&b"[1]"[..], 1).unwrap();
        assert_eq!(detect("part-0.json.zst", &zstd).unwrap(), JSON_ARRAY);
    }
}
