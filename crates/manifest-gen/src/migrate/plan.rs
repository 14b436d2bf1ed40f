//! Plans whose format was replaced.

use routing_plan::diagnostic::FieldPath;
use serde_json::{Value, json};

use super::{Migrated, Migration};

impl Migration<'_> {
    /// A plan in the current format. Other fields stay as they are.
    pub(super) fn plan(mut self, mut plan: Value) -> Result<Migrated, Vec<crate::diagnostic::FileDiagnostic>> {
        let at = FieldPath::default().field("spec").field("filter").field("wasm");
        if let Some(wasm) = plan.pointer_mut("/spec/filter/wasm") {
            self.wasm(wasm, &at);
        }
        if let Some(issuer) = plan.pointer_mut("/spec/authentication").filter(|issuer| issuer.is_object()) {
            *issuer = json!([issuer.take()]);
            let at = FieldPath::default().field("spec").field("authentication");
            self.note(&at, "wrote the issuer as a list".to_owned());
        }
        if self.diagnostics.is_empty() {
            Ok(Migrated { value: plan, notes: self.notes })
        } else {
            Err(self.diagnostics)
        }
    }

    /// `url: oci://…` and `sha256`, which Istio compares with the digest of the image's manifest, to `image` and `digest`.
    fn wasm(&mut self, wasm: &mut Value, at: &FieldPath) {
        let Some(reference) = wasm["url"].as_str().and_then(|url| url.strip_prefix("oci://")).map(str::to_owned) else {
            return;
        };
        let (image, in_url) = match reference.split_once('@') {
            Some((image, digest)) => (image.to_owned(), Some(digest.to_owned())),
            None => (reference, None),
        };
        let beside = wasm["sha256"].as_str().map(|hex| format!("sha256:{hex}"));
        if let (Some(in_url), Some(beside)) = (&in_url, &beside)
            && in_url != beside
        {
            let message = format!("expected the digest of `url`, which is {in_url}, found {beside}");
            return self.report(&at.clone().field("sha256"), message);
        }
        let Some(fields) = wasm.as_object_mut() else { return };
        fields.remove("url");
        fields.remove("sha256");
        let url = at.clone().field("url");
        self.note(&url, format!("replaced `url` by `image: {image}`"));
        fields.insert("image".to_owned(), json!(image));
        if let Some(digest) = in_url.or(beside) {
            self.note(&url, format!("wrote `digest: {digest}`, which must be that of the image's manifest"));
            fields.insert("digest".to_owned(), json!(digest));
        }
    }
}
