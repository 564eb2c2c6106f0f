use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::*;
use crate::pki;
use crate::workload::PATIENCE;

const GATEWAY: &str = r#"
    [identity]
    chain = "certs/receiver.pem"
    key = "certs/receiver.key"
    [[trust]]
    domain = "hospital-a.invalid"
    bundle = "certs/hospital-a.invalid/ca.pem"
    [access]
    table = "access.toml"
    poll = "20ms"
    [archive]
    dir = "."
    [audit]
    file = "audit.jsonl"
"#;

/// A gateway's own files in a directory that goes with it.
struct Home {
    dir: tempfile::TempDir,
    config: Config,
    live: Live,
    watcher: Watcher,
    audit: AuditLog,
}

impl Home {
    async fn with(more: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        pki::ensure(&dir.path().join("certs"), SystemTime::now()).expect("it is writable");
        fs::write(dir.path().join("access.toml"), "revision = 1\n").expect("it is writable");
        fs::write(dir.path().join("gateway.toml"), format!("{more}{GATEWAY}")).expect("it is writable");
        prepare(dir.path());
        let config = Config::load(&dir.path().join("gateway.toml"), std::iter::empty()).expect("valid");
        let (live, watcher) = load(&config, PATIENCE).await.expect("everything is there");
        let (audit, _) = AuditLog::open(&dir.path().join("audit.jsonl")).expect("it is writable");
        Self { dir, config, live, watcher, audit }
    }

    async fn new() -> Self {
        Self::with("", |_| ()).await
    }

    fn look(&mut self) {
        self.watcher.look(&self.live, &self.config, &self.audit);
    }

    fn write(&self, file: &str, content: &str) {
        fs::write(self.dir.path().join(file), content).expect("it is writable");
    }

    /// Whether the last look left this source unread.
    fn failed(&self, source: Source) -> bool {
        self.watcher.reported.contains_key(source.as_str())
    }

    fn revision(&self) -> u64 {
        self.live.table().revision()
    }
}

#[tokio::test]
async fn a_bundle_that_changes_while_the_gateway_starts_is_seen() {
    let mut home = Home::new().await;
    let before = home.live.trust();
    // Between reading everything and the first look for changes.
    fs::remove_dir_all(home.dir.path().join("certs/hospital-a.invalid")).expect("it is there");
    pki::ensure(&home.dir.path().join("certs"), SystemTime::now()).expect("it is writable");
    home.look();
    assert!(!Arc::ptr_eq(&before, &home.live.trust()), "the new bundle is in force");
}

#[tokio::test]
async fn a_table_that_cannot_be_used_leaves_the_old_one_in_force_and_grows_stale() {
    let mut home = Home::new().await;
    for (name, text) in [
        ("not TOML", "revision = "),
        ("unknown column", "revision = 2\n[[row]]\nid = \"a\"\ncolour = \"red\""),
        ("an older revision", "revision = 0"),
    ] {
        home.write("access.toml", text);
        home.look();
        assert!(home.failed(Source::Table), "{name}");
        assert_eq!(home.revision(), 1, "{name}");
    }
    let seen = home.live.freshness().age(Source::Table, Instant::now() + home.config.access.max_staleness);
    assert!(seen >= home.config.access.max_staleness, "nothing that failed counts as seen");
    let late = Instant::now() + home.config.access.max_staleness + Duration::from_secs(1);
    assert_eq!(home.live.freshness().still_fresh(late).expect_err("stale").code, access::DenialCode::PolicyStale);
    home.write("access.toml", "revision = 2");
    home.look();
    assert!(!home.failed(Source::Table));
    assert_eq!(home.revision(), 2);
}

#[tokio::test]
async fn trust_that_cannot_be_used_leaves_the_old_set_in_force() {
    let mut home = Home::new().await;
    let before = home.live.trust();
    let bundle = "certs/hospital-a.invalid/ca.pem";
    let good = fs::read_to_string(home.dir.path().join(bundle)).expect("it is there");
    for (name, text) in [("empty", ""), ("no PEM", "-----BEGIN"), ("a private key", "-----BEGIN PRIVATE KEY-----\n")] {
        home.write(bundle, text);
        home.look();
        assert!(home.failed(Source::Certificates), "{name}");
        assert!(Arc::ptr_eq(&before, &home.live.trust()), "{name}");
    }
    home.write(bundle, &good);
    home.look();
    assert!(!home.failed(Source::Certificates));
}

#[tokio::test]
async fn a_spiffe_bundle_never_goes_back_to_an_older_sequence() {
    const NUMBERED: fn(u32) -> String = |sequence| format!("{{\"keys\": [], \"spiffe_sequence\": {sequence}}}");
    let bundle = "certs/hospital-a.invalid/ca.pem";
    let mut home = Home::with("", |dir| fs::write(dir.join(bundle), NUMBERED(7)).expect("it is writable")).await;
    for (sequence, refused) in [(6, true), (8, false), (7, true)] {
        home.write(bundle, &NUMBERED(sequence));
        home.look();
        assert_eq!(home.failed(Source::Certificates), refused, "{sequence}");
    }
}

#[tokio::test]
async fn the_strict_profile_wants_the_revision_raised_with_every_change() {
    for (profile, refused) in [("", false), ("profile = \"strict\"\n", true)] {
        let mut home = Home::with(profile, |_| ()).await;
        home.write("access.toml", "# Changed.\nrevision = 1\n");
        home.look();
        assert_eq!(home.failed(Source::Table), refused, "{profile:?}");
    }
}

