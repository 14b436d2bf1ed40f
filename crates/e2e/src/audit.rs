//! What the API server recorded about the requests of a user.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The API server's audit log.
#[derive(Clone, Debug)]
pub struct Audit {
    path: PathBuf,
}

/// A request, as recorded when its response began or was complete.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who asked.
    pub user: String,
    /// What was asked for.
    pub call: Call,
    /// The namespace and the name of the object, if any.
    pub object: (String, String),
    /// The status of the response.
    pub code: u64,
    /// Whether the user may.
    pub allowed: bool,
    /// The address that was asked for.
    pub uri: String,
}

/// What a rule of a role allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The group of the resource; empty for the core group.
    pub group: String,
    /// The resource, with its subresource: `routingplans/status`.
    pub resource: String,
    /// The verb.
    pub verb: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)
    }
}

impl Audit {
    /// The log in that file.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where the log ends now. Pass it to [`since`](Self::since).
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn now(&self) -> Result<usize> {
        Ok(self.text()?.len())
    }

    /// All requests since then whose responses are complete, or which are watches.
    ///
    /// # Errors
    ///
    /// If the log cannot be read, or is not a log.
    pub fn since(&self, begin: usize) -> Result<Vec<Entry>> {
        let text = self.text()?;
        let mut entries = Vec::new();
        let mut seen = BTreeSet::new();
        for line in text.get(begin..).unwrap_or_default().split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let event: Value = serde_json::from_str(line).with_context(|| format!("an invalid event: {line}"))?;
            // A watch has two events: at its start and at its end.
            if seen.insert(event["auditID"].to_string()) {
                entries.push(Entry::of(&event));
            }
        }
        Ok(entries)
    }

    fn text(&self) -> Result<String> {
        fs::read_to_string(&self.path).with_context(|| format!("cannot read {}", self.path.display()))
    }
}

impl Entry {
    fn of(event: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let resource = match object["subresource"].as_str() {
            Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        Self {
            user: text(&event["user"]["username"]),
            call: Call { group: text(&object["apiGroup"]), resource, verb: text(&event["verb"]) },
            object: (text(&object["namespace"]), text(&object["name"])),
            code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
            allowed: event["annotations"]["authorization.k8s.io/decision"] == "allow",
            uri: text(&event["requestURI"]),
        }
    }

    /// Whether it changes something besides leases and Events.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(&*self.call.verb, "create" | "update" | "patch" | "delete" | "deletecollection")
            && !matches!(&*self.call.resource, "leases" | "events")
    }
}
