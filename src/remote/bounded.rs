//! What a server may make this process hold in memory.
//!
//! An object comes as a stream and is written as it comes. Listings, errors and the other answers of an object store are
//! collected before they are looked at: a server that never ends one must not take all memory.

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, Result};

/// No answer that is collected is longer: a page of a listing, a thousand names, has half of it at most.
pub const LONGEST: usize = 4 << 20;

/// Connects as the object stores' clients do by themselves, or through what it is given, and bounds what comes.
#[derive(Debug, Default)]
pub struct Bounded<C = ReqwestConnector>(pub C);

impl<C: HttpConnector> HttpConnector for Bounded<C> {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(Service(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Service(HttpClient);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let asks_for_an_object = request.method() == "GET" && !lists(request.uri().query().unwrap_or_default());
        let answer = self.0.execute(request).await?;
        if asks_for_an_object && answer.status().is_success() {
            return Ok(answer);
        }
        Ok(answer.map(|body| {
            HttpResponseBody::new(Limited::new(body, LONGEST).map_err(|error| match error.downcast::<HttpError>() {
                Ok(error) => *error,
                Err(_) => HttpError::new(HttpErrorKind::Decode, TooLong),
            }))
        }))
    }
}

/// S3's and Google's listings, and Azure's.
fn lists(query: &str) -> bool {
    query.split('&').any(|part| part.starts_with("list-type=") || part == "comp=list")
}

#[derive(Debug, thiserror::Error)]
#[error("an answer is longer than {LONGEST} bytes")]
struct TooLong;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::{StreamExt, stream};
    use http_body_util::StreamBody;
    use object_store::aws::AmazonS3Builder;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};

    use super::*;
    use crate::remote::lookup::runtime;
    use crate::remote::{Failure, Remote};

    /// Answers a listing with the text, and everything else with bytes without an end.
    #[derive(Debug, Clone)]
    struct Server {
        listing: Option<String>,
        status: u16,
    }

    impl HttpConnector for Server {
        fn connect(&self, _: &ClientOptions) -> Result<HttpClient> {
            Ok(HttpClient::new(self.clone()))
        }
    }

    #[async_trait]
    impl HttpService for Server {
        async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
            let endless = stream::repeat_with(|| Ok(http_body::Frame::data(vec![b' '; 1 << 16].into())));
            let endless = || HttpResponseBody::new(StreamBody::new(endless));
            let body = match &self.listing {
                Some(text) if lists(request.uri().query().unwrap_or_default()) => text.clone().into(),
                _ => endless(),
            };
            let mut answer = HttpResponse::new(body);
            *answer.status_mut() = self.status.try_into().expect("a status");
            let headers = [
                ("content-length", "1000000000000"),
                ("last-modified", "Sat, 03 Jan 2026 00:00:00 GMT"),
                ("etag", "1"),
            ];
            for (name, value) in headers {
                answer.headers_mut().insert(name, value.try_into().expect("a header"));
            }
            Ok(answer)
        }
    }

    fn store(listing: Option<String>, status: u16) -> Arc<dyn ObjectStore> {
        let builder = AmazonS3Builder::new().with_bucket_name("b").with_region("r").with_access_key_id("a");
        let builder = builder.with_secret_access_key("s").with_http_connector(Bounded(Server { listing, status }));
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        Arc::new(builder.with_retry(retry).build().expect("a client"))
    }

    #[test]
    fn an_answer_that_is_collected_is_bounded_and_an_object_is_not() {
        runtime().expect("a runtime").block_on(async {
            let failed = store(None, 200).list(None).next().await.expect("an item").expect_err("an endless page");
            assert!(format!("{failed:?}").contains("TooLong"), "{failed:?}");
            let failed = store(None, 403).get(&Path::from("o")).await.expect_err("an endless error");
            assert!(format!("{failed:?}").contains("TooLong"), "{failed:?}");
            let mut object = store(None, 200).get(&Path::from("o")).await.expect("an object").into_stream();
            let mut bytes = 0;
            while bytes <= 2 * LONGEST {
                bytes += object.next().await.expect("no end").expect("a piece").len();
            }
        });
    }

    #[test]
    fn a_listing_that_has_no_end_is_given_up() {
        let name = |n: usize| {
            let modified = "<LastModified>2026-01-02T03:04:05.000Z</LastModified>";
            format!("<Contents><Key>records/0{n:063x}.json</Key>{modified}<Size>1</Size></Contents>")
        };
        let names: String = (0..1000).map(name).collect();
        let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>";
        let page = format!("<ListBucketResult>{more}{names}</ListBucketResult>");
        let remote = Remote::over(store(Some(page), 200));
        let failed = runtime().expect("a runtime").block_on(remote.all_keys()).expect_err("no end");
        assert!(matches!(&failed, Failure::Unreachable(why) if why.contains("lists more than")), "{failed:?}");
    }
}
