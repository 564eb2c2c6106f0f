use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use study::Event;

use crate::Failure;
use crate::objects::{blocking, private_file, sync};

/// Events as lines of JSON in a file, for whoever follows it. A line may come twice, with the same `id`.
#[derive(Debug)]
pub struct EventLog(Arc<File>);

impl EventLog {
    /// Opens or makes the file, readable by our user only. A line that a power cut left unfinished is ended, so that
    /// it spoils nothing but itself; its event is still in the outbox and comes again.
    ///
    /// # Errors
    /// When the file cannot be opened, read or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = private_file().read(true).append(true).open(path)?;
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        file.sync_all()?;
        // A bare file name has an empty parent, which means the current directory.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync(parent.unwrap_or(Path::new(".")))?;
        Ok(Self(Arc::new(file)))
    }

    /// Appends one line for each event and syncs once.
    pub(crate) async fn append(&mut self, events: &[Event]) -> Result<(), Failure> {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event).expect("an event has only text and numbers");
            lines.push(b'\n');
        }
        let file = self.0.clone();
        let write = move || (&*file).write_all(&lines).and_then(|()| file.sync_data());
        blocking("writing the event log", move || write().map_err(Failure::away("writing the event log"))).await
    }
}
