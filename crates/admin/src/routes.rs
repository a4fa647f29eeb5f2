//! The one table of routes: for each its method, path, who may use it, what it takes and what it gives.
//! The router, the role checks and the OpenAPI document are all made from it, so a route that is not
//! protected and documented does not exist.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use naru_domain::work::Role;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::{PartialSchema, ToSchema};

use crate::api;
use crate::auth::{Access, Reach};
use crate::error::{ApiError, Code};
use crate::extract::BodyRules;
use crate::options::{AdminOptions, BODY_BYTES_MAX, MEDIA_BODY_BYTES_MAX};
use crate::state::Api;

/// Answers below this are sent as they are: compressing them costs more than it saves.
const COMPRESS_ABOVE_BYTES: u16 = 1024;

pub(crate) const VIEWER: Access = Access::Role(Role::Viewer, Reach::Bots);
pub(crate) const OPERATOR: Access = Access::Role(Role::Operator, Reach::Bots);
pub(crate) const ADMIN: Access = Access::Role(Role::Admin, Reach::Bots);
pub(crate) const NODE_VIEWER: Access = Access::Role(Role::Viewer, Reach::Node);
pub(crate) const NODE_OPERATOR: Access = Access::Role(Role::Operator, Reach::Node);
pub(crate) const NODE_ADMIN: Access = Access::Role(Role::Admin, Reach::Node);

/// The schemas that a document refers to, by name.
pub(crate) type SchemaBook = BTreeMap<String, serde_json::Value>;
/// Puts a type's schemas into the book and says how to refer to it.
pub(crate) type SchemaOf = fn(&mut SchemaBook) -> serde_json::Value;

/// What an endpoint answers when it succeeds.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    One(u16, SchemaOf),
    List(SchemaOf),
    Nothing,
    Text(&'static str),
}

/// One row of the table.
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) summary: &'static str,
    pub(crate) query: Option<SchemaOf>,
    pub(crate) body: Option<SchemaOf>,
    pub(crate) answer: Answer,
    pub(crate) takes_media: bool,
    handler: MethodRouter<Api>,
}

fn schema_of<T: ToSchema>(book: &mut SchemaBook) -> serde_json::Value {
    let mut schemas = Vec::new();
    T::schemas(&mut schemas);
    schemas.push((T::name().into_owned(), <T as PartialSchema>::schema()));
    for (name, schema) in schemas {
        let schema = serde_json::to_value(schema).unwrap_or_default();
        book.insert(name, schema);
    }
    serde_json::json!({ "$ref": format!("#/components/schemas/{}", T::name()) })
}

impl Endpoint {
    fn new<H, T>(
        method: (Method, MethodFilter),
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Endpoint
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        Endpoint {
            method: method.0,
            path,
            access,
            summary,
            query: None,
            body: None,
            answer: Answer::Nothing,
            takes_media: false,
            handler: on(method.1, handler),
        }
    }

    /// The query parameters, as a struct.
    pub(crate) fn asks<T: ToSchema>(mut self) -> Endpoint {
        self.query = Some(schema_of::<T>);
        self
    }

    /// The JSON body.
    pub(crate) fn takes<T: ToSchema>(mut self) -> Endpoint {
        self.body = Some(schema_of::<T>);
        self
    }

    /// A JSON body that may carry media.
    pub(crate) fn takes_media<T: ToSchema>(mut self) -> Endpoint {
        self.takes_media = true;
        self.takes::<T>()
    }

    /// The JSON answer, with status 200.
    pub(crate) fn gives<T: ToSchema>(mut self) -> Endpoint {
        self.answer = Answer::One(200, schema_of::<T>);
        self
    }

    /// The JSON answer, with status 201.
    pub(crate) fn creates<T: ToSchema>(mut self) -> Endpoint {
        self.answer = Answer::One(201, schema_of::<T>);
        self
    }

    /// One page of a list of these.
    pub(crate) fn lists<T: ToSchema>(mut self) -> Endpoint {
        self.answer = Answer::List(schema_of::<T>);
        self
    }

    /// Text of this content type.
    pub(crate) fn writes(mut self, content_type: &'static str) -> Endpoint {
        self.answer = Answer::Text(content_type);
        self
    }
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {
        $(
            pub(crate) fn $name<H, T>(
                path: &'static str,
                access: Access,
                summary: &'static str,
                handler: H,
            ) -> Endpoint
            where
                H: Handler<T, Api>,
                T: 'static,
            {
                let method = (Method::$method, MethodFilter::$method);
                Endpoint::new(method, path, access, summary, handler)
            }
        )*
    };
}
methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);

