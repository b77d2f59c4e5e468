//! What `towpath demo` shows: a repository whose tests fail, mended, looked at by a human, and merged.

use std::process::Command;

use towpath::sample;
use towpath_engine::Status;
use towpath_tests::Worlds;

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_is_mended_approved_and_merged() {
    let repository = tempfile::tempdir().unwrap();
    let repository = repository.path();
    sample::repository(repository).unwrap();
    let test = || {
        Command::new("sh")
            .arg("test.sh")
            .current_dir(repository)
            .output()
    };
    assert!(!test().unwrap().status.success());

    let world = Worlds::new(env!("CARGO_BIN_EXE_towpath-under-test"))
        .start()
        .await;
    let pipeline = world.put(sample::PIPELINE).await;
    world.block_in("sample", repository).await;
    let run = world.start("sample", pipeline.id.as_str()).await;

    let approval = world.asked(&run).await;
    let branch = sample::git(repository, &["branch", "--list", "towpath/*"]).unwrap();
    assert!(!branch.is_empty(), "the work is on a branch of its own");
    assert!(
        !test().unwrap().status.success(),
        "nothing lands before a human has looked"
    );

    world.approve(&run, &approval).await;
    let view = world.end(&run).await;
    assert_eq!(view.summary.status, Status::Done, "{view:#?}");
    let merge = sample::git(repository, &["log", "-1", "--merges", "--format=%s"]).unwrap();
    assert!(merge.starts_with("Merge towpath/"), "{merge}");
    let tested = test().unwrap();
    assert!(tested.status.success(), "{tested:?}");
    world.standing.stop().await;
}
