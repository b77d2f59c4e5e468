//! How large an item is, by the rule DynamoDB bills it: "DynamoDB item sizes and formats" in the developer guide
//! (`CapacityUnitCalculations.html`). The rule calls its own answer for numbers approximate.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

/// An item, or a key, as the SDK holds it.
pub type Item = HashMap<String, AttributeValue>;

/// Bytes of an item: the names of its attributes and their values.
pub fn item_size(item: &Item) -> usize {
    item.iter()
        .map(|(name, value)| name.len() + value_size(value))
        .sum()
}

/// Bytes of a value without its name.
pub fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(number) => number_size(number),
        AttributeValue::B(blob) => blob.as_ref().len(),
        AttributeValue::Bool(_) | AttributeValue::Null(_) => 1,
        AttributeValue::Ss(texts) => texts.iter().map(String::len).sum(),
        AttributeValue::Ns(numbers) => numbers.iter().map(|number| number_size(number)).sum(),
        AttributeValue::Bs(blobs) => blobs.iter().map(|blob| blob.as_ref().len()).sum(),
        // Three bytes for the container, one for each element.
        AttributeValue::L(list) => {
            3 + list
                .iter()
                .map(|value| 1 + value_size(value))
                .sum::<usize>()
        }
        AttributeValue::M(map) => {
            3 + map
                .iter()
                .map(|(name, value)| 1 + name.len() + value_size(value))
                .sum::<usize>()
        }
        // A type this SDK does not know cannot be sent by it.
        _ => 0,
    }
}

/// One byte, one more for each two significant digits, and one for a minus sign.
fn number_size(number: &str) -> usize {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits = || mantissa.bytes().filter(u8::is_ascii_digit);
    let leading = digits().take_while(|digit| *digit == b'0').count();
    let trailing = digits().rev().take_while(|digit| *digit == b'0').count();
    let significant = digits().count().saturating_sub(leading + trailing);
    let sign = usize::from(mantissa.starts_with('-') && significant > 0);
    1 + significant.div_ceil(2) + sign
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::primitives::Blob;

    use super::*;

    fn number(text: &str) -> usize {
        value_size(&AttributeValue::N(text.to_owned()))
    }

    #[test]
    fn an_item_is_as_large_as_its_names_and_values() {
        let item = Item::from([
            ("pk".to_owned(), AttributeValue::S("run_1".to_owned())), // 2 + 5
            ("größe".to_owned(), AttributeValue::S("€".to_owned())),  // 7 + 3, in UTF-8
            ("n".to_owned(), AttributeValue::N("1234".to_owned())),   // 1 + 3
            ("on".to_owned(), AttributeValue::Bool(true)),            // 2 + 1
            ("none".to_owned(), AttributeValue::Null(true)),          // 4 + 1
            ("raw".to_owned(), AttributeValue::B(Blob::new([0; 10]))), // 3 + 10
        ]);
        assert_eq!(item_size(&item), 7 + 10 + 4 + 3 + 5 + 13);
    }

    #[test]
    fn a_number_costs_a_byte_for_each_two_digits_that_count() {
        for (text, bytes) in [
            ("0", 1),
            ("-0", 1),
            ("7", 2),
            ("42", 2),
            ("123", 3),
            ("0042", 2),
            ("100", 2),
            ("1010", 3),
            ("0.15", 2),
            ("-42", 3),
            ("1E125", 2),
            ("12345678901234567890123456789012345678", 20),
        ] {
            assert_eq!(number(text), bytes, "{text}");
        }
    }

    #[test]
    fn containers_cost_three_bytes_and_one_for_each_element() {
        let empty = AttributeValue::L(vec![]);
        assert_eq!(value_size(&empty), 3);
        let list = AttributeValue::L(vec![
            AttributeValue::S("ab".to_owned()),
            AttributeValue::N("1".to_owned()),
        ]);
        assert_eq!(value_size(&list), 3 + (1 + 2) + (1 + 2));
        let map = AttributeValue::M(Item::from([
            ("list".to_owned(), list),
            ("e".to_owned(), empty),
        ]));
        assert_eq!(value_size(&map), 3 + (1 + 4 + 9) + (1 + 1 + 3));
    }

    #[test]
    fn sets_cost_what_is_in_them() {
        assert_eq!(
            value_size(&AttributeValue::Ss(vec!["a".to_owned(), "bcd".to_owned()])),
            4
        );
        assert_eq!(
            value_size(&AttributeValue::Ns(vec!["1".to_owned(), "123".to_owned()])),
            5
        );
        assert_eq!(
            value_size(&AttributeValue::Bs(vec![Blob::new([1, 2]), Blob::new([3])])),
            3
        );
    }
}
