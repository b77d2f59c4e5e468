//! Every engine action run twice, and killed at every call it makes: the run ends the same.

use towpath_tests::steps_of_death::steps_of_death;
use towpath_tests::story::Story;

#[expect(dead_code, reason = "each test tells those it names")]
mod stories;

async fn dies_everywhere(story: &Story) {
    let program = env!("CARGO_BIN_EXE_towpath-under-test");
    steps_of_death(program, story, 24).await;
}

macro_rules! tests {
    ($($name:ident: $story:expr;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            dies_everywhere(&$story).await;
        })+
    };
}

tests! {
    a_run_is_approved_whoever_dies: stories::APPROVED;
    a_result_is_sent_back_once_whoever_dies: stories::SENT_BACK;
    a_result_is_rejected_whoever_dies: stories::REJECTED;
    a_decision_is_taken_once_whoever_dies: stories::DECIDED;
    a_job_is_run_once_whoever_dies: stories::WORKED;
    a_failing_job_fails_the_run_whoever_dies: stories::FAILED;
    a_gate_is_mended_once_whoever_dies: stories::MENDED;
    a_gate_looks_again_whoever_dies: stories::LOOKED_TWICE;
    a_stop_ends_run_and_job_whoever_dies: stories::STOPPED;
    a_failed_run_is_retried_once_whoever_dies: stories::RETRIED;
    a_live_run_is_restarted_once_whoever_dies: stories::RESTARTED;
    a_run_outlives_its_executions_whoever_dies: stories::HANDED_OVER;
}
