//! What must pass: the edges of each rule from inside, and everything that X509-SVID allows beside the one URI.

use access::Purpose;

use super::Profile::{self, Compatible, Strict};
use super::certificate::{
    BASIC_CONSTRAINTS, CLIENT_AUTH, DIGITAL_SIGNATURE, EXTENDED_KEY_USAGE, Extension, KEY_ENCIPHERMENT, KEY_USAGE,
    NAME_CONSTRAINTS, OF_NOBODY, SERVER_AUTH, dns_name, ip_name, key_usage, mail_name, name, purposes, uri_name,
};
use super::der::{CONTEXT, boolean, element, integer, octets, sequence, set, utf8};
use super::keys::{Key, Kind};
use super::recipe::{HOUR, Recipe, Root, WORKLOAD};
use super::refused::{of_length, valid};

/// One way to be right.
pub(super) struct Right {
    pub(super) id: &'static str,
    pub(super) rules: &'static [&'static str],
    pub(super) profile: Profile,
    pub(super) purpose: Purpose,
    pub(super) what: &'static str,
    /// The identity that is proven, where it is not [`WORKLOAD`].
    pub(super) spiffe_id: Option<fn() -> String>,
    pub(super) to_the_second: bool,
    pub(super) edit: fn(&mut Recipe),
}

