//! The mutations: each breaks one rule in one way, and nothing else. A pair of them makes a vector of `pairs`.

use access::RejectionCode::{self, *};

use super::Profile::{self, Compatible, Strict};
use super::certificate::{
    ANY_PURPOSE, BASIC_CONSTRAINTS, CLIENT_AUTH, CODE_SIGNING, CRL_SIGN, DIGITAL_SIGNATURE, EXTENDED_KEY_USAGE,
    Extension, KEY_AGREEMENT, KEY_CERT_SIGN, KEY_ENCIPHERMENT, KEY_USAGE, NAME_CONSTRAINTS, NON_REPUDIATION, OF_NOBODY,
    SERVER_AUTH, SUBJECT_ALT_NAME, dns_name, key_usage, mail_name, name, names, purposes, uri_name,
};
use super::der::{CONTEXT, boolean, element, integer, octets, sequence};
use super::keys::{Key, Kind, algorithm, ed448, rsa_1024, secp256k1};
use super::recipe::{HOUR, Recipe, Root, WORKLOAD};
use super::revocation::{DENIED, denied_serial, revoked_issuer, revoked_leaf};

/// The part of a recipe that a mutation changes. Two mutations of the same part do not combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// What is shown at all.
    Everything,
    /// The finished bytes of the leaf.
    Bytes,
    Version,
    Serial,
    Names,
    Basic,
    Usage,
    Purposes,
    /// An extension that is no other slot's.
    Further,
    Validity,
    LeafKey,
    /// The leaf's signature.
    Signature,
    /// Who stands at the top.
    Top,
    /// Which authorities are shown, and in which order.
    Chain,
    IssuerBasic,
    IssuerUsage,
    IssuerNames,
    IssuerConstraints,
    IssuerFurther,
    IssuerValidity,
    IssuerKey,
    IssuerSignature,
}

/// One way to break one rule.
pub(super) struct Mutation {
    /// `V-04/none`: the number in two digits, so that a list of files is in order.
    pub(super) id: &'static str,
    pub(super) rules: &'static [&'static str],
    pub(super) slots: &'static [Slot],
    pub(super) profile: Profile,
    /// The code that is right, then those that another verifier may find first.
    pub(super) codes: &'static [RejectionCode],
    /// A sentence without its full stop.
    pub(super) what: &'static str,
    /// True only at the very second for which it was made.
    pub(super) to_the_second: bool,
    pub(super) edit: fn(&mut Recipe),
}

const fn mutation(
    id: &'static str,
    rules: &'static [&'static str],
    slots: &'static [Slot],
    codes: &'static [RejectionCode],
    what: &'static str,
    edit: fn(&mut Recipe),
) -> Mutation {
    Mutation { id, rules, slots, profile: Compatible, codes, what, to_the_second: false, edit }
}

impl Mutation {
    const fn strict(self) -> Self {
        Self { profile: Strict, ..self }
    }

    const fn at_the_second(self) -> Self {
        Self { to_the_second: true, ..self }
    }
}

/// An identity that another sender owns.
const ANOTHER: &str = "spiffe://other.invalid/svid/ct1";

macro_rules! mutations {
    ($($id:literal $rules:tt $slots:tt $codes:tt $what:literal $edit:expr $(, $modifier:ident)?;)*) => {
        &[$(mutation($id, &$rules, {use Slot::*; &$slots}, &$codes, $what, $edit)$(.$modifier())?,)*]
    };
}

