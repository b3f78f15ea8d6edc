//! Texts of the ledger, of the journal, and of what the zone keeps for a ledger that is rebuilt: each is read as what it means or
//! refused, and what was read is written as it was.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use forebay_model::kept::{KeptRevision, KeptSchema, KeptWithdrawal};
use forebay_model::load::LoadGroup;
use forebay_model::ports::{JournalEntry, Landing, ZoneIdentity};
use forebay_model::{
    Digest, OrderedPosition, PipelineName, Preamble, Result, Revision, StreamName, StreamSchema, TableName, Timestamp,
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

use crate::requests::{MaintainRequest, PushRequest, Pushed};

/// What the zone keeps has a name that tells its content: under that name what was read is written and read again, and under
/// another it is refused.
fn kept<T: serde::de::DeserializeOwned + PartialEq + Debug>(
    text: &str,
    read: fn(&str, &[u8]) -> Result<T>,
    name: fn(&T) -> Result<String>,
    write: fn(&T) -> Result<Vec<u8>>,
) {
    assert!(read("another/name.json", text.as_bytes()).is_err(), "it is read under another name");
    let Ok(value) = serde_json::from_str::<T>(text) else { return };
    let name = name(&value).expect("it has a name");
    // It may be of another version.
    if let Ok(same) = read(&name, text.as_bytes()) {
        assert_eq!(same, value);
        let again = write(&value).expect("it can be written");
        assert_eq!(read(&name, &again).expect("it can be read again"), value);
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
    json::<PushRequest>(input);
    json::<Pushed>(input);
    json::<MaintainRequest>(input);
    kept(input, KeptRevision::read, |kept| Ok(kept.name()), KeptRevision::to_bytes);
    kept(input, KeptSchema::read, KeptSchema::name, KeptSchema::to_bytes);
    kept(input, KeptWithdrawal::read, |kept| Ok(kept.name()), KeptWithdrawal::to_bytes);
    if let Ok(schema) = serde_json::from_str::<StreamSchema>(input) {
        drop(format!("{schema:?}"));
    }
}
