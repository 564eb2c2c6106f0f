//! The commit gate is asked for every instance: the store wants what it gave.
async fn commit(
    sealed: store::Sealed,
    again: store::AskAgain,
    metadata: model::Metadata,
    now: model::Timestamp,
) {
    let _ = sealed.commit((), again, metadata, now).await;
}

fn main() {}
