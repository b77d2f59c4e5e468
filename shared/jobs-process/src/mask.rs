//! Takes the values of secrets out of what a command prints and answers, before anything of it is kept.

/// What stands in place of a secret.
const MASK: &[u8] = b"***";
/// The shortest line of a secret of several lines that is taken out by itself, in bytes.
const SHORTEST_LINE: usize = 8;

/// The texts that must not be kept: the values of secrets, and the longer lines of those that have several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masks(Vec<Vec<u8>>);

impl Masks {
    pub(crate) fn of(secrets: &[String]) -> Self {
        let mut texts: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            let whole = secret.trim_end_matches(['\r', '\n']);
            let lines = whole.lines().filter(|line| line.len() >= SHORTEST_LINE);
            let all = lines.chain([whole]).filter(|text| !text.is_empty());
            texts.extend(all.map(|text| text.as_bytes().to_vec()));
        }
        // The longest that fits is taken out, so that a secret which begins with another one leaves no rest.
        texts.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        texts.dedup();
        Self(texts)
    }

    /// The text without the secrets.
    pub(crate) fn text(&self, text: String) -> String {
        if self.0.is_empty() {
            return text;
        }
        let mut filter = Filter::new(self.clone());
        let mut masked = filter.pass(text.as_bytes());
        masked.extend(filter.finish());
        // What is taken out are whole characters.
        String::from_utf8(masked)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Whether there is a secret in `bytes`.
    pub(crate) fn are_in(&self, bytes: &[u8]) -> bool {
        let found = |text: &Vec<u8>| bytes.windows(text.len()).any(|window| window == &**text);
        self.0.iter().any(found)
    }

    /// What stands at the beginning of `bytes`; `last`: no more bytes follow.
    fn at(&self, bytes: &[u8], last: bool) -> Seen {
        let mut seen = Seen::Nothing;
        for text in &self.0 {
            if bytes.starts_with(text) {
                // A longer one that may still become whole goes first.
                return match seen {
                    Seen::Nothing => Seen::Secret(text.len()),
                    seen => seen,
                };
            }
            if !last && text.starts_with(bytes) {
                seen = Seen::Beginning;
            }
        }
        seen
    }
}

/// The findings at a place of a stream.
enum Seen {
    /// Bytes that are no secret and cannot become one.
    Nothing,
    /// Bytes that may become a secret, with those that are to come.
    Beginning,
    /// A secret of this length.
    Secret(usize),
}

/// Masks a stream, however it is cut into chunks.
pub(crate) struct Filter {
    masks: Masks,
    /// The end of what was passed that may be the beginning of a secret.
    held: Vec<u8>,
}

impl Filter {
    pub(crate) fn new(masks: Masks) -> Self {
        Self {
            masks,
            held: Vec::new(),
        }
    }

    /// Takes a chunk, and returns what can be kept by now.
    pub(crate) fn pass(&mut self, chunk: &[u8]) -> Vec<u8> {
        if self.masks.0.is_empty() {
            return chunk.to_vec();
        }
        self.held.extend(chunk);
        self.mask(false)
    }

    /// Returns what was held back: nothing follows it.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.mask(true)
    }

    fn mask(&mut self, last: bool) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let (mut kept, mut rest) = (Vec::with_capacity(held.len()), held.as_slice());
        while let Some((first, behind)) = rest.split_first() {
            match self.masks.at(rest, last) {
                Seen::Nothing => {
                    kept.push(*first);
                    rest = behind;
                }
                Seen::Secret(length) => {
                    kept.extend(MASK);
                    rest = rest.get(length..).unwrap_or_default();
                }
                Seen::Beginning => break,
            }
        }
        self.held = rest.to_vec();
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(texts: &[&str]) -> Masks {
        let secrets: Vec<String> = texts.iter().map(ToString::to_string).collect();
        Masks::of(&secrets)
    }

    #[test]
    fn a_secret_is_masked_wherever_a_chunk_ends() {
        let masks = masks(&["hunter2hunter3", "hunter2", "aab"]);
        let printed = "x hunter2 y hunter2hunter3 z hunter aaab hunter2hunter";
        let expected = "x *** y *** z hunter a*** ***hunter";
        for size in 1..printed.len() {
            let mut filter = Filter::new(masks.clone());
            let mut kept = Vec::new();
            for chunk in printed.as_bytes().chunks(size) {
                kept.extend(filter.pass(chunk));
            }
            kept.extend(filter.finish());
            assert_eq!(
                String::from_utf8(kept).unwrap(),
                expected,
                "chunks of {size}"
            );
        }
        assert_eq!(masks.text(printed.to_owned()), expected);
    }

    #[test]
    fn lines_of_a_key_are_masked_by_themselves() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nab\n";
        let masks = masks(&[key]);
        assert_eq!(
            masks.text("cut: MIIEvQIBADANBg ab".to_owned()),
            "cut: *** ab"
        );
        assert_eq!(masks.text(format!("[{key}]")), "[***\n]");
    }

    #[test]
    fn nothing_is_changed_without_secrets() {
        assert_eq!(masks(&["", "\n"]).text("as it was".to_owned()), "as it was");
    }
}
