//! Decides from headers of the `http` crate, and changes them.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Decider, Decision};

impl Decider {
    /// Like [`Decider::decide`], from the headers of an `http::Request`.
    pub fn decide_header_map(&mut self, headers: &HeaderMap, now: i64) -> Decision<'_> {
        self.decide(headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())), now)
    }
}

impl Decision<'_> {
    /// Applies the decision to the headers that it was made from: removes headers, then sets headers. Allocates for the
    /// headers that it sets.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "validation and R12 leave nothing else to set")]
    pub fn apply(&self, headers: &mut HeaderMap) {
        if self.removes_any() {
            let removed: Vec<_> =
                headers.keys().filter(|name| self.removes(name.as_str().as_bytes())).cloned().collect();
            for name in removed {
                headers.remove(name);
            }
        }
        for (name, value) in self.set_headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a managed header's name is a token");
            let value = HeaderValue::from_bytes(value).expect("visible ASCII and spaces, or of a header that is there");
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use crate::{Decider, Outcome, Policy};

    /// R1: all lines of managed headers are removed, and no other header changes.
    #[test]
    fn managed_headers_are_replaced_and_others_stay() {
        let policy = br#"{"services": [{"name": "A"}, {"name": "b"}], "reportHeader": "x-report"}"#;
        let mut decider = Decider::new(Policy::from_json(policy).unwrap());
        let mut headers = HeaderMap::new();
        // The payload is {"A":"1"}.
        for (name, value) in [
            ("accept", "text/html"),
            ("a", "forged"),
            ("b", "forged"),
            ("b", "forged again"),
            ("accept", "text/plain"),
            ("x-report", "forged"),
            ("authorization", "Bearer e30.eyJBIjoiMSJ9."),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let decision = decider.decide_header_map(&headers, 0);
        assert_eq!(decision.outcome(), Outcome::Applied);
        decision.apply(&mut headers);
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "a: 1",
                "accept: text/html",
                "accept: text/plain",
                "authorization: Bearer e30.eyJBIjoiMSJ9.",
                "x-report: applied a=1"
            ]
        );
    }

    /// The `http` crate accepts every name and value that can be decided.
    #[test]
    fn what_is_set_is_a_header() {
        let longest = "!#$%&'*+-.^_`|~09az".repeat(7)[..127].to_owned();
        let service = serde_json::json!({"name": "a\u{7f}\u{e9}", "header": longest});
        let policy = serde_json::json!({"services": [service], "reportHeader": "x"}).to_string();
        let mut decider = Decider::new(Policy::from_json(policy.as_bytes()).unwrap());
        let mut headers = HeaderMap::new();
        // The payload is {"a\u007f\u00e9":"A.b_c-9"}.
        headers.insert("authorization", "Bearer e30.eyJhXHUwMDdmXHUwMGU5IjoiQS5iX2MtOSJ9.".parse().unwrap());
        decider.decide_header_map(&headers.clone(), 0).apply(&mut headers);
        assert_eq!(headers[&longest], "A.b_c-9");
        assert_eq!(headers["x"], format!("applied {longest}=A.b_c-9"));
    }
}
