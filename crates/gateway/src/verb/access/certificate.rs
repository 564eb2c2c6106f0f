//! A certificate file as the caller of a question, judged by the V rules.

use std::path::{Path, PathBuf};

use access::{Caller, Finding, Outcome, Purpose, RejectionCode, Rules, Strictness, TrustBundles};
use anyhow::Context as _;
use model::{SpiffeId, Timestamp, TrustDomain};

use super::asked::Tls;
use crate::config::{Config, RuleSet};
use crate::verb::certs::facts::Facts;
use crate::verb::certs::{claimed, read_bundles, read_certificates};

/// A certificate, what it claims and what the rules say about it.
pub(super) struct Presented {
    pub(super) file: PathBuf,
    id: Option<SpiffeId>,
    facts: Facts,
    findings: Vec<Finding>,
}

/// By what a certificate is judged.
pub(super) struct Judge {
    rules: Rules,
    bundles: Option<TrustBundles>,
    /// Domains whose roots only the SPIFFE agent knows.
    of_agent: Vec<TrustDomain>,
    ca: Vec<PathBuf>,
}

impl Judge {
    /// With the rules and bundles of a configuration, with these bundle files, or with the rules alone.
    pub(super) fn new(config: Option<&Config>, ca: &[PathBuf]) -> anyhow::Result<Self> {
        let rules = config.map(rules).unwrap_or_default();
        let bundles = config.filter(|_| ca.is_empty()).map(bundles).transpose()?;
        let trusted = config.iter().flat_map(|config| &config.trust);
        let of_agent = trusted.filter(|trusted| trusted.bundle.is_none()).map(|trusted| trusted.domain.clone());
        Ok(Self { rules, bundles, of_agent: of_agent.collect(), ca: ca.to_vec() })
    }

    pub(super) fn judge(&self, file: &Path, now: Timestamp) -> anyhow::Result<Presented> {
        let chain = read_certificates(file)?;
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        let id = claimed(&chain, &self.rules, now, Purpose::Client);
        let named = read_bundles(&self.ca, id.as_ref())?;
        let unknown = id.as_ref().is_some_and(|id| self.of_agent.contains(id.trust_domain()));
        let bundles = named.as_ref().or(self.bundles.as_ref().filter(|_| !unknown));
        let findings = access::explain(&chain, bundles, &self.rules, now, Purpose::Client);
        Ok(Presented { file: file.to_owned(), facts: Facts::read(chain[0], id.clone()), id, findings })
    }
}

impl Presented {
    /// The caller that it would make; `None` when it names nobody.
    pub(super) fn caller(&self, tls: Tls, now: Timestamp) -> Option<Caller> {
        let Facts { not_before, not_after, .. } = &self.facts;
        let (not_before, not_after) = (not_before.unwrap_or(now), not_after.unwrap_or(now));
        Some(Caller { id: self.id.clone()?, not_before, not_after, tls13: tls == Tls::Tls13 })
    }

    /// The first rule that it breaks: its number, its code, and why.
    pub(super) fn broken(&self) -> Option<(&'static str, &'static str, &str)> {
        self.findings.iter().find_map(|finding| match &finding.outcome {
            Outcome::Broken(why) => Some((finding.rule, code(finding.rule, why), why.as_str())),
            _ => None,
        })
    }

    /// The rules that could not be asked, and why not.
    pub(super) fn not_judged(&self) -> Vec<String> {
        let why = |finding: &Finding| match &finding.outcome {
            Outcome::NotJudged(why) => Some(format!("{}: {why}", finding.rule)),
            _ => None,
        };
        self.findings.iter().filter_map(why).collect()
    }
}

/// The reason code that goes with a finding: of the rule's codes the one with this sentence.
fn code(rule: &str, why: &str) -> &'static str {
    let mut of_rule = RejectionCode::ALL.iter().filter(|code| code.rule() == rule);
    let first = of_rule.clone().next();
    of_rule.find(|code| code.sentence() == why).or(first).map_or("certificate", |code| code.as_str())
}

fn rules(config: &Config) -> Rules {
    let strictness = match config.rules() {
        RuleSet::Compatible => Strictness::Compatible,
        RuleSet::Strict => Strictness::Strict,
    };
    Rules { max_svid_lifetime: config.identity.max_svid_lifetime, strictness, ..Rules::default() }
}

/// The trust bundles of a configuration, as far as they are files; without our own key, which whoever explains need not be
/// able to read.
fn bundles(config: &Config) -> anyhow::Result<TrustBundles> {
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (mut roots, mut lists) = (Vec::new(), Vec::new());
    for trusted in &config.trust {
        let Some(bundle) = &trusted.bundle else { continue };
        roots.push((trusted.domain.clone(), read(bundle)?));
        for path in &trusted.crls {
            lists.push((trusted.domain.clone(), read(path)?));
        }
    }
    let bundles = TrustBundles::new(roots.iter().map(|(domain, bytes)| (domain.clone(), bytes.as_slice())))
        .and_then(|bundles| bundles.with_crls(lists.iter().map(|(domain, bytes)| (domain.clone(), bytes.as_slice()))))
        .context("[[trust]]")?;
    match &config.access.deny_list {
        None => Ok(bundles),
        Some(path) => {
            let list = access::DenyList::parse(&super::text_of(path)?).with_context(|| path.display().to_string())?;
            Ok(bundles.with_deny_list(list))
        }
    }
}
