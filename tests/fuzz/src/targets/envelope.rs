//! The envelope reader: whatever bytes lie under an object's name, its rows come or an error does.

use std::sync::Arc;

use forebay_landing::MemoryZone;
use forebay_model::ports::{Clock, LandingZone as _, SplitRule};
use forebay_model::{Compression, Timestamp};
use futures::StreamExt as _;

#[derive(Debug)]
struct Still;

#[async_trait::async_trait]
impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH
    }

    async fn sleep(&self, _: std::time::Duration) {}
}

pub(crate) fn run(data: &[u8]) {
    let (rows, file) = data.split_at(data.len().min(1));
    let zone = MemoryZone::new(Arc::new(Still));
    let bytes = bytes::Bytes::copy_from_slice(file);
    let body = futures::stream::once(async move { Ok(bytes) }).boxed();
    let put = zone.put("a/b", body, Compression::None, SplitRule::Whole);
    if futures::executor::block_on(put).is_err() {
        return;
    }
    let end = u64::from(rows.first().copied().unwrap_or(0));
    if let Ok(batches) = zone.open_records("a/b", 0..end) {
        let read: u64 = batches.map_while(Result::ok).map(|batch| batch.num_rows() as u64).sum();
        assert!(read <= end);
    }
}
