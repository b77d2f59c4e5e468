//! Objects in memory, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::{Error, Objects, OutputUrl, UploadUrl};

/// A place for large texts and files in memory. It has no URLs.
#[derive(Debug, Default)]
pub struct MemoryObjects(Mutex<BTreeMap<String, Vec<u8>>>);

#[async_trait]
impl Objects for MemoryObjects {
    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        _: &'static str,
        _: [u8; 32],
    ) -> Result<(), Error> {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects.insert(key.to_owned(), body);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<String, Error> {
        let objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let body = objects.get(key).cloned();
        let text = body.and_then(|body| String::from_utf8(body).ok());
        text.ok_or_else(|| Error::Broken(key.to_owned()))
    }

    fn url(&self, key: &str) -> Result<OutputUrl, Error> {
        Err(Error::Broken(key.to_owned()))
    }

    fn upload_url(&self, key: &str, _: u64, _: [u8; 32]) -> Result<UploadUrl, Error> {
        Err(Error::Broken(key.to_owned()))
    }
}
