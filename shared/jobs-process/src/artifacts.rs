//! Artifacts: the files that an answer names, copied out of the work directory before the directory goes, and those of
//! earlier steps, fetched before the command starts.
//!
//! The command is hostile: a name may lead through links, and a file may be a pipe. So each part of a path is opened by
//! itself, below the one before, and no link is followed.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use towpath_client::Client;
use towpath_engine::{Artifact, JobId};
use towpath_jobs::{Answer, InputArtifact, StartError, error_class};

use crate::error::{Error, Failure};
use crate::folder::{Durable, Folder, make_dir, write_atomic};
use crate::job::Job;

/// What of an answer names artifacts. What else is in it is for the engine to judge.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    artifacts: Vec<String>,
}

/// Keeps the files that an answer names.
pub(crate) fn keep(job: &Job, id: &JobId, answer: &Answer) -> Result<Vec<Artifact>, Failure> {
    let Answer::File(text) = answer else {
        return Ok(Vec::new());
    };
    // What is no answer is refused elsewhere, and names nothing.
    let Named { artifacts } = serde_json::from_str(text).unwrap_or_default();
    Artifact::check_count(artifacts.len()).map_err(refused)?;
    let names = artifacts.into_iter();
    names.map(|name| keep_one(job, id, name)).collect()
}

fn refused(why: String) -> Failure {
    Failure::new(error_class::ANSWER_REFUSED, why)
}

fn keep_one(job: &Job, id: &JobId, name: String) -> Result<Artifact, Failure> {
    Artifact::check_name(&name).map_err(refused)?;
    let failed = |why: &str| refused(format!("the artifact {name} {why}"));
    let unread = |error: io::Error| failed(&format!("cannot be kept: {error}"));
    let file = open_below(&job.folder.work(), &name).map_err(|error| match error {
        Errno::NOENT => failed("is not in the work directory"),
        Errno::LOOP | Errno::NOTDIR => failed("is behind a link; name the file itself"),
        other => unread(other.into()),
    })?;
    if !file.metadata().map_err(unread)?.is_file() {
        return Err(failed("is not a file; name files, not directories"));
    }
    let mut bytes = Vec::new();
    let mut limited = file.take(Artifact::BYTES_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > Artifact::BYTES_MAX {
        return Err(failed(
            "is larger than 32 MiB; keep it elsewhere, and answer with a reference to it",
        ));
    }
    if job.masks.are_in(&bytes) {
        return Err(failed("holds the value of a secret, which is never kept"));
    }
    let artifact = Artifact {
        bytes: bytes.len() as u64,
        sha256: format!("{:x}", Sha256::digest(&bytes)),
        job: id.clone(),
        name: name.clone(),
    };
    let kept = make_dir(&job.folder.artifacts()).map_err(|error| error.to_string());
    let path = job.folder.artifact(&artifact.sha256);
    // Durable before the end of the job refers to it.
    let kept = kept.and_then(|()| {
        write_atomic(&path, &bytes, Durable::Yes).map_err(|error| error.to_string())
    });
    kept.map_err(|why| failed(&format!("cannot be kept: {why}")))?;
    Ok(artifact)
}

/// Opens a file below a directory, through no link.
fn open_below(dir: &Path, name: &str) -> Result<File, Errno> {
    let careful = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(dir, careful | OFlags::DIRECTORY, Mode::empty())?;
    let (parents, file) = name.rsplit_once('/').unwrap_or(("", name));
    for part in parents.split('/').filter(|part| !part.is_empty()) {
        at = openat(&at, part, careful | OFlags::DIRECTORY, Mode::empty())?;
    }
    // To open a named pipe is to wait for a writer.
    let opened = openat(&at, file, careful | OFlags::NONBLOCK, Mode::empty())?;
    Ok(File::from(opened))
}

/// Reads an artifact that was kept. `None`: it is gone.
pub(crate) fn read(folder: &Folder, artifact: &Artifact) -> Result<Option<Vec<u8>>, Error> {
    let path = folder.artifact(&artifact.sha256);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", &path)(error)),
    }
}

/// Fetches the artifacts of earlier steps into the folder of what the command is given to read.
pub(crate) async fn fetch(folder: &Folder, artifacts: &[InputArtifact]) -> Result<(), StartError> {
    let Some(first) = artifacts.first() else {
        return Ok(());
    };
    // They are in one bucket.
    let client = Client::for_files(&first.url);
    for artifact in artifacts {
        let fetched = client.fetch(&artifact.url, artifact.bytes, &artifact.sha256);
        let bytes = fetched.await.map_err(|error| {
            StartError::Unavailable(format!("{} cannot be fetched: {error}", artifact.file))
        })?;
        let path = folder.inputs().join(&artifact.file);
        path.parent().map_or(Ok(()), make_dir)?;
        let written = write_atomic(&path, &bytes, Durable::No);
        written.map_err(Error::file("write", &path))?;
    }
    Ok(())
}
