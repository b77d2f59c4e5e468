//! Pipeline files: YAML (and so JSON too), read strictly.

use std::fmt::Write as _;
use std::path::Path;

use towpath_api_types::plain_words;
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
        let plain = in_words_of_files(what);
        let shown = shown
            .split_once('\n')
            .map(|(_, lines)| format!("\n{}", lines.replace(what, &plain)))
            .unwrap_or_default();
        format!("{name}:{line}:{column}: {plain}{shown}")
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

/// Translates a message of the YAML library for people who write pipeline files.
fn in_words_of_files(what: &str) -> String {
    // `invalid u32` and nothing more: what was wanted, but not what was found.
    let wanted = what.strip_prefix("invalid ");
    if let Some(wanted) = wanted.filter(|wanted| !wanted.contains(' ')) {
        return plain_words(&format!("expected {wanted}"));
    }
    if let Some(rest) = what.strip_prefix("duplicate mapping key: ") {
        let key = rest.split_once(", set ").map_or(rest, |(key, _)| key);
        return format!("`{key}` stands here for the second time");
    }
    if what.contains("multiple") && what.contains("document") {
        return "a file holds one pipeline, and here begins another".to_owned();
    }
    if what.starts_with("unexpected end of input") {
        return "the file ends before the pipeline does".to_owned();
    }
    if what.starts_with("tabs disallowed") || what.ends_with("found a tab") {
        return "a tab; indent with spaces".to_owned();
    }
    plain_words(what).replace("unknown variant", "unknown value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text, "p.yaml").unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_the_file_at_its_own_line() {
        let step = |lines: &str| format!("id: p\nsteps:\n  - agentKind: coder\n{lines}");
        for (text, told) in [
            (
                step("    runtime:\n      kind: process\n      command: make\n"),
                "6:16: expected a list",
            ),
            (
                step("    runtime:\n      kind: docker\n"),
                "5:13: unknown value `docker`, expected one of simulated, command, process",
            ),
            (step("    runtime: process\n"), "4:14: expected an object"),
            (
                step("    gate:\n      probe:\n        kind: command\n        comand: [make]\n"),
                "7:9: unknown field `comand`",
            ),
            (
                step("    budgets: { jobMinutes: soon }\n"),
                "4:28: expected a whole number from 0",
            ),
            (
                step("    requiresApproval: maybe\n"),
                "4:23: expected true or false",
            ),
            (
                step(
                    "    runtime:\n      kind: process\n      command: [make]\n      env:\n        PORT: 80\n",
                ),
                ": invalid type: integer `80`, expected a text, in quotes",
            ),
            (step("\t- agentKind: x\n"), ": a tab; indent with spaces"),
            (
                "id: p\nid: q\nsteps: []\n".to_owned(),
                "2:1: `id` stands here for the second time",
            ),
            (
                step("    runtime: { kind: simulated }\n---\nid: q\n"),
                ": a file holds one pipeline",
            ),
            (String::new(), "1:1: the file ends before"),
        ] {
            let refused = refused(&text);
            assert!(refused.contains(told), "{told:?}: {refused}");
            for word in [
                "sequence", "mapping", "u32", "Policy", "from_str", "boolean", "variant",
            ] {
                assert!(!refused.contains(word), "{word}: {refused}");
            }
        }
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
