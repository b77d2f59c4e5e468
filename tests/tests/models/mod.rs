//! What a deployment does that calls models.

use http::Method;
use serde_json::json;
use towpath_engine::Status;
use towpath_tests::gateway::{Gateway, KEY, Said};
use towpath_tests::{World, Worlds};

const MODEL: &str = "
id: model
steps:
  - { agentKind: writer, runtime: { kind: model, model: large, prompt: Say hello. } }
  - { agentKind: printer, requiresApproval: true, runtime: { kind: model, model: large } }
  - agentKind: ci
    gate: { probe: { kind: command, command: ['true'] } }
  - { agentKind: reader, runtime: { kind: model, model: large } }
";

/// Worlds with a gateway that asks for its key.
pub(crate) async fn worlds(worlds: Worlds) -> Worlds {
    let gateway = Gateway::start(|_, asked| {
        let key = format!("authorization: bearer {KEY}");
        match asked.headers.contains(&key) {
            true => Said::Text("Hello.".to_owned()),
            false => Said::Status(401, 0),
        }
    });
    worlds.calling(&gateway.await)
}

/// Calls models after all that a step can come after, and looks at what one said.
pub(crate) async fn call(world: &World) {
    let run = world.run(MODEL).await;
    let subject = world.asked(&run).await;
    world.approve(&run, &subject).await;
    assert_eq!(world.end(&run).await.summary.status, Status::Done);
    let log = format!("/runs/{run}/steps/0/log");
    world.ask(Method::GET, &log, &json!(null)).await.done();
}
