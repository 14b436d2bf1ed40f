//! The situations in which a module is pulled, and what happens in each. The docs have them as a table.

use std::fmt;

/// Where the filter's resource says that the module is, and what happens around the pull.
pub(super) struct Situation {
    /// As in the table of the docs.
    pub(super) name: &'static str,
    /// Whether the sidecar starts without the filter. Otherwise it keeps what the situation before it left.
    pub(super) fresh: bool,
    pub(super) registry: At,
    pub(super) change: Change,
    /// With `FAIL_CLOSE`, `FAIL_RELOAD` and `FAIL_OPEN`.
    pub(super) outcomes: [Outcome; 3],
}

/// The state of the registry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Up,
    Down,
}

/// A change of the filter's resource.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// None.
    Nothing,
    /// Another policy, with the same module.
    Policy,
    /// The proxies and their agents restart, as with new pods.
    Restart,
    /// Another module.
    Module(Module),
    /// Another module, under load. No request may fail.
    UnderLoad(Module),
    /// The tag gets another image, and the resource stays as it is.
    Tag(&'static str, Build),
}

/// A module as the filter's resource names it: `oci://REGISTRY/REPOSITORY` with a digest or a tag.
#[derive(Clone, Copy)]
pub(super) struct Module {
    /// Each situation with a fresh sidecar has its own repository, because the agent caches by repository and digest.
    pub(super) repository: &'static str,
    pub(super) reference: Reference,
    pub(super) sha256: Option<Sum>,
    pub(super) secret: Secret,
}

#[derive(Clone, Copy)]
pub(super) enum Reference {
    Digest(Build),
    /// A digest that no image has.
    WrongDigest,
    Tag(&'static str),
}

/// What `sha256` contains.
#[derive(Clone, Copy)]
pub(super) enum Sum {
    Manifest(Build),
    File(Build),
}

/// How the registry is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    /// The registry without a password.
    NotNeeded,
    /// The registry with a password, without `imagePullSecret`.
    Missing,
    /// The registry with a password, with an `imagePullSecret` that does not exist.
    Unknown,
    /// The registry with a password, with its `imagePullSecret`.
    Given,
    /// The same, but the registry's challenge names a realm that is not a URL.
    GivenToRealm,
}

/// The module that ships, and two that differ from it only in a custom section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Build {
    First,
    Second,
    Third,
}

/// What happens to a sidecar's requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// They are filtered, by this module.
    Filtered(Build),
    /// All get 403, because the agent has replaced the filter by one that denies everything.
    Denied,
    /// They pass as they came, because the agent has replaced the filter by one that allows everything.
    Unfiltered,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filtered(Build::First) => "first module",
            Self::Filtered(Build::Second) => "second module",
            Self::Filtered(Build::Third) => "third module",
            Self::Denied => "**403**",
            Self::Unfiltered => "**unfiltered**",
        })
    }
}

/// The images that the registry has.
pub(super) const PUSHED: [(Build, &str); 8] = [
    (Build::First, "pinned:first"),
    (Build::Second, "pinned:second"),
    (Build::Third, "pinned:third"),
    (Build::First, "tag-and-digest:1"),
    (Build::First, "tag-and-file:1"),
    (Build::First, "moves:1"),
    (Build::First, "private:1"),
    (Build::First, "unreachable:1"),
];

pub(super) const fn by_digest(repository: &'static str, build: Build) -> Module {
    Module { repository, reference: Reference::Digest(build), sha256: None, secret: Secret::NotNeeded }
}

const fn by_tag(repository: &'static str, tag: &'static str, sha256: Option<Sum>) -> Module {
    Module { repository, reference: Reference::Tag(tag), sha256, secret: Secret::NotNeeded }
}

const fn private(secret: Secret) -> Module {
    Module { secret, ..by_digest("private", Build::First) }
}

/// A situation of sidecars that start without the filter, while the registry is up.
const fn first(name: &'static str, module: Module, outcomes: [Outcome; 3]) -> Situation {
    Situation { name, fresh: true, registry: At::Up, change: Change::Module(module), outcomes }
}

