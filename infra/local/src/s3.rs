//! S3: the template's buckets as folders.
//!
//! Who calls is known from the access key; unlike the other services' this one's signatures are verified, since a
//! presigned URL is handed to people, and its path and its end must be those that were signed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::path::S3Path;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::data;
use crate::error::Error;
use crate::iam::{Access, Iam};

/// The buckets.
pub(crate) struct Objects {
    service: S3Service,
    /// The folder of the buckets.
    root: PathBuf,
    /// The temporary folder of the objects, if no folder was given.
    _temporary: Option<TempDir>,
}

/// Whoever calls, known from the key.
#[derive(Clone)]
struct Caller(String);

struct Policies(Arc<Iam>);

impl Objects {
    /// Opens the buckets of these names, and makes those that are not there yet. `keys` are the access keys there are,
    /// each with `secret`.
    pub(crate) fn open(
        directory: Option<&Path>,
        buckets: &[String],
        keys: impl IntoIterator<Item = String>,
        secret: &str,
        iam: Arc<Iam>,
    ) -> Result<Self, Error> {
        let failed = |error| Error::io("cannot make a folder for objects", error);
        let temporary = match directory {
            None => Some(tempfile::tempdir().map_err(failed)?),
            Some(_) => None,
        };
        let home = directory.or(temporary.as_ref().map(TempDir::path));
        let root = home.unwrap_or(Path::new(".")).join("objects");
        data::make_folder(&root).map_err(failed)?;
        for bucket in buckets {
            data::make_folder(&root.join(bucket)).map_err(failed)?;
        }
        let files = s3s_fs::FileSystem::new(&root);
        let files = files.map_err(|error| Error::Objects(format!("{error:?}")))?;
        let mut auth = SimpleAuth::new();
        for key in keys {
            auth.register(key, secret.into());
        }
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(auth);
        builder.set_access(Policies(iam));
        Ok(Self {
            service: builder.build(),
            root,
            _temporary: temporary,
        })
    }

    /// Lets files be objects of a bucket: as links where that is possible, since a program is large.
    pub(crate) fn place(
        &self,
        bucket: &str,
        files: &BTreeMap<String, PathBuf>,
    ) -> Result<(), Error> {
        for (key, file) in files {
            let failed =
                |error| Error::io(format!("cannot place {} for S3", file.display()), error);
            let object = self.root.join(bucket).join(key);
            std::fs::create_dir_all(object.parent().unwrap_or(&self.root)).map_err(failed)?;
            match std::fs::remove_file(&object) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(error));
                }
                _ => {}
            }
            if std::fs::hard_link(file, &object).is_err() {
                std::fs::copy(file, &object).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Answers a request.
    pub(crate) async fn call(&self, caller: String, request: Request<Bytes>) -> Response {
        // The file backend looks at checksums when the object is in its place already; S3 keeps nothing then.
        let checksum = request.headers().get("x-amz-checksum-sha256");
        if checksum.is_some_and(|sent| {
            STANDARD.encode(Sha256::digest(request.body())) != sent.to_str().unwrap_or_default()
        }) {
            let message = "The SHA256 you specified did not match the calculated checksum.";
            return refusal(StatusCode::BAD_REQUEST, "BadDigest", message);
        }
        let mut request = request.map(Full::new);
        request.extensions_mut().insert(Caller(caller));
        match self.service.clone().oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                tracing::error!(?error, "an S3 request failed");
                let message = "We encountered an internal error. Please try again.";
                refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
            }
        }
    }
}

/// An answer of S3 that is a refusal.
pub(crate) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let xml = http::HeaderValue::from_static("application/xml");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, xml);
    response
}

#[async_trait]
impl S3Access for Policies {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = cx.s3_op().name();
        let action = match operation {
            "PutObject" => "s3:PutObject",
            "GetObject" | "HeadObject" => "s3:GetObject",
            // What removes a deployment does; no function may.
            "DeleteObject" => "s3:DeleteObject",
            "ListObjectsV2" => "s3:ListBucket",
            "DeleteBucket" => "s3:DeleteBucket",
            _ => {
                return Err(s3_error!(
                    NotImplemented,
                    "the local cloud does not know the S3 operation {operation}"
                ));
            }
        };
        let resource = match cx.s3_path() {
            S3Path::Object { bucket, key } => format!("arn:aws:s3:::{bucket}/{key}"),
            S3Path::Bucket { bucket } => format!("arn:aws:s3:::{bucket}"),
            _ => return Err(s3_error!(InvalidRequest)),
        };
        let signed = cx.credentials().is_some();
        let caller = cx.extensions_mut().get::<Caller>().cloned();
        let Some(Caller(caller)) = caller.filter(|_| signed) else {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        };
        self.0
            .check(&caller, &Access::new(action, resource))
            .map_err(|message| {
                tracing::warn!(message, "access denied");
                s3_error!(AccessDenied, "{message}")
            })
    }
}