const fn right(id: &'static str, rules: &'static [&'static str], what: &'static str, edit: fn(&mut Recipe)) -> Right {
    let (profile, purpose) = (Compatible, Purpose::Client);
    Right { id, rules, profile, purpose, what, spiffe_id: None, to_the_second: false, edit }
}

impl Right {
    const fn strict(self) -> Self {
        Self { profile: Strict, ..self }
    }

    const fn server(self) -> Self {
        Self { purpose: Purpose::Server, ..self }
    }

    const fn at_the_second(self) -> Self {
        Self { to_the_second: true, ..self }
    }

    const fn who(self, spiffe_id: fn() -> String) -> Self {
        Self { spiffe_id: Some(spiffe_id), ..self }
    }
}

macro_rules! rights {
    ($($id:literal $rules:tt $what:literal $edit:expr $(, $modifier:ident $(($argument:expr))?)*;)*) => {
        &[$(right($id, &$rules, $what, $edit)$(.$modifier($($argument)?))*,)*]
    };
}

/// Every vector that must pass.
pub(super) const ALL: &[Right] = rights! {
    "good/compatible" [] "Leaf, one intermediate, root" |_| ();
    "good/strict" [] "The same under the strict rules" |_| (), strict;
    "good/as-server" [] "The same shown by a server" |_| (), server;
    "good/as-server-strict" [] "The same shown by a server under the strict rules" |_| (), server, strict;
    "good/no-intermediate" ["V-18"] "Right under the root" |r| r.issuers.clear();
    "good/two-intermediates" ["V-18"] "Two intermediates" |r| r.deepen(2);
    "good/three-intermediates" ["V-18"] "Three intermediates" |r| r.deepen(3);
    "good/eight-certificates" ["V-2"] "A leaf, six intermediates and the root, as many as may be" |r| {
        r.deepen(6);
        r.shown.push(Root::Limbo);
    };
    "good/forty-kilobytes" ["V-2"] "An intermediate with a non-critical extension of 40 KB"
        |r| {
            let large = Extension::new(OF_NOBODY, false, octets(&[0; 40_000]));
            r.issuer().extensions.push(large);
        };
    "good/root-shown" ["V-18"] "The root is in the chain, where it need not be" |r| r.shown.push(Root::Limbo);
    "good/intermediates-swapped" ["V-18"]
        "Two intermediates in the wrong order, which RFC 8446 §4.4.2 wants to be tolerated" |r| {
            r.deepen(2);
            r.arrange = Some(|mut chain| {
                chain.swap(1, 2);
                chain
            });
        };
    "good/path-as-long-as-allowed" ["V-18"] "An intermediate that allows none below it, right above the leaf"
        |r| r.issuer().set(BASIC_CONSTRAINTS, true, sequence(&[boolean(true), integer(&[0])]));

    "good/serial-zero" ["V-3"] "The serial number is zero, which RFC 5280 §4.1.2.2 wants to be handled gracefully"
        |r| r.leaf.serial = vec![0];
    "good/serial-negative" ["V-3"]
        "The serial number is negative, which RFC 5280 §4.1.2.2 wants to be handled gracefully"
        |r| r.leaf.serial = vec![0x80, 1];
    "good/serial-of-20-octets" ["V-3"] "The longest serial number" |r| r.leaf.serial = vec![0x55; 20];
    "good/further-extensions" ["V-3"] "Extensions that nobody knows and that are not critical" |r| {
        r.leaf.extensions.push(Extension::new(OF_NOBODY, false, vec![5, 0]));
        r.leaf.extensions.insert(0, Extension::new(&[1, 3, 6, 1, 4, 1, 32473, 2], false, octets(b"limbo")));
    };
    "good/no-subject" ["V-3", "V-13"] "The subject is empty, as X509-SVID allows" |r| r.leaf.subject = sequence(&[]);

    "good/dns-name-behind" ["V-4", "V-13"] "A DNS name behind the URI"
        |r| r.leaf.name_it(&[uri_name(WORKLOAD.as_bytes()), dns_name("ct1.limbo.invalid")]);
    "good/dns-name-before" ["V-4", "V-13"] "A DNS name before the URI"
        |r| r.leaf.name_it(&[dns_name("ct1.limbo.invalid"), uri_name(WORKLOAD.as_bytes())]);
    "good/all-kinds-of-names" ["V-4", "V-13"] "DNS name, mail address, IP address and directory name around the URI"
        |r| r.leaf.name_it(&[
            dns_name("ct1.limbo.invalid"), mail_name("ct1@limbo.invalid"), uri_name(WORKLOAD.as_bytes()),
            ip_name([192, 0, 2, 1]), element(CONTEXT | 4, &name("directory")), element(0x88, &[0x2A, 3]),
        ]);
    "good/another-name-in-dns" ["V-13"] "The DNS name is another sender's: it counts for nothing"
        |r| r.leaf.name_it(&[dns_name("ct2.other.invalid"), uri_name(WORKLOAD.as_bytes())]);
    "good/another-id-in-the-subject" ["V-13"] "The common name is another sender's SPIFFE ID: it counts for nothing"
        |r| r.leaf.subject = sequence(&[set(&[sequence(&[
            super::der::oid(&[2, 5, 4, 3]), utf8("spiffe://other.invalid/svid/ct1"),
        ])])]);
    "good/2048-bytes" ["V-5"] "The longest SPIFFE ID" |r| r.identify(&of_length(2048)), who(|| of_length(2048));
    "good/255-bytes-of-domain" ["V-9"] "The longest trust domain" |r| r.belong(Root::Longest), who(|| Root::Longest.workload());
    "good/every-character" ["V-11"] "Every character that a path may have" |r| r.identify(EVERY_CHARACTER),
        who(|| EVERY_CHARACTER.into());
    "good/dots-that-are-names" ["V-11"] "Segments of three dots and of a dot and a letter" |r| r.identify(DOTS),
        who(|| DOTS.into());
    "good/other-case" ["V-12"] "The path in upper case is another identity, and stays as it is" |r| r.identify(UPPER),
        who(|| UPPER.into());
    "good/other-domain" ["V-15"] "An identity of the other trust domain under its own root" |r| r.belong(Root::Other), who(|| Root::Other.workload());

    "good/no-basic-constraints" ["V-19"] "The leaf has no basic constraints" |r| r.leaf.unset(BASIC_CONSTRAINTS);
    "good/key-usage-of-tls" ["V-21", "V-22"] "digitalSignature and keyEncipherment, as for RSA in TLS 1.2"
        |r| r.leaf.set(KEY_USAGE, true, key_usage(DIGITAL_SIGNATURE | KEY_ENCIPHERMENT));
    "good/client-only" ["V-23"] "clientAuth alone"
        |r| r.leaf.set(EXTENDED_KEY_USAGE, false, purposes(&[CLIENT_AUTH]));
    "good/server-only-as-server" ["V-23"] "serverAuth alone, shown by a server"
        |r| r.leaf.set(EXTENDED_KEY_USAGE, false, purposes(&[SERVER_AUTH])), server;
    "good/no-extended-key-usage" ["V-23"] "No extended key usage" |r| r.leaf.unset(EXTENDED_KEY_USAGE);
    "good/extended-key-usage-critical" ["V-23"] "Both purposes, critical"
        |r| r.leaf.set(EXTENDED_KEY_USAGE, true, purposes(&[SERVER_AUTH, CLIENT_AUTH]));
    "good/issuer-without-key-usage" ["V-24"] "The intermediate has no key usage" |r| r.issuer().unset(KEY_USAGE);
    "good/issuer-with-its-id" ["V-25"] "The intermediate has the SPIFFE ID of the trust domain, without a path"
        |r| r.issuer().name_it(&[uri_name(b"spiffe://limbo.invalid")]);
    "good/issuer-with-a-web-address" ["V-25"] "The intermediate has a URI that is no SPIFFE ID"
        |r| r.issuer().name_it(&[uri_name(b"https://ca.limbo.invalid/")]);
    "good/dns-permitted" ["V-27"] "The leaf has a DNS name that its issuer may give" |r| {
        r.leaf.name_it(&[uri_name(WORKLOAD.as_bytes()), dns_name("ct1.limbo.invalid")]);
        let permitted = element(CONTEXT, &sequence(&[dns_name("limbo.invalid")]));
        r.issuer().set(NAME_CONSTRAINTS, true, sequence(&[permitted]));
    };

    "good/within-the-skew" ["V-28"] "It begins in 50 s, and 60 s are tolerated" |r| valid(r, 50, HOUR);
    "good/at-the-edge-of-the-skew" ["V-28"] "It begins in 60 s" |r| valid(r, 60, HOUR), at_the_second;
    "good/intermediate-within-the-skew" ["V-28"] "The intermediate begins in 50 s"
        |r| r.issuer().not_before = r.now + 50;
    "good/longest-life" ["V-29"] "It lives for a day and a minute" |r| valid(r, -60, 24 * HOUR);
    "good/a-minute-left" ["V-30"] "It is good for a minute more" |r| valid(r, -HOUR, 60);
    "good/thirty-seconds-left" ["V-30"] "It is good for 30 s more, which is just enough" |r| valid(r, -HOUR, 30),
        at_the_second;

    "good/p-384" ["V-31"] "ECDSA on P-384" |r| r.leaf.key = Key::Of(Kind::P384);
    "good/ed25519" ["V-31"] "Ed25519" |r| r.leaf.key = Key::Of(Kind::Ed25519);
    "good/rsa-2048" ["V-31"] "RSA of 2048 bits" |r| r.leaf.key = Key::Of(Kind::Rsa2048);
    "good/rsa-3072" ["V-31"] "RSA of 3072 bits" |r| r.leaf.key = Key::Of(Kind::Rsa3072);
    "good/root-p-384" ["V-31"] "The root signs with ECDSA on P-384" |r| r.root = Root::LimboP384;
    "good/root-ed25519" ["V-31"] "The root signs with Ed25519" |r| r.root = Root::LimboEd25519;
    "good/root-rsa" ["V-31"] "The root signs with RSA" |r| r.root = Root::LimboRsa;
    "good/intermediate-p-384" ["V-31"] "The intermediate signs with ECDSA on P-384"
        |r| r.issuer().key = Key::Issuing(Kind::P384);
    "good/intermediate-ed25519" ["V-31"] "The intermediate signs with Ed25519"
        |r| r.issuer().key = Key::Issuing(Kind::Ed25519);
    "good/rsa-under-rsa" ["V-31"] "RSA right under an RSA root" |r| {
        r.issuers.clear();
        r.leaf.key = Key::Of(Kind::Rsa3072);
        r.root = Root::LimboRsa;
    };
    "good/lists" ["V-32"] "Every issuer has a list, and none revokes it" |r| r.belong(Root::Listed), strict,
        who(|| Root::Listed.workload());
    "good/lists-are-over" ["V-32"] "The next update of every list is past, and none revokes it"
        |r| r.belong(Root::Stale), who(|| Root::Stale.workload());
    "good/no-list-of-the-intermediate" ["V-32"] "The domain has the root's list alone"
        |r| r.belong(Root::Partial), who(|| Root::Partial.workload());
    "good/no-lists" ["V-32"] "The domain has no lists: revocation is not configured for it" |_| (), strict;
};

const EVERY_CHARACTER: &str =
    "spiffe://limbo.invalid/svid/ABCDEFGHIJKLMNOPQRSTUVWXYZ/abcdefghijklmnopqrstuvwxyz/0123456789/._-";
const DOTS: &str = "spiffe://limbo.invalid/svid/.../.a/a.";
const UPPER: &str = "spiffe://limbo.invalid/svid/CT1";
