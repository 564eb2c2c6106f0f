//! The commit gate is asked for every instance: the store wants what it gave.
async fn commit(sealed: store::Sealed, metadata: model::Metadata, now: model::Timestamp) {
    let _ = sealed.commit((), metadata, now).await;
}

fn main() {}
