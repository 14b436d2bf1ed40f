//! Reading the cases.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{engine::Lines, macros::Macros};

/// All cases, in the order of their files and of their lines.
#[derive(Debug)]
pub struct Corpus {
    /// Requests and their expected results.
    pub cases: Vec<Case>,
    /// Policies that must not load.
    pub rejects: Vec<Reject>,
}

/// A request and its expected result.
#[derive(Debug)]
pub struct Case {
    /// Its name, unique in the corpus.
    pub name: String,
    /// The rules that it tests, such as `R7`.
    pub rules: Vec<String>,
    /// The policy as JSON.
    pub policy: Map<String, Value>,
    /// The expected report (R18).
    pub expect: String,
    /// The expected headers, if the report is cut off and does not contain them.
    pub set: Option<BTreeMap<String, String>>,
    /// The expected value of the carrier's header, if the filter changes it. Empty if it removes it.
    pub carrier: Option<String>,
    /// The expected results when the request is sent again later.
    pub later: Vec<Later>,
    payload: Option<String>,
    headers: Vec<(String, String)>,
}

/// The same request at a later time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Later {
    /// The time since the first request.
    pub seconds: u32,
    /// The expected report at that time.
    pub expect: String,
    /// The expected value of the carrier's header at that time, if the filter changes it.
    pub carrier: Option<String>,
}

/// A policy that must not load, and a part of one of its errors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Its name, unique in the corpus.
    pub name: String,
    /// The text of the policy, valid JSON or not.
    pub policy: String,
    /// The path of the field in the error. Any path is accepted if it is absent.
    pub path: Option<String>,
    /// A part of the error's text.
    pub error: String,
}

impl Corpus {
    /// Reads `cases/*.toml` of this crate.
    pub fn load() -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
        let mut files: Vec<_> = fs::read_dir(&folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()
            .context("cannot list the cases")?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        let mut corpus = Self { cases: Vec::new(), rejects: Vec::new() };
        for path in &files {
            corpus.add(&fs::read_to_string(path)?).with_context(|| format!("in {}", path.display()))?;
        }
        let names: Vec<_> = corpus
            .cases
            .iter()
            .map(|case| &case.name)
            .chain(corpus.rejects.iter().map(|reject| &reject.name))
            .collect();
        let mut unique = BTreeSet::new();
        for name in names {
            ensure!(unique.insert(name), "duplicate case name `{name}`");
        }
        Ok(corpus)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        let File { policies, case, reject } = toml::from_str(text)?;
        for CaseText { name, rules, policy, payload, headers, expect, set, carrier, later } in case {
            let policy = policies.get(&policy).with_context(|| format!("{name}: unknown policy `{policy}`"))?;
            let policy = serde_json::to_value(policy)?.as_object().cloned().context("expected a table for a policy")?;
            ensure!(!rules.is_empty(), "{name}: expected at least one rule");
            let headers = headers.unwrap_or_else(|| vec![("authorization".into(), "Bearer <<token>>".into())]);
            self.cases.push(Case { name, rules, policy, expect, set, carrier, later, payload, headers });
        }
        for mut reject in reject {
            reject.policy = String::from_utf8(Macros::new(0, None)?.expand(&reject.policy)?)?;
            self.rejects.push(reject);
        }
        Ok(())
    }
}

impl Case {
    /// The header lines of the request if it is sent at this Unix time.
    pub fn request(&self, now: i64) -> Result<Lines> {
        let macros = Macros::new(now, self.payload.as_deref())?;
        self.headers.iter().map(|(name, value)| Ok((macros.expand(name)?, macros.expand(value)?))).collect()
    }

    /// A text of the case with its macros replaced, if the request is sent at this Unix time.
    pub(crate) fn expand(&self, text: &str, now: i64) -> Result<Vec<u8>> {
        Macros::new(now, self.payload.as_deref())?.expand(text)
    }

    /// The payload of its token, if it has one, if the request is sent at this Unix time.
    pub fn payload(&self, now: i64) -> Result<Option<Vec<u8>>> {
        let macros = Macros::new(now, None)?;
        self.payload.as_deref().map(|text| macros.expand(text)).transpose()
    }

    /// Whether the request is different every second.
    #[must_use]
    pub fn depends_on_time(&self) -> bool {
        let headers = self.headers.iter().flat_map(|(name, value)| [name, value]);
        headers.chain(&self.payload).any(|text| text.contains("<<now"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    policies: BTreeMap<String, toml::Table>,
    #[serde(default)]
    case: Vec<CaseText>,
    #[serde(default)]
    reject: Vec<Reject>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseText {
    name: String,
    rules: Vec<String>,
    policy: String,
    payload: Option<String>,
    headers: Option<Vec<(String, String)>>,
    expect: String,
    set: Option<BTreeMap<String, String>>,
    carrier: Option<String>,
    #[serde(default)]
    later: Vec<Later>,
}
