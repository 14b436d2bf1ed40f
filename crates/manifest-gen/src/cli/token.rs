//! `token mint` and `token decode`.

use std::{fs, io::Read, path::PathBuf};

use clap::Subcommand;
use jiff::Timestamp;
use routing_claims::Decider;
use serde_json::{Map, Value, json};

use super::{Exit, Result, files, parse_time, print};
use crate::token::{self, Signature};
use routing_plan::{model::Expiry, problem::Problem};

/// Make a test token, or look into one.
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

/// Make a token.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen token mint --claim microservice-A=PR-1 --signature ES256 --key test.pem --expires-at 2026-12-01T00:00:00Z
  manifest-gen token mint --payload '{\"routes\": {\"microservice-A\": \"PR-1\"}}' --unsigned-and-insecure")]
struct Mint {
    /// A version of a service; several are allowed.
    #[arg(long = "claim", value_name = "SERVICE=VERSION", value_parser = parse_claim)]
    claims: Vec<(String, String)>,
    /// The payload as JSON; `--claim` and the times add to it.
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// The token's `iss`.
    #[arg(long)]
    issuer: Option<String>,
    /// The token's `exp` (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    expires_at: Option<Timestamp>,
    /// The token's `nbf` (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    not_before: Option<Timestamp>,
    /// How to sign.
    #[arg(long, value_enum, requires = "key")]
    signature: Option<Signature>,
    /// File with the key: PEM, or the secret itself for HS256.
    #[arg(long, value_name = "FILE", requires = "signature")]
    key: Option<PathBuf>,
    /// The token's `kid`.
    #[arg(long, requires = "signature")]
    key_id: Option<String>,
    /// Do not sign: only a mesh that verifies nothing takes such a token.
    #[arg(long, conflicts_with = "signature", required_unless_present = "signature")]
    unsigned_and_insecure: bool,
}

/// Look into a token. Without a key nothing is verified, and the output says so.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen token decode \"$TOKEN\" -f plan.yaml
  manifest-gen token decode - --signature HS256 --key secret < token.txt")]
struct Decode {
    /// The token, or `-` for stdin.
    token: String,
    /// A plan, to show what its policy makes of the token.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// How the token is signed.
    #[arg(long, value_enum, requires = "key")]
    signature: Option<Signature>,
    /// File with the key to verify with: PEM, or the secret itself for HS256.
    #[arg(long, value_name = "FILE", requires = "signature")]
    key: Option<PathBuf>,
    /// Judge the token's times at this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
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
            // Not in the error's own words: they may repeat the payload.
            Some(text) => serde_json::from_str(text).map_err(|error| {
                failed(format!("`--payload` is no JSON object, by column {} of line {}", error.column(), error.line()))
            })?,
            None => Map::new(),
        };
        payload.extend(self.claims.iter().map(|(service, version)| (service.clone(), json!(version))));
        payload.extend(self.issuer.iter().map(|issuer| ("iss".to_owned(), json!(issuer))));
        for (name, time) in [("exp", self.expires_at), ("nbf", self.not_before)] {
            payload.extend(time.map(|time| (name.to_owned(), json!(time.as_second()))));
        }
        let token = match (self.signature, read_key(self.key.as_ref())?) {
            (Some(signature), Some(key)) => {
                token::sign(&payload, signature, &key, self.key_id.as_deref()).map_err(failed)?
            }
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
        let decoded = token::decode_unverified(&token).map_err(failed)?;
        let verdict = match (self.signature, read_key(self.key.as_ref())?) {
            (Some(signature), Some(key)) => token::verify_signature(&token, signature, &key),
            _ => Err("NOT VERIFIED: no key was given, so anyone may have made this token".to_owned()),
        };
        let mut text = format!("header     {}\npayload    {:#}\n", decoded.header, decoded.payload);
        let mut exit = Exit::Done;
        let signature = match (&verdict, self.key.is_some()) {
            (Ok(()), _) => "signature  verified with the key\n".to_owned(),
            (Err(why), false) => format!("signature  {why}\n"),
            (Err(why), true) => {
                exit = Exit::Findings;
                format!("signature  INVALID: {why}\n")
            }
        };
        text.push_str(&signature);
        if !self.files.is_empty() {
            let mesh = files::mesh(&self.files, Expiry::Keep)?;
            text.push_str(&self.outcome(&token, Decider::new(mesh.policy)));
        }
        print(&text)?;
        Ok(exit)
    }

    /// What a policy makes of the token.
    fn outcome(&self, token: &str, mut decider: Decider) -> String {
        let config = decider.policy().config();
        let line = match (config.from_headers.first(), config.from_cookies.first()) {
            (Some(source), _) => (source.name.clone(), format!("{}{token}", source.prefix)),
            (None, cookie) => ("cookie".to_owned(), format!("{}={token}", cookie.map_or("", String::as_str))),
        };
        let now = self.now.unwrap_or_else(Timestamp::now).as_second();
        let decision = decider.decide([(line.0.as_bytes(), line.1.as_bytes())], now);
        let skipped = decision.faults().map(|(fault, count)| format!("skipped    {count} {fault}\n"));
        let set = decision.set_headers().map(|(name, value)| format!("sets       {name}: {value}\n"));
        std::iter::once(format!("outcome    {}\n", decision.outcome())).chain(skipped).chain(set).collect()
    }
}

fn read_key(path: Option<&PathBuf>) -> Result<Option<Vec<u8>>> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|error| failed(format!("can't read {}: {error}", path.display())));
    path.map(read).transpose()
}

fn failed(message: String) -> Vec<Problem> {
    vec![Problem::new(message)]
}

fn parse_claim(text: &str) -> std::result::Result<(String, String), String> {
    let (service, version) = text.split_once('=').ok_or("a claim is `service=version`")?;
    Ok((service.to_owned(), version.to_owned()))
}
