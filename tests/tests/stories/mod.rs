//! The stories that trouble is tried on.

use towpath_tests::story::{Act, Story};

const fn story(yaml: &'static str, acts: &'static [Act]) -> Story {
    Story {
        yaml,
        acts,
        entries_limit: None,
    }
}

pub(crate) const APPROVED: Story = story(
    "
id: approved
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
",
    &[Act::Approve],
);

pub(crate) const SENT_BACK: Story = story(
    "
id: sent-back
steps:
  - agentKind: writer
    requiresApproval: true
    runtime: { kind: process, command: [sh, -c, 'echo \"wrote $TOWPATH_FEEDBACK\" | tee -a @DIR@/log'] }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
",
    &[Act::RequestChanges, Act::Approve],
);

pub(crate) const REJECTED: Story = story(
    "
id: rejected
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
",
    &[Act::Reject],
);

pub(crate) const DECIDED: Story = story(
    "
id: decided
steps:
  - agentKind: writer
    runtime: { kind: simulated, output: A tale., asks: { question: How long?, options: [short, long] } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
",
    &[Act::Decide("long")],
);

pub(crate) const WORKED: Story = story(
    "
id: worked
steps:
  - agentKind: coder
    runtime: { kind: process, command: [sh, -c, 'echo worked | tee -a @DIR@/log'] }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
",
    &[],
);

pub(crate) const FAILED: Story = story(
    "
id: failed
steps:
  - agentKind: coder
    runtime: { kind: process, command: [sh, -c, 'echo tried >> @DIR@/log; exit 3'] }
",
    &[],
);

pub(crate) const MENDED: Story = story(
    "
id: mended
steps:
  - agentKind: ci
    gate:
      attempts: 2
      probe: { kind: command, command: [sh, -c, 'echo looked >> @DIR@/log; test -e @DIR@/fixed'] }
      helper:
        agentKind: ci-fixer
        runtime: { kind: process, command: [sh, -c, 'echo mended >> @DIR@/log; touch @DIR@/fixed'] }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
",
    &[],
);

/// The second look is the tick's to begin.
pub(crate) const LOOKED_TWICE: Story = story(
    "
id: looked-twice
steps:
  - agentKind: conflicts
    gate:
      probe:
        kind: command
        command: [sh, -c, 'echo looked >> @DIR@/log; test $(wc -l < @DIR@/log) -ge 2 || exit 75']
",
    &[],
);

pub(crate) const STOPPED: Story = story(
    "
id: stopped
steps:
  - { agentKind: coder, runtime: { kind: process, command: [sleep, '1000'] } }
",
    &[Act::Stop],
);

pub(crate) const RETRIED: Story = story(
    "
id: retried
steps:
  - { agentKind: writer, runtime: { kind: simulated, output: A draft. } }
  - agentKind: coder
    runtime:
      kind: process
      command: [sh, -c, 'echo tried >> @DIR@/log; test $(wc -l < @DIR@/log) -ge 2']
",
    &[Act::Retry],
);

pub(crate) const RESTARTED: Story = story(
    "
id: restarted
steps:
  - { agentKind: writer, runtime: { kind: simulated, output: A draft. } }
  - agentKind: coder
    requiresApproval: true
    runtime: { kind: process, command: [sh, -c, 'echo worked | tee -a @DIR@/log'] }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
",
    &[Act::Restart(1), Act::Approve],
);

/// Each execution takes two waits, then the next takes over.
pub(crate) const HANDED_OVER: Story = Story {
    yaml: "
id: handed-over
steps:
  - { agentKind: coder, runtime: { kind: process, command: [sh, -c, 'echo one >> @DIR@/log'] } }
  - { agentKind: coder, runtime: { kind: process, command: [sh, -c, 'echo two >> @DIR@/log'] } }
  - { agentKind: coder, runtime: { kind: process, command: [sh, -c, 'echo three >> @DIR@/log'] } }
",
    acts: &[],
    entries_limit: Some("1"),
};

pub(crate) const ALL: [&Story; 12] = [
    &APPROVED,
    &SENT_BACK,
    &REJECTED,
    &DECIDED,
    &WORKED,
    &FAILED,
    &MENDED,
    &LOOKED_TWICE,
    &STOPPED,
    &RETRIED,
    &RESTARTED,
    &HANDED_OVER,
];
