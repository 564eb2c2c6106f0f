//! A build without the Workload API says so instead of pretending.

use std::time::Duration;

use super::{Problem, Workload};
use crate::config::Endpoint;

impl Workload {
    /// Never works in this build.
    ///
    /// # Errors
    /// Always, with what to do.
    #[expect(clippy::unused_async, reason = "the build with the feature waits here")]
    pub(crate) async fn start(endpoint: &Endpoint, _: Option<&str>, _: Duration) -> Result<Self, Problem> {
        Err(format!(
            "identity.workload_api = {endpoint}: this program was built without the Cargo feature `workload-api`; build it \
             with the feature, or give identity.chain and identity.key"
        ))
    }
}
