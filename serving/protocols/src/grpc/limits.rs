//! What a caller is told of its limits, as metadata: the same as over HTTP.

use api::Quota;
use tonic::metadata::MetadataMap;

use crate::http::limits;

/// Tells of quotas.
pub fn show_limits(quotas: &[Quota], metadata: &mut MetadataMap) {
    let mut headers = std::mem::take(metadata).into_headers();
    limits::show(quotas, &mut headers);
    *metadata = MetadataMap::from_headers(headers);
}
