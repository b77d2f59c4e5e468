//! `towpath destroy`: removes a deployment, and what holds data only when asked for twice.

use std::process::ExitCode;

use clap::Args;
use towpath_aws::Clients;

use super::account::Session;
use super::stack::Outputs;
use super::tools::Run;
use super::{Target, ended, infra};
use crate::ask::typed;

/// The options of `towpath destroy`.
#[derive(Args, Clone, Debug)]
pub struct Destroy {
    #[command(flatten)]
    target: Target,
    /// Delete the tables, the bucket and the key of the secrets, too. Without this they stay, and a stack that is deployed
    /// again does not take them over.
    #[arg(long)]
    data: bool,
    /// The name of the stack once more, instead of typing it when asked.
    #[arg(long, value_name = "STACK")]
    confirm: Option<String>,
}

/// Runs the command.
pub async fn destroy(options: Destroy) -> ExitCode {
    ended(run(&options).await)
}

async fn run(options: &Destroy) -> Result<(), String> {
    let (stack, session) = (
        &options.target.stack,
        Session::open(options.target.region.as_deref())?,
    );
    let outputs = Outputs::of(stack, &session)?;
    let data = Data {
        tables: vec![outputs.need("RunsTable")?, outputs.need("ExecutorsTable")?],
        bucket: outputs.need("OutputsBucket")?,
    };
    eprintln!(
        "The stack {stack} in {} goes, and every run in it is over.",
        session.region()
    );
    let (tables, bucket) = (data.tables.join(", "), &data.bucket);
    match options.data {
        true => eprintln!(
            "Its data goes too: the tables {tables} and the bucket {bucket}. Nothing brings it back but a backup of yours."
        ),
        false => eprintln!(
            "Its data stays, and goes on costing what storage costs: the tables {tables}, the bucket {bucket} and the secret with the key of secrets. `--data` deletes them."
        ),
    }
    let confirmed = match &options.confirm {
        Some(name) => name.clone(),
        None => typed(&format!("Type the stack's name, {stack}, to go on")).await?,
    };
    if confirmed.trim() != stack {
        return Err("that is not the stack's name; nothing was changed".to_owned());
    }
    let args = [
        "delete",
        "--stack-name",
        stack,
        "--region",
        session.region(),
        "--no-prompts",
    ];
    Run::new("sam", &args)
        .within(&infra()?)
        .with(session.environment())
        .run()?;
    if options.data {
        data.delete(session.clients()).await?;
    }
    eprintln!("The stack {stack} is gone.");
    Ok(())
}

/// What holds data.
struct Data {
    tables: Vec<String>,
    bucket: String,
}

impl Data {
    async fn delete(&self, clients: &Clients) -> Result<(), String> {
        for table in &self.tables {
            eprintln!("Deleting the table {table}");
            let failed = |why: String| format!("the table {table} is not deleted: {why}");
            clients.delete_table(table).await.map_err(failed)?;
        }
        eprintln!("Emptying and deleting the bucket {}", self.bucket);
        let bucket = clients.bucket(&self.bucket);
        let deleted = bucket.delete_with_all_objects().await;
        let objects =
            deleted.map_err(|why| format!("the bucket {} is not deleted: {why}", self.bucket))?;
        eprintln!("{objects} objects are gone with it.");
        Ok(())
    }
}
