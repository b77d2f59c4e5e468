//! The `executors` function.

use lambda_http::Error;
use towpath_service::App;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let app = App::from_env().await?;
    lambda_http::run(towpath_functions::executors(app)).await
}
