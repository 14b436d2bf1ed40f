//! A plain loop, as in your own proxy: reads requests as header lines, and writes each one as it continues to its service.
//!
//! ```console
//! $ cat request
//! authorization: Bearer e30.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ.
//! microservice-b: PR-9
//!
//! $ cargo run --quiet --example plain-loop < request
//! authorization: Bearer e30.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ.
//! microservice-a: PR-1
//!
//! ```

use std::{
    error::Error,
    io::{self, BufRead, Write},
    time::SystemTime,
};

use routing_claims::{Decider, Policy};

fn main() -> Result<(), Box<dyn Error>> {
    let policy = Policy::from_json(br#"{"services": [{"name": "microservice-A"}, {"name": "microservice-B"}]}"#)?;
    forward(&mut Decider::new(policy), io::stdin().lock(), io::stdout().lock())
}

/// Requests are `name: value` lines up to an empty line.
fn forward(decider: &mut Decider, mut input: impl BufRead, mut output: impl Write) -> Result<(), Box<dyn Error>> {
    while let Some(request) = read_request(&mut input)? {
        let decision = decider.decide(request.iter().map(|(name, value)| (&**name, &**value)), unix_seconds()?);
        // Remove first, then set, so that a routing header of the client never reaches a service.
        for (name, value) in request.iter().filter(|(name, _)| !decision.removes(name)) {
            output.write_all(&[name, &b": "[..], value, b"\n"].concat())?;
        }
        for (name, value) in decision.set_headers() {
            output.write_all(&[name.as_bytes(), b": ", value, b"\n"].concat())?;
        }
        writeln!(output)?;
    }
    Ok(())
}

type Line = (Vec<u8>, Vec<u8>);

fn read_request(input: &mut impl BufRead) -> io::Result<Option<Vec<Line>>> {
    let mut request = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok((!request.is_empty()).then_some(request));
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(Some(request));
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(io::ErrorKind::InvalidData)?;
        request.push((line[..colon].to_vec(), line[colon + 1..].trim_ascii_start().to_vec()));
    }
}

fn unix_seconds() -> Result<i64, Box<dyn Error>> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs().try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_routes_and_a_forged_header_does_not() {
        let policy = Policy::from_json(br#"{"services": [{"name": "microservice-A"}, {"name": "microservice-B"}]}"#);
        let token = "authorization: Bearer e30.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ.\n";
        let input = format!("{token}Microservice-B: PR-9\n\nmicroservice-a: PR-9\naccept: */*\n\n");
        let mut output = Vec::new();
        forward(&mut Decider::new(policy.unwrap()), input.as_bytes(), &mut output).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), format!("{token}microservice-a: PR-1\n\naccept: */*\n\n"));
    }
}
