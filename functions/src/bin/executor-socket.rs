//! The `executor-socket` function.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use towpath_service::App;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let app = &App::from_env().await?;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        towpath_functions::executor_socket::handle(app, event)
    }))
    .await
}
