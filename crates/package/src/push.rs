//! Images to a registry.

use std::{error::Error as _, fmt, net::IpAddr};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::{OciDistributionError, OciErrorCode},
    secrets::RegistryAuth,
};
use serde_json::{Value, json};

use crate::layout::{Descriptor, INDEX, Layout, is_manifest};

/// A registry, and the start of the names of images in it.
pub struct Registry {
    client: Client,
    login: Option<Login>,
    host: String,
    prefix: String,
}

/// Without the password.
impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, prefix, .. } = self;
        f.debug_struct("Registry").field("host", host).field("prefix", prefix).finish_non_exhaustive()
    }
}

/// A name and a password.
pub type Login = (String, String);

/// Why an image can't be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The text is not the name of a registry.
    #[error("expected a registry such as `127.0.0.1:5000` or `ghcr.io/you`, found `{0}`")]
    NotARegistry(String),
    /// There is a login, but it can't be read.
    #[error("cannot read the login for {host}: {why}\nhelp: run `docker login {host}` or `crane auth login {host}`")]
    Login {
        /// The registry.
        host: String,
        /// The cause.
        why: String,
    },
    /// Nothing answers.
    #[error("cannot reach the registry {host}: {why}\nhelp: check the address, and that a registry listens there")]
    Unreachable {
        /// The registry.
        host: String,
        /// The cause.
        why: String,
    },
    /// The registry asks for a login.
    #[error("the registry {0} asks for a login\nhelp: run `docker login {0}` or `crane auth login {0}`")]
    NoLogin(String),
    /// The registry does not accept the login.
    #[error(
        "the registry {host} refuses the login of `{user}`\nhelp: check the password and that `{user}` may push there, then run \
         `docker login {host}` or `crane auth login {host}`"
    )]
    WrongLogin {
        /// The registry.
        host: String,
        /// The name.
        user: String,
    },
    /// The registry answers otherwise than expected.
    #[error("the registry {host} does not accept {what}: {source}")]
    Refused {
        /// The registry.
        host: String,
        /// What was pushed.
        what: String,
        /// Its answer.
        source: Box<OciDistributionError>,
    },
    /// The layout is not whole.
    #[error(transparent)]
    Layout(#[from] anyhow::Error),
}

type Result<T> = std::result::Result<T, PushError>;

impl Registry {
    /// The registry `host` or `host/prefix`, with the login for that host. Loopback addresses are asked over plain HTTP.
    ///
    /// # Errors
    ///
    /// If the text is not the name of a registry, or the login can't be read.
    pub fn new(text: &str, login: impl FnOnce(&str) -> Result<Option<Login>>) -> Result<Self> {
        let (host, prefix) = text.split_once('/').unwrap_or((text, ""));
        if host.is_empty() || host.ends_with(':') {
            return Err(PushError::NotARegistry(text.to_owned()));
        }
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        // Without a provider, the client can't be made, even for plain HTTP. A second call fails, and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let protocol = if is_loopback(host) { ClientProtocol::Http } else { ClientProtocol::Https };
        let client = Client::try_from(ClientConfig { protocol, ..ClientConfig::default() });
        let client = client.map_err(|error| unreachable(host, &error))?;
        Ok(Self { client, login: login(host)?, host: host.to_owned(), prefix })
    }

