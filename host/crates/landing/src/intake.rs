//! What is taken of an object's bytes while they pass: digest, cuts, head.

use std::io::Read;

use bytes::Bytes;
use forebay_model::Digest;
use forebay_model::ports::{LandedObject, SplitRule};
use forebay_model::segment::Compression;
use sha2::{Digest as _, Sha256};

use crate::cuts::{Cutter, Found};

/// The head is at most this long, decompressed.
const HEAD: usize = 64 << 10;
/// So many stored bytes give a head of any compression: a zstd block has 128 KiB, and is read whole.
const STORED_HEAD: usize = 256 << 10;

/// Watches the bytes of one object.
pub(crate) struct Watch {
    hash: Sha256,
    cutter: Cutter,
    compression: Compression,
    start: Vec<u8>,
    bytes: u64,
}

impl Watch {
    pub(crate) fn new(compression: Compression, split: SplitRule) -> Self {
        Self { hash: Sha256::new(), cutter: Cutter::new(split, compression), compression, start: Vec::new(), bytes: 0 }
    }

    /// The next bytes.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.hash.update(chunk);
        self.cutter.push(chunk);
        let missing = match self.compression {
            Compression::None => HEAD,
            Compression::Gzip | Compression::Zstd => STORED_HEAD,
        }
        .saturating_sub(self.start.len());
        self.start.extend_from_slice(chunk.get(..missing).unwrap_or(chunk));
        self.bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
    }

    /// The object that they were.
    pub(crate) fn finish(self, name: &str) -> LandedObject {
        let Found { cuts, preamble } = self.cutter.finish();
        LandedObject {
            name: name.to_owned(),
            bytes: self.bytes,
            digest: Digest::from_bytes(self.hash.finalize().into()),
            cuts,
            preamble,
            head: head(self.start, self.compression),
        }
    }
}

/// The first bytes, decompressed as far as they go: what is damaged is told by the decoder, with the segment's name.
fn head(start: Vec<u8>, compression: Compression) -> Bytes {
    let mut plain = Vec::new();
    let most = u64::try_from(HEAD).unwrap_or(u64::MAX);
    let read = match compression {
        Compression::None => return start.into(),
        Compression::Gzip => flate2::read::MultiGzDecoder::new(start.as_slice()).take(most).read_to_end(&mut plain),
        Compression::Zstd => zstd::stream::read::Decoder::new(start.as_slice())
            .and_then(|decoder| decoder.take(most).read_to_end(&mut plain)),
    };
    if let Err(error) = read {
        tracing::debug!(%error, bytes = plain.len(), "the head of an object is not whole");
    }
    plain.into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use super::*;

    fn landed(bytes: &[u8], compression: Compression) -> LandedObject {
        let mut watch = Watch::new(compression, SplitRule::Lines { target: 10 });
        bytes.chunks(7).for_each(|chunk| watch.push(chunk));
        watch.finish("a")
    }

    #[test]
    fn the_head_is_decompressed_and_bounded() {
        let text: Vec<u8> = (0..40_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(text.as_slice(), 1).unwrap();
        for (bytes, compression) in [(&text, Compression::None), (&gzip, Compression::Gzip), (&zstd, Compression::Zstd)]
        {
            let object = landed(bytes, compression);
            assert_eq!(object.head, &text[..HEAD], "{compression:?}");
            assert_eq!(object.digest, Digest::of(bytes));
            assert_eq!(object.cuts.is_empty(), compression != Compression::None, "compressed objects are never cut");
        }
        // Two members, the second of them torn: what can be read is the head.
        let two = [zstd::encode_all(&b"one "[..], 1).unwrap(), gzip[..20].to_vec()].concat();
        assert_eq!(landed(&two, Compression::Zstd).head, &b"one "[..]);
        assert!(landed(b"not gzip", Compression::Gzip).head.is_empty());
    }
}
