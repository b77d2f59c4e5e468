//! Who may do what: the template's policies, evaluated on every call as AWS evaluates them.
//!
//! Only identity policies are known here. Which statement allowed what is recorded, so that a test can find the
//! permissions that nothing needs.

pub(crate) mod dynamodb;
pub(crate) mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::template::{ACCOUNT, Effect, Policy, Quantifier, Role, Stack, Statement, Test};

/// The identity that may do everything: whoever runs the local cloud.
pub(crate) const OPERATOR: &str = "operator";

/// One thing somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) action: String,
    pub(crate) resource: String,
    /// Condition keys and their values.
    pub(crate) context: BTreeMap<&'static str, Vec<String>>,
}

impl Access {
    pub(crate) fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            resource: resource.into(),
            context: BTreeMap::new(),
        }
    }
}

/// A statement of the template's policies, and what it was needed for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StatementUse {
    /// The logical id of the managed policy, or of the function or state machine it stands in.
    pub policy: String,
    /// The statement's position in its policy, from 0.
    pub index: usize,
    /// The identity it allowed something: the logical id of a function or state machine.
    pub identity: String,
    /// The action that the statement allowed, such as `dynamodb:GetItem`.
    pub action: String,
    /// On what: an ARN.
    pub resource: String,
}

/// A statement of the template's policies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StatementInfo {
    /// The logical id of the managed policy, or of the function or state machine it stands in.
    pub policy: String,
    /// The statement's position in its policy, from 0.
    pub index: usize,
    /// The statement's `Sid`, if it has one.
    pub sid: Option<String>,
    /// Whether it allows; else it denies.
    pub allows: bool,
    /// The statement's actions, as written in the template.
    pub actions: Vec<String>,
    /// The statement's resources, with references resolved.
    pub resources: Vec<String>,
}

pub(crate) struct Iam {
    policies: BTreeMap<String, Policy>,
    roles: BTreeMap<String, Role>,
    changes: Mutex<Changes>,
}

#[derive(Default)]
struct Changes {
    used: BTreeSet<StatementUse>,
    /// The refusals so far, in the words of AWS.
    denied: BTreeSet<String>,
    /// The statements, or single actions of them, that a test took away.
    removed: BTreeSet<(String, usize, Option<String>)>,
}

impl Iam {
    pub(crate) fn new(stack: &Stack) -> Self {
        Self {
            policies: stack.policies.clone(),
            roles: stack.roles.clone(),
            changes: Mutex::default(),
        }
    }

    /// Whether there is such an identity.
    pub(crate) fn knows(&self, identity: &str) -> bool {
        identity == OPERATOR || self.roles.contains_key(identity)
    }

    /// Allows the access or says, in AWS's words, why not.
    pub(crate) fn check(&self, identity: &str, access: &Access) -> Result<(), String> {
        if identity == OPERATOR {
            return Ok(());
        }
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self
            .roles
            .get(identity)
            .map(|role| role.policies.as_slice())
            .unwrap_or_default();
        let mut allowed_by = None;
        for key in keys {
            let statements = self
                .policies
                .get(key)
                .map(|policy| policy.statements.as_slice())
                .unwrap_or_default();
            for (index, statement) in statements.iter().enumerate() {
                let gone = |action: Option<String>| {
                    changes.removed.contains(&(key.clone(), index, action))
                };
                if gone(None) || gone(Some(access.action.clone())) || !speaks_of(statement, access)
                {
                    continue;
                }
                match statement.effect {
                    Effect::Deny => {
                        return Err(self.denied(
                            identity,
                            access,
                            "with an explicit deny in an identity-based policy",
                        ));
                    }
                    Effect::Allow => allowed_by = allowed_by.or(Some((key.clone(), index))),
                }
            }
        }
        let Some((policy, index)) = allowed_by else {
            let why = format!(
                "because no identity-based policy allows the {} action",
                access.action
            );
            let denied = self.denied(identity, access, &why);
            changes.denied.insert(denied.clone());
            return Err(denied);
        };
        let identity = identity.to_owned();
        let (action, resource) = (access.action.clone(), access.resource.clone());
        changes.used.insert(StatementUse {
            policy,
            index,
            identity,
            action,
            resource,
        });
        Ok(())
    }

