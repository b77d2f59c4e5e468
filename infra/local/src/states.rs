//! Step Functions, wired to the functions it invokes and to the bus its status changes go to.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use towpath_clock::Clock;
use towpath_stepfunctions::{
    Invoke, InvokeError, Options, StatusChange, StatusListener, StepFunctions,
};

use crate::error::Error;
use crate::events::{self, Events};
use crate::iam::{Access, Iam};
use crate::lambda::{Kind, Lambda, failure};
use crate::tasks::Tasks;
use crate::template::{ACCOUNT, Machine, REGION};

/// The connections of the state machine: the functions it calls, the rules it tells.
pub(crate) struct Wiring {
    pub(crate) lambda: Arc<Lambda>,
    pub(crate) iam: Arc<Iam>,
    pub(crate) events: Arc<Events>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Arc<Tasks>,
}

/// Opens Step Functions with the template's machines.
pub(crate) fn open(
    file: Option<PathBuf>,
    machines: &[Machine],
    wiring: &Wiring,
) -> Result<StepFunctions, Error> {
    let identity = match machines {
        [] => String::new(),
        [machine] => machine.id.clone(),
        [_, second, ..] => {
            let place = format!("Resources.{}", second.id);
            return Err(Error::template(
                place,
                "the local cloud has one state machine: it tells by it who invokes",
            ));
        }
    };
    let failed = |name: &str, error: towpath_stepfunctions::Error| Error::StateMachine {
        name: name.to_owned(),
        message: error.to_string(),
    };
    let invoker = Invoker {
        lambda: Arc::clone(&wiring.lambda),
        iam: Arc::clone(&wiring.iam),
        identity,
    };
    let bus = Bus {
        events: Arc::clone(&wiring.events),
        clock: wiring.clock.clone(),
        tasks: Arc::clone(&wiring.tasks),
    };
    let states = StepFunctions::open(Options {
        file,
        clock: wiring.clock.clone(),
        invoker: Arc::new(invoker),
        listener: Arc::new(bus),
        region: REGION.to_owned(),
        account: ACCOUNT.to_owned(),
    })
    .map_err(|error| failed("all", error))?;
    for machine in machines {
        let arn = states.create_state_machine(&machine.name, &machine.definition);
        let arn = arn.map_err(|error| failed(&machine.name, error))?;
        if arn != machine.arn {
            let message = format!(
                "it got the ARN {arn}, but the template calls it {}",
                machine.arn
            );
            return Err(Error::StateMachine {
                name: machine.name.clone(),
                message,
            });
        }
    }
    Ok(states)
}

/// Invokes functions for the state machine, by its role.
struct Invoker {
    lambda: Arc<Lambda>,
    iam: Arc<Iam>,
    identity: String,
}

#[async_trait]
impl Invoke for Invoker {
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, InvokeError> {
        let Some(spec) = self.lambda.find(function) else {
            return Err(failure(
                "Lambda.ResourceNotFoundException",
                &format!("Function not found: {function}"),
            ));
        };
        self.iam
            .check(
                &self.identity,
                &Access::new("lambda:InvokeFunction", &spec.arn),
            )
            .map_err(|message| failure("Lambda.AWSLambdaException", &message))?;
        self.lambda.invoke(&spec.id, payload, Kind::Task).await
    }
}

/// Puts status changes on the bus.
struct Bus {
    events: Arc<Events>,
    clock: Clock,
    tasks: Arc<Tasks>,
}

impl StatusListener for Bus {
    fn status_changed(&self, change: StatusChange) {
        let event = events::of_status(&change, self.clock.now_ms());
        let events = Arc::clone(&self.events);
        self.tasks.spawn(async move { events.put(event).await });
    }
}
