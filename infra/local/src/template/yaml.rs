//! CloudFormation's YAML as JSON: the short forms (`!Ref X`) become the long ones (`{"Ref": "X"}`).

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use serde_saphyr::Tagged;

/// Reads a document. The message of a failure says where it is.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    // Only `true` and `false` are booleans: to CloudFormation the attribute type `N` is a text.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options::<Node>(text, options)
        .map(|node| node.0)
        .map_err(|error| error.to_string())
}

struct Node(Value);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Tagged(Plain(value), tag) = Tagged::<Plain>::deserialize(deserializer)?;
        let Some(name) = tag.as_deref().and_then(|tag| tag.strip_prefix('!')) else {
            return Ok(Self(value));
        };
        match name {
            "Ref" | "Condition" => Ok(Self(json!({ name: value }))),
            // `!GetAtt Resource.Attribute`: only the first dot divides.
            "GetAtt" => Ok(Self(
                match value.as_str().and_then(|text| text.split_once('.')) {
                    Some((resource, attribute)) => json!({ "Fn::GetAtt": [resource, attribute] }),
                    None => json!({ "Fn::GetAtt": value }),
                },
            )),
            "And" | "Base64" | "Cidr" | "Equals" | "FindInMap" | "GetAZs" | "If"
            | "ImportValue" | "Join" | "Not" | "Or" | "Select" | "Split" | "Sub"
            | "ToJsonString" | "Transform" => Ok(Self(json!({ format!("Fn::{name}"): value }))),
            _ => Err(de::Error::custom(format!(
                "!{name} is not one of CloudFormation's functions"
            ))),
        }
    }
}

/// A value whose own tag has been looked at already.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Plain)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Node(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Map::new();
        while let Some((key, Node(value))) = map.next_entry::<String, Node>()? {
            if entries.insert(key.clone(), value).is_some() {
                return Err(de::Error::custom(format!(
                    "the key {key} stands here twice"
                )));
            }
        }
        Ok(entries.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_read_as_their_long_ones() {
        let read = parse(
            "a: !Ref Table\nb: !GetAtt Table.Arn\nc: !Sub '${AWS::StackName}-run'\nd: !If [HasA, !Ref A, !Ref AWS::NoValue]\n\
             e: !Join\n  - '-'\n  - [x, !Ref B]\nf: '012'\ng: 12\nh: true\ni: 2012-10-17\nj:\nl: N\nk: !Equals [!Ref A, '']\n",
        )
        .unwrap();
        assert_eq!(
            read,
            json!({
                "a": {"Ref": "Table"},
                "b": {"Fn::GetAtt": ["Table", "Arn"]},
                "c": {"Fn::Sub": "${AWS::StackName}-run"},
                "d": {"Fn::If": ["HasA", {"Ref": "A"}, {"Ref": "AWS::NoValue"}]},
                "e": {"Fn::Join": ["-", ["x", {"Ref": "B"}]]},
                "f": "012", "g": 12, "h": true, "i": "2012-10-17", "j": null, "l": "N",
                "k": {"Fn::Equals": [{"Ref": "A"}, ""]},
            })
        );
    }

    #[test]
    fn an_unknown_function_is_named() {
        assert!(parse("a: !Reff Table").unwrap_err().contains("!Reff"));
    }
}
