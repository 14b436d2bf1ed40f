//! The requests of the demo, the expected result of each, and the table that shows them.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use testbed::client::Http1;

use crate::mesh::{KEY, REPORT};

/// One request through the gateway.
pub(crate) struct Example {
    shows: &'static str,
    /// The claims of the token, as text for the table.
    claims: String,
    token: Option<String>,
    /// Whether a browser sends the token, in a cookie.
    in_cookie: bool,
    /// A routing header that the client forges.
    spoofed: Option<(&'static str, &'static str)>,
    expected: Observed,
}

/// Which versions answered, and what the gateway's filter reported.
#[derive(PartialEq)]
pub(crate) struct Observed {
    a: String,
    b: String,
    report: String,
}

/// All requests, in the order of the table.
pub(crate) fn all() -> Result<Vec<Example>> {
    let an_hour_ago = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - 3600;
    Ok(vec![
        Example::new("No token").leads_to("main", "main", "no-token"),
        Example::new("A version for each service")
            .claims(&json!({"microservice-A": "PR-1", "microservice-B": "PR-2"}))
            .leads_to("PR-1", "PR-2", "applied microservice-a=PR-1 microservice-b=PR-2"),
        Example::new("Only B: the choice reaches the second hop").claims(&json!({"microservice-B": "PR-1"})).leads_to(
            "main",
            "PR-1",
            "applied microservice-b=PR-1",
        ),
        Example::new("A browser's cookie: `baggage` carries the choice")
            .claims(&json!({"microservice-A": "PR-2", "microservice-B": "PR-1"}))
            .in_cookie()
            .leads_to("PR-2", "PR-1", "applied microservice-a=PR-2 microservice-b=PR-1"),
        Example::new("Only A").claims(&json!({"microservice-A": "PR-3"})).leads_to(
            "PR-3",
            "main",
            "applied microservice-a=PR-3",
        ),
        Example::new("A token with other claims only")
            .claims(&json!({"sub": "alice", "iss": "https://issuer.example"}))
            .leads_to("main", "main", "no-routes"),
        Example::new("A version without a route: main answers").claims(&json!({"microservice-A": "PR-99"})).leads_to(
            "main",
            "main",
            "applied microservice-a=PR-99",
        ),
        Example::new("An invalid version: the other claims apply")
            .claims(&json!({"microservice-A": ["PR-1"], "microservice-B": "PR-2"}))
            .leads_to("main", "PR-2", "applied microservice-a!invalid-value microservice-b=PR-2"),
        Example::new("A token that expired an hour ago")
            .claims(&json!({"microservice-A": "PR-1", "exp": an_hour_ago}))
            .leads_to("main", "main", "expired"),
        Example::new("A malformed token").token("not-a.token").leads_to("main", "main", "malformed-token"),
        Example::new("A spoofed header, no token")
            .spoofed("microservice-a", "PR-1")
            .leads_to("main", "main", "no-token"),
        Example::new("A spoofed header and a token: the token decides")
            .claims(&json!({"microservice-A": "PR-2"}))
            .spoofed("microservice-a", "PR-1")
            .leads_to("PR-2", "main", "applied microservice-a=PR-2"),
    ])
}

impl Example {
    fn new(shows: &'static str) -> Self {
        let expected = Observed { a: String::new(), b: String::new(), report: String::new() };
        Self { shows, claims: "-".to_owned(), token: None, in_cookie: false, spoofed: None, expected }
    }

    /// Sends a token with these claims. Its signature is empty, because the filter does not verify it.
    fn claims(mut self, claims: &Value) -> Self {
        let encode = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        self.claims = lines(claims);
        self.token = Some(format!("{}.{}.", encode(&json!({"alg": "none"})), encode(claims)));
        self
    }

    fn token(mut self, token: &str) -> Self {
        self.claims = format!("unreadable: {token}");
        self.token = Some(token.to_owned());
        self
    }

    fn in_cookie(mut self) -> Self {
        self.in_cookie = true;
        self
    }

