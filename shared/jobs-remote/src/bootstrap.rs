//! What a container does first: it fetches the runner by the start code, and becomes it.

/// The variable that holds the address of the API.
pub const API: &str = "TOWPATH_API_BASE";

/// The script of `sh` that fetches the runner and becomes it, in a container whose image has `sh` and `curl`. Besides
/// [`crate::JOB`], [`crate::CODE`] and [`API`] it needs nothing.
///
/// `name` is an expression of `sh` for the handle of the machine that the script runs on, by which its claim of the job is
/// kept: without one, nobody could look at the machine.
pub fn bootstrap(name: &str) -> String {
    format!(
        r#"command -v curl >/dev/null || {{ echo "the image has no curl, which fetches the runner" >&2; exit 1; }}
TOWPATH_RUNNER_NAME={name}
[ -n "$TOWPATH_RUNNER_NAME" ] || {{ echo "the machine does not know its own name" >&2; exit 1; }}
export TOWPATH_RUNNER_NAME
cd "$(mktemp -d)" || exit 1
curl -fsSL --retry 10 --retry-connrefused --retry-max-time 600 -H "Authorization: Bearer $TOWPATH_START_CODE" \
  -o towpath "$TOWPATH_API_BASE/jobs/$TOWPATH_RUN_ID/runner/$(uname -m)" || exit 1
chmod 755 towpath
exec ./towpath runner
"#
    )
}
