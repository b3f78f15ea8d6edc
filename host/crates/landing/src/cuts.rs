//! Where an object may be cut into segments, found while its bytes pass.
//!
//! A cut is the place after a line feed that ends a record. Only the neighbourhood of each multiple of the target is looked
//! at, so for lines it costs nothing; for CSV every quote is counted, since a line feed inside quotes ends no record. A
//! quote that stands unescaped inside an unquoted field (which RFC 4180 forbids) is counted too: from there on fewer cuts
//! are found, until another such quote follows.

use std::ops::Range;

use forebay_model::ports::SplitRule;
use forebay_model::segment::Compression;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Ends of all parts but the last, ascending.
    pub(crate) cuts: Vec<u64>,
    /// The header, where there are cuts.
    pub(crate) preamble: Option<Range<u64>>,
}

/// Finds cuts in chunks of an object.
#[derive(Debug)]
pub(crate) struct Cutter {
    rule: Rule,
    /// Bytes seen.
    seen: u64,
    /// The next cut is not before this place.
    due: u64,
    cuts: Vec<u64>,
}

#[derive(Debug)]
enum Rule {
    Whole,
    Lines { target: u64 },
    Csv { target: u64, quote: u8, quoted: bool, header: Header },
}

#[derive(Debug)]
enum Header {
    None,
    /// Looking for its end; whether only blank lines have passed so far.
    Sought {
        blank: bool,
    },
    Found(Range<u64>),
}

impl Cutter {
    /// A compressed object is never cut: its records lie nowhere in its bytes.
    pub(crate) fn new(rule: SplitRule, compression: Compression) -> Self {
        let rule = match (compression, rule) {
            (Compression::Gzip | Compression::Zstd, _) | (Compression::None, SplitRule::Whole) => Rule::Whole,
            (Compression::None, SplitRule::Lines { target }) => Rule::Lines { target: target.max(1) },
            (Compression::None, SplitRule::Csv { target, quote, header }) => Rule::Csv {
                target: target.max(1),
                quote,
                quoted: false,
                header: if header { Header::Sought { blank: true } } else { Header::None },
            },
        };
        let due = match &rule {
            Rule::Whole => u64::MAX,
            Rule::Lines { target } | Rule::Csv { target, .. } => *target,
        };
        Self { rule, seen: 0, due, cuts: Vec::new() }
    }

    /// The next bytes of the object.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        match &mut self.rule {
            Rule::Whole => {}
            Rule::Lines { target } => {
                let target = *target;
                lines(chunk, self.seen, target, &mut self.due, &mut self.cuts);
            }
            Rule::Csv { target, quote, quoted, header } => {
                let mut at = 0;
                if let Header::Sought { blank } = header {
                    match end_of_header(chunk, *quote, quoted, blank) {
                        None => at = chunk.len(),
                        Some(end) => {
                            at = end;
                            *header = Header::Found(0..self.seen + length(end));
                        }
                    }
                }
                let rest = chunk.get(at..).unwrap_or_default();
                csv(rest, self.seen + length(at), *target, *quote, quoted, &mut self.due, &mut self.cuts);
            }
        }
        self.seen += length(chunk.len());
    }

    /// What was found in all chunks.
    pub(crate) fn finish(mut self) -> Found {
        // The end of the object ends its last part.
        if self.cuts.last() == Some(&self.seen) {
            self.cuts.pop();
        }
        let preamble = match self.rule {
            Rule::Csv { header: Header::Found(range), .. } if !self.cuts.is_empty() => Some(range),
            Rule::Whole | Rule::Lines { .. } | Rule::Csv { .. } => None,
        };
        Found { cuts: self.cuts, preamble }
    }
}

