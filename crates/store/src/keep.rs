//! Object first, row second: the order that makes a commit kill-safe.

use std::sync::Arc;

use model::key;

use crate::Failure;
use crate::archive::Inner;
use crate::gzip::compressed;
use crate::index::{Apart, Kept, NewInstance, Recorded, Ruling, rule};
use crate::objects::{Objects, Whole, blocking};

/// Puts the object in its place and then the row, as the rules of the row and what is held want it.
///
/// The rules are asked beforehand too: that spares the work for bytes that are held, and leaves no object of an instance
/// that is refused. Two that come at once may both pass, and the transaction decides between them.
pub(crate) async fn keep(archive: &Arc<Inner>, whole: Whole, new: NewInstance) -> Result<Kept, Failure> {
    let here = archive.clone();
    let (whole, new) = match blocking(PLACING, move || rule_and_place(&here, whole, new)).await? {
        Placed::Held(kept) => return Ok(kept),
        Placed::There(whole, new) => (whole, new),
    };
    match archive.index.record(new.clone()).await? {
        Recorded::Written(kept, _) | Recorded::Held(kept) => Ok(kept),
        // The loser of a race, like one whose right is withdrawn at the last moment, leaves an object that no row names.
        // It cannot be removed here, for a third sender of the same bytes may be about to name it.
        Recorded::Refused(failure) => Err(failure),
        Recorded::Apart(why) => keep_apart(archive, whole, apart((*new).clone(), why)).await,
    }
}

/// Lost a race, and goes to quarantine: from there on there is nothing to lose.
async fn keep_apart(archive: &Arc<Inner>, mut whole: Whole, new: NewInstance) -> Result<Kept, Failure> {
    let here = archive.clone();
    let place = move || place(&here, &mut whole, &new).map(|()| new);
    let new = blocking(PLACING, place).await?;
    match archive.index.record(Arc::new(new)).await? {
        Recorded::Written(kept, _) | Recorded::Held(kept) => Ok(kept),
        Recorded::Refused(failure) => Err(failure),
        Recorded::Apart(_) => unreachable!("its object is under quarantine/"),
    }
}

enum Placed {
    Held(Kept),
    There(Whole, Arc<NewInstance>),
}

/// All that blocks before the row is written, in one hop.
fn rule_and_place(archive: &Inner, mut whole: Whole, mut new: NewInstance) -> Result<Placed, Failure> {
    match archive.reader.index.read_now(|db| rule(db, &new))? {
        Ruling::Held(kept) => return Ok(Placed::Held(kept)),
        Ruling::Refuse(failure) => return Err(failure),
        Ruling::Apart(why) => new = apart(new, why),
        Ruling::Keep(_) => {}
    }
    // The writer has one thread for all, so what can be done before it is.
    new.metadata = compressed(&new.metadata);
    place(archive, &mut whole, &new)?;
    Ok(Placed::There(whole, Arc::new(new)))
}

/// The gate is asked between the bytes on disk, which may take their time, and the name, which makes them an object.
fn place(archive: &Inner, whole: &mut Whole, new: &NewInstance) -> Result<(), Failure> {
    match &archive.reader.objects {
        Objects::Local(local) => {
            whole.write_down().map_err(Failure::away("writing an object"))?;
            (new.still_cleared)().ok_or(Failure::NotCleared)?;
            Ok(local.place(whole, &new.object)?)
        }
    }
}

fn apart(new: NewInstance, why: Apart) -> NewInstance {
    NewInstance { object: key::quarantine(&new.tenant, &new.name, &new.digest), apart: Some(why), ..new }
}

const PLACING: &str = "putting an object in place";
