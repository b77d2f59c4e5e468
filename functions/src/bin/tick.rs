//! The `tick` function.

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde_json::Value;
use towpath_service::App;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let app = &App::from_env().await?;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        tick(app, event)
    }))
    .await
}

#[expect(
    clippy::print_stdout,
    reason = "alarms are counted from this line, whatever the log level"
)]
async fn tick(app: &App, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
    let found = towpath_functions::tick::handle(app, event).await?;
    println!("{found}");
    Ok(found)
}
