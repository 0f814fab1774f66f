//! The name of a request, by which it is found again in every log on its way: `x-request-id`, as it came or made here, in the
//! answer and in all that is logged of the request, and of the session that it opens.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longer names are not taken.
const MAX_CHARS: usize = 128;

/// Names a request and its answer.
pub(super) async fn name(request: Request, next: Next) -> Response {
    let given = request.headers().get(&HEADER).and_then(sane).map(str::to_owned);
    let id = given.unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
    let span = tracing::info_span!("request", id);
    async {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let mut response = next.run(request).await;
        tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
        // It has the characters of a header by now.
        response.headers_mut().extend(HeaderValue::from_str(&id).ok().map(|id| (HEADER, id)));
        response
    }
    .instrument(span)
    .await
}

/// A name that can stand in a log without being mistaken for anything else.
fn sane(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let fits = (1..=MAX_CHARS).contains(&text.len());
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    (fits && plain).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_mistaken_are_not_taken() {
        let taken = |text: &str| sane(&HeaderValue::from_str(text).unwrap()).is_some();
        assert!(taken("4bf92f35-77b3:a.b_C"));
        assert!(!taken("") && !taken("a b") && !taken("\"x\"") && !taken("{1}") && !taken(&"a".repeat(129)));
    }
}
