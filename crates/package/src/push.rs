//! Images to a registry.

use anyhow::{Context as _, Result, bail};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    secrets::RegistryAuth,
};
use package::layout::{Descriptor, INDEX, Layout, is_manifest};
use serde_json::{Value, json};

/// A registry, and the start of the names of images in it.
pub(crate) struct Registry {
    client: Client,
    auth: RegistryAuth,
    host: String,
    prefix: String,
}

impl Registry {
    /// The registry `host` or `host/prefix`.
    pub(crate) fn new(text: &str) -> Result<Self> {
        let (host, prefix) = text.split_once('/').unwrap_or((text, ""));
        if host.is_empty() || host.ends_with(':') {
            bail!("expected a registry such as `127.0.0.1:5000` or `ghcr.io/you`, found `{text}`");
        }
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        // Without a provider, the client can't be made, even for plain HTTP. A second call fails, and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let protocol = if is_loopback(host) { ClientProtocol::Http } else { ClientProtocol::Https };
        let client = Client::try_from(ClientConfig { protocol, ..ClientConfig::default() })?;
        Ok(Self { client, auth: credentials(host)?, host: host.to_owned(), prefix })
    }

    /// Pushes an image with its bills of materials, and returns its name with tag and digest.
    pub(crate) async fn push(&self, name: &str, tag: &str, image: &Layout, bills: &Layout) -> Result<String> {
        let [manifest] = image.manifests() else { bail!("expected a layout with one image") };
        let repository = format!("{}{name}", self.prefix);
        let tagged = Reference::with_tag(self.host.clone(), repository.clone(), tag.to_owned());
        eprintln!("pushing {tagged}");
        self.client.store_auth_if_needed(&self.host, &self.auth).await;
        self.push_blobs(image, manifest, &repository).await?;
        self.push_manifest(image, manifest, &tagged).await.with_context(|| format!("cannot push {tagged}"))?;
        for bill in bills.manifests() {
            self.push_blobs(bills, bill, &repository).await?;
            self.push_manifest(bills, bill, &self.untagged(&repository, bill)).await?;
            self.refer(bills, bill, &repository).await?;
        }
        Ok(format!("{tagged}@{}", manifest.digest))
    }

    /// Pushes everything that a manifest or an index names, but not itself.
    async fn push_blobs(&self, layout: &Layout, manifest: &Descriptor, repository: &str) -> Result<()> {
        for child in layout.children(manifest)? {
            let reference = self.digest(repository, &child);
            if is_manifest(&child) {
                Box::pin(self.push_blobs(layout, &child, repository)).await?;
                self.push_manifest(layout, &child, &self.untagged(repository, &child)).await?;
            } else if !self.has(&child, &reference).await {
                let bytes = layout.bytes(&child)?.to_vec();
                match self.client.push_blob(&reference, bytes, &child.digest).await {
                    // Some registries do not say where a blob is, such as that of go-containerregistry.
                    Err(OciDistributionError::RegistryNoLocationError) if self.has(&child, &reference).await => {}
                    pushed => _ = pushed.with_context(|| format!("cannot push to {}; {LOGIN}", self.host))?,
                }
            }
        }
        Ok(())
    }

    async fn has(&self, blob: &Descriptor, reference: &Reference) -> bool {
        self.client.blob_exists(reference, &blob.digest).await.unwrap_or(false)
    }

    async fn push_manifest(&self, layout: &Layout, manifest: &Descriptor, to: &Reference) -> Result<()> {
        let bytes = layout.bytes(manifest)?.to_vec();
        self.client.push_manifest_raw(to, bytes, manifest.media_type.parse()?).await?;
        Ok(())
    }

    /// Adds an artifact to those that refer to its subject, if the registry has not done so itself: a registry without the API of
    /// referrers has a tag with their index (OCI distribution specification 1.1, "Referrers Tag Schema").
    async fn refer(&self, layout: &Layout, artifact: &Descriptor, repository: &str) -> Result<()> {
        let manifest: Value = serde_json::from_slice(layout.bytes(artifact)?)?;
        let subject: Descriptor = serde_json::from_value(manifest["subject"].clone())?;
        let known = self.client.pull_referrers(&self.digest(repository, &subject), None).await?.manifests;
        if known.iter().any(|one| one.digest == artifact.digest) {
            return Ok(());
        }
        let mut manifests = serde_json::to_value(known)?;
        if let Some(manifests) = manifests.as_array_mut() {
            manifests.push(serde_json::to_value(artifact)?);
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let tag = subject.digest.replace(':', "-");
        let tagged = Reference::with_tag(self.host.clone(), repository.to_owned(), tag);
        self.client.push_manifest_raw(&tagged, index.to_string(), INDEX.parse()?).await?;
        Ok(())
    }

    /// Where a manifest without a tag goes. The client panics at a reference by digest, if the registry does not say where the
    /// manifest is.
    fn untagged(&self, repository: &str, manifest: &Descriptor) -> Reference {
        Reference::with_tag(self.host.clone(), repository.to_owned(), manifest.digest.clone())
    }

    fn digest(&self, repository: &str, blob: &Descriptor) -> Reference {
        Reference::with_digest(self.host.clone(), repository.to_owned(), blob.digest.clone())
    }
}

/// What `docker login` has stored for the registry.
fn credentials(host: &str) -> Result<RegistryAuth> {
    match docker_credential::get_credential(host) {
        Ok(DockerCredential::UsernamePassword(name, password)) => Ok(RegistryAuth::Basic(name, password)),
        Ok(DockerCredential::IdentityToken(_)) => {
            bail!("docker has an identity token for {host}, expected a name and a password: {LOGIN}")
        }
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(RegistryAuth::Anonymous),
        Err(error) => Err(error).with_context(|| format!("cannot read the credentials for {host}; {LOGIN}")),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

const LOGIN: &str = "if it asks for a login, run `docker login` or `crane auth login` first";
