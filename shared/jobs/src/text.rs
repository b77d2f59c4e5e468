//! Making what a command printed fit to be shown.

/// The part at the end of a text that is looked at, in bytes: enough for any message, however many control characters
/// it contains.
const CONSIDERED: usize = 64 * 1024;

/// The last lines of what was printed, for a person to read: at most `max` bytes of whole lines (or of one line, if that
/// alone is longer), without colours and other control characters.
pub fn last_lines(printed: &[u8], max: usize) -> String {
    let text = without_controls(&tail(printed, CONSIDERED));
    let text = text.trim();
    if text.len() <= max {
        return text.to_owned();
    }
    let end = tail(text.as_bytes(), max);
    end.split_once('\n')
        .map_or(end.as_str(), |(_, lines)| lines)
        .trim()
        .to_owned()
}

/// The end of `bytes` as text of at most `max` bytes, cut between characters.
fn tail(bytes: &[u8], max: usize) -> String {
    let from = bytes.len().saturating_sub(max);
    let end = bytes.get(from..).unwrap_or_default();
    // The cut may have gone through a character: skip what is left of it, three bytes at most.
    let cut = end.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80);
    let rest = if from > 0 { cut.count() } else { 0 };
    let text = String::from_utf8_lossy(end.get(rest..).unwrap_or_default()).into_owned();
    // Each byte that is not UTF-8 has become three.
    let from = (text.len().saturating_sub(max)..=text.len()).find(|at| text.is_char_boundary(*at));
    text.get(from.unwrap_or(0)..).unwrap_or_default().to_owned()
}

/// The text without colours, cursor movements and other control characters. Line ends and tabs stay.
fn without_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            // `ESC [`, parameters, then a letter; of any other sequence one character.
            if chars.next() == Some('[') {
                chars.by_ref().find(|char| ('@'..='~').contains(char));
            }
        } else if !char.is_control() || matches!(char, '\n' | '\t') {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_bounded_whatever_its_bytes() {
        assert_eq!(tail("aéé".as_bytes(), 3), "é");
        assert_eq!(tail("aéé".as_bytes(), 4), "éé");
        assert_eq!(tail(&[0xFF; 100], 10), "\u{FFFD}".repeat(3));
        assert_eq!(tail(b"short", 10), "short");
    }

    #[test]
    fn the_last_lines_carry_no_control_characters_and_begin_with_a_whole_line() {
        assert_eq!(
            last_lines(b"\x1b[31merror\x1b[0m: \x07no\r\n\tsuch file\n", 100),
            "error: no\n\tsuch file"
        );
        assert_eq!(last_lines(b"one line\nanother line\nlast", 12), "last");
        assert_eq!(last_lines(b"0123456789", 4), "6789");
    }
}