/// A situation that follows the one before it.
const fn then(name: &'static str, registry: At, change: Change, outcomes: [Outcome; 3]) -> Situation {
    Situation { name, fresh: false, registry, change, outcomes }
}

const fn runs(build: Build) -> [Outcome; 3] {
    [Outcome::Filtered(build), Outcome::Filtered(build), Outcome::Filtered(build)]
}

const FAILS: [Outcome; 3] = [Outcome::Denied, Outcome::Denied, Outcome::Unfiltered];

pub(super) const SITUATIONS: [Situation; 24] = {
    use At::{Down, Up};
    use Build::{First, Second, Third};
    [
        first("The URL ends with the image's digest.", by_digest("pinned", First), runs(First)),
        then("Then the second module, under load.", Up, Change::UnderLoad(by_digest("pinned", Second)), runs(Second)),
        then(
            "Then back to the first module, under load.",
            Up,
            Change::UnderLoad(by_digest("pinned", First)),
            runs(First),
        ),
        then(
            "Then the second module again, while the registry is down.",
            Down,
            Change::Module(by_digest("pinned", Second)),
            runs(Second),
        ),
        then("Then another policy, while the registry is down.", Down, Change::Policy, runs(Second)),
        then(
            "Then the third module, while the registry is down.",
            Down,
            Change::Module(by_digest("pinned", Third)),
            FAILS,
        ),
        then(
            "Then back to the second module, while the registry is down.",
            Down,
            Change::Module(by_digest("pinned", Second)),
            runs(Second),
        ),
        then(
            "Then the third module once more, while the registry is down.",
            Down,
            Change::Module(by_digest("pinned", Third)),
            FAILS,
        ),
        then("Then the registry is back, and nothing else changes.", Up, Change::Nothing, FAILS),
        then("Then another policy.", Up, Change::Policy, runs(Third)),
        then("Then the pods restart, while the registry is down.", Down, Change::Restart, FAILS),
        first(
            "The URL has a tag, and `sha256` is the image's digest.",
            by_tag("tag-and-digest", "1", Some(Sum::Manifest(First))),
            runs(First),
        ),
        first(
            "The URL has a tag, and `sha256` is the file's.",
            by_tag("tag-and-file", "1", Some(Sum::File(First))),
            FAILS,
        ),
        first(
            "The registry does not have the digest.",
            Module { reference: Reference::WrongDigest, ..by_digest("pinned", First) },
            FAILS,
        ),
        first("The registry does not have the tag.", by_tag("pinned", "none", None), FAILS),
        first("The URL has a tag, without `sha256`.", by_tag("moves", "1", None), runs(First)),
        then("Then the tag is moved to the second module.", Up, Change::Tag("moves:1", Second), runs(First)),
        then("Then another policy.", Up, Change::Policy, runs(First)),
        then("Then the pods restart.", Up, Change::Restart, runs(Second)),
        first("The registry asks for a password, without `imagePullSecret`.", private(Secret::Missing), FAILS),
        first("The same, with an `imagePullSecret` that does not exist.", private(Secret::Unknown), FAILS),
        first(
            "The same, with the right `imagePullSecret`, and the challenge `Basic realm=\"Registry Realm\"`.",
            private(Secret::GivenToRealm),
            FAILS,
        ),
        first("The same, with the realm `https://registry.example`.", private(Secret::Given), runs(First)),
        Situation {
            name: "The first pull, while the registry is down.",
            fresh: true,
            registry: Down,
            change: Change::Module(by_digest("unreachable", First)),
            outcomes: FAILS,
        },
    ]
};

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_docs_have_the_table() {
        let rows = SITUATIONS.iter().map(|Situation { name, outcomes: [close, reload, open], .. }| {
            format!("| {name} | {close} | {reload} | {open} |")
        });
        let head = ["| situation | `FAIL_CLOSE` | `FAIL_RELOAD` | `FAIL_OPEN` |", "|---|---|---|---|"];
        let table: Vec<_> = head.map(str::to_owned).into_iter().chain(rows).collect();
        let table = table.join("\n");
        let docs = fs::read_to_string(testbed::workspace_dir().join("docs/istio.md")).unwrap();
        assert!(docs.contains(&table), "expected this table in docs/istio.md:\n\n{table}");
    }
}
