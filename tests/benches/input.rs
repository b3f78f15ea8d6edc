//! Payments as JSON lines.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

const COUNTRIES: [&str; 20] = [
    "DE", "FR", "GB", "ES", "IT", "NL", "BE", "PL", "US", "CA", "SE", "CH", "AT", "PT", "DK", "KP", "IR", "SY", "CU",
    "RU",
];
const CHANNELS: [&str; 4] = ["pos", "web", "app", "atm"];

/// xorshift64*: the same numbers each time.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Writes so many payments into so many files, and beside them how many there are.
pub(crate) fn make(folder: &Path, records: u64, parts: u64) {
    std::fs::create_dir_all(folder).unwrap();
    let mut draw = Draw(20_260_101);
    for part in 0..parts {
        let file = std::fs::File::create(folder.join(format!("part-{part:02}.jsonl"))).unwrap();
        let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
        for number in 0..records / parts {
            let (a, b) = (draw.next(), draw.next());
            let spread = |draw: &mut Draw, wide: f64| (draw.unit() + draw.unit() + draw.unit() - 1.5) * wide;
            let kinds = if draw.below(30) == 0 { 20 } else { 15 };
            let country = COUNTRIES[draw.below(kinds) as usize];
            writeln!(
                out,
                "{{\"event_id\":\"{:08x}-{:04x}-{:04x}-{:04x}-{:012x}\",\"time\":{},\"card\":\"c{:06}\",\"merchant\":\"m{:04}\",\
                 \"country\":\"{country}\",\"currency\":\"EUR\",\"channel\":\"{}\",\"amount\":{:.2},\"v1\":{:.6},\"v14\":{:.6},\
                 \"v17\":{:.6},\"class\":{}}}",
                a >> 32,
                (a >> 16) & 0xffff,
                a & 0xffff,
                b >> 48,
                b & 0xffff_ffff_ffff,
                part * 100_000 + number,
                draw.below(200_000),
                draw.below(10_000),
                CHANNELS[draw.below(4) as usize],
                draw.unit() * draw.unit() * draw.unit() * 3_000.0,
                spread(&mut draw, 4.0),
                spread(&mut draw, 6.5),
                spread(&mut draw, 4.0),
                u8::from(draw.below(600) == 0),
            )
            .unwrap();
        }
        out.flush().unwrap();
    }
    std::fs::write(folder.join("expected.json"), format!("{{\"rows\":{}}}", records / parts * parts)).unwrap();
}

/// The payments' schema.
pub(crate) fn schema() -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    let text = |name: &str| field(name, DataType::Utf8);
    Arc::new(Schema::new(vec![
        text("event_id"),
        field("time", DataType::Int64),
        text("card"),
        text("merchant"),
        text("country"),
        text("currency"),
        text("channel"),
        field("amount", DataType::Float64),
        field("v1", DataType::Float64),
        field("v14", DataType::Float64),
        field("v17", DataType::Float64),
        field("class", DataType::Int64),
    ]))
}
