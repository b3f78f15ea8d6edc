//! What only a real server can say: whether signatures, parts and conditions are what it takes. `make test-services` starts one.

use std::io::Read;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use forebay_landing::{S3Zone, naming};
use forebay_model::ports::{LandingZone, SplitRule};
use forebay_model::{Compression, ErrorClass, StreamName, Timestamp};
use forebay_s3::Patience;
use futures::StreamExt;
use uuid::Uuid;

use super::faults::large;
use super::{service, signed_zone, zone};

async fn fresh() -> Option<S3Zone> {
    let url = service().await?;
    Some(zone(&url, &format!("service/{}", Uuid::new_v4()), Patience::default(), None))
}

#[tokio::test]
async fn an_s3_service_takes_large_objects_in_parts_and_once() {
    let Some(zone) = fresh().await else { return };
    let bytes = large();
    let put = || {
        let chunks: Vec<_> = bytes.chunks(4 << 20).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        zone.put("s/large", futures::stream::iter(chunks).boxed(), Compression::None, SplitRule::Whole)
    };
    let object = put().await.unwrap();
    let again = put().await.unwrap_err();
    assert_eq!(again.class(), ErrorClass::Bug, "{again}");
    let read = |zone: &S3Zone| {
        let mut read = Vec::new();
        zone.open("s/large", 0..object.bytes, Some(object.digest)).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == bytes);
    };
    read(&zone);
    let mut part = Vec::new();
    zone.open("s/large", 20_000_000..20_000_100, None).unwrap().read_to_end(&mut part).unwrap();
    assert!(part == bytes[20_000_000..20_000_100]);
    assert_eq!(zone.list("s/").await.unwrap()[0].bytes, object.bytes);
}

#[tokio::test]
async fn an_s3_service_tells_of_uploads_that_nobody_ended() {
    let Some(url) = service().await else { return };
    let prefix = format!("service/{}", Uuid::new_v4());
    let (dead, alive) =
        (zone(&url, &prefix, Patience::default(), None), zone(&url, &prefix, Patience::default(), None));
    let stream = StreamName::new("s").unwrap();
    let name = naming::object_name(&stream, Timestamp::EPOCH, Uuid::from_u128(7), 0, "a.csv");
    let chunk = Ok(Bytes::from(large()));
    let endless = futures::stream::iter([chunk]).chain(futures::stream::pending()).boxed();
    let sweep = async {
        loop {
            let later = Timestamp::from_system(SystemTime::now() + Duration::from_hours(1));
            let swept = alive.sweep(later).await.unwrap();
            if !swept.is_empty() {
                return swept;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        put = dead.put(&name, endless, Compression::None, SplitRule::Whole) => panic!("it has no end: {put:?}"),
        swept = sweep => assert_eq!(swept, [name]),
    }
    assert!(alive.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn an_s3_service_refuses_a_wrong_secret() {
    let Some(url) = service().await else { return };
    let zone = signed_zone(&url, "service", "not-the-secret", Patience::default(), None);
    let error = zone.identity().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.to_string().contains("the credentials are refused (SignatureDoesNotMatch"), "{error}");
    assert!(!format!("{error:?}").contains("not-the-secret"));
}
