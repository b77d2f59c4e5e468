//! The ARNs of machines and executions.

/// Makes and reads ARNs of one region and account.
#[derive(Clone, Debug)]
pub(crate) struct Arns {
    pub(crate) region: String,
    pub(crate) account: String,
}

impl Arns {
    pub(crate) fn machine(&self, name: &str) -> String {
        format!("{}:stateMachine:{name}", self.prefix())
    }

    pub(crate) fn execution(&self, machine: &str, name: &str) -> String {
        format!("{}:execution:{machine}:{name}", self.prefix())
    }

    /// The role in the context object. Nothing is assumed by it: here the functions have their own.
    pub(crate) fn role(&self) -> String {
        format!("arn:aws:iam::{}:role/local-state-machine", self.account)
    }

    fn prefix(&self) -> String {
        format!("arn:aws:states:{}:{}", self.region, self.account)
    }
}

/// Whether a text has the form of an ARN of this kind (`stateMachine`, `execution`), of whatever region and account.
pub(crate) fn is_arn(text: &str, kind: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let names = if kind == "execution" { 2 } else { 1 };
    match parts.as_slice() {
        [
            "arn",
            "aws" | "aws-cn" | "aws-us-gov",
            "states",
            _,
            _,
            found,
            rest @ ..,
        ] => *found == kind && rest.len() == names && rest.iter().all(|name| !name.is_empty()),
        _ => false,
    }
}
