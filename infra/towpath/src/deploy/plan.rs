//! What a deployment would do, and whether everything that it takes is there.

use towpath_aws::Quota;

use super::Options;
use super::account::Session;
use super::tools::Tool;

/// Invocations at once that a deployment of some use takes: a new account has 10.
const ENOUGH_INVOCATIONS: u64 = 50;

/// The quotas that a deployment meets first: of which service, the beginning of their names, and what they limit.
const QUOTAS: [(&str, &str, &str); 2] = [
    (
        "codebuild",
        "Concurrently running builds for Linux/Small",
        "jobs at once, of the default size",
    ),
    (
        "states",
        "Throttle rate for SendTaskSuccess",
        "waits that end in a second",
    ),
];

/// Shows the plan.
///
/// # Errors
/// What has to be installed or asked for first.
pub(super) async fn show(
    tools: &[Tool],
    session: &Session,
    options: &Options,
) -> Result<(), String> {
    eprintln!("Tools");
    for Tool {
        name,
        version,
        problem,
    } in tools
    {
        let version = version.as_deref().unwrap_or("");
        eprintln!(
            "  {name:<15} {version:<10} {}",
            problem.as_deref().unwrap_or("fine")
        );
    }
    let account = session.account();
    let identity = account.identity().await;
    let identity = identity.map_err(|error| {
        format!("AWS does not take the credentials: {error}; log in again, or look at AWS_PROFILE")
    })?;
    eprintln!(
        "\nAccount\n  {} in {}, as {}",
        identity.account,
        session.region(),
        identity.arn
    );
    match account.concurrent_executions().await {
        Ok(most) => {
            let few =
                "few: more is asked for under Service Quotas, Lambda, \"Concurrent executions\"";
            let enough = if most < ENOUGH_INVOCATIONS {
                few
            } else {
                "fine"
            };
            eprintln!("  {most:>9} invocations at once: {enough}");
        }
        Err(error) => eprintln!("          ? invocations at once: {error}"),
    }
    for (service, name, limits) in QUOTAS {
        let quotas = account.quotas(service).await;
        let found = quotas.map(|all| all.into_iter().find(|it| it.name.starts_with(name)));
        match found {
            Ok(Some(Quota { value, code, .. })) => eprintln!("  {value:>9} {limits} ({code})"),
            Ok(None) => eprintln!("          ? {limits}: {service} has no such quota here"),
            Err(error) => eprintln!("          ? {limits}: {error}"),
        }
    }
    let set = match options.parameters.as_slice() {
        [] => "the defaults of its parameters".to_owned(),
        set => set.join(", "),
    };
    eprintln!(
        "\nDeployment
  the stack {}, with {set}
  then the runners of this release, for x86_64 and aarch64, into the stack's bucket
  then its first key, into a file that only you can read\n",
        options.target.stack
    );
    let missing: Vec<_> = tools.iter().filter(|tool| tool.problem.is_some()).collect();
    let lines = missing.iter().map(|tool| {
        format!(
            "\n  {}: {}",
            tool.name,
            tool.problem.as_deref().unwrap_or_default()
        )
    });
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "these tools are needed first:{}",
            lines.collect::<String>()
        )),
    }
}
