//! Where our dependencies come from: `.ci/supply` says it of this repository, and here it is shown that it would say otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::said;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The manifests and the lock file, changed.
fn changed(file: &str, edit: impl FnOnce(String) -> String) -> Output {
    let copy = tempfile::tempdir().expect("a temporary directory");
    let crates = fs::read_dir(repository().join("crates")).expect("our crates").flatten();
    let manifests = crates.map(|entry| format!("crates/{}/Cargo.toml", entry.file_name().display()));
    let others = ["Cargo.toml", "Cargo.lock", "tests/Cargo.toml", "tests/peers/requirements.txt"].map(str::to_owned);
    for name in manifests.chain(others) {
        let to = copy.path().join(&name);
        fs::create_dir_all(to.parent().expect("it is below")).expect("ours");
        fs::copy(repository().join(name), to).expect("ours");
    }
    let path = copy.path().join(file);
    let text = fs::read_to_string(&path).unwrap_or_default();
    fs::create_dir_all(path.parent().expect("it is below")).and_then(|()| fs::write(&path, edit(text))).expect("ours");
    check(copy.path())
}

fn check(dir: &Path) -> Output {
    Command::new(repository().join(".ci/supply")).arg(dir).output().expect("the script starts")
}

#[test]
fn every_dependency_comes_from_the_registry_with_its_checksum_and_anything_else_is_found() {
    let output = check(&repository());
    assert!(output.status.success(), "{}", said(&output));
    assert!(changed("Cargo.lock", |text| text).status.success(), "the control");
    let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    type Edit = Box<dyn FnOnce(String) -> String>;
    let replace = |from: &'static str, to: &'static str| -> Edit {
        Box::new(move |text| {
            assert!(text.contains(from), "{from} is there");
            text.replacen(from, to, 1)
        })
    };
    let add = |what: &'static str| -> Edit { Box::new(move |text| text + what) };
    let cases: Vec<(&str, &str, Edit)> = vec![
        (
            "another registry",
            "Cargo.lock",
            replace(registry, "source = \"registry+https://crates.evil.example/index\""),
        ),
        ("a repository", "Cargo.lock", replace(registry, "source = \"git+https://evil.example/x#0123\"")),
        ("a source that was left out", "Cargo.lock", replace(registry, "")),
        ("a checksum that is none", "Cargo.lock", replace("checksum = \"", "checksum = \"x")),
        ("a checksum that was left out", "Cargo.lock", replace("checksum = ", "# ")),
        ("a git dependency", "Cargo.toml", replace("bytes = \"1.12\"", "bytes = { git = \"https://evil.example/x\" }")),
        ("a path outside", "Cargo.toml", replace("path = \"crates/model\"", "path = \"../model\"")),
        ("an absolute path", "crates/model/Cargo.toml", add("\n[dependencies.x]\npath = \"/x\"\n")),
        ("a patch", "Cargo.toml", add("\n[patch.crates-io]\nbytes = { path = \"crates/bytes\" }\n")),
        (
            "another index",
            "Cargo.toml",
            replace("bytes = \"1.12\"", "bytes = { version = \"1\", registry = \"evil\" }"),
        ),
        ("a replaced source", ".cargo/config.toml", add("[source.crates-io]\nreplace-with = \"evil\"\n")),
        ("a build script of ours", "crates/model/build.rs", add("fn main() {}\n")),
        ("a peer of any version", "tests/peers/requirements.txt", add("requests\n")),
    ];
    for (name, file, edit) in cases {
        let output = changed(file, edit);
        assert!(!output.status.success(), "{name}: {}", said(&output));
    }
}
