//! Text of others, made safe to be shown on a terminal.

/// The text with everything spelled out that would move the cursor, change colours or the order of what is read: control
/// characters but line ends and tabs, bidirectional controls, and what is invisible.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.replace("\r\n", "\n").chars() {
        match char {
            '\n' | '\t' => shown.push(char),
            char if char.is_control() || reorders(char) || is_invisible(char) => {
                shown.extend(char.escape_unicode());
            }
            char => shown.push(char),
        }
    }
    shown
}

/// Whether a character changes the order in which those around it are shown.
fn reorders(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character takes no place and joins nothing.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_spelled_out() {
        assert_eq!(
            visible("\u{1b}[2Jgone\u{7}\u{9b}31m\r"),
            "\\u{1b}[2Jgone\\u{7}\\u{9b}31m\\u{d}"
        );
        assert_eq!(
            visible("if admin \u{202e}\u{2066}// not \u{2066}"),
            "if admin \\u{202e}\\u{2066}// not \\u{2066}"
        );
        assert_eq!(visible("a\u{200b}b\u{e0041}"), "a\\u{200b}b\\u{e0041}");
        let plain = "Zoë\tsays 👩‍💻 שלום\nthe end";
        assert_eq!(visible(plain), plain);
        assert_eq!(visible("dos\r\nlines"), "dos\nlines");
    }
}
