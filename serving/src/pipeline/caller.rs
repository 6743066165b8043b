//! Who is calling, with what the server knows of its connection.

use std::sync::Arc;

use api::{BodyMeter, Identity};
use axum::extract::Request;
use axum::http::HeaderValue;
use router::{AuthenticationError, CredentialError, Gatekeeper, Peer, Principal, Role, WallTime};

use crate::caller;
use crate::error::{ApiError, OrRefused, TableError};
use crate::server::Account;
use crate::telemetry::Access;

/// Who is calling and how, before anything is checked.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) peer: Peer,
    /// Id of the request, `req_…` or the caller's own.
    pub(crate) request_id: Arc<str>,
    /// `rest` or `grpc`.
    pub(crate) protocol: &'static str,
    /// Where to tell what the access log should know.
    pub(crate) access: Access,
    /// What bounds the body of the request while it is read.
    pub(crate) body: BodyMeter,
    /// In whose name the answer waits.
    pub(crate) account: Account,
    /// Where to tell the protocol who it is.
    pub(crate) identity: Identity,
}

impl From<api::Caller> for Caller {
    fn from(caller: api::Caller) -> Self {
        let api::Caller { authorization, request_id, protocol, body, extensions } = caller;
        Self {
            authorization,
            peer: caller::peer(&extensions),
            request_id,
            protocol,
            access: extensions.get::<Access>().cloned().unwrap_or_default(),
            body,
            account: extensions.get::<Account>().cloned().unwrap_or_default(),
            identity: extensions.get::<Identity>().cloned().unwrap_or_default(),
        }
    }
}

impl Caller {
    /// The caller of a REST request.
    pub(crate) fn of(request: &Request) -> Self {
        let extensions = request.extensions().clone();
        api::Caller::new(request.headers(), extensions, protocols::v1::rest::PROTOCOL).into()
    }
}

/// Authenticates a caller and checks its role.
///
/// # Errors
/// No or bad credentials, a role below `needed`, or too many answers that the tenant does not read.
pub(crate) async fn authorise(
    gatekeeper: &Gatekeeper,
    caller: &Caller,
    needed: Role,
) -> Result<Principal, ApiError> {
    let authorization = caller.authorization.as_ref().map(HeaderValue::to_str).transpose();
    let authorization =
        authorization.map_err(|_| AuthenticationError::from(CredentialError::Malformed).refused())?;
    let principal = gatekeeper.authenticate(WallTime::now(), authorization, &caller.peer).await;
    let principal = principal.or_refused()?;
    caller.access.identified(&principal);
    caller.identity.set(&principal.tenant().name);
    caller.account.identify(principal.tenant().id)?;
    if principal.has(needed) {
        return Ok(principal);
    }
    Err(ApiError::Forbidden { needed: needed.name() })
}
