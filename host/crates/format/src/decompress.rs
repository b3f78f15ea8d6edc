//! Reading through compression. Streams of many members or frames are read to the end; one that is cut off or damaged ends
//! with an error that says how far it got, after everything before it was delivered.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use forebay_model::Compression;

use crate::error::FormatError;

/// The text behind `compression`.
///
/// # Errors
/// [`FormatError::Read`] where the decoder cannot be set up. Later errors come from the reader, of kind
/// [`io::ErrorKind::UnexpectedEof`] where the stream is cut off and [`io::ErrorKind::InvalidData`] where it is damaged.
pub fn decompress(reader: Box<dyn Read + Send>, compression: Compression) -> Result<Box<dyn Read + Send>, FormatError> {
    let below = Arc::new(Below::default());
    let watched = Watched { reader, below: Arc::clone(&below) };
    let (name, reader): (_, Box<dyn Read + Send>) = match compression {
        Compression::None => return Ok(watched.reader),
        Compression::Gzip => ("gzip", Box::new(MultiGzDecoder::new(watched))),
        Compression::Zstd => {
            let decoder =
                zstd::stream::read::Decoder::new(watched).map_err(|source| FormatError::Read { offset: 0, source })?;
            ("zstd", Box::new(decoder))
        }
    };
    Ok(Box::new(Named { reader, name, below, given: 0 }))
}

/// What is known of the reader below the decoder.
#[derive(Default)]
struct Below {
    /// Bytes that it gave.
    taken: AtomicU64,
    /// Its last read failed: the error is not the stream's.
    failed: AtomicBool,
}

/// Watches what the decoder takes.
struct Watched {
    reader: Box<dyn Read + Send>,
    below: Arc<Below>,
}

impl Read for Watched {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let result = self.reader.read(buf);
        self.below.failed.store(result.is_err(), Ordering::Relaxed);
        let count = result?;
        self.below.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Says in its errors how far it got.
struct Named {
    reader: Box<dyn Read + Send>,
    name: &'static str,
    below: Arc<Below>,
    given: u64,
}

impl Read for Named {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let error = match self.reader.read(buf) {
            Ok(count) => {
                self.given += count as u64;
                return Ok(count);
            }
            Err(error) => error,
        };
        if self.below.failed.load(Ordering::Relaxed) {
            return Err(error);
        }
        // Whatever kind the decoder gives it: what is not cut off is damaged.
        let (what, kind) = if error.kind() == io::ErrorKind::UnexpectedEof {
            ("is cut off", io::ErrorKind::UnexpectedEof)
        } else {
            ("is damaged", io::ErrorKind::InvalidData)
        };
        let (name, taken, given) = (self.name, self.below.taken.load(Ordering::Relaxed), self.given);
        let message =
            format!("the {name} stream {what} after {taken} compressed bytes ({given} bytes of text): {error}");
        Err(io::Error::new(kind, message))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn text() -> Vec<u8> {
        (0..50_000_u32).flat_map(|i| format!("{{\"n\":{}}}\n", i.wrapping_mul(2_654_435_761)).into_bytes()).collect()
    }

    fn read(bytes: Vec<u8>, compression: Compression) -> (Vec<u8>, Option<io::Error>) {
        let mut reader = decompress(Box::new(io::Cursor::new(bytes)), compression).unwrap();
        let mut out = Vec::new();
        let error = reader.read_to_end(&mut out).err();
        (out, error)
    }

    #[test]
    fn many_members_and_frames_are_one_text() {
        let text = text();
        let half = text.len() / 2;
        let members = [gzip(&text[..half]), gzip(&text[half..])].concat();
        assert_eq!(read(members, Compression::Gzip).0, text);
        let frame = |part: &[u8]| zstd::encode_all(part, 1).unwrap();
        let frames = [frame(&text[..half]), frame(&text[half..])].concat();
        assert_eq!(read(frames, Compression::Zstd).0, text);
    }

    #[test]
    fn a_cut_stream_gives_what_it_has_and_says_how_far_it_got() {
        let text = text();
        for (bytes, compression) in
            [(gzip(&text), Compression::Gzip), (zstd::encode_all(&text[..], 1).unwrap(), Compression::Zstd)]
        {
            let cut = bytes.len() * 3 / 4;
            let (out, error) = read(bytes[..cut].to_vec(), compression);
            assert!(out.len() > text.len() / 2, "{compression:?}: {} of {}", out.len(), text.len());
            assert!(text.starts_with(&out));
            let error = error.unwrap();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
            assert!(error.to_string().contains(&format!("cut off after {cut} compressed bytes")), "{error}");
        }
    }

    #[test]
    fn a_damaged_stream_is_an_error() {
        let text = text();
        // Without a checksum zstd cannot tell damaged text from other text.
        let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
        zstd.include_checksum(true).unwrap();
        zstd.write_all(&text).unwrap();
        for (mut bytes, compression) in [(gzip(&text), Compression::Gzip), (zstd.finish().unwrap(), Compression::Zstd)]
        {
            let middle = bytes.len() / 2;
            for byte in &mut bytes[middle..middle + 64] {
                *byte ^= 0x5a;
            }
            assert!(read(bytes, compression).1.is_some(), "{compression:?}");
        }
    }

    #[test]
    fn an_error_of_the_reader_below_stays_what_it_is() {
        struct Fails(io::Cursor<Vec<u8>>);
        impl Read for Fails {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                match self.0.read(buf)? {
                    0 => Err(io::Error::other(forebay_model::Error::retry("the disk went away"))),
                    count => Ok(count),
                }
            }
        }
        let text = text();
        for (bytes, compression) in
            [(gzip(&text), Compression::Gzip), (zstd::encode_all(&text[..], 1).unwrap(), Compression::Zstd)]
        {
            let half = bytes[..bytes.len() / 2].to_vec();
            let mut reader = decompress(Box::new(Fails(io::Cursor::new(half))), compression).unwrap();
            let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
            let error = forebay_model::Error::from(FormatError::read(0, error));
            assert_eq!(error.class(), forebay_model::ErrorClass::Retry, "{error}");
        }
    }
}
