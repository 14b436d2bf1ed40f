//! `token mint` and `token decode`.

use std::{fs, io::Read, path::PathBuf};

use clap::Subcommand;
use jiff::Timestamp;
use routing_claims::Decider;
use routing_plan::{
    diagnosis,
    resolve::{Expiry, parse_timestamp},
    token_source,
};
use serde_json::{Map, Value, json};

use super::{Exit, Result, UnexpectedFormat, files, parse_pair, print};
use crate::{
    diagnostic::FileDiagnostic,
    documents::Documents,
    token::{self, Signature},
};

/// Make a test token, or decode one.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  manifest-gen token mint --claim microservice-A=PR-1 --unsigned-and-insecure | manifest-gen token decode -")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Mint(Mint),
    Decode(Decode),
}

/// Make a test token.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen token mint --claim microservice-A=PR-1 --signature ES256 --key test.pem --expires-at 2026-12-01T00:00:00Z
  manifest-gen token mint --payload '{\"routes\": {\"microservice-A\": \"PR-1\"}}' --unsigned-and-insecure")]
struct Mint {
    /// A version of a service; can be given several times.
    #[arg(long = "claim", value_name = "SERVICE=VERSION", value_parser = parse_claim)]
    claims: Vec<(String, String)>,
    /// The payload as JSON; the other options add to it.
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// The token's `iss`.
    #[arg(long)]
    issuer: Option<String>,
    /// The token's `exp` (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    expires_at: Option<Timestamp>,
    /// The token's `nbf` (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    not_before: Option<Timestamp>,
    /// The algorithm to sign with.
    #[arg(long, value_enum, requires = "key")]
    signature: Option<Signature>,
    /// File with the key: PEM, or the secret itself for HS256.
    #[arg(long, value_name = "FILE", requires = "signature")]
    key: Option<PathBuf>,
    /// The token's `kid`.
    #[arg(long, requires = "signature")]
    key_id: Option<String>,
    /// Do not sign: only a mesh without verification accepts such a token.
    #[arg(long, conflicts_with = "signature", required_unless_present = "signature")]
    unsigned_and_insecure: bool,
}

/// Decode a token. Without a key nothing is verified, and the output says so.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen token decode \"$TOKEN\" -f plan.yaml
  manifest-gen token decode - --signature HS256 --key secret < token.txt")]
struct Decode {
    /// The token, or `-` for stdin.
    token: String,
    /// A plan, to show what its policy decides for the token.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// The algorithm that the token is signed with.
    #[arg(long, value_enum, requires = "key")]
    signature: Option<Signature>,
    /// File with the key to verify with: PEM, or the secret itself for HS256.
    #[arg(long, value_name = "FILE", requires = "signature")]
    key: Option<PathBuf>,
    /// Judge the token's times at this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    now: Option<Timestamp>,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        match &self.command {
            Command::Mint(args) => args.run(),
            Command::Decode(args) => args.run(),
        }
    }
}

impl Mint {
    fn run(&self) -> Result<Exit> {
        let mut payload: Map<String, Value> = match &self.payload {
            // Without the error's own message, which may repeat the payload.
            Some(text) => serde_json::from_str(text).map_err(|error| {
                failed(format!(
                    "expected a JSON object in `--payload`, see line {} column {}",
                    error.line(),
                    error.column()
                ))
            })?,
            None => Map::new(),
        };
        payload.extend(self.claims.iter().map(|(service, version)| (service.clone(), json!(version))));
        payload.extend(self.issuer.iter().map(|issuer| ("iss".to_owned(), json!(issuer))));
        for (name, time) in [("exp", self.expires_at), ("nbf", self.not_before)] {
            payload.extend(time.map(|time| (name.to_owned(), json!(time.as_second()))));
        }
        let token = match (self.signature, read_key(self.key.as_ref())?) {
            (Some(signature), Some(key)) => token::sign(&payload, signature, &key, self.key_id.as_deref())
                .map_err(|error| failed(error.to_string()))?,
            _ => token::unsigned(&payload),
        };
        print(&format!("{token}\n"))
    }
}

impl Decode {
    fn run(&self) -> Result<Exit> {
        let token = if self.token == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| failed(format!("can't read stdin: {error}")))?;
            text.trim().to_owned()
        } else {
            self.token.clone()
        };
        let outcome = if self.files.is_empty() {
            String::new()
        } else {
            let plan = files::resolve(&mut Documents::default(), &self.files, Expiry::Keep)?;
            self.outcome(&token, Decider::new(plan.policy))
        };
        let decoded = match token::decode_unverified(&token) {
            Ok(decoded) => decoded,
            Err(error) => {
                print(&outcome)?;
                return Err(failed(error.to_string()));
            }
        };
        let (signature, exit) = match (self.signature, read_key(self.key.as_ref())?) {
            (Some(signature), Some(key)) => match token::verify_signature(&token, signature, &key) {
                Ok(()) => ("verified with the key".to_owned(), Exit::Done),
                Err(error) => (format!("INVALID: {error}"), Exit::Findings),
            },
            _ => ("NOT VERIFIED: no key was given, so anyone may have made this token".to_owned(), Exit::Done),
        };
        let token::UnverifiedToken { header, payload } = decoded;
        print(&format!("header     {header}\npayload    {payload:#}\nsignature  {signature}\n{outcome}"))?;
        Ok(exit)
    }

    /// What a policy decides for the token.
    fn outcome(&self, token: &str, mut decider: Decider) -> String {
        let policy = decider.policy().clone();
        let lines: Vec<_> = token_source::header_line(policy.config(), token).into_iter().collect();
        let bytes = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let now = self.now.unwrap_or_else(Timestamp::now).as_second();
        let decision = decider.decide(bytes, now);
        let causes = diagnosis::causes(&policy, &lines, decision.outcome(), now);
        let causes = causes.iter().map(|cause| format!("because    {cause}\n"));
        let skipped = decision.faults().map(|(fault, count)| format!("skipped    {count} {fault}\n"));
        let carry_fault = decision.carry_fault().map(|fault| format!("skipped    the carrier: {fault}\n"));
        let set = decision.set_headers();
        let set = set.map(|(name, value)| format!("sets       {name}: {}\n", String::from_utf8_lossy(value)));
        std::iter::once(format!("outcome    {}\n", decision.outcome()))
            .chain(causes)
            .chain(skipped)
            .chain(carry_fault)
            .chain(set)
            .collect()
    }
}

fn read_key(path: Option<&PathBuf>) -> Result<Option<Vec<u8>>> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|error| failed(format!("can't read {}: {error}", path.display())));
    path.map(read).transpose()
}

fn failed(message: String) -> Vec<FileDiagnostic> {
    vec![FileDiagnostic::new(message)]
}

fn parse_claim(text: &str) -> std::result::Result<(String, String), UnexpectedFormat> {
    parse_pair(text, '=', "service=version")
}
