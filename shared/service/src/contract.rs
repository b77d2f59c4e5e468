//! What a call is told: the work contract, and the texts that go with it as files.

use towpath_engine::{Artifact, Call, JobId, Run, RunId, StepIndex};
use towpath_jobs::{
    ArtifactFile, Contract, Findings, InputArtifact, InputFile, LogPosition, Objective, OutputLink,
    Registry, RequestedChanges,
};
use towpath_store::{Input, OutputRow, Store};

use crate::Error;

/// The most earlier outputs that a call gets as files. The contract lists all of them.
const OUTPUTS: i32 = 12;
/// The most that all files of a call hold, in bytes. A text that does not fit is left out whole.
const FILES: u64 = 4 * 1024 * 1024;
/// The most that all artifacts of a call hold, in bytes. One that does not fit is left out.
const ARTIFACTS: u64 = 128 * 1024 * 1024;
/// The most that is told of what a gate's probe printed, in bytes.
const FINDINGS: usize = 1024 * 1024;

/// The path in the API of a step's output, or of the one of this number.
pub(crate) fn output_path(
    input: &Input,
    run: &RunId,
    step: StepIndex,
    number: Option<u32>,
) -> String {
    let holder = input.holder(run, step);
    match number {
        None => format!("/runs/{holder}/steps/{step}/output"),
        Some(number) => format!("/runs/{holder}/steps/{step}/output?number={number}"),
    }
}

/// Everything that the agent of the run's call may know, without the texts.
pub(crate) fn contract(run: &Run, input: &Input, call: &Call) -> Result<Contract, Error> {
    let (step, spec) = (run.head.current, run.spec()?);
    let told = run.kind()?.instructions(spec, &run.step, call.role);
    let revision = run.step.revision.as_ref().map(|revision| {
        let previous = &revision.previous;
        let holder = previous.run.as_ref().unwrap_or(&run.head.id);
        RequestedChanges {
            previous: output_path(input, holder, step, Some(previous.number)),
            file: None,
            feedback: revision.feedback.clone(),
            comments: revision.comments.clone(),
        }
    });
    let earlier = run.plan.iter().take_while(|(index, _)| *index < step);
    let outputs = earlier.map(|(index, spec)| OutputLink {
        step: index,
        agent_kind: spec.agent_kind.clone(),
        href: output_path(input, &run.head.id, index, None),
        file: None,
        artifacts: Vec::new(),
    });
    let decisions = run.step.decisions.iter();
    Ok(Contract {
        job: call.id.clone(),
        run: run.head.id.clone(),
        workspace: run.head.workspace.clone(),
        step,
        attempt: run.step.attempt,
        role: call.role,
        agent_kind: told.agent_kind,
        pipeline: run.head.pipeline.name.clone(),
        is_final: run.plan.is_final(step),
        initiated_by: run.head.initiated_by.clone(),
        objective: Objective {
            block: input.block.id.to_string(),
            title: input.block.title.clone(),
            description: input.block.description.clone(),
        },
        branch: input.block.branch(),
        decisions: decisions.cloned().collect(),
        revision,
        findings: told.findings.map(|findings| Findings {
            summary: findings.summary,
            failing: findings.failing,
            probe: findings.probe,
            file: None,
        }),
        outputs: outputs.collect(),
    })
}

/// The texts that go with a contract, for a command to read without a request of its own.
pub(crate) struct Texts<'a> {
    pub(crate) store: &'a Store,
    pub(crate) runtimes: &'a Registry,
}