/// All routes.
pub(crate) fn endpoints(options: &AdminOptions) -> Vec<Endpoint> {
    let metrics_access = if options.metrics_need_token { NODE_VIEWER } else { Access::Open };
    [
        api::node::endpoints(metrics_access),
        api::login::endpoints(),
        api::devices::endpoints(),
        api::rooms::endpoints(),
        api::bots::endpoints(),
        api::messages::endpoints(),
        api::send::endpoints(),
        api::dead_letters::endpoints(),
        api::schedules::endpoints(),
        api::sessions::endpoints(),
        api::monitors::endpoints(),
        api::logs::endpoints(),
        api::audit::endpoints(),
        api::tokens::endpoints(),
        api::watch::endpoints(),
        api::accounts::endpoints(),
        api::chat::endpoints(),
        api::wards::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Who may use a route, for docs and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAccess {
    /// Such as `GET`.
    pub method: String,
    /// The template, such as `/api/devices/{id}`.
    pub path: &'static str,
    /// The lowest role; `None` means that the route is open.
    pub role: Option<Role>,
    /// Whether a token that is limited to bots is refused.
    pub whole_node: bool,
}

/// Who may use each route, with default options.
#[must_use]
pub fn route_accesses() -> Vec<RouteAccess> {
    let options = AdminOptions::new(([127, 0, 0, 1], 0).into());
    let rows = endpoints(&options).into_iter().map(|endpoint| {
        let (role, whole_node) = match endpoint.access {
            Access::Open => (None, false),
            Access::Role(role, reach) => (Some(role), reach == Reach::Node),
        };
        RouteAccess { method: endpoint.method.to_string(), path: endpoint.path, role, whole_node }
    });
    rows.collect()
}

/// Which row of the table a request took, for the metrics of the edge.
#[derive(Clone)]
pub(crate) struct RouteSeen(pub(crate) Arc<AtomicUsize>);

/// The address a request came from.
#[derive(Clone)]
pub(crate) struct Source(pub(crate) Arc<str>);

#[derive(Clone)]
struct Gate {
    api: Api,
    access: Access,
    rules: BodyRules,
    index: usize,
}

async fn guard(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    if let Some(RouteSeen(seen)) = request.extensions().get() {
        seen.store(gate.index, Relaxed);
    }
    let source = request.extensions().get::<Source>().map(|source| Arc::clone(&source.0));
    let source = source.unwrap_or_else(|| "unknown".into());
    let now = gate.api.now();
    match gate.api.auth.admit(gate.access, request.headers(), &source, now).await {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
        }
        Ok(None) => (),
        Err(error) => {
            if error.code == Code::RateLimited {
                gate.api.metrics.rate_limited.increment();
            }
            return error.into_response();
        }
    }
    request.extensions_mut().insert(gate.rules);
    next.run(request).await
}

/// The router of this table.
pub(crate) fn router(api: &Api, endpoints: Vec<Endpoint>) -> Router {
    let mut router = Router::new();
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        let timeout = api.options.limits.body_timeout;
        let rules = BodyRules {
            bytes_max: if endpoint.takes_media { MEDIA_BODY_BYTES_MAX } else { BODY_BYTES_MAX },
            timeout: if endpoint.takes_media { timeout * 4 } else { timeout },
            media_places: Arc::clone(&api.media_places),
        };
        let gate = Gate { api: api.clone(), access: endpoint.access, rules, index };
        let guarded = endpoint.handler.route_layer(from_fn_with_state(gate, guard));
        router = router.route(endpoint.path, guarded);
    }
    let compressible = SizeAbove::new(COMPRESS_ABOVE_BYTES).and(NotForContentType::IMAGES);
    let mut router = router
        .fallback(|| async { ApiError::plain(Code::NoSuchRoute) })
        .method_not_allowed_fallback(|| async { ApiError::plain(Code::MethodNotAllowed) })
        .layer(CompressionLayer::new().gzip(true).compress_when(compressible));
    if let Some(cors) = cors(&api.options.cors_origins) {
        router = router.layer(cors);
    }
    router.with_state(api.clone())
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let headers = [header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH];
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    Some(
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_headers(headers)
            .allow_methods(methods)
            .expose_headers([header::ETAG, header::RETRY_AFTER]),
    )
}