    fn denied(&self, identity: &str, access: &Access, why: &str) -> String {
        let user = match self.roles.get(identity) {
            Some(role) => role.user_arn.clone(),
            None => format!("arn:aws:iam::{ACCOUNT}:user/{identity}"),
        };
        let Access {
            action, resource, ..
        } = access;
        format!("User: {user} is not authorized to perform: {action} on resource: {resource} {why}")
    }

    /// The actions allowed so far, each with the statement that allowed it.
    pub(crate) fn used(&self) -> Vec<StatementUse> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.used.iter().cloned().collect()
    }

    /// What was refused so far, in AWS's words, because no statement allows it.
    pub(crate) fn refused(&self) -> Vec<String> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.denied.iter().cloned().collect()
    }

    /// Every statement there is.
    pub(crate) fn statements(&self) -> Vec<StatementInfo> {
        let of_policy = |(policy, document): (&String, &Policy)| {
            let policy = policy.clone();
            let info = move |(index, statement): (usize, &Statement)| StatementInfo {
                policy: policy.clone(),
                index,
                sid: statement.sid.clone(),
                allows: statement.effect == Effect::Allow,
                actions: statement.actions.clone(),
                resources: statement.resources.clone(),
            };
            document
                .statements
                .iter()
                .enumerate()
                .map(info)
                .collect::<Vec<_>>()
        };
        self.policies.iter().flat_map(of_policy).collect()
    }

    /// From now on as if the statement, or one action of it, did not stand there.
    pub(crate) fn remove(&self, policy: &str, index: usize, action: Option<&str>) -> bool {
        let statements = self
            .policies
            .get(policy)
            .map(|policy| policy.statements.as_slice())
            .unwrap_or_default();
        let is_there = statements.get(index).is_some();
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        is_there
            && changes
                .removed
                .insert((policy.to_owned(), index, action.map(str::to_owned)))
    }
}

fn speaks_of(statement: &Statement, access: &Access) -> bool {
    let action = access.action.to_ascii_lowercase();
    statement
        .actions
        .iter()
        .any(|pattern| like(&pattern.to_ascii_lowercase(), &action))
        && statement
            .resources
            .iter()
            .any(|pattern| like(pattern, &access.resource))
        && statement
            .conditions
            .iter()
            .all(|test| holds(test, access.context.get(test.key.as_str())))
}

fn holds(test: &Test, found: Option<&Vec<String>>) -> bool {
    let fits = |value: &String| {
        let equal = |wanted: &String| {
            if test.wildcards {
                like(wanted, value)
            } else {
                wanted == value
            }
        };
        test.values.iter().any(equal) != test.negated
    };
    match (test.quantifier, found.filter(|values| !values.is_empty())) {
        // Of nothing, everything holds: that is why AWS says to test for the key's presence besides.
        (Quantifier::ForAll, None) => true,
        (Quantifier::ForAny, None) => test.if_exists,
        (Quantifier::One, None) => test.if_exists || test.negated,
        (Quantifier::ForAny, Some(values)) => values.iter().any(fits),
        (Quantifier::ForAll | Quantifier::One, Some(values)) => values.iter().all(fits),
    }
}

