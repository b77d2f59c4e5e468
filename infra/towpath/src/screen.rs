//! The terminal: a line for each step, alive on a terminal, plain elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use console::{Style, Term};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use towpath_api_types::{RunView, StepView};
use towpath_engine::{Status, StepState, Timestamp};

use crate::visible::visible;

/// Shows a run as it goes on.
pub(crate) enum Screen {
    /// A terminal: steps that are over as lines that stay, the others alive below them.
    Live(Live),
    /// A file, a pipe or a terminal that cannot move its cursor: a line for each change.
    Plain {
        /// What was last said of each step.
        said: Vec<String>,
    },
    /// Nothing at all.
    Silent,
}

/// The living lines of a terminal.
pub(crate) struct Live {
    progress: MultiProgress,
    bars: Vec<ProgressBar>,
    /// The number of steps that stand above as lines that stay.
    over: usize,
}

const SPINNER: Duration = Duration::from_millis(100);
/// The lines of a terminal that are not for steps.
const MARGIN: usize = 4;

impl Screen {
    /// The screen for standard error, which is where progress is shown.
    pub(crate) fn new(silent: bool) -> Self {
        if silent {
            Self::Silent
        } else if moves_cursor() {
            Self::Live(Live {
                progress: MultiProgress::new(),
                bars: Vec::new(),
                over: 0,
            })
        } else {
            Self::Plain { said: Vec::new() }
        }
    }

    /// Says something that stays. Whatever it holds, a terminal only shows it.
    pub(crate) fn say(&self, text: &str) {
        self.print(&visible(text));
    }

    /// Shows a change, as `git diff` without colours has it.
    pub(crate) fn say_diff(&self, diff: &str) {
        let line = |line: &str| {
            let style = diff_style(line);
            format!("    {}\n", style.for_stderr().apply_to(line))
        };
        let shown: String = visible(diff).lines().map(line).collect();
        self.print(&shown);
    }

    fn print(&self, text: &str) {
        match self {
            Self::Live(live) => {
                // A terminal that is gone need not be told.
                let _ = live.progress.println(text);
            }
            Self::Plain { .. } => plain(text),
            Self::Silent => {}
        }
    }

    /// Shows the run as it now is.
    pub(crate) fn show(&mut self, view: &RunView, now: Timestamp) {
        match self {
            Self::Live(live) => live.show(view, now),
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
        if let Self::Live(live) = self {
            live.bars.iter().for_each(ProgressBar::abandon);
            *self = Self::Plain { said: Vec::new() };
            // The last of them has no end of line yet.
            plain("");
        }
    }

    /// Removes the spinners, which would overwrite a prompt and its answer. The next [`Screen::show`] draws them again.
    pub(crate) fn rest(&mut self) {
        if let Self::Live(live) = self {
            live.bars.iter().for_each(ProgressBar::finish_and_clear);
            let _ = live.progress.clear();
            live.progress = MultiProgress::new();
            live.bars.clear();
        }
    }
}

impl Live {
    fn show(&mut self, view: &RunView, now: Timestamp) {
        let steps = view.steps.len();
        // Steps that are over scroll away with the rest; what does not fit below them is counted.
        let over = |step: &&StepView| step.state == StepState::Done;
        let done = view.steps.iter().take_while(over).count().min(steps);
        for step in view.steps.iter().take(done).skip(self.over) {
            let mark = Style::new().green().for_stderr().apply_to("✔").to_string();
            let line = format!("  {mark} {}", step_line(step, view, now));
            let _ = self.progress.println(line);
            self.bars.first().inspect(|bar| bar.finish_and_clear());
            self.bars.drain(..self.bars.len().min(1));
        }
        self.over = self.over.max(done);
        let rows = usize::from(Term::stderr().size().0);
        let room = rows.saturating_sub(MARGIN).max(2);
        let left = steps - self.over;
        let shown = if left > room { room - 1 } else { left };
        let lines = shown + usize::from(left > shown);
        while self.bars.len() < lines {
            let bar = ProgressBar::no_length();
            // A bar is drawn as soon as it is there: not in the library's own style.
            style(&bar, "  {msg}");
            let bar = self.progress.add(bar);
            bar.enable_steady_tick(SPINNER);
            self.bars.push(bar);
        }
        for (bar, step) in self.bars.iter().zip(view.steps.iter().skip(self.over)) {
            show_step(bar, step, view, now);
        }
        if let Some(bar) = self.bars.get(shown).filter(|_| left > shown) {
            style(bar, "  {prefix} {msg:.dim}");
            bar.set_prefix("·");
            bar.set_message(format!("and {} more", left - shown));
        }
        for bar in self.bars.drain(lines.min(self.bars.len())..) {
            bar.finish_and_clear();
        }
    }
}

/// Whether standard error is a terminal on which lines can be drawn anew.
fn moves_cursor() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    std::io::stderr().is_terminal() && !matches!(term.as_str(), "" | "dumb")
}

fn plain(line: &str) {
    // Standard error that is closed need not be told.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The colours of a line of a diff, as git has them.
fn diff_style(line: &str) -> Style {
    let style = Style::new();
    match line.get(..1) {
        _ if line.starts_with("+++") || line.starts_with("---") => style.bold(),
        Some("+") => style.green(),
        Some("-") => style.red(),
        Some("@") => style.cyan(),
        _ if line.starts_with("diff ") || line.starts_with("index ") => style.bold(),
        _ => style,
    }
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

fn show_step(bar: &ProgressBar, step: &StepView, view: &RunView, now: Timestamp) {
    let failed = view.summary.status == Status::Failed && step.state != StepState::Done;
    let at = step.index == view.summary.current_step;
    let (template, mark) = match step.state {
        StepState::Done => ("  {prefix:.green} {msg}", "✔"),
        _ if failed && at => ("  {prefix:.red} {msg}", "✘"),
        _ if failed => ("  {prefix:.dim} {msg:.dim}", "·"),
        StepState::Pending => ("  {prefix:.dim} {msg:.dim}", "·"),
        StepState::WaitingDecision => ("  {prefix:.yellow} {msg:.yellow}", "?"),
        StepState::Working => ("  {spinner:.cyan} {msg}", "·"),
    };
    style(bar, template);
    bar.set_prefix(mark);
    bar.set_message(step_line(step, view, now));
}

fn step_line(step: &StepView, view: &RunView, now: Timestamp) -> String {
    let took = duration(step, now).map(seconds).unwrap_or_default();
    let agent = visible(step.agent_kind.as_str());
    format!("{agent:<12} {took:>7}  {}", activity(step, view))
}

fn activity(step: &StepView, view: &RunView) -> String {
    let failed = view.summary.status == Status::Failed && step.index == view.summary.current_step;
    if failed && step.state != StepState::Done {
        return "failed".to_owned();
    }
    visible(&step.activity)
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
