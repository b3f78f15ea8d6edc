use forebay_model::ErrorClass;
use forebay_model::flow::OnChange;
use forebay_model::ids::{Digest, SegmentId};
use forebay_model::ports::{Advance, Landing, Ledger};
use forebay_model::position::{OrderedPosition, Position};
use forebay_model::segment::{Partition, SegmentContent};

use super::support::*;

pub(super) async fn a_segment_is_listed_once_and_read_back_whole(ledger: &dyn Ledger) {
    let files = file_landing(1, "a.csv", "v1", OnChange::Replace, 25);
    let listed = ledger.land(&files).await.unwrap().listed;
    let envelope = records(2, &[("p0", None, 5, 9), ("p1", None, 0, 3)]);
    let listed: Vec<_> = listed.into_iter().chain(ledger.land(&envelope).await.unwrap().listed).collect();
    assert_eq!(listed.len(), 5);
    for segment in &listed {
        assert_eq!(ledger.segment(&segment.id).await.unwrap().as_ref(), Some(segment));
    }
    let of_file = &listed[1];
    let expected = &files.objects[0];
    assert_eq!(of_file.id, SegmentId::derive(&stream(), &folder(), &of_file.first));
    assert_eq!((&of_file.first, &of_file.content), (&expected.segments[1].first, &expected.segments[1].content));
    assert_eq!((of_file.digest, &of_file.object, of_file.landed_at), (expected.digest, &expected.name, at(1)));
    let of_envelope = &listed[4];
    assert_eq!(of_envelope.partition, Partition::new("p1"));
    assert_eq!(of_envelope.next, Some(Position::Ordered(OrderedPosition::new(3))));
    assert_eq!(of_envelope.content, SegmentContent::Envelope { rows: 4..7 });
    assert_eq!(of_envelope.records, Some(3));
    let names = vec![expected.name.clone(), "payments/orphan".to_owned(), envelope.objects[0].name.clone()];
    assert_eq!(ledger.objects_listed(&names).await.unwrap(), [true, false, true]);
    assert_eq!(ledger.segment(&SegmentId::from_text("payments/none")).await.unwrap(), None);
}

pub(super) async fn a_repeated_landing_gives_the_same_answer(ledger: &dyn Ledger) {
    land_file(ledger, 1, "a.csv", "v1", 15).await;
    let files = file_landing(2, "a.csv", "v2", OnChange::Replace, 25);
    let spans = records(3, &[("p0", None, 0, 10)]);
    let first = (ledger.land(&files).await.unwrap(), ledger.land(&spans).await.unwrap());
    ledger.land(&records(4, &[("p0", Some(10), 10, 20)])).await.unwrap();
    let again = (ledger.land(&files).await.unwrap(), ledger.land(&spans).await.unwrap());
    assert_eq!(first, again, "also when the partition has moved on since");
    assert_eq!(first.0.listed[0].replaces.len(), 2);
    assert_eq!(work_ids(ledger, 9).await.len(), 5);
    assert_eq!(ledger.next_position(&stream(), &Partition::new("p0")).await.unwrap(), Some(OrderedPosition::new(20)));
}

pub(super) async fn another_attempt_at_the_same_part_is_known(ledger: &dyn Ledger) {
    let first = land_file(ledger, 1, "a.csv", "v1", 25).await;
    // Another process, whose settings cut the same object otherwise.
    let mut zombie = file_landing(2, "a.csv", "v1", OnChange::Replace, 25);
    zombie.objects[0].segments.truncate(1);
    zombie.objects[0].segments[0].first = Position::object("a.csv", "v1", 0..25);
    zombie.objects.push(file(2, "b.csv", "v1", OnChange::Replace, 0..5));
    let outcome = ledger.land(&zombie).await.unwrap();
    assert_eq!(outcome.known, first);
    assert_eq!(outcome.listed.len(), 1, "what is new in it is listed");
    assert_eq!(ledger.land(&zombie).await.unwrap(), outcome);
    let names = [zombie.objects[0].name.clone(), zombie.objects[1].name.clone()];
    assert_eq!(ledger.objects_listed(&names).await.unwrap(), [false, true], "its object is an orphan");
    assert_eq!(work_ids(ledger, 9).await.len(), 4);
}

