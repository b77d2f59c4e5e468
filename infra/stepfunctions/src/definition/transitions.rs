//! Where states lead: every target exists, every state can be reached, and the machine can end.

use std::collections::BTreeSet;

use super::machine::{Definition, Kind, Next, State};
use crate::document::Node;

pub(super) fn check(root: &Node<'_>, definition: &Definition) {
    let Some(states) = root.get("States") else {
        return;
    };
    let exists = |name: &str| states.get(name).is_some();
    if root
        .value
        .get("StartAt")
        .is_some_and(|start| start.is_string())
        && !exists(&definition.start_at)
    {
        root.complain_at(
            "StartAt",
            format!("there is no state {:?}", definition.start_at),
        );
    }
    let mut whole = true;
    for (name, node) in states.entries() {
        // A state that could not be read has been complained about; what it leads to is not known.
        let Some(state) = definition.states.get(name) else {
            whole = false;
            continue;
        };
        for (field, target) in targets(state) {
            if !target.is_empty() && !exists(target) {
                whole = false;
                node.complain_at(field.as_str(), format!("there is no state {target:?}"));
            }
        }
    }
    if !whole || !exists(&definition.start_at) {
        return;
    }
    let reached = reachable(definition);
    for (_, node) in states
        .entries()
        .into_iter()
        .filter(|(name, _)| !reached.contains(name))
    {
        node.complain("no way leads here from StartAt");
    }
    if !definition.states.values().any(ends) {
        states.complain("no state ends the machine: one must be Succeed or Fail, or have End");
    }
}

/// Every state this one may lead to, each with the field that says so.
fn targets(state: &State) -> Vec<(String, &str)> {
    let mut targets = Vec::new();
    match &state.kind {
        Kind::Task(task) => {
            targets.extend(along(&task.next));
            targets.extend(
                task.catch
                    .iter()
                    .enumerate()
                    .map(|(i, catcher)| (format!("Catch/{i}/Next"), catcher.next.as_str())),
            );
        }
        Kind::Succeed | Kind::Fail { .. } => {}
    }
    targets
}

fn along(next: &Next) -> Option<(String, &str)> {
    if let Next::State(name) = next {
        Some(("Next".to_owned(), name))
    } else {
        None
    }
}

fn reachable(definition: &Definition) -> BTreeSet<&str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![definition.start_at.as_str()];
    while let Some(name) = open.pop() {
        if reached.insert(name)
            && let Some(state) = definition.states.get(name)
        {
            open.extend(targets(state).into_iter().map(|(_, target)| target));
        }
    }
    reached
}

fn ends(state: &State) -> bool {
    match &state.kind {
        Kind::Succeed | Kind::Fail { .. } => true,
        Kind::Task(task) => matches!(task.next, Next::End),
    }
}
