//! Other people's programs: DCMTK and the Python peers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use testkit::house::House;

/// A DCMTK program.
pub(crate) fn dcmtk(program: &str) -> Command {
    let found = Command::new(program).arg("--version").output();
    assert!(found.is_ok(), "{program} is missing: run ./tests/run, which installs DCMTK");
    Command::new(program)
}

/// A script in tests/peers.
pub(crate) fn python(script: &str) -> Command {
    let python = std::env::var_os("PEERS_PYTHON");
    let python = python.expect("PEERS_PYTHON is not set: run ./tests/run, which installs pydicom and pynetdicom");
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script));
    command
}

/// Runs a command with this text on its standard input.
pub(crate) fn fed(mut command: Command, text: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let text = text.to_owned();
    // On a thread of its own: a child that fills its output before it has read everything would wait for us for ever.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("our own child can be waited for");
    // A child that ended early shows in its exit code.
    let _ = writer.join().expect("writing does not panic");
    output
}

/// `storescu` over mutual TLS to a house, as `portcullis dev` prints it; the caller adds options and files.
pub(crate) fn storescu_tls(house: &House, name: &str) -> Command {
    let files = house.cert(name);
    let mut command = dcmtk("storescu");
    command.arg("+tls").args([&files.key, &files.cert]).arg("+cf").arg(house.ca("gateway.invalid"));
    command
}

/// One path a line.
pub(crate) fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("{}\n", path.display())).collect()
}
