//! OCI image layouts: images as folders (OCI image specification 1.1, "Image Layout").

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Images, with all blobs that they consist of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layout {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: Vec<Descriptor>,
}

/// What names a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The blob's media type.
    pub media_type: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// The blob's length in bytes.
    pub size: usize,
    /// What is known besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Of an artifact's manifest: its type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Of a manifest in an index: the machines that the image is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// Machines that an image is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
}

impl Layout {
    /// Adds a blob.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let digest = digest(&bytes);
        let size = bytes.len();
        self.blobs.insert(digest.clone(), bytes);
        let media_type = media_type.to_owned();
        Descriptor { media_type, digest, size, annotations: None, artifact_type: None, platform: None }
    }

    /// Adds a blob of JSON.
    pub(crate) fn json(&mut self, media_type: &str, value: &Value) -> Descriptor {
        self.blob(media_type, value.to_string().into_bytes())
    }

    /// Adds a manifest or an index to the layout's own index.
    pub(crate) fn add(&mut self, manifest: Descriptor) {
        self.manifests.push(manifest);
    }

    /// The manifests and indexes that the layout's own index names.
    #[must_use]
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// The bytes of a blob.
    ///
    /// # Errors
    ///
    /// If the layout does not have the blob, or if its size or digest differs.
    pub fn bytes(&self, Descriptor { digest, size, .. }: &Descriptor) -> Result<&[u8]> {
        let bytes = self.blobs.get(digest).with_context(|| format!("expected the blob {digest}, found none"))?;
        ensure!(bytes.len() == *size, "expected {size} bytes in {digest}, found {}", bytes.len());
        Ok(bytes)
    }

    /// What a manifest or an index names: its configuration and layers, or the manifests of an index.
    ///
    /// # Errors
    ///
    /// If it is missing or is neither.
    pub fn children(&self, manifest: &Descriptor) -> Result<Vec<Descriptor>> {
        let value: Value = serde_json::from_slice(self.bytes(manifest)?)?;
        let fields: &[&str] = match &*manifest.media_type {
            MANIFEST => &["config", "layers"],
            INDEX => &["manifests"],
            other => bail!("expected a manifest or an index, found `{other}`"),
        };
        let one_or_more = fields.iter().flat_map(|field| match &value[*field] {
            Value::Array(items) => items.clone(),
            one => vec![one.clone()],
        });
        Ok(one_or_more.map(serde_json::from_value).collect::<Result<_, _>>()?)
    }

    /// Writes the layout in place of whatever the folder contains.
    ///
    /// # Errors
    ///
    /// If the folder can't be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
        };
        let blobs = folder.join(BLOBS);
        fs::create_dir_all(&blobs).with_context(|| format!("cannot make {}", blobs.display()))?;
        for (digest, bytes) in &self.blobs {
            write(&format!("{BLOBS}/{}", digest.trim_start_matches(SHA256)), bytes)?;
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests});
        write("index.json", index.to_string().as_bytes())?;
        write("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())
    }

    /// Reads a layout, and checks that every blob that is named is there with its size and digest.
    ///
    /// # Errors
    ///
    /// If the folder does not contain a whole layout.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut layout = Self::default();
        let blobs = folder.join(BLOBS);
        for entry in fs::read_dir(&blobs).with_context(|| format!("cannot read {}", blobs.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let found = digest(&bytes);
            ensure!(found == format!("{SHA256}{name}"), "{} has the digest {found}", path.display());
            layout.blobs.insert(found, bytes);
        }
        let index = folder.join("index.json");
        let bytes = fs::read(&index).with_context(|| format!("cannot read {}", index.display()))?;
        let index: Value = serde_json::from_slice(&bytes)?;
        layout.manifests = serde_json::from_value(index["manifests"].clone())?;
        layout.manifests.iter().try_for_each(|manifest| layout.check(manifest))?;
        Ok(layout)
    }

    fn check(&self, one: &Descriptor) -> Result<()> {
        self.bytes(one)?;
        if is_manifest(one) { self.children(one)?.iter().try_for_each(|child| self.check(child)) } else { Ok(()) }
    }
}

/// Whether a blob names others.
#[must_use]
pub fn is_manifest(one: &Descriptor) -> bool {
    [MANIFEST, INDEX].contains(&&*one.media_type)
}

/// `sha256:` and the hash in hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("{SHA256}{:x}", Sha256::digest(bytes))
}

/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BLOBS: &str = "blobs/sha256";
const SHA256: &str = "sha256:";