impl Texts<'_> {
    /// Adds the texts to the contract: the block's title and description as they are now, and the names of the files,
    /// which it returns, with the artifacts of earlier steps.
    pub(crate) async fn add_to(
        &self,
        contract: &mut Contract,
        run: &Run,
        input: &Input,
    ) -> Result<(Vec<InputFile>, Vec<InputArtifact>), Error> {
        let (workspace, block) = (&input.block.workspace, &input.block.id);
        if let Some(now) = self.store.block(workspace, block).await? {
            contract.objective.title = now.title;
            contract.objective.description = now.description;
        }
        let mut files = Files::default();
        if let Some(revision) = &mut contract.revision {
            revision.file = self.previous(run, input, &mut files).await?;
        }
        if let Some(findings) = &mut contract.findings
            && let Some(probe) = &findings.probe
        {
            findings.file = self.findings(probe, &mut files).await;
        }
        let (mut artifacts, mut left) = (Vec::new(), ARTIFACTS);
        for (step, row) in self.earlier(run, input).await? {
            let link = contract.outputs.iter_mut().find(|link| link.step == step);
            let Some(link) = link else { continue };
            for artifact in row.artifacts {
                let Some(rest) = left.checked_sub(artifact.bytes) else {
                    continue;
                };
                left = rest;
                let given = self.artifact(step, &artifact)?;
                link.artifacts.push(ArtifactFile {
                    name: artifact.name,
                    bytes: artifact.bytes,
                    file: given.file.clone(),
                });
                artifacts.push(given);
            }
            if files.take(row.output.bytes()) {
                let text = self.store.output_text(row.output).await?;
                link.file = Some(files.add(format!("output-{step}.txt"), text));
            }
        }
        Ok((files.files, artifacts))
    }

    fn artifact(&self, step: StepIndex, artifact: &Artifact) -> Result<InputArtifact, Error> {
        Ok(InputArtifact {
            file: format!("artifacts/{step}/{}", artifact.name),
            url: self.store.artifact_url(artifact)?.url,
            bytes: artifact.bytes,
            sha256: artifact.sha256.clone(),
        })
    }

    /// The proposal that is to be changed.
    async fn previous(
        &self,
        run: &Run,
        input: &Input,
        files: &mut Files,
    ) -> Result<Option<String>, Error> {
        let Some(previous) = run.step.revision.as_ref().map(|it| &it.previous) else {
            return Ok(None);
        };
        let (step, number) = (run.head.current, previous.number);
        let holder = previous.run.as_ref().unwrap_or(&run.head.id);
        let holder = input.holder(holder, step);
        let stored = self.store.output(holder, step, number).await?;
        let Some(stored) = stored.filter(|stored| files.take(stored.bytes())) else {
            return Ok(None);
        };
        let text = self.store.output_text(stored).await?;
        Ok(Some(files.add("previous.txt".to_owned(), text)))
    }

    /// What the probe printed that found what the helper is to fix. The record has the end of it, so the helper works
    /// without the file if the log cannot be read.
    async fn findings(&self, probe: &JobId, files: &mut Files) -> Option<String> {
        let (mut text, mut after) = (String::new(), Some(LogPosition::default()));
        while let Some(from) = after.filter(|_| text.len() < FINDINGS) {
            let page = match self.runtimes.read_log(probe, from).await {
                Ok(Some(page)) => page,
                Ok(None) => return None,
                Err(unreadable) => {
                    tracing::warn!(%probe, "the probe's log cannot be read: {unreadable}");
                    return None;
                }
            };
            text.extend(page.parts.into_iter().map(|part| part.text));
            // The probe is over: a page that brings nothing further is the last.
            after = page.next.filter(|next| *next != from);
        }
        let fits = !text.is_empty() && files.take(text.len() as u64);
        fits.then(|| files.add("findings.txt".to_owned(), text))
    }

    /// The last outputs before the present step, the last first, whichever run made them.
    async fn earlier(
        &self,
        run: &Run,
        input: &Input,
    ) -> Result<Vec<(StepIndex, OutputRow)>, Error> {
        let (mut found, mut before) = (Vec::new(), run.head.current);
        let own = input.lineage.last().map_or(StepIndex(0), |it| it.upto);
        let starts = input.lineage.iter().rev().skip(1).map(|it| it.upto);
        let starts = starts.chain([StepIndex(0)]);
        let kept = input.lineage.iter().rev().map(|it| &it.run).zip(starts);
        for (holder, from) in [(&run.head.id, own)].into_iter().chain(kept) {
            let left = OUTPUTS.saturating_sub(i32::try_from(found.len()).unwrap_or(OUTPUTS));
            if left > 0 && from < before {
                let outputs = self.store.last_outputs(holder, from, before, left).await?;
                found.extend(outputs);
                before = from;
            }
        }
        Ok(found)
    }
}

/// The files of a call, within their bound.
#[derive(Default)]
struct Files {
    files: Vec<InputFile>,
    bytes: u64,
}

impl Files {
    /// Whether there is room for so many bytes, which are then taken.
    fn take(&mut self, bytes: u64) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= FILES;
        self.bytes += if fits { bytes } else { 0 };
        fits
    }

    fn add(&mut self, name: String, text: String) -> String {
        self.files.push(InputFile {
            name: name.clone(),
            text,
        });
        name
    }
}
