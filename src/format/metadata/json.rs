//! JSON as the metadata needs it: fields given twice are seen, and what is written has one form only.

use super::{DEPTH_MAX, MetadataError};
use crate::ident::Commit;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::fmt;

/// Parses JSON, refusing fields that are given twice and deep nesting.
pub(super) fn parse(text: &str) -> Result<Value, MetadataError> {
    let complaint = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let parsed = Node { depth: 0, complaint: &complaint }.deserialize(&mut reader).and_then(|value| {
        reader.end()?;
        Ok(value)
    });
    parsed.map_err(|error| complaint.take().unwrap_or(MetadataError::Json(error)))
}

/// One value at some depth. serde's errors are text only, so a typed complaint is left beside them.
#[derive(Clone, Copy)]
struct Node<'a> {
    depth: usize,
    complaint: &'a RefCell<Option<MetadataError>>,
}

impl Node<'_> {
    fn complain<E: serde::de::Error>(self, complaint: MetadataError) -> E {
        let error = E::custom(&complaint);
        self.complaint.replace(Some(complaint));
        error
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(self.complain(MetadataError::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper::<A::Error>()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper::<A::Error>()?;
        let mut fields = Map::new();
        while let Some(field) = access.next_key::<String>()? {
            let value = access.next_value_seed(inner)?;
            if fields.contains_key(&field) {
                return Err(self.complain(MetadataError::Duplicate { field }));
            }
            fields.insert(field, value);
        }
        Ok(Value::Object(fields))
    }
}

/// The fields of an object, taken out one after another by their types; null is absent.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn of(field: &'static str, value: Value) -> Result<Self, MetadataError> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(MetadataError::WrongType { field, expected: "an object" }),
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn string(&mut self, name: &str, field: &'static str) -> Result<Option<String>, MetadataError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(MetadataError::WrongType { field, expected: "a string" }),
        }
    }

    pub(super) fn strings(&mut self, field: &'static str) -> Result<Option<Vec<String>>, MetadataError> {
        let wrong = MetadataError::WrongType { field, expected: "a list of strings" };
        match self.take(field) {
            None => Ok(None),
            Some(Value::Array(values)) => {
                let texts = values.into_iter().map(|value| match value {
                    Value::String(text) => Some(text),
                    _ => None,
                });
                texts.collect::<Option<Vec<_>>>().map(Some).ok_or(wrong)
            }
            Some(_) => Err(wrong),
        }
    }

    pub(super) fn integer(&mut self, field: &'static str) -> Result<Option<i64>, MetadataError> {
        let wrong = MetadataError::WrongType { field, expected: "a whole number of milliseconds" };
        self.take(field).map(|value| value.as_i64().ok_or(wrong)).transpose()
    }

    pub(super) fn size(&mut self, field: &'static str) -> Result<Option<u64>, MetadataError> {
        let wrong = MetadataError::WrongType { field, expected: "a whole number of bytes" };
        self.take(field).map(|value| value.as_u64().ok_or(wrong)).transpose()
    }

    /// A commit; an empty one is as good as none (design, archives).
    pub(super) fn commit(&mut self, field: &'static str) -> Result<Option<Commit>, MetadataError> {
        match self.string(field, field)? {
            Some(text) if !text.is_empty() => {
                text.parse().map(Some).map_err(|source| MetadataError::Invalid { field, source })
            }
            _ => Ok(None),
        }
    }

    pub(super) fn rest(self) -> Map<String, Value> {
        self.0
    }
}

/// The same value with every object's fields in alphabetical order, whatever order the map type keeps.
pub(super) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut pairs: Vec<_> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(pairs.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Four spaces of indentation and a newline at the end.
pub(super) fn pretty(value: &Value) -> String {
    // `{:#}` of a Value indents by two, and writing JSON into memory cannot fail: so the indentation is widened here.
    let mut text = String::new();
    for line in format!("{value:#}").lines() {
        let body = line.trim_start_matches(' ');
        let indentation = line.len() - body.len();
        text.extend(std::iter::repeat_n(' ', indentation * 2));
        text.push_str(body);
        text.push('\n');
    }
    text
}
