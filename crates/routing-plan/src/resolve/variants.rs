//! The variants of each service: those in the plan, and those in variant files.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::{ExpiredVariant, Expiry, ResolvedVariant, Resolver, parse_timestamp, service, spec};
use crate::{
    diagnostic::{Diagnostic, Document, Location, nearest},
    names,
    plan::ServiceSpec,
};

/// A variant as it is written, in the plan or in a variant file.
pub(super) struct WrittenVariant<'p> {
    version: &'p str,
    host: Option<&'p str>,
    expires_at: Option<&'p str>,
    /// Where the three are.
    locations: [Location; 3],
}

impl<'p> Resolver<'p> {
    /// The variants of each of the plan's services.
    pub(super) fn written_variants(&mut self) -> Vec<Vec<WrittenVariant<'p>>> {
        let services = &self.plan.spec.services;
        let mut variants: Vec<Vec<WrittenVariant<'p>>> = services
            .iter()
            .enumerate()
            .map(|(index, written)| inline_variants(&service(index).field("variants"), written))
            .collect();
        let by_name: HashMap<&str, usize> =
            services.iter().enumerate().map(|(index, service)| (&*service.name, index)).collect();
        for (index, file) in self.variants.iter().enumerate() {
            let root = || Location::root(Document::Variant(index));
            let at = |field| root().field("spec").field(field);
            self.check(root().field("metadata").field("name"), &file.metadata.name, names::host);
            let Some(list) = by_name.get(&*file.spec.service).and_then(|index| variants.get_mut(*index)) else {
                let message = format!("the plan has no service `{}`", file.spec.service);
                let mut diagnostic = Diagnostic::new(at("service"), message)
                    .with_related(spec().field("services"), "the plan's services");
                diagnostic.help =
                    nearest(&file.spec.service, by_name.keys().copied()).map(|near| format!("did you mean `{near}`?"));
                self.report(diagnostic);
                continue;
            };
            list.push(WrittenVariant {
                version: &file.spec.variant,
                host: file.spec.host.as_deref(),
                expires_at: file.spec.expires_at.as_deref(),
                locations: [at("variant"), at("host"), at("expiresAt")],
            });
        }
        variants
    }

    pub(super) fn variants(
        &mut self,
        index: usize,
        of: &ServiceSpec,
        written: Vec<WrittenVariant<'p>>,
    ) -> Vec<ResolvedVariant> {
        let template = of.variant_host.as_deref().unwrap_or(DEFAULT_HOST);
        let example = expand(template, of, "v");
        if names::host(&example).is_err() {
            let message = format!("expected a template of DNS names, found `{template}`, which gives `{example}`");
            let diagnostic = Diagnostic::new(service(index).field("variantHost"), message);
            self.report(diagnostic.with_help("the placeholders are {variant}, {service} and {namespace}"));
            return Vec::new();
        }
        let mut variants: BTreeMap<String, ResolvedVariant> = BTreeMap::new();
        for variant in written {
            let expires_location = variant.locations[2].clone();
            let Some(variant) = self.variant(template, of, variant) else { continue };
            let ResolvedVariant { name, expires_at, .. } = &variant;
            if let Some(first) = variants.get(name) {
                let message = format!("duplicate variant `{name}` of the service `{}`", of.name);
                let diagnostic = Diagnostic::new(variant.location.clone(), message);
                self.report(diagnostic.with_related(first.location.clone(), "the first one"));
                continue;
            }
            let has_expired = |now: Timestamp| expires_at.is_some_and(|time| time <= now);
            match self.expiry {
                Expiry::Refuse(now) if has_expired(now) => {
                    let message = format!("the variant `{name}` of `{}` has expired", of.name);
                    let diagnostic = Diagnostic::new(expires_location, message);
                    self.report(diagnostic.with_help(
                        "remove it (`manifest-gen prune` removes such files), or leave it out with `--now TIME`",
                    ));
                }
                Expiry::LeaveOut(now) if has_expired(now) => {
                    self.expired.push(ExpiredVariant { service: of.name.clone(), variant });
                    continue;
                }
                _ => {}
            }
            variants.insert(name.clone(), variant);
        }
        variants.into_values().collect()
    }

    fn variant(&mut self, template: &str, of: &ServiceSpec, written: WrittenVariant<'p>) -> Option<ResolvedVariant> {
        let WrittenVariant { version, host, expires_at, locations: [location, host_location, expires_location] } =
            written;
        if !self.check(location.clone(), version, names::version) {
            return None;
        }
        let expires_at = expires_at.map(parse_timestamp).transpose().unwrap_or_else(|error| {
            self.report(Diagnostic::new(expires_location, error.to_string()));
            None
        });
        let host = if let Some(host) = host {
            self.check(host_location.clone(), host, names::host);
            self.kubernetes_host(host_location, host);
            host.to_owned()
        } else {
            let host = expand(template, of, version);
            if names::host(&host).is_err() {
                let message = format!("`{version}` gives the host `{host}`, which is not a DNS name");
                let diagnostic = Diagnostic::new(location.clone(), message);
                self.report(diagnostic.with_help("give the variant's `host`"));
            }
            self.kubernetes_host(location.clone(), &host);
            host
        };
        Some(ResolvedVariant { name: version.to_owned(), host, expires_at, location })
    }
}

fn inline_variants<'p>(list: &Location, service: &'p ServiceSpec) -> Vec<WrittenVariant<'p>> {
    let written = service.variants.iter().enumerate();
    written
        .map(|(index, variant)| {
            let at = |field| list.clone().index(index).field(field);
            WrittenVariant {
                version: &variant.name,
                host: variant.host.as_deref(),
                expires_at: variant.expires_at.as_deref(),
                locations: [at("name"), at("host"), at("expiresAt")],
            }
        })
        .collect()
}

fn expand(template: &str, service: &ServiceSpec, variant: &str) -> String {
    let fields = [("{variant}", variant), ("{service}", &service.name), ("{namespace}", &service.namespace)];
    fields.iter().fold(template.to_owned(), |text, (field, value)| text.replace(field, value)).to_ascii_lowercase()
}

const DEFAULT_HOST: &str = "{variant}.{namespace}.svc.cluster.local";