    /// Pushes an image with its bills of materials, and returns its name with tag and digest.
    ///
    /// # Errors
    ///
    /// If the registry can't be reached, or does not accept the login or the image.
    pub async fn push(&self, name: &str, tag: &str, image: &Layout, bills: &Layout) -> Result<String> {
        let [manifest] = image.manifests() else {
            return Err(anyhow::anyhow!("expected a layout with one image").into());
        };
        let repository = format!("{}{name}", self.prefix);
        let tagged = Reference::with_tag(self.host.clone(), repository.clone(), tag.to_owned());
        let auth = match &self.login {
            Some((user, password)) => RegistryAuth::Basic(user.clone(), password.clone()),
            None => RegistryAuth::Anonymous,
        };
        self.client.store_auth_if_needed(&self.host, &auth).await;
        self.push_blobs(image, manifest, &repository).await?;
        self.push_manifest(image, manifest, &tagged).await?;
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
                    Ok(_) => {}
                    // Some registries do not say where a blob is, such as that of go-containerregistry.
                    Err(OciDistributionError::RegistryNoLocationError) if self.has(&child, &reference).await => {}
                    Err(error) => return Err(self.refusal(&reference, error)),
                }
            }
        }
        Ok(())
    }

    async fn has(&self, blob: &Descriptor, reference: &Reference) -> bool {
        self.client.blob_exists(reference, &blob.digest).await.unwrap_or(false)
    }

    async fn push_manifest(&self, layout: &Layout, manifest: &Descriptor, to: &Reference) -> Result<()> {
        self.put_manifest(layout.bytes(manifest)?.to_vec(), &manifest.media_type, to).await
    }

    async fn put_manifest(&self, bytes: Vec<u8>, media_type: &str, to: &Reference) -> Result<()> {
        let media_type = media_type.parse().map_err(anyhow::Error::from)?;
        let pushed = self.client.push_manifest_raw(to, bytes, media_type).await;
        pushed.map(drop).map_err(|error| self.refusal(to, error))
    }

    /// Adds an artifact to those that refer to its subject, if the registry has not done so itself: a registry without the API of
    /// referrers has a tag with their index (OCI distribution specification 1.1, "Referrers Tag Schema").
    async fn refer(&self, layout: &Layout, artifact: &Descriptor, repository: &str) -> Result<()> {
        let manifest: Value = serde_json::from_slice(layout.bytes(artifact)?).map_err(anyhow::Error::from)?;
        let subject: Descriptor = serde_json::from_value(manifest["subject"].clone()).map_err(anyhow::Error::from)?;
        let to = self.digest(repository, &subject);
        let known = self.client.pull_referrers(&to, None).await.map_err(|error| self.refusal(&to, error))?.manifests;
        if known.iter().any(|one| one.digest == artifact.digest) {
            return Ok(());
        }
        let mut manifests = json!(known);
        if let Some(manifests) = manifests.as_array_mut() {
            manifests.push(json!(artifact));
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let tag = subject.digest.replace(':', "-");
        let tagged = Reference::with_tag(self.host.clone(), repository.to_owned(), tag);
        self.put_manifest(index.to_string().into_bytes(), INDEX, &tagged).await
    }

    /// Where a manifest without a tag goes. The client panics at a reference by digest, if the registry does not say where the
    /// manifest is.
    fn untagged(&self, repository: &str, manifest: &Descriptor) -> Reference {
        Reference::with_tag(self.host.clone(), repository.to_owned(), manifest.digest.clone())
    }

    fn digest(&self, repository: &str, blob: &Descriptor) -> Reference {
        Reference::with_digest(self.host.clone(), repository.to_owned(), blob.digest.clone())
    }

    fn refusal(&self, what: &Reference, error: OciDistributionError) -> PushError {
        let host = self.host.clone();
        match (is_about_login(&error), &self.login) {
            (true, Some((user, _))) => PushError::WrongLogin { host, user: user.clone() },
            (true, None) => PushError::NoLogin(host),
            (false, _) => match &error {
                OciDistributionError::RequestError(request) if request.is_connect() || request.is_timeout() => {
                    unreachable(&host, &error)
                }
                _ => PushError::Refused { host, what: what.to_string(), source: error.into() },
            },
        }
    }
}

/// What `docker login` has stored for a registry.
///
/// # Errors
///
/// If there is something, but not a name and a password.
pub fn stored_login(host: &str) -> Result<Option<Login>> {
    let unreadable = |why: String| PushError::Login { host: host.to_owned(), why };
    match docker_credential::get_credential(host) {
        Ok(DockerCredential::UsernamePassword(name, password)) => Ok(Some((name, password))),
        Ok(DockerCredential::IdentityToken(_)) => {
            Err(unreadable("expected a name and a password, found an identity token".to_owned()))
        }
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(None),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// Whether another login may help.
fn is_about_login(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => true,
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|one| matches!(one.code, OciErrorCode::Unauthorized | OciErrorCode::Denied))
        }
        OciDistributionError::ServerError { code, .. } => [401, 403].contains(code),
        OciDistributionError::RequestError(error) => {
            error.status().is_some_and(|code| [401, 403].contains(&code.as_u16()))
        }
        _ => false,
    }
}

fn unreachable(host: &str, error: &OciDistributionError) -> PushError {
    // The first cause is what the system says.
    let mut cause = error.source();
    let mut why = error.to_string();
    while let Some(error) = cause {
        why = error.to_string();
        cause = error.source();
    }
    PushError::Unreachable { host: host.to_owned(), why }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_matches(['[', ']']);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
