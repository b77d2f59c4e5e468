//! Questions that the user answers on the terminal.

use std::io::{IsTerminal, Write};

/// Asks a question that is answered by yes or no; no when nothing is said.
///
/// # Errors
/// If the standard input is no terminal, or cannot be read.
pub(crate) async fn confirm(question: &str) -> Result<bool, String> {
    let answer = typed(&format!("{question} [y/N]")).await?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

/// Asks for a line.
///
/// # Errors
/// If the standard input is no terminal, or cannot be read.
pub(crate) async fn typed(question: &str) -> Result<String, String> {
    if !std::io::stdin().is_terminal() {
        return Err(format!(
            "nobody can be asked here ({question}); say it with an option, see --help"
        ));
    }
    let line = line(&format!("{question} ")).await?;
    Ok(line.unwrap_or_default())
}

/// Shows a prompt on the standard error, and reads a line of the standard input, terminal or not. `None`: it has ended.
///
/// # Errors
/// If it cannot be read.
pub(crate) async fn line(prompt: &str) -> Result<Option<String>, String> {
    let shown = prompt.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut err = std::io::stderr();
        // A terminal that is gone shows in what is read.
        let _ = err.write_all(shown.as_bytes()).and_then(|()| err.flush());
        let mut line = String::new();
        let bytes = std::io::stdin().read_line(&mut line)?;
        Ok((bytes > 0).then_some(line))
    });
    let read: std::io::Result<Option<String>> = read.await.map_err(|e| e.to_string())?;
    read.map_err(|error| format!("the terminal cannot be read: {error}"))
}