/// Every single mutation, in the order of the rules.
pub(super) const ALL: &[Mutation] = mutations! {
    "V-01/no-certificate" ["V-1"] [Everything] [NoClientCert]
        "No certificate is shown" |r| r.arrange = Some(|_| Vec::new());
    "V-02/nine-certificates" ["V-2"] [Chain] [ChainTooLarge]
        "A leaf and eight intermediates, each good" |r| r.deepen(8);
    "V-02/eighty-kilobytes" ["V-2"] [IssuerFurther] [ChainTooLarge]
        "An intermediate has a non-critical extension of 80 KB" |r| {
            let large = Extension::new(OF_NOBODY, false, octets(&[0; 80_000]));
            r.issuer().extensions.push(large);
        };

    "V-03/empty" ["V-3"] [Bytes] [LeafMalformed] "The leaf has no bytes" |r| r.leaf.mangle = Some(|_| Vec::new());
    "V-03/not-a-certificate" ["V-3"] [Bytes] [LeafMalformed]
        "The leaf is a NULL" |r| r.leaf.mangle = Some(|_| vec![5, 0]);
    "V-03/cut-off" ["V-3"] [Bytes] [LeafMalformed]
        "The last byte of the leaf is missing" |r| r.leaf.mangle = Some(|der| der[..der.len() - 1].to_vec());
    "V-03/trailing-byte" ["V-3"] [Bytes] [LeafMalformed]
        "A byte follows the leaf" |r| r.leaf.mangle = Some(|der| [der.as_slice(), &[0]].concat());
    "V-03/indefinite-length" ["V-3"] [Bytes] [LeafMalformed]
        "The leaf is BER with an indefinite length" |r| r.leaf.mangle = Some(|der| {
            [&[0x30, 0x80], &der[4..], &[0, 0]].concat()
        });
    "V-03/longer-length-than-needed" ["V-3"] [Bytes] [LeafMalformed]
        "The length of the leaf is written in three bytes where two do" |r| r.leaf.mangle = Some(|der| {
            [&[0x30, 0x83, 0], &der[2..]].concat()
        });
    "V-03/version-1" ["V-3"] [Version] [LeafMalformed]
        "The leaf says version 1 and has extensions" |r| r.leaf.version = None;
    "V-03/version-2" ["V-3"] [Version] [LeafMalformed] "The leaf says version 2" |r| r.leaf.version = Some(1);
    "V-03/version-4" ["V-3"] [Version] [LeafMalformed]
        "The leaf says version 4, which there is not" |r| r.leaf.version = Some(3);
    "V-03/serial-empty" ["V-3"] [Serial] [LeafMalformed]
        "The serial number is an INTEGER without content" |r| r.leaf.serial = Vec::new();
    "V-03/serial-with-needless-zero" ["V-3"] [Serial] [LeafMalformed]
        "The serial number begins with a zero octet that DER forbids (X.690 §8.3.2)" |r| r.leaf.serial = vec![0, 0x55];
    "V-03/serial-of-21-octets" ["V-3"] [Serial] [LeafMalformed]
        "The serial number has 21 octets; RFC 5280 §4.1.2.2 allows 20" |r| r.leaf.serial = vec![0x55; 21];
    "V-03/serial-too-long" ["V-3"] [Serial] [LeafMalformed]
        "The serial number has 22 octets; RFC 5280 §4.1.2.2 allows 20" |r| r.leaf.serial = vec![0x55; 22];
    "V-03/unknown-critical-extension" ["V-3"] [Further] [LeafMalformed]
        "The leaf has a critical extension that nobody knows"
        |r| r.leaf.extensions.push(Extension::new(OF_NOBODY, true, vec![5, 0]));
    "V-03/critical-written-as-false" ["V-3"] [Further] [LeafMalformed]
        "An extension has critical FALSE written out, which DER leaves out (X.690 §11.5)"
        |r| r.leaf.extensions.push(Extension { oid: OF_NOBODY, critical: Some(0), value: vec![5, 0] });
    "V-03/critical-is-one" ["V-3"] [Further] [LeafMalformed]
        "An extension is critical by a BOOLEAN of 1, which is TRUE in BER and nothing in DER (X.690 §11.1)"
        |r| r.leaf.extensions.push(Extension { oid: OF_NOBODY, critical: Some(1), value: vec![5, 0] });
    "V-03/duplicate-extension" ["V-3"] [Further] [LeafMalformed]
        "The leaf has an extension twice" |r| for _ in 0..2 {
            r.leaf.extensions.push(Extension::new(OF_NOBODY, false, vec![5, 0]));
        };
    "V-03/duplicate-names" ["V-3"] [Names] [LeafMalformed, UriSanCount]
        "The subject alternative name comes twice, with one URI each" |r| {
            let value = names(&[uri_name(ANOTHER.as_bytes())]);
            r.leaf.extensions.push(Extension::new(SUBJECT_ALT_NAME, false, value));
        };
    "V-03/duplicate-key-usage" ["V-3"] [Usage] [LeafMalformed, KuSigning]
        "Key usage comes twice, the second time with keyCertSign" |r| {
            let value = key_usage(DIGITAL_SIGNATURE | KEY_CERT_SIGN);
            r.leaf.extensions.push(Extension::new(KEY_USAGE, true, value));
        };
    "V-03/byte-behind-basic-constraints" ["V-3"] [Basic] [LeafMalformed]
        "A byte follows the value of basic constraints inside the extension" |r| r.leaf.trail(BASIC_CONSTRAINTS);
    "V-03/byte-behind-key-usage" ["V-3"] [Usage] [LeafMalformed]
        "A byte follows the value of key usage inside the extension" |r| r.leaf.trail(KEY_USAGE);
    "V-03/byte-behind-extended-key-usage" ["V-3"] [Purposes] [LeafMalformed]
        "A byte follows the value of extended key usage inside the extension" |r| r.leaf.trail(EXTENDED_KEY_USAGE);
    "V-03/byte-behind-names" ["V-3"] [Names] [LeafMalformed]
        "A byte follows the names inside the extension" |r| r.leaf.trail(SUBJECT_ALT_NAME);
    "V-03/constructed-uri" ["V-3", "V-4"] [Names] [LeafMalformed, UriSanCount]
        "The URI name is in constructed form, which BER would take for the same" |r| {
            r.leaf.name_it(&[element(0xA6, &element(0x16, WORKLOAD.as_bytes()))]);
        };

    "V-04/none" ["V-4"] [Names] [UriSanCount]
        "There is no subject alternative name" |r| r.leaf.unset(SUBJECT_ALT_NAME);
    "V-04/two-spiffe-ids" ["V-4"] [Names] [UriSanCount]
        "Two SPIFFE IDs, the second of another tenant" |r| {
            r.leaf.name_it(&[uri_name(WORKLOAD.as_bytes()), uri_name(ANOTHER.as_bytes())]);
        };
    "V-04/two-spiffe-ids-swapped" ["V-4"] [Names] [UriSanCount]
        "Two SPIFFE IDs, the first of another tenant" |r| {
            r.leaf.name_it(&[uri_name(ANOTHER.as_bytes()), uri_name(WORKLOAD.as_bytes())]);
        };
    "V-04/same-twice" ["V-4"] [Names] [UriSanCount]
        "The same SPIFFE ID twice" |r| r.leaf.name_it(&[uri_name(WORKLOAD.as_bytes()), uri_name(WORKLOAD.as_bytes())]);
    "V-04/three" ["V-4"] [Names] [UriSanCount]
        "Three SPIFFE IDs" |r| r.leaf.name_it(&["1", "2", "3"].map(|n| uri_name(format!("{WORKLOAD}{n}").as_bytes())));
    "V-04/second-is-https" ["V-4"] [Names] [UriSanCount]
        "A SPIFFE ID, then a web address" |r| {
            r.leaf.name_it(&[uri_name(WORKLOAD.as_bytes()), uri_name(b"https://limbo.invalid/")]);
        };
    "V-04/first-is-https" ["V-4"] [Names] [UriSanCount]
        "A web address, then a SPIFFE ID" |r| {
            r.leaf.name_it(&[uri_name(b"https://limbo.invalid/"), uri_name(WORKLOAD.as_bytes())]);
        };
    "V-04/second-is-oversized" ["V-4"] [Names] [UriSanCount]
        "A SPIFFE ID, then one of 3000 bytes, which a parser might drop" |r| {
            let long = format!("{WORKLOAD}/{}", "x".repeat(3000));
            r.leaf.name_it(&[uri_name(WORKLOAD.as_bytes()), uri_name(long.as_bytes())]);
        };
    "V-04/second-is-garbage" ["V-4"] [Names] [UriSanCount]
        "A SPIFFE ID, then a URI name that is not text, which a parser might drop" |r| {
            r.leaf.name_it(&[uri_name(WORKLOAD.as_bytes()), uri_name(&[0xFF, 0xFE, 0])]);
        };
    "V-04/second-is-empty" ["V-4"] [Names] [UriSanCount]
        "A SPIFFE ID, then an empty URI name" |r| r.leaf.name_it(&[uri_name(WORKLOAD.as_bytes()), uri_name(b"")]);
    "V-04/far-apart" ["V-4"] [Names] [UriSanCount]
        "Two SPIFFE IDs with other names before, between and behind" |r| r.leaf.name_it(&[
            dns_name("ct1.limbo.invalid"), uri_name(WORKLOAD.as_bytes()), mail_name("a@limbo.invalid"),
            uri_name(ANOTHER.as_bytes()), dns_name("ct2.limbo.invalid"),
        ]);

    "V-05/2049-bytes" ["V-5"] [Names] [IdTooLong]
        "The SPIFFE ID has one byte more than 2048" |r| r.identify(&of_length(2049));
    "V-05/not-ascii" ["V-5"] [Names] [IdTooLong, PathSyntax]
        "The SPIFFE ID has an umlaut" |r| r.identify("spiffe://limbo.invalid/svid/r\u{f6}ntgen");
    "V-05/not-text" ["V-5"] [Names] [IdTooLong, LeafMalformed]
        "The URI name is not even UTF-8" |r| r.leaf.name_it(&[uri_name(b"spiffe://limbo.invalid/svid/\xFF")]);

    "V-06/https" ["V-6"] [Names] [IdScheme] "A web address" |r| r.identify("https://limbo.invalid/svid/ct1");
    "V-06/upper-case" ["V-6"] [Names] [IdScheme] "The scheme is SPIFFE" |r| r.identify("SPIFFE://limbo.invalid/svid/ct1");
    "V-06/one-slash" ["V-6"] [Names] [IdScheme, IdSyntax]
        "One slash after the scheme" |r| r.identify("spiffe:/limbo.invalid/svid/ct1");
    "V-06/no-scheme" ["V-6"] [Names] [IdScheme] "No scheme" |r| r.identify("limbo.invalid/svid/ct1");
    "V-06/empty" ["V-6"] [Names] [IdScheme] "The URI name is empty" |r| r.identify("");
    "V-06/space-before" ["V-6"] [Names] [IdScheme] "A space before the scheme" |r| r.identify(&format!(" {WORKLOAD}"));
    "V-07/query" ["V-7"] [Names] [IdSyntax] "A query" |r| r.identify(&format!("{WORKLOAD}?tenant=b"));
    "V-07/empty-query" ["V-7"] [Names] [IdSyntax] "An empty query" |r| r.identify(&format!("{WORKLOAD}?"));
    "V-07/fragment" ["V-7"] [Names] [IdSyntax] "A fragment" |r| r.identify(&format!("{WORKLOAD}#b"));
    "V-08/user" ["V-8"] [Names] [IdSyntax] "User information" |r| r.identify("spiffe://me@limbo.invalid/svid/ct1");
    "V-08/port" ["V-8"] [Names] [IdSyntax] "A port" |r| r.identify("spiffe://limbo.invalid:443/svid/ct1");
    "V-08/empty-port" ["V-8"] [Names] [IdSyntax] "A colon without a port" |r| r.identify("spiffe://limbo.invalid:/svid/ct1");
    "V-08/no-host" ["V-8"] [Names] [IdSyntax] "No trust domain" |r| r.identify("spiffe:///svid/ct1");
    "V-08/ip-literal" ["V-8"] [Names] [IdSyntax, TdSyntax] "An IPv6 address" |r| r.identify("spiffe://[::1]/svid/ct1");
    "V-09/upper-case" ["V-9"] [Names] [TdSyntax]
        "The trust domain is in upper case: refused, not folded" |r| r.identify("spiffe://LIMBO.invalid/svid/ct1");
    "V-09/percent" ["V-9"] [Names] [TdSyntax]
        "The dot of the trust domain is percent-encoded" |r| r.identify("spiffe://limbo%2Einvalid/svid/ct1");
    "V-09/256-bytes" ["V-9"] [Names] [TdSyntax]
        "The trust domain has one byte more than 255"
        |r| r.identify(&format!("spiffe://a{}/svid/ct1", super::recipe::longest_domain()));
    "V-09/tilde" ["V-9"] [Names] [TdSyntax] "The trust domain has a tilde" |r| r.identify("spiffe://~limbo.invalid/svid/ct1");
    "V-09/nul" ["V-9"] [Names] [TdSyntax, LeafMalformed]
        "A NUL ends the trust domain for whoever reads it as a C string"
        |r| r.identify("spiffe://limbo.invalid\0.stranger.invalid/svid/ct1");
    "V-10/no-path" ["V-10"] [Names] [IdNoPath]
        "The ID of the trust domain itself" |r| r.identify("spiffe://limbo.invalid");
    "V-10/slash" ["V-10"] [Names] [IdNoPath] "The path is a slash" |r| r.identify("spiffe://limbo.invalid/");
    "V-11/trailing-slash" ["V-11"] [Names] [PathSyntax] "The path ends with a slash" |r| r.identify(&format!("{WORKLOAD}/"));
    "V-11/empty-segment" ["V-11"] [Names] [PathSyntax] "An empty segment" |r| r.identify("spiffe://limbo.invalid/svid//ct1");
    "V-11/empty-first-segment" ["V-11"] [Names] [PathSyntax] "The path begins with two slashes" |r| r.identify("spiffe://limbo.invalid//svid/ct1");
    "V-11/dot" ["V-11"] [Names] [PathSyntax] "A segment is a dot" |r| r.identify("spiffe://limbo.invalid/svid/./ct1");
    "V-11/dot-dot" ["V-11"] [Names] [PathSyntax] "A segment is two dots" |r| r.identify("spiffe://limbo.invalid/other/../svid/ct1");
    "V-11/encoded-dots" ["V-11"] [Names] [PathSyntax]
        "A segment is two dots, percent-encoded" |r| r.identify("spiffe://limbo.invalid/other/%2e%2e/svid/ct1");
    "V-11/encoded-letter" ["V-11"] [Names] [PathSyntax]
        "A letter is percent-encoded" |r| r.identify("spiffe://limbo.invalid/svid/%63t1");
    "V-11/space" ["V-11"] [Names] [PathSyntax] "A space behind the ID" |r| r.identify(&format!("{WORKLOAD} "));
    "V-11/line-break" ["V-11"] [Names] [PathSyntax] "A line break in the path" |r| r.identify(&format!("{WORKLOAD}\n/b"));
    "V-11/nul" ["V-11"] [Names] [PathSyntax, LeafMalformed]
        "A NUL ends the path for whoever reads it as a C string" |r| r.identify(&format!("{WORKLOAD}\0/b"));
    "V-11/backslash" ["V-11"] [Names] [PathSyntax] "A backslash" |r| r.identify("spiffe://limbo.invalid/svid\\ct1");
    "V-11/tilde" ["V-11"] [Names] [PathSyntax] "A tilde" |r| r.identify("spiffe://limbo.invalid/svid/~ct1");
    "V-11/star" ["V-11"] [Names] [PathSyntax] "A star" |r| r.identify("spiffe://limbo.invalid/svid/*");

    "V-13/dns-name-only" ["V-13", "V-4"] [Names] [UriSanCount]
        "A DNS name is no identity" |r| r.leaf.name_it(&[dns_name("ct1.limbo.invalid")]);
    "V-13/dns-name-is-a-spiffe-id" ["V-13", "V-4"] [Names] [UriSanCount]
        "The SPIFFE ID stands in a DNS name" |r| r.leaf.name_it(&[dns_name(WORKLOAD)]);
    "V-13/mail-address-only" ["V-13", "V-4"] [Names] [UriSanCount]
        "A mail address is no identity" |r| r.leaf.name_it(&[mail_name("ct1@limbo.invalid")]);
    "V-13/common-name-only" ["V-13", "V-4"] [Names] [UriSanCount]
        "The SPIFFE ID is the common name of the subject, and there are no other names" |r| {
            r.leaf.unset(SUBJECT_ALT_NAME);
            r.leaf.subject = name(WORKLOAD);
        };

    "V-14/unknown-domain" ["V-14"] [Names, Top] [TdUnknown]
        "Good in itself, of a trust domain that has no bundle" |r| r.belong(Root::Stranger);
    "V-14/trailing-dot" ["V-14"] [Names] [TdUnknown, ChainUntrusted]
        "The trust domain with a dot behind it is another one" |r| r.identify("spiffe://limbo.invalid./svid/ct1");
    "V-14/longer-name" ["V-14"] [Names] [TdUnknown]
        "A trust domain that begins as a trusted one does" |r| r.identify("spiffe://limbo.invalid.stranger.invalid/svid/ct1");
    "V-14/subdomain" ["V-14"] [Names] [TdUnknown]
        "A trust domain that ends as a trusted one does" |r| r.identify("spiffe://evil.limbo.invalid/svid/ct1");
    "V-15/other-domains-root" ["V-15"] [Top] [ChainUntrusted]
        "Under the root of another trust domain, which is trusted for that one alone" |r| r.root = Root::Other;
    "V-15/other-domains-name" ["V-15"] [Names, Top] [ChainUntrusted]
        "It claims another trusted domain, whose root did not sign it" |r| r.identify(ANOTHER);
    "V-15/strangers-root" ["V-15", "V-18"] [Top] [ChainUntrusted]
        "Under a root that nobody trusts" |r| r.root = Root::Stranger;
    "V-15/same-name-other-key" ["V-15", "V-18"] [Top] [ChainUntrusted]
        "Under a root with the right name and another key" |r| r.root = Root::Rogue;
    "V-15/root-brought-along" ["V-15"] [Top] [ChainUntrusted]
        "Under a false root that is in the chain" |r| {
            r.root = Root::Rogue;
            r.shown.push(Root::Rogue);
        };
    "V-15/self-signed" ["V-15", "V-18"] [Top, Chain, Signature, LeafKey] [ChainUntrusted]
        "Signed by itself" |r| {
            r.self_signed = true;
            r.arrange = Some(|chain| chain[..1].to_vec());
        };
    "V-16/faded-root" ["V-16"] [Names, Top] [TdNoKeys, ChainExpired]
        "The only root of its trust domain has expired" |r| r.belong(Root::Faded);

    "V-18/bad-signature" ["V-18"] [Signature] [ChainUntrusted, ChainInvalid]
        "The leaf's signature is over other bytes" |r| r.leaf.spoilt = true;
    "V-18/bad-signature-of-the-intermediate" ["V-18"] [IssuerSignature] [ChainUntrusted, ChainInvalid]
        "The intermediate's signature is over other bytes" |r| r.issuer().spoilt = true;
    "V-18/algorithms-differ" ["V-18"] [Signature] [LeafMalformed, ChainInvalid]
        "The leaf names another signature algorithm inside than outside (RFC 5280 §4.1.1.2)"
        |r| r.leaf.algorithms[0] = Some(Kind::P384.signature_algorithm());
    "V-18/issuer-is-another-name" ["V-18"] [Signature] [ChainUntrusted]
        "The leaf names another issuer than the one that signed it" |r| r.leaf.issuer = Some(name("somebody else"));
    "V-18/missing-intermediate" ["V-18"] [Chain] [ChainUntrusted]
        "The intermediate is not shown" |r| r.arrange = Some(|chain| chain[..1].to_vec());
    "V-18/missing-upper-intermediate" ["V-18"] [Chain] [ChainUntrusted]
        "Of two intermediates the upper one is not shown" |r| {
            r.deepen(2);
            r.arrange = Some(|chain| chain[..2].to_vec());
        };
    "V-18/intermediate-first" ["V-18", "V-26"]
        // Whatever is wrong with the intermediate is then wrong with the leaf.
        [Chain, IssuerBasic, IssuerUsage, IssuerNames, IssuerConstraints, IssuerFurther, IssuerValidity, IssuerKey,
            IssuerSignature]
        [UriSanCount, LeafIsCa]
        "The intermediate stands before the leaf, so that it counts as the leaf" |r| r.arrange = Some(|mut chain| {
            chain.swap(0, 1);
            chain
        });
    "V-18/path-too-long" ["V-18"] [Chain] [ChainInvalid]
        "Two intermediates under one that allows none below it" |r| {
            r.deepen(2);
            r.issuers[1].set(BASIC_CONSTRAINTS, true, sequence(&[boolean(true), integer(&[0])]));
        };
    "V-18/intermediate-expired" ["V-18"] [IssuerValidity] [ChainExpired]
        "The intermediate has expired" |r| r.issuer().not_after = r.now - 60;
    "V-18/intermediate-not-yet-valid" ["V-18"] [IssuerValidity] [ChainExpired]
        "The intermediate begins in an hour" |r| r.issuer().not_before = r.now + HOUR;
    "V-18/intermediate-critical-extension" ["V-18"] [IssuerFurther] [ChainInvalid]
        "The intermediate has a critical extension that nobody knows"
        |r| r.issuer().extensions.push(Extension::new(OF_NOBODY, true, vec![5, 0]));
    "V-18/intermediate-trailing-byte" ["V-18"] [IssuerSignature] [ChainInvalid]
        "A byte follows the intermediate" |r| r.issuer().mangle = Some(|der| [der.as_slice(), &[0]].concat());
    "V-18/stray-garbage" ["V-18"] [Chain] [ChainInvalid]
        "Something that is no certificate follows the chain" |r| r.arrange = Some(|mut chain| {
            chain.push(b"garbage".to_vec());
            chain
        });
    "V-19/authority" ["V-19"] [Basic] [LeafIsCa]
        "Basic constraints say that the leaf is an authority"
        |r| r.leaf.set(BASIC_CONSTRAINTS, true, sequence(&[boolean(true)]));
    "V-19/absent" ["V-19"] [Basic] [BcMissing]
        "The leaf has no basic constraints, which an issuer must write" |r| r.leaf.unset(BASIC_CONSTRAINTS), strict;
    "V-20/absent" ["V-20"] [Usage] [KuMissing] "The leaf has no key usage" |r| r.leaf.unset(KEY_USAGE);
    "V-20/not-critical" ["V-20"] [Usage] [KuNotCritical]
        "Key usage is not critical" |r| r.leaf.set(KEY_USAGE, false, key_usage(DIGITAL_SIGNATURE));
    "V-21/key-agreement" ["V-21"] [Usage] [KuNoDs]
        "The key may only agree on keys" |r| r.leaf.set(KEY_USAGE, true, key_usage(KEY_AGREEMENT));
    "V-21/key-encipherment" ["V-21"] [Usage] [KuNoDs]
        "The key may only encipher keys" |r| r.leaf.set(KEY_USAGE, true, key_usage(KEY_ENCIPHERMENT));
    "V-21/non-repudiation" ["V-21"] [Usage] [KuNoDs]
        "The key may only sign contracts" |r| r.leaf.set(KEY_USAGE, true, key_usage(NON_REPUDIATION));
    "V-21/nothing" ["V-21"] [Usage] [KuNoDs, LeafMalformed]
        "Key usage allows nothing" |r| r.leaf.set(KEY_USAGE, true, key_usage(0));
    "V-22/may-sign-certificates" ["V-22"] [Usage] [KuSigning]
        "The key of the leaf may sign certificates"
        |r| r.leaf.set(KEY_USAGE, true, key_usage(DIGITAL_SIGNATURE | KEY_CERT_SIGN));
    "V-22/may-sign-revocation-lists" ["V-22"] [Usage] [KuSigning]
        "The key of the leaf may sign revocation lists"
        |r| r.leaf.set(KEY_USAGE, true, key_usage(DIGITAL_SIGNATURE | CRL_SIGN));
    "V-22/may-sign-both" ["V-22"] [Usage] [KuSigning]
        "The key of the leaf may sign certificates and revocation lists"
        |r| r.leaf.set(KEY_USAGE, true, key_usage(DIGITAL_SIGNATURE | KEY_CERT_SIGN | CRL_SIGN));
    "V-23/server-only" ["V-23"] [Purposes] [Eku]
        "A server's certificate shown by a client"
        |r| r.leaf.set(EXTENDED_KEY_USAGE, false, purposes(&[SERVER_AUTH]));
    "V-23/another-purpose" ["V-23"] [Purposes] [Eku]
        "A certificate for signing code" |r| r.leaf.set(EXTENDED_KEY_USAGE, false, purposes(&[CODE_SIGNING]));
    "V-23/any-purpose" ["V-23"] [Purposes] [Eku]
        "anyExtendedKeyUsage does not stand for clientAuth"
        |r| r.leaf.set(EXTENDED_KEY_USAGE, false, purposes(&[ANY_PURPOSE]));
    "V-23/client-only" ["V-23"] [Purposes] [Eku]
        "No serverAuth, which an issuer must write"
        |r| r.leaf.set(EXTENDED_KEY_USAGE, false, purposes(&[CLIENT_AUTH])), strict;
    "V-23/absent" ["V-23"] [Purposes] [Eku]
        "No extended key usage, which an issuer should write" |r| r.leaf.unset(EXTENDED_KEY_USAGE), strict;
    "V-23/intermediate-for-servers" ["V-23", "V-18"] [IssuerFurther] [Eku]
        "The intermediate may only issue for servers"
        |r| r.issuer().set(EXTENDED_KEY_USAGE, false, purposes(&[SERVER_AUTH]));
    "V-24/not-an-authority" ["V-24"] [IssuerBasic] [IssuerKu]
        "Basic constraints say that the intermediate is no authority"
        |r| r.issuer().set(BASIC_CONSTRAINTS, true, sequence(&[]));
    "V-24/no-basic-constraints" ["V-24"] [IssuerBasic] [IssuerKu]
        "The intermediate has no basic constraints" |r| r.issuer().unset(BASIC_CONSTRAINTS);
    "V-24/no-key-cert-sign" ["V-24"] [IssuerUsage] [IssuerKu]
        "The intermediate may only sign revocation lists" |r| r.issuer().set(KEY_USAGE, true, key_usage(CRL_SIGN));
    "V-24/no-key-usage" ["V-24"] [IssuerUsage] [IssuerKu]
        "The intermediate has no key usage" |r| r.issuer().unset(KEY_USAGE), strict;
    "V-24/svid-as-issuer" ["V-24", "V-26"] [IssuerBasic, IssuerUsage, IssuerNames] [IssuerKu]
        "A workload issued a certificate with its own SVID" |r| {
            r.issuer().set(BASIC_CONSTRAINTS, true, sequence(&[]));
            r.issuer().set(KEY_USAGE, true, key_usage(DIGITAL_SIGNATURE));
            r.issuer().name_it(&[uri_name(b"spiffe://limbo.invalid/svid/ct2")]);
        };
    "V-25/with-a-path" ["V-25"] [IssuerNames] [IssuerId]
        "The SPIFFE ID of the intermediate has a path"
        |r| r.issuer().name_it(&[uri_name(b"spiffe://limbo.invalid/ca")]);
    "V-25/other-domain" ["V-25"] [IssuerNames] [IssuerId]
        "The SPIFFE ID of the intermediate is another trust domain's"
        |r| r.issuer().name_it(&[uri_name(b"spiffe://other.invalid")]);
    "V-25/two" ["V-25"] [IssuerNames] [IssuerId]
        "The intermediate has two SPIFFE IDs, one of them of another trust domain"
        |r| r.issuer().name_it(&[uri_name(b"spiffe://limbo.invalid"), uri_name(b"spiffe://other.invalid")]);
    "V-25/upper-case" ["V-25"] [IssuerNames] [IssuerId]
        "The SPIFFE ID of the intermediate is in upper case"
        |r| r.issuer().name_it(&[uri_name(b"SPIFFE://LIMBO.INVALID")]);
    "V-26/signing-certificate" ["V-26", "V-19"] [Basic, Usage] [LeafIsCa]
        "A complete signing certificate, shown as an identity" |r| {
            r.leaf.set(BASIC_CONSTRAINTS, true, sequence(&[boolean(true)]));
            r.leaf.set(KEY_USAGE, true, key_usage(DIGITAL_SIGNATURE | KEY_CERT_SIGN | CRL_SIGN));
        };
    "V-27/uri-permitted" ["V-27"] [IssuerConstraints] [NameConstraint]
        "The intermediate permits only URIs of the very domain: which cannot be checked here, and so fails closed"
        |r| constrain(r, PERMITTED, &uri_name(b"limbo.invalid"));
    "V-27/uri-excluded" ["V-27"] [IssuerConstraints] [NameConstraint]
        "The intermediate excludes the URIs of the very domain"
        |r| constrain(r, EXCLUDED, &uri_name(b"limbo.invalid"));
    "V-27/uri-excluded-elsewhere" ["V-27"] [IssuerConstraints] [NameConstraint]
        "The intermediate excludes the URIs of another domain: which cannot be checked here, and so fails closed"
        |r| constrain(r, EXCLUDED, &uri_name(b"other.invalid"));
    "V-27/dns-not-permitted" ["V-27"] [IssuerConstraints, Names] [NameConstraint]
        "The leaf has a DNS name that its issuer may not give" |r| {
            r.leaf.name_it(&[uri_name(WORKLOAD.as_bytes()), dns_name("ct1.limbo.invalid")]);
            constrain(r, PERMITTED, &dns_name("other.invalid"));
        };
    "V-27/dns-excluded" ["V-27"] [IssuerConstraints, Names] [NameConstraint]
        "The leaf has a DNS name that is excluded for its issuer" |r| {
            r.leaf.name_it(&[uri_name(WORKLOAD.as_bytes()), dns_name("ct1.limbo.invalid")]);
            constrain(r, EXCLUDED, &dns_name("limbo.invalid"));
        };
    "V-27/upper-intermediate" ["V-27"] [IssuerConstraints, Chain] [NameConstraint]
        "The upper one of two intermediates has a URI constraint" |r| {
            r.deepen(2);
            r.issuers.swap(0, 1);
            constrain(r, PERMITTED, &uri_name(b"limbo.invalid"));
            r.issuers.swap(0, 1);
        };
    "V-28/expired" ["V-28"] [Validity] [Expired]
        "It ended an hour ago" |r| valid(r, -13 * HOUR, -HOUR);
    "V-28/expired-a-second-ago" ["V-28"] [Validity] [Expired] "It ended a second ago" |r| valid(r, -HOUR, -1);
    "V-28/not-yet" ["V-28"] [Validity] [NotYet] "It begins in an hour" |r| valid(r, HOUR, 2 * HOUR);
    "V-28/beyond-the-skew" ["V-28"] [Validity] [NotYet]
        "It begins in 61 s, and 60 s are tolerated" |r| valid(r, 61, HOUR), at_the_second;
    "V-28/inverted" ["V-28"] [Validity] [Expired, LeafMalformed]
        "It ends before it begins" |r| valid(r, -HOUR, -2 * HOUR);
    "V-29/a-second-too-long" ["V-29"] [Validity] [Lifetime]
        "It lives for a day, a minute and a second" |r| valid(r, -HOUR, 23 * HOUR + 61);
    "V-29/ten-years" ["V-29"] [Validity] [Lifetime]
        "It lives for ten years" |r| valid(r, -HOUR, 10 * 365 * 24 * HOUR);
    "V-29/for-ever" ["V-29"] [Validity] [Lifetime]
        "It ends on 31 December 9999, which means never (RFC 5280 §4.1.2.5)" |r| r.leaf.not_after = NEVER;
    "V-30/twenty-seconds" ["V-30"] [Validity] [Expiring]
        "It is good for 20 s more, and 30 s are wanted" |r| valid(r, -HOUR, 20);
    "V-30/twenty-nine-seconds" ["V-30"] [Validity] [Expiring]
        "It is good for 29 s more, and 30 s are wanted" |r| valid(r, -HOUR, 29), at_the_second;
    "V-31/p-521" ["V-31"] [LeafKey] [WeakKey] "An ECDSA key on P-521" |r| r.leaf.key = Key::Of(Kind::P521);
    "V-31/rsa-1024" ["V-31"] [LeafKey] [WeakKey]
        "An RSA key of 1024 bits. There is no private key: no library that is used here makes one"
        |r| r.leaf.key = Key::Public(rsa_1024);
    "V-31/secp256k1" ["V-31"] [LeafKey] [WeakKey, LeafMalformed]
        "An ECDSA key on secp256k1. There is no private key" |r| r.leaf.key = Key::Public(secp256k1);
    "V-31/ed448" ["V-31"] [LeafKey] [WeakKey, LeafMalformed]
        "An Ed448 key. There is no private key" |r| r.leaf.key = Key::Public(ed448);
    "V-31/intermediate-p-521" ["V-31"] [IssuerKey] [WeakKey]
        "The intermediate has a key on P-521" |r| r.issuer().key = Key::Issuing(Kind::P521);
    "V-31/sha-1" ["V-31"] [Signature] [WeakKey, ChainInvalid, ChainUntrusted]
        "It says that it is signed with ECDSA and SHA-1. It is not, as nothing here makes such signatures: a verifier \
         must refuse before it computes one"
        |r| r.leaf.algorithms = [(); 2].map(|()| Some(algorithm(&[1, 2, 840, 10045, 4, 1])));
    "V-31/sha-1-of-the-intermediate" ["V-31"] [IssuerSignature] [WeakKey, ChainInvalid, ChainUntrusted]
        "The intermediate says that it is signed with ECDSA and SHA-1"
        |r| r.issuer().algorithms = [(); 2].map(|()| Some(algorithm(&[1, 2, 840, 10045, 4, 1])));
    "V-32/leaf-revoked" ["V-32"] [Names, Top, Serial] [Revoked]
        "The intermediate's list revokes the leaf" |r| {
            r.belong(Root::Listed);
            r.leaf.serial = revoked_leaf();
        };
    "V-32/intermediate-revoked" ["V-32"] [Names, Top, Chain] [Revoked]
        "The root's list revokes the intermediate" |r| {
            r.belong(Root::Listed);
            r.issuer().serial = revoked_issuer();
        };
    "V-32/revoked-by-a-list-that-is-over" ["V-32"] [Names, Top, Serial] [Revoked]
        "A list whose next update is past revokes the leaf: what was revoked stays so" |r| {
            r.belong(Root::Stale);
            r.leaf.serial = revoked_leaf();
        };
    "V-32/lists-are-over" ["V-32"] [Names, Top] [RevocationUnknown]
        "The next update of every list is past" |r| r.belong(Root::Stale), strict;
    "V-32/no-list-of-the-intermediate" ["V-32"] [Names, Top] [RevocationUnknown]
        "The domain has the root's list alone, so nobody knows about the leaf" |r| r.belong(Root::Partial), strict;
    "V-32/id-denied" ["V-32"] [Names] [Revoked] "The deny-list has the SPIFFE ID" |r| r.identify(DENIED);
    "V-32/serial-denied" ["V-32"] [Serial] [Revoked]
        "The deny-list has issuer and serial number of the leaf" |r| r.leaf.serial = denied_serial();
    "V-32/intermediate-denied" ["V-32"] [Chain] [Revoked]
        "The deny-list has issuer and serial number of the intermediate" |r| r.issuer().serial = denied_serial();
    "V-32/leaf-denied" ["V-32"] [Everything] [Revoked]
        "The deny-list has the SHA-256 of the leaf" |_| ();
};

/// The last second that a certificate can name.
const NEVER: i64 = 253_402_300_799;
const PERMITTED: u8 = CONTEXT;
const EXCLUDED: u8 = CONTEXT | 1;

/// A name constraint of one subtree (RFC 5280 §4.2.1.10).
fn constrain(recipe: &mut Recipe, kind: u8, base: &[u8]) {
    let subtrees = element(kind, &sequence(&[base.to_vec()]));
    recipe.issuer().set(NAME_CONSTRAINTS, true, sequence(&[subtrees]));
}

/// The leaf's validity in seconds from now.
pub(super) fn valid(recipe: &mut Recipe, from: i64, until: i64) {
    (recipe.leaf.not_before, recipe.leaf.not_after) = (recipe.now + from, recipe.now + until);
}

/// A SPIFFE ID of so many bytes.
pub(super) fn of_length(bytes: usize) -> String {
    format!("{WORKLOAD}/{}", "x".repeat(bytes - WORKLOAD.len() - 1))
}