    fn spoofed(mut self, name: &'static str, value: &'static str) -> Self {
        self.spoofed = Some((name, value));
        self
    }

    fn leads_to(mut self, a: &str, b: &str, report: &str) -> Self {
        self.expected = Observed { a: a.to_owned(), b: b.to_owned(), report: report.to_owned() };
        self
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let token = self.token.iter().map(|token| {
            if self.in_cookie {
                ("cookie", format!("theme=dark; {KEY}={token}"))
            } else {
                ("authorization", format!("Bearer {token}"))
            }
        });
        token.chain(self.spoofed.map(|(name, value)| (name, value.to_owned()))).collect()
    }

    /// Sends the request and reads which versions answered.
    pub(crate) async fn send(&self, gateway: SocketAddr) -> Result<Observed> {
        let headers: Vec<_> =
            self.headers().into_iter().map(|(name, value)| (name.into(), value.into_bytes())).collect();
        let response = Http1::connect(gateway).await?.get("a.qa.example", "/", &headers).await?;
        let said: Value = serde_json::from_slice(&response.body)
            .with_context(|| format!("status {}: {}", response.status, response.text()))?;
        let version = |said: &Value| said["version"].as_str().map_or_else(|| said.to_string(), str::to_owned);
        Ok(Observed {
            a: version(&said),
            b: version(&said["called"]),
            report: String::from_utf8_lossy(response.header(REPORT).unwrap_or_default()).into_owned(),
        })
    }

    /// Adds the row of the request. Returns whether the result is the expected one.
    pub(crate) fn add_to(&self, table: &mut Table, got: &Result<Observed>) -> bool {
        let shows = match self.spoofed {
            Some((name, value)) => format!("{}\n({name}: {value})", self.shows),
            None => self.shows.to_owned(),
        };
        let expected = &self.expected;
        let (ok, [a, b, report]) = match got {
            Ok(got) => (
                got == expected,
                [
                    compared(&got.a, &expected.a),
                    compared(&got.b, &expected.b),
                    compared(&words(&got.report), &words(&expected.report)),
                ],
            ),
            Err(error) => (false, [format!("{error:#}"), String::new(), String::new()]),
        };
        table.add_row([shows, self.claims.clone(), a, b, report, if ok { "ok" } else { "WRONG" }.to_owned()]);
        ok
    }
}

/// An empty table with its header row.
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(TABLE_WIDTH)
        .set_header(["Request", "Claims of its token", "A answers", "B answers", "The filter's report", ""]);
    // The words of a report are not split.
    if let Some(report) = table.column_mut(4) {
        report.set_constraint(ColumnConstraint::ContentWidth);
    }
    table
}

/// The requests as curl commands, and commands that make a token.
pub(crate) fn curl_lines(requests: &[Example], gateway: SocketAddr) -> String {
    let url = format!("http://{gateway}/");
    let mut lines = Vec::new();
    for request in requests {
        let mut curl = vec![format!("curl -si {url}")];
        curl.extend(request.headers().iter().map(|(name, value)| format!("-H '{name}: {value}'")));
        lines.extend([format!("# {}", request.shows), curl.join(" "), String::new()]);
    }
    lines.extend([
        "# Your own claims".to_owned(),
        r#"claims='{"microservice-A":"PR-2","microservice-B":"PR-1"}'"#.to_owned(),
        r#"token="e30.$(printf %s "$claims" | base64 | tr '+/' '-_' | tr -d '=\n').""#.to_owned(),
        format!(r#"curl -si {url} -H "authorization: Bearer $token""#),
    ]);
    lines.join("\n")
}

/// The claims, one per line.
fn lines(claims: &Value) -> String {
    let members = claims.as_object().into_iter().flatten();
    members.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
}

/// The words of a report, one per line.
fn words(report: &str) -> String {
    report.replace(' ', "\n")
}

fn compared(got: &str, expected: &str) -> String {
    if got == expected { got.to_owned() } else { format!("{got}\n(expected:\n{expected})") }
}

const TABLE_WIDTH: u16 = 118;
