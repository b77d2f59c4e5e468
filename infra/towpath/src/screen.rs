//! The terminal: a line for each step, alive on a terminal, plain elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use towpath_api_types::{RunView, StepView};
use towpath_engine::{Status, StepState, Timestamp};

/// Shows a run as it goes on.
pub(crate) enum Screen {
    /// A terminal: a spinner for each step.
    Live {
        progress: MultiProgress,
        bars: Vec<ProgressBar>,
    },
    /// A file or a pipe: a line for each change.
    Plain { said: Vec<String> },
    /// Nothing at all.
    Silent,
}

const SPINNER: Duration = Duration::from_millis(100);

impl Screen {
    /// The screen for standard error, which is where progress is shown.
    pub(crate) fn new(silent: bool) -> Self {
        if silent {
            Self::Silent
        } else if std::io::stderr().is_terminal() {
            Self::Live {
                progress: MultiProgress::new(),
                bars: Vec::new(),
            }
        } else {
            Self::Plain { said: Vec::new() }
        }
    }

    /// Says something that stays.
    pub(crate) fn say(&self, line: &str) {
        match self {
            Self::Live { progress, .. } => {
                // A terminal that is gone need not be told.
                let _ = progress.println(line);
            }
            Self::Plain { .. } => plain(line),
            Self::Silent => {}
        }
    }

    /// Shows the run as it now is.
    pub(crate) fn show(&mut self, view: &RunView, now: Timestamp) {
        match self {
            Self::Live { progress, bars } => {
                while bars.len() < view.steps.len() {
                    let bar = progress.add(ProgressBar::no_length());
                    bar.enable_steady_tick(SPINNER);
                    bars.push(bar);
                }
                for (bar, step) in bars.iter().zip(&view.steps) {
                    show_step(bar, step, view, now);
                }
            }
            Self::Plain { said } => {
                said.resize(view.steps.len(), String::new());
                for (said, step) in said.iter_mut().zip(&view.steps) {
                    let line = activity(step, view);
                    if *said != line && step.state != StepState::Pending {
                        let took = duration(step, now).filter(|_| step.state == StepState::Done);
                        let took = took
                            .map(|took| format!(" ({})", seconds(took)))
                            .unwrap_or_default();
                        plain(&format!("{}: {line}{took}", step.agent_kind));
                    }
                    *said = line;
                }
            }
            Self::Silent => {}
        }
    }

    /// Leaves the steps as they are: what is said from now on stands below them.
    pub(crate) fn close(&mut self) {
        if let Self::Live { bars, .. } = self {
            bars.iter()
                .filter(|bar| !bar.is_finished())
                .for_each(ProgressBar::abandon);
            *self = Self::Plain { said: Vec::new() };
            // The last of them has no end of line yet.
            plain("");
        }
    }

    /// Holds the steps still while a human is asked.
    pub(crate) fn rest(&self) {
        if let Self::Live { bars, .. } = self {
            bars.iter().for_each(ProgressBar::disable_steady_tick);
        }
    }

    /// Lets them move again.
    pub(crate) fn go_on(&mut self) {
        if let Self::Live { progress, bars } = self {
            // What was typed has scrolled the old lines away, so draw them anew below it.
            *progress = MultiProgress::new();
            bars.clear();
        }
    }
}

fn plain(line: &str) {
    // Standard error that is closed need not be told.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn show_step(bar: &ProgressBar, step: &StepView, view: &RunView, now: Timestamp) {
    if bar.is_finished() {
        return;
    }
    let failed = view.summary.status == Status::Failed && step.state != StepState::Done;
    let (template, over) = match step.state {
        StepState::Done => ("  {prefix:.green} {msg}", true),
        _ if failed && step.index == view.summary.current_step => ("  {prefix:.red} {msg}", true),
        _ if failed => ("  {prefix:.dim} {msg:.dim}", true),
        StepState::Pending => ("  {prefix:.dim} {msg:.dim}", false),
        StepState::WaitingDecision => ("  {prefix:.yellow} {msg:.yellow}", false),
        StepState::Working => ("  {spinner:.cyan} {msg}", false),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(match step.state {
        StepState::Done => "✔",
        _ if failed && step.index == view.summary.current_step => "✘",
        StepState::WaitingDecision => "?",
        _ => "·",
    });
    let took = duration(step, now).map(seconds).unwrap_or_default();
    let line = format!(
        "{:<12} {took:>7}  {}",
        step.agent_kind.as_str(),
        activity(step, view)
    );
    match over {
        true => bar.finish_with_message(line),
        false => bar.set_message(line),
    }
}

fn activity(step: &StepView, view: &RunView) -> String {
    let failed = view.summary.status == Status::Failed && step.index == view.summary.current_step;
    if failed && step.state != StepState::Done {
        return "failed".to_owned();
    }
    step.activity.clone()
}

/// How long the step has worked: the time it waited for a human is not its own.
pub(crate) fn duration(step: &StepView, now: Timestamp) -> Option<Duration> {
    let end = step.finished_at.or(step.paused_at).unwrap_or(now);
    step.started_at.map(|start| end.since(start))
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// The text, set in from the edge.
pub(crate) fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("    {line}\n"))
        .collect::<String>()
        .trim_end()
        .to_owned()
}