fn length(length: usize) -> u64 {
    // No chunk is longer than 2^64.
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The place in a chunk that begins at `seen` before which no line feed is of interest: its cut would come too early.
fn skip(chunk: &[u8], seen: u64, due: u64) -> usize {
    let early = due.saturating_sub(1).saturating_sub(seen);
    usize::try_from(early).unwrap_or(usize::MAX).min(chunk.len())
}

fn cut(end: u64, target: u64, due: &mut u64, cuts: &mut Vec<u64>) {
    cuts.push(end);
    *due = (end / target + 1).saturating_mul(target);
}

fn lines(chunk: &[u8], seen: u64, target: u64, due: &mut u64, cuts: &mut Vec<u64>) {
    let mut at = skip(chunk, seen, *due);
    while let Some(found) = chunk.get(at..).and_then(|rest| memchr::memchr(b'\n', rest)) {
        let end = at + found + 1;
        cut(seen + length(end), target, due, cuts);
        at = end + skip(chunk.get(end..).unwrap_or_default(), seen + length(end), *due);
    }
}

fn csv(chunk: &[u8], seen: u64, target: u64, quote: u8, quoted: &mut bool, due: &mut u64, cuts: &mut Vec<u64>) {
    let mut at = 0;
    loop {
        let rest = chunk.get(at..).unwrap_or_default();
        let passed = skip(rest, seen + length(at), *due);
        let quotes = memchr::memchr_iter(quote, rest.get(..passed).unwrap_or_default()).count();
        *quoted ^= quotes % 2 == 1;
        at += passed;
        // From here on every quote and line feed counts, until a cut is found.
        let mut found = None;
        for place in memchr::memchr2_iter(b'\n', quote, rest.get(passed..).unwrap_or_default()) {
            if rest.get(passed + place) == Some(&quote) {
                *quoted = !*quoted;
            } else if !*quoted {
                found = Some(place + 1);
                break;
            }
        }
        match found {
            None => return,
            Some(end) => {
                at += end;
                cut(seen + length(at), target, due, cuts);
            }
        }
    }
}

/// Where the first record ends, line feed included; blank lines before it belong to it.
fn end_of_header(chunk: &[u8], quote: u8, quoted: &mut bool, blank: &mut bool) -> Option<usize> {
    for (place, byte) in chunk.iter().enumerate() {
        if *byte == quote {
            *quoted = !*quoted;
            *blank = false;
        } else if *byte == b'\n' {
            if !*quoted && !*blank {
                return Some(place + 1);
            }
        } else if *byte != b'\r' {
            *blank = false;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(rule: SplitRule, bytes: &[u8], chunk: usize) -> Found {
        let mut cutter = Cutter::new(rule, Compression::None);
        bytes.chunks(chunk.max(1)).for_each(|chunk| cutter.push(chunk));
        cutter.finish()
    }

    #[test]
    fn lines_are_cut_after_the_first_line_feed_past_each_multiple() {
        let rule = SplitRule::Lines { target: 4 };
        assert_eq!(found(rule, b"a\nbb\nc\nd\n", 100).cuts, [5]);
        assert_eq!(found(rule, b"abc\nabc\nabc\n", 100).cuts, [4, 8], "the end of the object is not a cut");
        assert_eq!(found(rule, b"abc\nabc\nabc", 100).cuts, [4, 8]);
        assert_eq!(found(rule, b"0123456789abc\nx\ny", 100).cuts, [14, 16], "a long line passes many multiples");
        assert_eq!(found(rule, b"", 1), Found::default());
        assert_eq!(found(SplitRule::Whole, b"a\nb\nc\nd\n", 1), Found::default());
        let mut cutter = Cutter::new(rule, Compression::Gzip);
        cutter.push(b"a\nb\nc\nd\ne\n");
        assert_eq!(cutter.finish(), Found::default());
    }

    #[test]
    fn csv_is_never_cut_inside_quotes_or_right_after_its_header() {
        let rule = SplitRule::Csv { target: 4, quote: b'"', header: true };
        let text = b"\r\nid,\"te\nxt\"\n1,\"a\nb\"\n2,\"c\"\"\n\"\n3,d\n4";
        let whole = found(rule, text, 100);
        assert_eq!(whole.preamble, Some(0..13));
        let parts: Vec<_> = [13].iter().chain(&whole.cuts).zip(&whole.cuts).map(|(a, b)| b - a).collect();
        assert_eq!(parts, [8, 9, 4]);
        assert_eq!(found(rule, b"id,text\n", 3), Found::default());
        assert_eq!(found(SplitRule::Csv { target: 4, quote: b'"', header: false }, b"1,a\n2,b\n", 3).cuts, [4]);
    }

    /// The places where a record ends, found the plain way.
    fn record_ends(bytes: &[u8], quote: Option<u8>) -> Vec<u64> {
        let mut quoted = false;
        let mut ends = Vec::new();
        for (place, byte) in bytes.iter().enumerate() {
            quoted ^= Some(*byte) == quote;
            if *byte == b'\n' && !quoted {
                ends.push(length(place + 1));
            }
        }
        ends
    }

    proptest! {
        #[test]
        fn cuts_are_those_of_the_plain_way_however_the_bytes_are_chunked(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'"'), Just(b'a'), Just(b'b')], 0..200),
            target in 1_u64..20,
            chunk in 1_usize..30,
            csv in any::<bool>(),
        ) {
            let (rule, quote) = if csv {
                (SplitRule::Csv { target, quote: b'"', header: false }, Some(b'"'))
            } else {
                (SplitRule::Lines { target }, None)
            };
            let mut due = target;
            let mut expected = Vec::new();
            for end in record_ends(&bytes, quote) {
                if end >= due {
                    expected.push(end);
                    due = (end / target + 1) * target;
                }
            }
            expected.retain(|end| *end < length(bytes.len()));
            prop_assert_eq!(found(rule, &bytes, chunk).cuts, expected);
        }
    }
}