#[tokio::test]
async fn a_signed_table_is_taken_only_with_its_signature() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let openssl = |args: &[&str]| {
        let output = std::process::Command::new("openssl").current_dir(dir.path()).args(args).output();
        assert!(output.expect("openssl is there").status.success(), "{args:?}");
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "table.key"]);
    openssl(&["pkey", "-in", "table.key", "-pubout", "-out", "table.pub"]);
    let sign = |text: &str| {
        fs::write(dir.path().join("t"), text).expect("it is writable");
        openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", "table.key", "-in", "t", "-out", "t.sig"]);
        fs::read(dir.path().join("t.sig")).expect("it was written")
    };
    let mut home = Home::with("", |home| {
        let config = GATEWAY.replace("poll =", "verify_key = \"table.pub\"\npoll =");
        fs::write(home.join("gateway.toml"), config).expect("it is writable");
        fs::copy(dir.path().join("table.pub"), home.join("table.pub")).expect("it is writable");
        fs::write(home.join("access.toml.sig"), sign("revision = 1\n")).expect("it is writable");
    })
    .await;
    home.write("access.toml", "revision = 2\n");
    home.look();
    assert!(home.failed(Source::Table), "the signature is of another text");
    assert_eq!(home.revision(), 1);
    fs::write(home.dir.path().join("access.toml.sig"), sign("revision = 2\n")).expect("it is writable");
    home.look();
    assert!(!home.failed(Source::Table), "a signature that is put right is seen too");
    assert_eq!(home.revision(), 2);
    fs::remove_file(home.dir.path().join("access.toml.sig")).expect("it is there");
    home.look();
    assert!(home.failed(Source::Table), "without a signature");
}

#[tokio::test]
async fn a_shadow_table_that_cannot_be_used_keeps_no_change_of_the_table_from_coming_into_force() {
    let mut home = Home::with("", |home| {
        let config = GATEWAY.replace("poll =", "shadow = \"next.toml\"\npoll =");
        fs::write(home.join("gateway.toml"), config).expect("it is writable");
        fs::write(home.join("next.toml"), "revision = 1\n").expect("it is writable");
    })
    .await;
    home.write("next.toml", "revision = ");
    home.write("access.toml", "revision = 2\nkill_switch = true\n");
    home.look();
    assert!(home.live.table().is_killed(), "what decides nothing holds up no withdrawal");
    assert!(!home.failed(Source::Table), "nor does the table grow stale by it");
    assert!(home.watcher.reported.contains_key("shadow table"), "and it is told");
    assert!(home.live.registry.in_force().shadow.is_some(), "the shadow of before goes on");
    home.write("next.toml", "revision = 2\n");
    home.look();
    assert!(!home.watcher.reported.contains_key("shadow table"));
    let revision = home.live.registry.in_force().shadow.as_ref().map(|shadow| shadow.revision());
    assert_eq!(revision, Some(2));
}

#[tokio::test]
async fn an_audit_log_that_takes_nothing_holds_up_no_withdrawal() {
    let mut home = Home::new().await;
    let (stuck, _kept) = AuditLog::stuck();
    home.audit = stuck;
    for (revision, text) in [(2, "revision = 2\n"), (0, "revision = "), (3, "revision = 3\nkill_switch = true\n")] {
        home.write("access.toml", text);
        home.look();
        assert_eq!(home.failed(Source::Table), revision == 0, "revision {revision}");
    }
    assert!(home.live.table().is_killed());
}

#[test]
fn a_change_of_the_table_is_told_in_a_line_of_bounded_length() {
    let row = |number: usize| {
        format!(
            "[[row]]\nid = \"row-{number}\"\neffect = \"allow\"\nidentity = \"spiffe://a.invalid/{number}\"\ntenant = \"a\"\n"
        )
    };
    let table = |head: &str, rows: usize| {
        let rows: String = (0..rows).map(row).collect();
        Table::parse(&format!("{head}{rows}")).expect("valid")
    };
    let told = differences(&table("revision = 1\n", 0), &table("revision = 2\n", 500));
    assert!(told.starts_with("revision: 1 → 2, added: [row-0, row-1, "), "{told}");
    assert!(told.contains("and 450 more"), "{told}");
    let quota = "[[tenant]]\nname = \"a\"\nmax_associations = 1\n";
    let (before, after) = (table("revision = 2\n", 1), table(&format!("revision = 3\n{quota}"), 1));
    assert!(differences(&before, &after).contains("tenants: [a]"), "{}", differences(&before, &after));
}

#[tokio::test]
async fn a_table_that_others_can_write_is_warned_about_and_refused_by_the_strict_profile() {
    let home = Home::new().await;
    let table = &home.config.access.table;
    for (mode, open) in [(0o600, false), (0o644, false), (0o444, false), (0o664, true), (0o602, true)] {
        fs::set_permissions(table, fs::Permissions::from_mode(mode)).expect("ours");
        let told = open_to_others(&home.config);
        assert_eq!(told.is_some(), open, "{mode:o}");
        assert!(told.is_none_or(|told| told.contains("chmod go-w")), "{mode:o}");
        let strict = Config { profile: Profile::Strict, ..home.config.clone() };
        let parsed = TableText::read(&strict, table).and_then(|text| text.parse(&strict).map(drop));
        assert_eq!(parsed.is_err(), open, "{mode:o}: {parsed:?}");
        let text = TableText::read(&home.config, table).expect("it is there");
        assert!(text.parse(&home.config).is_ok(), "{mode:o}, by the baseline");
    }
}
