//! The runners: this command without the local cloud, linked statically, so that it runs in any image.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use towpath_jobs::runner_object;

use super::account::Session;
use super::stack::Outputs;
use super::tools::{Run, TARGETS};

/// A runner that was built.
pub(super) struct Runner {
    arch: &'static str,
    file: PathBuf,
}

/// Builds a runner for each architecture.
pub(super) fn build(infra: &Path) -> Result<Vec<Runner>, String> {
    let root = infra.parent().unwrap_or(infra);
    let mut runners = Vec::new();
    for (arch, target) in TARGETS {
        let args = [
            "zigbuild",
            "--profile",
            "lambda",
            "--locked",
            "-p",
            "towpath",
            "--no-default-features",
            "--target",
            target,
        ];
        Run::new("cargo", &args).within(root).run()?;
        let built =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let file = built.join(target).join("lambda/towpath");
        runners.push(Runner { arch, file });
    }
    Ok(runners)
}

/// Puts the runners where builds fetch them: each release has its own, so that a build of the release before finds its.
pub(super) async fn upload(
    runners: &[Runner],
    session: &Session,
    outputs: &Outputs,
) -> Result<(), String> {
    let bucket = session.clients().bucket(&outputs.need("OutputsBucket")?);
    for Runner { arch, file } in runners {
        let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let key = runner_object(arch).ok_or_else(|| format!("there is no runner for {arch}"))?;
        eprintln!("Uploading {key}, {:.1} MB", bytes.len() as f64 / 1e6);
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        let put = bucket.put(&key, Bytes::from(bytes), "application/octet-stream", sha256);
        put.await
            .map_err(|error| format!("the runner for {arch} could not be uploaded: {error}"))?;
    }
    Ok(())
}
