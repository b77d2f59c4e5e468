//! What an error of an AWS call means to the caller: what to do next, not what it was called.

use std::any::Any;
use std::collections::HashMap;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// The kinds of failure that callers treat differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A condition did not hold: somebody else was first, or this very call was, in an attempt whose answer was lost.
    /// Load again and decide again.
    ConditionFailed,
    /// Another transaction was at work on the same item. Nothing was written; the same call may be made again.
    TransactionConflict,
    /// Too many calls, even after retries. Nothing was done; try again later.
    Throttled,
    /// No usable answer: a timeout, a lost connection, the service's own failure. It may or may not have been done.
    Unavailable,
    /// The role may not do that, or its credentials are not accepted. No use trying again.
    AccessDenied {
        /// The service's message, which names the action and the resource.
        message: String,
    },
    /// Anything else: the request was wrong, or the service has a word for it that only this caller knows.
    Other,
}

/// Why one action of a cancelled transaction failed. There is one for each action, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reason {
    /// `None`, `ConditionalCheckFailed`, `TransactionConflict`, …: the service's own words.
    pub code: String,
    /// The service's message, for people.
    pub message: Option<String>,
    /// The row as it is, if the action asked for it with `ReturnValuesOnConditionCheckFailure`.
    pub item: Option<HashMap<String, AttributeValue>>,
}

impl Reason {
    /// Whether this action's condition did not hold.
    pub fn condition_failed(&self) -> bool {
        self.code == "ConditionalCheckFailed"
    }
}

/// The reasons of a cancelled transaction; `None` if the error is another.
pub fn cancellation(
    error: &SdkError<TransactWriteItemsError, HttpResponse>,
) -> Option<Vec<Reason>> {
    error.as_service_error().and_then(reasons)
}

fn reasons(error: &TransactWriteItemsError) -> Option<Vec<Reason>> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
        return None;
    };
    let reasons = cancelled
        .cancellation_reasons()
        .iter()
        .map(|reason| Reason {
            code: reason.code().unwrap_or("None").to_owned(),
            message: reason.message().map(str::to_owned),
            item: reason.item().cloned(),
        });
    Some(reasons.collect())
}

/// What an error of any call to DynamoDB, Step Functions or S3 means.
///
/// A transaction may be cancelled for several reasons at once. One failed condition makes it [`ConditionFailed`], since
/// making the same call again cannot help; else one conflict makes it [`TransactionConflict`]; else one throttled item
/// makes it [`Throttled`].
///
/// [`ConditionFailed`]: Trouble::ConditionFailed
/// [`TransactionConflict`]: Trouble::TransactionConflict
/// [`Throttled`]: Trouble::Throttled
pub fn classify<E: ProvideErrorMetadata + 'static>(error: &SdkError<E, HttpResponse>) -> Trouble {
    match error {
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Trouble::Unavailable,
        SdkError::DispatchFailure(failure) if failure.is_user() => Trouble::Other,
        SdkError::DispatchFailure(_) => Trouble::Unavailable,
        SdkError::ServiceError(answer) => {
            let error = answer.err();
            let cancelled = (error as &dyn Any)
                .downcast_ref::<TransactWriteItemsError>()
                .and_then(reasons);
            if let Some(reasons) = cancelled {
                return of_reasons(&reasons);
            }
            let by_code = error.code().and_then(|code| of_code(code, error.message()));
            by_code.unwrap_or(if answer.raw().status().is_server_error() {
                Trouble::Unavailable
            } else {
                Trouble::Other
            })
        }
        _ => Trouble::Other,
    }
}

fn of_reasons(reasons: &[Reason]) -> Trouble {
    let any = |codes: &[&str]| {
        reasons
            .iter()
            .any(|reason| codes.contains(&reason.code.as_str()))
    };
    if any(&["ConditionalCheckFailed"]) {
        Trouble::ConditionFailed
    } else if any(&["TransactionConflict"]) {
        Trouble::TransactionConflict
    } else if any(&["ThrottlingError", "ProvisionedThroughputExceeded"]) {
        Trouble::Throttled
    } else {
        Trouble::Other
    }
}

fn of_code(code: &str, message: Option<&str>) -> Option<Trouble> {
    Some(match code {
        "ConditionalCheckFailedException" => Trouble::ConditionFailed,
        "TransactionConflictException" => Trouble::TransactionConflict,
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "LimitExceededException"
        | "TooManyRequestsException" => Trouble::Throttled,
        // The same transaction is still being worked on: whether it will be done is not known yet.
        "TransactionInProgressException"
        | "InternalServerError"
        | "InternalFailure"
        | "ServiceUnavailable" => Trouble::Unavailable,
        "AccessDenied"
        | "AccessDeniedException"
        | "KmsAccessDeniedException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "IncompleteSignatureException"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "UnrecognizedClientException" => Trouble::AccessDenied {
            message: message.unwrap_or(code).to_owned(),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancelled_for(codes: &[&str]) -> Trouble {
        let reasons: Vec<_> = codes
            .iter()
            .map(|code| Reason {
                code: (*code).to_owned(),
                ..Reason::default()
            })
            .collect();
        of_reasons(&reasons)
    }

    #[test]
    fn a_failed_condition_outweighs_a_conflict_and_a_conflict_throttling() {
        assert_eq!(
            cancelled_for(&["None", "TransactionConflict", "ConditionalCheckFailed"]),
            Trouble::ConditionFailed
        );
        assert_eq!(
            cancelled_for(&["ThrottlingError", "TransactionConflict"]),
            Trouble::TransactionConflict
        );
        assert_eq!(
            cancelled_for(&["None", "ThrottlingError"]),
            Trouble::Throttled
        );
        assert_eq!(
            cancelled_for(&["ItemCollectionSizeLimitExceeded", "None"]),
            Trouble::Other
        );
    }
}
