//! How what is taken is compressed.

use forebay_model::Compression;

/// How an object is compressed: its first bytes say; where there are none, its name does.
pub(crate) fn told(key: &str, head: &[u8]) -> Compression {
    const GZIP: &[u8] = &[0x1f, 0x8b];
    const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
    let by_name = match key.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
        Some("gz" | "gzip") => Compression::Gzip,
        Some("zst" | "zstd") => Compression::Zstd,
        Some(_) | None => Compression::None,
    };
    let by_bytes = if head.starts_with(GZIP) {
        Compression::Gzip
    } else if head.starts_with(ZSTD) {
        Compression::Zstd
    } else {
        Compression::None
    };
    if head.is_empty() {
        return by_name;
    }
    if by_name != Compression::None && by_bytes != by_name {
        tracing::warn!(key, "the name says that it is compressed, its first bytes do not; it is read as they say");
    }
    by_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_how_a_file_is_compressed() {
        assert_eq!(told("a.csv", b"\x1f\x8b\x08"), Compression::Gzip);
        assert_eq!(told("a.csv.zst", b"\x28\xb5\x2f\xfd"), Compression::Zstd);
        assert_eq!(told("a.csv.gz", b"id,name"), Compression::None);
        assert_eq!(told("a.csv.gz", b""), Compression::Gzip);
        assert_eq!(told("a.csv", b""), Compression::None);
    }
}
