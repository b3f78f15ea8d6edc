//! Types as a config writes them: `int64`, `decimal(10,2)`, `list<string>`, `struct<city: string, zip: string>`.

use std::sync::Arc;

use arrow_schema::{DataType, Field};
use forebay_model::column::timestamp_type;

use crate::shape::list_field;

const KNOWN: &str = "string, bool, int8 to int64, uint8 to uint64, float32, float64, decimal(precision,scale), date, \
                     timestamp, binary (base64 in JSON and CSV), list<type>, struct<name: type, …>";
/// The words that types begin with, without their other spellings: each stands in `docs/formats.md`.
#[cfg(test)]
pub(crate) const WORDS: [&str; 18] = [
    "string",
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "decimal",
    "date",
    "timestamp",
    "binary",
    "list",
    "struct",
];
/// Types within types.
const DEEPEST: usize = 16;

/// What is wrong and what would be right.
type Refused = (String, String);

/// The Arrow type of a text.
pub(crate) fn parse(text: &str) -> Result<DataType, Refused> {
    let mut rest = text.trim();
    let data_type = data_type(&mut rest, 0)?;
    if rest.trim().is_empty() { Ok(data_type) } else { Err(refused(format!("{:?} follows the type", rest.trim()))) }
}

fn refused(message: impl Into<String>) -> Refused {
    (message.into(), format!("types are {KNOWN}"))
}

fn data_type(rest: &mut &str, depth: usize) -> Result<DataType, Refused> {
    if depth > DEEPEST {
        return Err(refused(format!("it nests deeper than {DEEPEST} levels")));
    }
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after.trim_start();
    Ok(match word.to_ascii_lowercase().as_str() {
        "string" | "text" | "utf8" => DataType::Utf8,
        "bool" | "boolean" => DataType::Boolean,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "uint64" => DataType::UInt64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        "date" => DataType::Date32,
        "timestamp" => timestamp_type(),
        "binary" => DataType::Binary,
        "decimal" => decimal(rest)?,
        "list" => {
            expect(rest, '<')?;
            let element = data_type(rest, depth + 1)?;
            expect(rest, '>')?;
            DataType::List(list_field(element))
        }
        "struct" => fields(rest, depth)?,
        "" => return Err(refused("a type is missing")),
        other => return Err(refused(format!("{other:?} is no type"))),
    })
}

fn decimal(rest: &mut &str) -> Result<DataType, Refused> {
    expect(rest, '(')?;
    let precision = number(rest)?;
    expect(rest, ',')?;
    let scale = number(rest)?;
    expect(rest, ')')?;
    match i8::try_from(scale) {
        Ok(scale_i8) if (1..=38).contains(&precision) && scale <= precision => {
            Ok(DataType::Decimal128(precision, scale_i8))
        }
        _ => Err(refused("a decimal has 1 to 38 digits, of which at most as many follow the point")),
    }
}

fn fields(rest: &mut &str, depth: usize) -> Result<DataType, Refused> {
    expect(rest, '<')?;
    let mut fields: Vec<Arc<Field>> = Vec::new();
    loop {
        let Some((name, after)) = rest.split_once(':') else {
            return Err(refused("a struct's field is written as name: type"));
        };
        let name = name.trim();
        if !crate::names::is_usable(name, false) || name.contains(['<', '>', ',']) {
            return Err(refused(format!("{name:?} is no field's name")));
        }
        let folded = crate::names::fold(name);
        if fields.iter().any(|field| crate::names::fold(field.name()) == folded) {
            return Err(refused(format!("the field {name:?} stands twice")));
        }
        *rest = after.trim_start();
        fields.push(Arc::new(Field::new(name, data_type(rest, depth + 1)?, true)));
        if expect(rest, ',').is_err() {
            expect(rest, '>')?;
            return Ok(DataType::Struct(fields.into()));
        }
    }
}

fn number(rest: &mut &str) -> Result<u8, Refused> {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after.trim_start();
    digits.parse().map_err(|_| refused("decimal is written as decimal(precision,scale)"))
}

fn expect(rest: &mut &str, wanted: char) -> Result<(), Refused> {
    let after = rest.strip_prefix(wanted).ok_or_else(|| refused(format!("{wanted:?} is expected before {rest:?}")))?;
    *rest = after.trim_start();
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_that_are_read() {
        for word in WORDS {
            let known = parse(word).err().is_none_or(|(message, _)| !message.ends_with("is no type"));
            assert!(known, "{word}");
        }
    }

    #[test]
    fn types_are_read() {
        assert_eq!(parse(" Boolean ").unwrap(), DataType::Boolean);
        assert_eq!(parse("decimal(10, 2)").unwrap(), DataType::Decimal128(10, 2));
        assert_eq!(parse("list<list<int8>>").unwrap(), {
            DataType::List(list_field(DataType::List(list_field(DataType::Int8))))
        });
        let inner = DataType::Struct(vec![Field::new("zip", DataType::Utf8, true)].into());
        let outer = vec![Field::new("the city", inner, true), Field::new("at", timestamp_type(), true)];
        assert_eq!(
            parse("struct<the city: struct<zip: string>, at: timestamp>").unwrap(),
            DataType::Struct(outer.into())
        );
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for bad in [
            "",
            "int",
            "int64x",
            "list",
            "list<>",
            "list<int64",
            "struct<>",
            "struct<a>",
            "struct<a: int8, A: int8>",
            "decimal",
            "decimal(39,0)",
            "decimal(2,3)",
            "decimal(1)",
            "string string",
            "struct<: int8>",
            &format!("{}int8{}", "list<".repeat(40), ">".repeat(40)),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
