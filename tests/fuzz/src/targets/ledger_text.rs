//! Texts of the ledger and the journal: each is read as what it means or refused, and what was read is written as it was.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use forebay_model::load::LoadGroup;
use forebay_model::ports::{JournalEntry, Landing, ZoneIdentity};
use forebay_model::{
    Digest, OrderedPosition, PipelineName, Preamble, Revision, StreamName, StreamSchema, TableName, Timestamp,
};

fn text<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().expect("it can be read again"), value);
    }
}

fn json<T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + Debug>(text: &str) {
    if let Ok(value) = serde_json::from_str::<T>(text) {
        let again = serde_json::to_string(&value).expect("it can be written");
        assert_eq!(serde_json::from_str::<T>(&again).expect("it can be read again"), value);
    }
}

pub(crate) fn run(data: &[u8]) {
    let Ok(input) = std::str::from_utf8(data) else { return };
    text::<OrderedPosition>(input);
    text::<Digest>(input);
    text::<StreamName>(input);
    text::<PipelineName>(input);
    text::<TableName>(input);
    if let Some(time) = Timestamp::parse(input) {
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
    }
    if let Ok(position) = input.parse::<OrderedPosition>() {
        assert_eq!(position.sort_key().len(), OrderedPosition::new(0).sort_key().len());
    }
    json::<LoadGroup>(input);
    json::<Landing>(input);
    json::<JournalEntry>(input);
    json::<ZoneIdentity>(input);
    json::<Revision>(input);
    json::<Preamble>(input);
    if let Ok(schema) = serde_json::from_str::<StreamSchema>(input) {
        drop(format!("{schema:?}"));
    }
}
