//! The words of parsers, made those of people who write documents.

/// A parser's message without the names of Rust's types: the user of an API has never heard of them.
pub fn plain_words(message: &str) -> String {
    let mut words: Vec<&str> = message.split(' ').collect();
    for index in 0..words.len() {
        let Some(word) = words.get(index).copied() else {
            break;
        };
        let expected = index > 0 && words.get(index - 1) == Some(&"expected");
        let rest = |from: usize| words.get(index + from).copied().unwrap_or_default();
        let (plain, length) = match (word, rest(1), rest(2)) {
            ("struct" | "map", ..) | ("internally", "tagged", "enum") if expected => {
                let named = usize::from(word == "struct") + 3 * usize::from(word == "internally");
                ("an object", 1 + named)
            }
            ("a", "map", _) if expected => ("an object", 2),
            ("a", "sequence", _) if expected => ("a list", 2),
            ("sequence", "start", _) if expected => ("a list", 2),
            ("mapping", "start", _) if expected => ("an object", 2),
            ("tuple" | "enum" | "unit" | "newtype", ..) if expected => ("another value", 2),
            ("u8" | "u16" | "u32" | "u64" | "usize", ..) if expected => {
                ("a whole number from 0", 1)
            }
            ("i8" | "i16" | "i32" | "i64", ..) if expected => ("a whole number", 1),
            ("f32" | "f64", ..) if expected => ("a number", 1),
            ("boolean", ..) if expected => ("true or false", 1),
            _ => continue,
        };
        let end = (index + length).min(words.len());
        words.splice(index..end, [plain]);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_rust_become_things_of_documents() {
        for (told, plain) in [
            (
                "invalid type: string \"x\", expected struct Repository",
                "invalid type: string \"x\", expected an object",
            ),
            (
                "invalid value: integer `-1`, expected u32",
                "invalid value: integer `-1`, expected a whole number from 0",
            ),
            (
                "invalid type: map, expected a sequence",
                "invalid type: map, expected a list",
            ),
            (
                "invalid type: string \"a\", expected internally tagged enum Binding",
                "invalid type: string \"a\", expected an object",
            ),
            ("expected sequence start", "expected a list"),
            (
                "unknown field `x`, expected `a` or `b`",
                "unknown field `x`, expected `a` or `b`",
            ),
        ] {
            assert_eq!(plain_words(told), plain);
        }
    }
}
