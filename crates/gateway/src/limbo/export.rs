//! The suite as files that another implementation can use: `limbo.json`, PEM files and a page that explains them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use access::Purpose;
use model::Timestamp;
use serde_json::{Value, json};

use super::pem::{base64, chain_pem};
use super::{Case, Expected, Mint, Profile, Vector};
use crate::pki::PkiError;

/// The form of `limbo.json`: raised when a reader of the old one would misread the new one.
const SCHEMA: u32 = 1;
const README: &str = include_str!("README.export.md");

/// Why the suite was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is something already.
    #[error("{0} is not empty: choose a new directory with --out, or remove it first")]
    NotEmpty(PathBuf),
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Mint(#[from] PkiError),
}

/// Writes these vectors, minted for that moment, into a new or empty directory: `README.md`, `limbo.json`, `deny-list.toml`,
/// `bundles/DOMAIN.pem`, `bundles/DOMAIN.crl.pem` and `vectors/ID/{chain,key}.pem`. Calls `tick` after each vector.
///
/// # Errors
/// When the directory is not empty, the disk refuses or a certificate cannot be made.
pub fn export(
    mint: &Mint,
    cases: &[Case],
    at: Timestamp,
    dir: &Path,
    mut tick: impl FnMut(),
) -> Result<(), ExportError> {
    make_dir(dir)?;
    if fs::read_dir(dir).map_err(failed(dir))?.next().is_some() {
        return Err(ExportError::NotEmpty(dir.to_owned()));
    }
    write(&dir.join("README.md"), README)?;
    write(&dir.join("deny-list.toml"), &mint.deny_list())?;
    let trust = write_bundles(mint, &dir.join("bundles"))?;

    let path = dir.join("limbo.json");
    let mut file = BufWriter::new(File::create(&path).map_err(failed(&path))?);
    let put = |file: &mut BufWriter<File>, text: &str| file.write_all(text.as_bytes()).map_err(failed(&path));
    put(&mut file, &head(mint, &trust, at))?;
    for (number, case) in cases.iter().enumerate() {
        let vector = mint.mint(case, at)?;
        write_vector(&vector, &dir.join("vectors").join(case.id()))?;
        // A line for each vector, so that one can be looked at with grep.
        put(&mut file, if number == 0 { "\n" } else { ",\n" })?;
        put(&mut file, &described(&vector).to_string())?;
        tick();
    }
    put(&mut file, "\n]}\n")?;
    file.flush().map_err(failed(&path))
}

/// Everything before the vectors.
fn head(mint: &Mint, trust: &[Value], at: Timestamp) -> String {
    let rules = Profile::Compatible.rules();
    let head = json!({
        "schema": SCHEMA,
        "generator": concat!("portcullis ", env!("CARGO_PKG_VERSION")),
        "at": at,
        "limits": {
            "max_svid_lifetime_seconds": rules.max_svid_lifetime.as_secs(),
            "min_remaining_seconds": rules.min_remaining.as_secs(),
            "not_before_skew_seconds": rules.not_before_skew.as_secs(),
        },
        "trust": trust,
        "deny_list": mint.deny_list(),
    });
    let head = head.to_string();
    let open = head.strip_suffix('}').expect("an object ends so");
    format!("{open},\"vectors\":[")
}

fn described(vector: &Vector) -> Value {
    let case = &vector.case;
    json!({
        "id": case.id(),
        "rules": case.rules(),
        "what": case.what(),
        "profile": case.profile().as_str(),
        "purpose": match case.purpose() { Purpose::Client => "client", Purpose::Server => "server" },
        "at": vector.at,
        "to_the_second": case.to_the_second(),
        "chain": vector.chain.iter().map(|der| base64(der)).collect::<Vec<_>>(),
        "key": vector.key_pem,
        "expected": match case.expected() {
            Expected::Accept(id) => json!({ "result": "accept", "spiffe_id": id }),
            Expected::Reject(codes) => {
                let codes: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
                json!({ "result": "reject", "codes": codes })
            }
        },
    })
}

