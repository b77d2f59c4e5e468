//! Server-sent events, as far as the chat completions API needs them: the data of each event. What is held of an event has
//! a bound, since a gateway may send one that never ends.

/// The most bytes of one event that are held.
pub(crate) const EVENT_MAX: usize = 4 * 1024 * 1024;

/// Reads the data of events from the bytes of a stream, however these are cut into pieces.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The data of the event that has not ended yet.
    data: Option<String>,
    /// Whether the last byte was a carriage return: a line feed behind it belongs to it.
    returned: bool,
    /// Whether a line has been read: the first one may begin with a byte order mark.
    begun: bool,
}

/// A stream that holds no events that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("one event of its stream is longer than {EVENT_MAX} bytes")]
    TooLong,
    #[error("its stream of events is not UTF-8")]
    NotText,
}

impl Decoder {
    /// Takes the next bytes, and returns the data of the events that end with them.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut ended = Vec::new();
        for byte in bytes {
            let after_return = std::mem::replace(&mut self.returned, *byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => ended.extend(self.end_line()?),
                _ if self.held() >= EVENT_MAX => return Err(Malformed::TooLong),
                byte => self.line.push(*byte),
            }
        }
        Ok(ended)
    }

    fn held(&self) -> usize {
        self.line.len() + self.data.as_ref().map_or(0, String::len)
    }

    /// The data of the event that an empty line ends.
    fn end_line(&mut self) -> Result<Option<String>, Malformed> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8(line).map_err(|_| Malformed::NotText)?;
        let first = !std::mem::replace(&mut self.begun, true);
        let line = match first {
            true => line.strip_prefix('\u{feff}').unwrap_or(&line),
            false => &line,
        };
        if line.is_empty() {
            return Ok(self.data.take());
        }
        // Comments, which keep a connection alive, are fields without a name; other fields mean nothing here.
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut_and_their_lines_end() {
        let stream = "\u{feff}: hello\n\ndata: one\n\nevent: x\r\ndata:two\r\ndata:  three\r\n\r\nid: 1\rdata\r\rdata: é\n\ndata: cut";
        let expected = ["one", "two\n three", "", "é"];
        for size in [1, 2, 3, 7, 1000] {
            let mut decoder = Decoder::default();
            let pieces = stream.as_bytes().chunks(size);
            let read: Vec<_> = pieces.flat_map(|it| decoder.take(it).unwrap()).collect();
            assert_eq!(read, expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused_and_many_small_ones_are_not() {
        let line = vec![b'x'; EVENT_MAX];
        assert_eq!(Decoder::default().take(&line), Ok(vec![]));
        assert_eq!(
            Decoder::default().take(&[line, vec![b'x']].concat()),
            Err(Malformed::TooLong)
        );
        let mut decoder = Decoder::default();
        let data = format!("data: {}\n", "x".repeat(1024 * 1024));
        let results: Vec<_> = (0..5).map(|_| decoder.take(data.as_bytes())).collect();
        assert_eq!(results.last(), Some(&Err(Malformed::TooLong)));
        let mut decoder = Decoder::default();
        for _ in 0..5 {
            assert_eq!(decoder.take(data.as_bytes()), Ok(vec![]));
            assert_eq!(decoder.take(b"\n").unwrap().len(), 1);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let read = Decoder::default().take(b"data: \xff\n");
        assert_eq!(read, Err(Malformed::NotText));
    }
}