/// Whether the text is like the pattern: `*` stands for any text, `?` for one character.
pub(crate) fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last star stood, and up to where it has eaten.
    let mut star: Option<(usize, usize)> = None;
    while let Some(character) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == character => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, eaten)) = star else {
                    return false;
                };
                star = Some((at, eaten + 1));
                p = at + 1;
                t = eaten + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn iam(statements: Value) -> Iam {
        let policy = Policy::read(
            &json!({"Version": "2012-10-17", "Statement": statements}),
            "here",
        )
        .unwrap();
        let user_arn = "arn:aws:sts::000000000000:assumed-role/towpath-ARole/towpath-A".to_owned();
        Iam {
            policies: BTreeMap::from([("A".to_owned(), policy)]),
            roles: BTreeMap::from([(
                "A".to_owned(),
                Role {
                    user_arn,
                    policies: vec!["A".to_owned()],
                },
            )]),
            changes: Mutex::default(),
        }
    }

    fn with(action: &str, resource: &str, key: &'static str, values: &[&str]) -> Access {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Access {
            context: BTreeMap::from([(key, values)]),
            ..Access::new(action, resource)
        }
    }

    #[test]
    fn what_is_not_allowed_is_refused_in_the_words_of_aws() {
        let iam = iam(json!([{"Effect": "Allow", "Action": "dynamodb:Get*", "Resource": "arn:t"}]));
        assert_eq!(
            iam.check("A", &Access::new("dynamodb:GetItem", "arn:t")),
            Ok(())
        );
        assert_eq!(
            iam.check("A", &Access::new("dynamodb:PutItem", "arn:t"))
                .unwrap_err(),
            "User: arn:aws:sts::000000000000:assumed-role/towpath-ARole/towpath-A is not authorized to perform: \
             dynamodb:PutItem on resource: arn:t because no identity-based policy allows the dynamodb:PutItem action"
        );
        assert!(
            iam.check("A", &Access::new("dynamodb:GetItem", "arn:t/index/x"))
                .is_err(),
            "an index is another resource"
        );
        assert!(
            iam.check("nobody", &Access::new("dynamodb:GetItem", "arn:t"))
                .is_err()
        );
        assert_eq!(
            iam.check(OPERATOR, &Access::new("dynamodb:DeleteTable", "arn:t")),
            Ok(())
        );
    }

    #[test]
    fn a_deny_beats_every_allow() {
        let iam = iam(json!([
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {"Effect": "Deny", "Action": ["dynamodb:DeleteItem"], "Resource": "arn:?"},
        ]));
        assert_eq!(
            iam.check("A", &Access::new("dynamodb:GetItem", "arn:t")),
            Ok(())
        );
        let refusal = iam
            .check("A", &Access::new("dynamodb:DeleteItem", "arn:t"))
            .unwrap_err();
        assert!(
            refusal.ends_with("with an explicit deny in an identity-based policy"),
            "{refusal}"
        );
        assert_eq!(
            iam.check("A", &Access::new("dynamodb:DeleteItem", "arn:tt")),
            Ok(())
        );
    }

    #[test]
    fn conditions_hold_or_the_statement_is_silent() {
        let iam = iam(json!([{
            "Effect": "Allow", "Action": "dynamodb:PutItem", "Resource": "*",
            "Condition": {
                "ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["RUN#*", "OUTBOX"]},
                "StringEqualsIfExists": {"dynamodb:ReturnValues": "NONE"},
            },
        }]));
        let put = |keys: &[&str]| {
            iam.check(
                "A",
                &with("dynamodb:PutItem", "t", "dynamodb:LeadingKeys", keys),
            )
        };
        assert_eq!(put(&["RUN#1", "OUTBOX"]), Ok(()));
        assert!(put(&["RUN#1", "KEY#1"]).is_err());
        assert_eq!(put(&[]), Ok(()), "of nothing, everything holds");
        assert!(
            iam.check(
                "A",
                &with(
                    "dynamodb:PutItem",
                    "t",
                    "dynamodb:ReturnValues",
                    &["ALL_OLD"]
                )
            )
            .is_err()
        );
    }

    #[test]
    fn a_test_sees_which_statement_was_needed_and_can_take_it_away() {
        let iam = iam(json!([
            {"Effect": "Allow", "Action": ["states:StartExecution", "states:SendTaskSuccess"], "Resource": "m"},
            {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": "t"},
        ]));
        iam.check("A", &Access::new("states:StartExecution", "m"))
            .unwrap();
        let used = iam.used();
        assert_eq!(used.len(), 1);
        assert_eq!(
            (
                used[0].policy.as_str(),
                used[0].index,
                used[0].action.as_str()
            ),
            ("A", 0, "states:StartExecution")
        );
        assert_eq!(iam.statements().len(), 2);
        assert!(iam.remove("A", 0, Some("states:StartExecution")));
        assert!(
            iam.check("A", &Access::new("states:StartExecution", "m"))
                .is_err()
        );
        iam.check("A", &Access::new("states:SendTaskSuccess", "m"))
            .unwrap();
        assert!(iam.remove("A", 0, None));
        assert!(
            iam.check("A", &Access::new("states:SendTaskSuccess", "m"))
                .is_err()
        );
        assert!(!iam.remove("A", 2, None), "there is no such statement");
    }

    #[test]
    fn wildcards_stand_for_any_text() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*a*b", "xaybab", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("arn:*:table/t", "arn:aws:dynamodb:x:table/t/index/i", false),
        ] {
            assert_eq!(like(pattern, text), fits, "{pattern} {text}");
        }
    }
}
