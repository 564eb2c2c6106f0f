//! `/healthz`, `/readyz` and `/metrics` on a listener of their own, without TLS: loopback, or behind a security group.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::house::House;
use crate::live::Moment;
use crate::reload;

#[derive(Clone)]
struct Admin {
    house: Arc<House>,
    metrics: PrometheusHandle,
}

/// Answers until the house halts.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(listener: TcpListener, house: Arc<House>, metrics: PrometheusHandle) -> std::io::Result<()> {
    let halt = house.halt.clone();
    let router = Router::new()
        // Liveness only: it asks nothing of objects or index, so that a slow disk never has a load balancer kill us.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(Admin { house, metrics });
    axum::serve(listener, router).with_graceful_shutdown(halt.cancelled_owned()).await
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.house.drain.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn render(State(admin): State<Admin>) -> impl IntoResponse {
    reload::gauge(&admin.house.live, Moment::now());
    admin.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render())
}