pub(super) async fn a_partition_advances_only_from_where_it_stands(ledger: &dyn Ledger) {
    let partition = Partition::new("p0");
    assert_eq!(ledger.next_position(&stream(), &partition).await.unwrap(), None);
    ledger.land(&records(1, &[("p0", None, 5, 10)])).await.unwrap();
    for (number, from) in [(2, None), (3, Some(9))] {
        let zombie = records(number, &[("p0", from, from.unwrap_or(5), 12)]);
        let error = ledger.land(&zombie).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
        assert!(error.hint().is_some());
    }
    // The same span by another attempt: a zombie too.
    assert_eq!(ledger.land(&records(4, &[("p0", None, 5, 10)])).await.unwrap_err().class(), ErrorClass::Fenced);
    assert_eq!(ledger.next_position(&stream(), &partition).await.unwrap(), Some(OrderedPosition::new(10)));
    // Positions that hold no records are passed over, once or twice.
    let skip = |number| Landing {
        advances: vec![Advance {
            partition: partition.clone(),
            from: Some(OrderedPosition::new(10)),
            to: OrderedPosition::new(15),
        }],
        ..landing(number)
    };
    ledger.land(&skip(5)).await.unwrap();
    ledger.land(&skip(6)).await.unwrap();
    ledger.land(&records(7, &[("p0", Some(15), 15, 16)])).await.unwrap();
}

pub(super) async fn a_landing_is_all_or_nothing(ledger: &dyn Ledger) {
    ledger.land(&records(1, &[("p0", None, 0, 10)])).await.unwrap();
    let mut mixed = records(2, &[("p1", None, 0, 5), ("p0", Some(3), 3, 5)]);
    mixed.objects.push(file(2, "a.csv", "v1", OnChange::Replace, 0..5));
    assert_eq!(ledger.land(&mixed).await.unwrap_err().class(), ErrorClass::Fenced);
    assert_eq!(ledger.next_position(&stream(), &Partition::new("p1")).await.unwrap(), None);
    assert_eq!(ledger.objects_listed(&[mixed.objects[1].name.clone()]).await.unwrap(), [false]);
    assert_eq!(work_ids(ledger, 9).await.len(), 1);
    mixed.advances[1].from = Some(OrderedPosition::new(10));
    mixed.advances[1].to = OrderedPosition::new(12);
    mixed.objects[0].segments[1].first = Position::Ordered(OrderedPosition::new(10));
    mixed.objects[0].segments[1].next = Some(Position::Ordered(OrderedPosition::new(12)));
    assert_eq!(ledger.land(&mixed).await.unwrap().listed.len(), 3, "and the attempt may be mended");
}

pub(super) async fn a_broken_landing_is_refused(ledger: &dyn Ledger) {
    let span = || records(1, &[("p0", None, 0, 10)]);
    let object = || file_landing(1, "a.csv", "v1", OnChange::Replace, 15);
    let mut broken = vec![
        Landing { advances: Vec::new(), ..span() },
        records(1, &[("p0", Some(2), 3, 5)]),
        Landing { objects: [object().objects, object().objects].concat(), ..object() },
    ];
    let mut gap = span();
    gap.advances[0].to = OrderedPosition::new(12);
    broken.push(gap);
    let mut outside = object();
    outside.objects[0].segments[1].first = Position::object("a.csv", "v1", 10..16);
    broken.push(outside);
    let mut other_key = object();
    other_key.objects[0].segments[0].first = Position::object("b.csv", "v1", 0..10);
    broken.push(other_key);
    let mut huge = object();
    huge.objects[0].bytes = u64::MAX;
    broken.push(huge);
    let mut twice = object();
    twice.objects[0].segments[1] = twice.objects[0].segments[0].clone();
    broken.push(twice);
    for (number, landing) in broken.iter().enumerate() {
        let error = ledger.land(landing).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Bug, "{number}: {error}");
    }
    // A name is written once: the same with other bytes cannot be.
    ledger.land(&object()).await.unwrap();
    let mut other = Landing { attempt: attempt(2), ..object() };
    other.objects[0].digest = Digest::of(b"other");
    assert_eq!(ledger.land(&other).await.unwrap_err().class(), ErrorClass::Bug);
    assert_eq!(work_ids(ledger, 9).await.len(), 2);
}

