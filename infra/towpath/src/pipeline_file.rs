//! Pipeline files: YAML (and so JSON too), read strictly.

use std::fmt::Write as _;
use std::path::Path;

use towpath_engine::Pipeline;

/// Reads a pipeline file.
///
/// # Errors
/// What is wrong, where, and what is expected, ready to be shown.
pub fn read(path: &Path) -> Result<Pipeline, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    parse(&text, &shown.to_string())
}

/// Parses the text of a pipeline file. `name` stands in messages.
///
/// # Errors
/// As for [`read`].
pub fn parse(text: &str, name: &str) -> Result<Pipeline, String> {
    let pipeline: Pipeline = serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error
            .location()
            .map_or((1, 1), |at| (at.line(), at.column()));
        let told = error.to_string();
        // The library says where first, and shows the lines after: we say where in the way of compilers.
        let (what, shown) = told.split_once('\n').unwrap_or((&told, ""));
        let what = what
            .split_once(&format!("column {column}: "))
            .map_or(what, |(_, what)| what);
        let shown = shown
            .split_once('\n')
            .map(|(_, lines)| format!("\n{lines}"))
            .unwrap_or_default();
        format!("{name}:{line}:{column}: {what}{shown}")
    })?;
    let errors = pipeline.errors();
    if errors.is_empty() {
        return Ok(pipeline);
    }
    let mut message = String::new();
    for error in errors {
        let _ = writeln!(message, "{name}: {}: {}", error.path, error.problem);
    }
    Err(message.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text, "p.yaml").unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let unknown =
            refused("id: p\nsteps:\n  - agentKind: coder\n    runtme: { kind: simulated }\n");
        assert!(
            unknown.starts_with("p.yaml:4:") && unknown.contains("runtme"),
            "{unknown}"
        );
        assert!(
            refused("id: p\nsteps: []\n")
                .contains("p.yaml: steps: a pipeline needs at least one enabled step")
        );
        let kind = refused("id: p\nsteps:\n  - agentKind: dreamer\n");
        assert!(
            kind.contains("steps[0]: no runtime is known for the agent kind `dreamer`"),
            "{kind}"
        );
        let probe = refused("id: p\nsteps:\n  - agentKind: ci\n");
        assert!(
            probe.contains("steps[0]: the gate `ci` needs a `gate` with a `probe`"),
            "{probe}"
        );
        let no_probe = refused("id: p\nsteps:\n  - agentKind: ci\n    gate: { attempts: 1 }\n");
        assert!(no_probe.contains("probe"), "{no_probe}");
        assert!(refused("{").starts_with("p.yaml"));
    }
}
