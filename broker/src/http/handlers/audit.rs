//! `GET /v1/audit/events`.

use agentwrit_protocol::wire::AuditEventsResponse;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, AppState, Call, Guard, authenticate, query, reply};
use crate::service::audit::{self, QueryError};

/// One page of the trail.
pub(in crate::http) async fn events(State(broker): State<AppState>, call: Call) -> Result<Response, ApiError> {
    authenticate(&broker, &call, Guard::admin("admin:audit:*")).await?;
    let filter = audit::filter(&query::parameters(&call.query))?;
    let (offset, limit) = (filter.offset, filter.limit);
    let page = audit::events(&broker, filter).await?;
    Ok(reply(
        StatusCode::OK,
        &AuditEventsResponse {
            events: page.events,
            total: page.total,
            offset,
            limit,
            next_cursor: None,
        },
    ))
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Moment { .. } | QueryError::Number { .. } => Self::invalid(error.to_string()),
            QueryError::Store(error) => error.into(),
        }
    }
}