pub(super) async fn a_replacing_version_names_the_segments_it_replaces(ledger: &dyn Ledger) {
    let first = land_file(ledger, 1, "a.csv", "v1", 15).await;
    land_file(ledger, 2, "b.csv", "v1", 5).await;
    let second = ledger.land(&file_landing(3, "a.csv", "v2", OnChange::Replace, 15)).await.unwrap().listed;
    assert!(second.iter().all(|segment| segment.replaces == first));
    let appended = ledger.land(&file_landing(4, "a.csv", "v3", OnChange::Append, 5)).await.unwrap().listed;
    assert!(appended[0].replaces.is_empty(), "both stay");
    let third = ledger.land(&file_landing(5, "a.csv", "v4", OnChange::Replace, 5)).await.unwrap().listed;
    let expected: Vec<_> = second.iter().chain(&appended).map(|segment| segment.id.clone()).collect();
    assert_eq!(third[0].replaces, expected, "those that none had taken the place of");
    assert_eq!(ledger.segment(&third[0].id).await.unwrap().unwrap().replaces, expected);
}

pub(super) async fn tailed_parts_follow_one_another(ledger: &dyn Ledger) {
    let part = |number, range| Landing {
        objects: vec![file(number, "app.log", "inode-7", OnChange::Tail, range)],
        ..landing(number)
    };
    ledger.land(&part(1, 0..0)).await.unwrap();
    assert_eq!(ledger.land(&part(2, 0..20)).await.unwrap().listed.len(), 2, "an empty part is not what came later");
    let more = ledger.land(&part(3, 20..25)).await.unwrap().listed;
    assert_eq!(more[0].first, Position::object("app.log", "inode-7", 20..25));
    assert_eq!(ledger.land(&part(4, 20..29)).await.unwrap().known, [more[0].id.clone()]);
    let overlap = ledger.land(&part(5, 23..29)).await.unwrap_err();
    assert_eq!(overlap.class(), ErrorClass::Fenced, "{overlap}");
    let latest = ledger.latest_objects(&stream(), &folder(), &["app.log".to_owned()]).await.unwrap();
    assert_eq!(latest[0].as_ref().unwrap().range, 20..25);
}

pub(super) async fn the_latest_version_of_each_key_is_given_in_order(ledger: &dyn Ledger) {
    land_file(ledger, 1, "a.csv", "v1", 5).await;
    land_file(ledger, 2, "it's \"b\".csv", "v1", 5).await;
    land_file(ledger, 3, "a.csv", "v2", 7).await;
    let keys = ["none.csv", "a.csv", "it's \"b\".csv", "a.csv"].map(str::to_owned);
    let found = ledger.latest_objects(&stream(), &folder(), &keys).await.unwrap();
    let versions: Vec<_> = found.iter().map(|state| state.as_ref().map(|state| state.version.as_str())).collect();
    assert_eq!(versions, [None, Some("v2"), Some("v1"), Some("v2")]);
    assert_eq!(found[1], file(3, "a.csv", "v2", OnChange::Replace, 0..7).source);
    assert_eq!(ledger.latest_objects(&stream(), &Partition::new("other"), &keys).await.unwrap(), vec![None; 4]);
}

pub(super) async fn landings_are_unjournalled_until_marked(ledger: &dyn Ledger) {
    let first = file_landing(1, "a.csv", "v1", OnChange::Replace, 15);
    let second = records(2, &[("p0", None, 0, 10)]);
    let listed = ledger.land(&first).await.unwrap().listed;
    ledger.land(&second).await.unwrap();
    // Nothing of this one was accepted, so there is nothing to write down.
    ledger.land(&file_landing(3, "a.csv", "v1", OnChange::Replace, 15)).await.unwrap();
    let open = ledger.unjournalled(&stream()).await.unwrap();
    assert_eq!(open.iter().map(|entry| entry.attempt).collect::<Vec<_>>(), [attempt(1), attempt(2)]);
    assert_eq!((open[0].version, open[0].ledger), (1, ledger.id()));
    assert_eq!((&open[0].landing, &open[0].segments), (&first, &listed));
    for _ in 0..2 {
        ledger.mark_journalled(attempt(1)).await.unwrap();
        assert_eq!(ledger.unjournalled(&stream()).await.unwrap(), open[1..]);
    }
    ledger.land(&first).await.unwrap();
    assert_eq!(ledger.unjournalled(&stream()).await.unwrap().len(), 1, "repeating a landing does not open it again");
}
