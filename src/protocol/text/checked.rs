//! JSON that was checked here, as `serde_json` has it.

use serde::de::value::{self, BorrowedStrDeserializer, MapDeserializer};
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

/// Returns `text`, which was seen to be one JSON value, as such.
///
/// `serde_json` knows no other way than to read it, and would check it once more; so it is given what its own reader
/// gives it: a newtype of a map of one string. Should it ever ask for something else, it may read.
pub(super) fn raw(text: &str) -> serde_json::Result<&RawValue> {
    <&RawValue>::deserialize(Checked(text)).or_else(|_| serde_json::from_str(text))
}

struct Checked<'de>(&'de str);

impl<'de> Deserializer<'de> for Checked<'de> {
    type Error = value::Error;

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let text = BorrowedStrDeserializer::new(self.0);
        visitor.visit_map(MapDeserializer::new(std::iter::once((name, text))))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_borrowed_str(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_value_is_taken_without_another_look() {
        for text in ["{\"a\":[1,\"\\u00e9\"]}", "null", "-1.5e3", "\"\""] {
            let taken = <&RawValue>::deserialize(Checked(text)).unwrap();
            assert_eq!(taken.get(), text);
        }
        // Only a second reading would have found that this is none.
        assert_eq!(raw("[1,").unwrap().get(), "[1,");
    }
}
