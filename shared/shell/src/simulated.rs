//! The simulated agent: it answers what its pipeline says, at once.

use towpath_engine::{AgentAnswer, Binding, Illegal, Run};

/// What the present step's simulated agent answers: an answer or an error.
pub(crate) fn agent(run: &Run) -> Result<Result<AgentAnswer, String>, Illegal> {
    let Some(Binding::Simulated(agent)) = &run.spec()?.runtime else {
        return Ok(Err("the step has no inline agent".to_owned()));
    };
    if let Some(error) = &agent.fails {
        return Ok(Err(error.clone()));
    }
    let chosen = run
        .step
        .decisions
        .last()
        .and_then(|decision| decision.chosen.as_deref());
    let decision = agent.asks.clone().filter(|_| chosen.is_none());
    let output = match chosen {
        Some(choice) => format!("{}\n\nDecided: {choice}", agent.output)
            .trim()
            .to_owned(),
        None => agent.output.clone(),
    };
    Ok(Ok(AgentAnswer {
        output,
        decision,
        ..AgentAnswer::default()
    }))
}
