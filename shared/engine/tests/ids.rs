//! What is an id, and what is not.

use towpath_engine::{AgentKind, JobId, Role, RunId};

use crate::support::run_id;

const RUN: &str = "run_01ARZ3NDEKTSV4RRFFQ69G5FAV";

#[test]
fn a_job_id_leads_back_to_its_run() {
    let run: RunId = RUN.parse().unwrap();
    let job = JobId::derive(&run, 7);
    assert_eq!(job.as_str(), "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7");
    assert_eq!(job.as_str().parse::<JobId>().unwrap().run(), run);
}

#[test]
fn a_job_id_of_0_1_0_is_still_one() {
    let job: JobId = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-3-2-helper".parse().unwrap();
    assert_eq!(job.run().as_str(), RUN);
}

#[test]
fn nonsense_is_no_id() {
    for text in [
        "",
        "run_",
        "run_../../etc/passwd",
        "job_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-3-2",
        "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-3-2-boss",
        "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-1-2-main-3",
        "job_../x-1",
    ] {
        assert!(
            text.parse::<RunId>().is_err() && text.parse::<JobId>().is_err(),
            "{text}"
        );
    }
    assert!("Über".parse::<AgentKind>().is_err());
}

#[test]
fn one_job_has_one_id() {
    for text in ["03", "+3", "", "4294967296"] {
        let text = format!("job_01ARZ3NDEKTSV4RRFFQ69G5FAV-{text}");
        assert!(text.parse::<JobId>().is_err(), "{text}");
    }
    assert!(
        "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-03-2-main"
            .parse::<JobId>()
            .is_err()
    );
}

#[test]
fn every_role_has_a_name_in_the_ids_of_0_1_0() {
    for role in Role::ALL {
        let id = format!("job_01ARZ3NDEKTSV4RRFFQ69G5FAV-0-1-{}", role.as_str());
        assert_eq!(id.parse::<JobId>().unwrap().to_string(), id);
    }
    for more in [
        "0-1-main-2",
        "0-main",
        "0-1",
        "0--main",
        "-1-main",
        "x-1-main",
        "0-1-",
    ] {
        let id = format!("job_01ARZ3NDEKTSV4RRFFQ69G5FAV-{more}");
        assert!(id.parse::<JobId>().is_err(), "{id}");
    }
}

#[test]
fn a_ulid_is_26_digits_and_capitals() {
    assert_eq!(run_id(7).as_str(), "run_00000000000000000000000007");
    let long = "0".repeat(27);
    for text in [
        "0000000000000000000000000",
        "0000000000000000000000000a",
        "0000000000000000000000000-",
        &long,
    ] {
        assert!(RunId::from_ulid(text).is_err(), "{text}");
    }
    assert!(RunId::from_ulid("ZZZZZZZZZZ0123456789ABCDEF").is_ok());
}

#[test]
fn a_name_is_1_to_64_of_a_to_z_digits_hyphens_and_underscores() {
    for good in ["a", "post-release-health", "a_9", &"z".repeat(64)] {
        assert_eq!(good.parse::<AgentKind>().unwrap().as_str(), good);
    }
    for bad in ["", "A", "a b", "a/b", "a.b", &"z".repeat(65)] {
        assert!(bad.parse::<AgentKind>().is_err(), "{bad}");
    }
}

#[test]
fn what_is_no_id_is_told_with_what_one_is() {
    let error = "run_7".parse::<RunId>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"run_7\" is not a run id (run_ and a ULID)"
    );
    let error = serde_json::from_str::<JobId>("\"job_7\"").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"job_7\" is not a job id (job_{ULID}-{number})"),
        "{error}"
    );
    let long = "x".repeat(5_000).parse::<RunId>().unwrap_err().to_string();
    assert!(long.len() < 150 && long.contains(&"x".repeat(80)), "{long}");
}