/// Writes the bundles and says where they are.
fn write_bundles(mint: &Mint, dir: &Path) -> Result<Vec<Value>, ExportError> {
    make_dir(dir)?;
    let mut trust = Vec::new();
    for bundle in mint.bundles() {
        // The longest trust domain is longer than a file's name may be with its suffix.
        let stem = bundle.domain.as_str().get(..64).unwrap_or(bundle.domain.as_str()).to_owned();
        write(&dir.join(format!("{stem}.pem")), &bundle.pem)?;
        let crls = bundle.crls.as_deref();
        if let Some(crls) = crls {
            write(&dir.join(format!("{stem}.crl.pem")), crls)?;
        }
        trust.push(json!({
            "trust_domain": bundle.domain,
            "bundle": bundle.pem,
            "bundle_file": format!("bundles/{stem}.pem"),
            "crls": crls,
            "crls_file": crls.map(|_| format!("bundles/{stem}.crl.pem")),
        }));
    }
    Ok(trust)
}

fn write_vector(vector: &Vector, dir: &Path) -> Result<(), ExportError> {
    make_dir(dir)?;
    write(&dir.join("chain.pem"), &chain_pem(&vector.chain))?;
    vector.key_pem.as_ref().map_or(Ok(()), |key| write(&dir.join("key.pem"), key))
}

fn make_dir(dir: &Path) -> Result<(), ExportError> {
    fs::create_dir_all(dir).map_err(failed(dir))
}

fn write(path: &Path, text: &str) -> Result<(), ExportError> {
    fs::write(path, text).map_err(failed(path))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ExportError + use<> {
    let path = path.to_owned();
    move |source| ExportError::Io { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limbo::{accepted, refused};

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_795_363_445)
    }

    #[test]
    fn what_is_written_is_complete_and_as_the_schema_says() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let mint = Mint::new(now()).expect("keys");
        let cases = [refused(), accepted()].concat();
        let mut ticks = 0;
        export(&mint, &cases, now(), home.path(), || ticks += 1).expect("an empty directory");
        assert_eq!(ticks, cases.len());
        let text = fs::read_to_string(home.path().join("limbo.json")).expect("written");
        let suite: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(suite["vectors"].as_array().map(Vec::len), Some(cases.len()));

        let schema = include_str!("../../../../docs/schema/limbo.schema.json");
        let schema: Value = serde_json::from_str(schema).expect("JSON");
        same_keys(&suite, &schema, "the suite");
        same_keys(&suite["vectors"][0], &schema["$defs"]["vector"], "a vector");
        same_keys(&suite["trust"][0], &schema["$defs"]["trust"], "a trust domain");
        for entry in suite["trust"].as_array().expect("a list") {
            assert!(home.path().join(entry["bundle_file"].as_str().expect("text")).is_file());
        }
        for vector in suite["vectors"].as_array().expect("a list") {
            let dir = home.path().join("vectors").join(vector["id"].as_str().expect("text"));
            assert!(dir.join("chain.pem").is_file(), "{vector}");
            assert_eq!(dir.join("key.pem").is_file(), vector["key"].is_string(), "{vector}");
        }
    }

    /// The object has exactly the properties that its schema names.
    fn same_keys(object: &Value, schema: &Value, name: &str) {
        let keys = |value: &Value| value.as_object().map(|it| it.keys().cloned().collect::<Vec<_>>());
        assert_eq!(keys(object), keys(&schema["properties"]), "{name}");
    }

    #[test]
    fn a_directory_with_something_in_it_is_left_alone() {
        let home = tempfile::tempdir().expect("a temporary directory");
        fs::write(home.path().join("mine"), "").expect("ours");
        let mint = Mint::new(now()).expect("keys");
        let refused = export(&mint, &[], now(), home.path(), || ()).expect_err("it is not empty");
        assert!(refused.to_string().contains("--out"), "{refused}");
        assert_eq!(fs::read_dir(home.path()).expect("there").count(), 1);
    }
}
