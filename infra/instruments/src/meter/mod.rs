//! The meter: what the DynamoDB client has used, in the units the bill is made of.
//!
//! Units are counted twice. *Computed* units follow from the sizes of what was sent and answered, by AWS's published
//! rule, and are the same wherever the tables are. *Reported* units are those in the answers' `ConsumedCapacity`, which
//! the meter asks for on every request: of the local cloud's tables they are exact, since those know each item before and
//! after a write. Bills are made of them. The computed ones are there to hold against another database's reports.
//!
//! # What computing them cannot know
//!
//! DynamoDB bills a write by the larger of the row before and after it. The meter sees the request, and the row only
//! where the request asks for it back (`ReturnValues` of `ALL_OLD` or `ALL_NEW`). Otherwise:
//!
//! - a put counts by the new row;
//! - an update, and a condition check, by what was sent: the key, the names the update mentions and the expression's
//!   values. A small change to a row of many kilobytes counts too little;
//! - a delete counts one unit, and none for indexes;
//! - an index ([`Index`]) counts one write when a put carries all its key attributes, or when an update mentions one of
//!   them (or, if they are all part of the table's own key, an attribute the index copies). Moving a row within an
//!   index, which takes two writes, and updating what an index copies of a row without touching its keys, are seen in
//!   the reported units only;
//! - a read counts by what came back: rows a filter or a projection kept from the answer are seen in the reported units
//!   only.
//!
//! Every action of a transaction counts double, index writes do not. A failed condition and a cancelled transaction use
//! what they would have written, and so does an attempt whose answer was lost, since it may have been done. What was
//! throttled or refused uses nothing. A transaction tried again after its answer was lost counts twice, though the
//! service only reads the second time: where replies are lost, computed units are an upper bound.

mod answer;
mod request;

use std::collections::BTreeMap;
use std::ops::{Add, AddAssign, Sub};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextMut, BeforeTransmitInterceptorContextRef,
    FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use request::Sent;

/// An index whose writes are to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The table's name.
    pub table: String,
    /// The attributes that make the index's key. A row without one of them is not in the index.
    pub keys: Vec<String>,
    /// The attributes the index copies, keys included; `None` if it copies all.
    pub copies: Option<Vec<String>>,
}

/// Units used: a sum, or the difference of two sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    /// Requests sent, each retry being one.
    pub requests: u64,
    /// Write units by the published rule.
    pub write_computed: f64,
    /// Write units as the answers say.
    pub write_reported: f64,
    /// Read units by the published rule. A read that is not consistent uses half units.
    pub read_computed: f64,
    /// Read units as the answers say.
    pub read_reported: f64,
}

impl Add for Units {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            write_computed: self.write_computed + other.write_computed,
            write_reported: self.write_reported + other.write_reported,
            read_computed: self.read_computed + other.read_computed,
            read_reported: self.read_reported + other.read_reported,
        }
    }
}

impl AddAssign for Units {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The units used since `other`, an earlier sum of the same meter.
impl Sub for Units {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            write_computed: self.write_computed - other.write_computed,
            write_reported: self.write_reported - other.write_reported,
            read_computed: self.read_computed - other.read_computed,
            read_reported: self.read_reported - other.read_reported,
        }
    }
}

impl std::iter::Sum for Units {
    fn sum<I: Iterator<Item = Self>>(units: I) -> Self {
        units.fold(Self::default(), Add::add)
    }
}

/// Sums what a DynamoDB client uses. Clones share the sums; nothing is kept of a call.
///
/// To know what a piece of work used, take the difference of two sums, with nobody else using the client in between.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    indexes: Vec<Index>,
    sums: Mutex<BTreeMap<&'static str, Units>>,
}

impl Meter {
    /// A meter at zero that counts writes to these indexes too.
    pub fn new(indexes: Vec<Index>) -> Self {
        Self(Arc::new(Inner {
            indexes,
            sums: Mutex::default(),
        }))
    }

    /// All that was used.
    pub fn units(&self) -> Units {
        self.sums().values().copied().sum()
    }

    /// The same by operation: `PutItem`, `Query`, …; operations the meter knows nothing of are together in `other`.
    pub fn by_operation(&self) -> BTreeMap<&'static str, Units> {
        self.sums().clone()
    }

    fn add(&self, operation: &'static str, units: Units) {
        *self.sums().entry(operation).or_default() += units;
    }

    /// The sums stay sums even if somebody panicked while adding one.
    fn sums(&self) -> MutexGuard<'_, BTreeMap<&'static str, Units>> {
        self.0.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[dyn_dispatch_hint]
impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "TowpathMeter"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let sent = Sent::read(context.input_mut(), &self.0.indexes);
        bag.interceptor_state().store_put(sent);
        Ok(())
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(sent) = bag.load::<Sent>() {
            self.add(
                sent.operation,
                Units {
                    requests: 1,
                    ..Units::default()
                },
            );
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(sent), Some(answer)) = (bag.load::<Sent>(), context.output_or_error()) {
            let units = match answer {
                Ok(output) => answer::units(sent, output, &self.0.indexes),
                Err(error) => answer::units_of_failure(sent, error),
            };
            self.add(sent.operation, units);
        }
        Ok(())
    }
}
