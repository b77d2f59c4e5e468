//! Questions to whoever sits at the terminal.

use std::io::{IsTerminal, Write};

/// Asks a question that is answered by yes or no; no when nothing is said.
///
/// # Errors
/// If nobody sits there.
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
/// If nobody sits there.
pub(crate) async fn typed(question: &str) -> Result<String, String> {
    if !std::io::stdin().is_terminal() {
        return Err(format!(
            "nobody can be asked here ({question}); say it with an option, see --help"
        ));
    }
    let shown = format!("{question} ");
    let read = tokio::task::spawn_blocking(move || {
        let mut err = std::io::stderr();
        let _ = err.write_all(shown.as_bytes()).and_then(|()| err.flush());
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    match read.await {
        Ok(Ok(line)) => Ok(line),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
