//! The tasks of an entry's Jobs, and what their workers find mounted.

use super::Owner;
use super::claim::{CA_KEY, ca_config_map_name};
use super::job::{Attempt, Mount, VOLUME_PATH};
use crate::api::connection::{CaBundleKind, ProxySpec};
use crate::api::{ModelCacheEntry, annotation, label};
use crate::controller::config::Config;
use crate::controller::plan::connection::ObservedConnection;
use crate::controller::plan::export::WantedExport;
use crate::controller::plan::import::{Folder, ObservedImport};
use crate::controller::plan::inventory::ObservedInventory;
use crate::controller::plan::queue::Slot;
use crate::controller::plan::{
    ArchiveSpot, CaSource, Freshness, HubView, Observed, Origin, PeerStanding, Wanted, Why, certain_model, hub_view,
    known_model, origin, placement, settings, storage_of, wanted_claim,
};
use crate::format::layout::Source;
use crate::format::task::{
    Adopt, ArchivePlace, ArchiveUrl, Check, Delete, Download, Expected, Export, HubAccess, Import, List, MountedFile,
    ProxyChoice, Question, Resolve, Task, Work,
};
use crate::ident::{ByteRate, ModelKey, ModelRef, RelPath, Sha256};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath, SecretVolumeSource, Volume};
use std::path::PathBuf;

const TOKEN_DIR: &str = "/hub-token";
const TOKEN_FILE: &str = "token";
const CA_DIR: &str = "/hub-ca";
const CA_FILE: &str = "ca.crt";
/// Where the worker finds the claim of an archive.
const ARCHIVE_PATH: &str = "/archive";
const ARCHIVE_AUTH_DIR: &str = "/archive-auth";

/// The Job of the next attempt to fill the volume; of a Hub, with such a commit.
pub fn transfer_job(observed: &Observed, wanted: &Wanted, fresh: &Freshness) -> Job {
    let owner = Owner::of(observed);
    // Who only reads must not re-own the volume.
    let only_reads = matches!(wanted.origin, Origin::Volume { .. });
    let mut mounts = vec![Mount::claim("volume", &wanted.claim_name, VOLUME_PATH, only_reads)];
    let work = match &wanted.origin {
        Origin::Hub { model, files } => {
            mounts.extend(token_mount(&wanted.hub));
            mounts.extend(ca_mount(&owner, &wanted.hub));
            Work::Download(Download {
                model: model.clone(),
                hub: hub_access(&wanted.hub),
                files: files.clone(),
                requested_by: wanted.requested_by.clone(),
                seen_at: fresh.seen_at,
                keep: fresh.keep,
                mounted: fresh.mounted.clone(),
            })
        }
        Origin::Archive { place, sha256, expected } => {
            let spot = ArchiveMount { place, claim_of_model: &wanted.claim_name, hub: &wanted.hub, read_only: true };
            mounts.extend(spot.mounts(&owner));
            Work::Import(import(spot.place(), *sha256, expected.as_ref()))
        }
        Origin::Volume { model, manifest } => Work::Adopt(Adopt { model: model.clone(), manifest: *manifest }),
    };
    let task = Task {
        nonce: observed.nonce.clone(),
        volume: VOLUME_PATH.into(),
        sub_path: wanted.sub_path.clone(),
        policy: wanted.hub.policy.clone(),
        work,
    };
    let attempt = Attempt {
        owner: &owner,
        config: &observed.config,
        task: &task,
        writes_to: Some(&wanted.claim_name),
        settings: &wanted.job,
        mounts,
    };
    for_hub(counted(attempt.job(), observed, wanted), &wanted.hub)
}

/// A Job that takes from a Hub is counted, and so are its Pods.
fn counted(mut job: Job, observed: &Observed, wanted: &Wanted) -> Job {
    if !matches!(wanted.origin, Origin::Hub { .. }) {
        return job;
    }
    let slot = Slot::of(&wanted.hub, &observed.connection);
    let pod = job.spec.as_mut().and_then(|spec| spec.template.metadata.as_mut());
    for metadata in [Some(&mut job.metadata), pod].into_iter().flatten() {
        metadata.labels.get_or_insert_default().extend(slot.labels());
    }
    if let Some(limit) = slot.connection.and_then(|through| through.limit) {
        let annotations = job.metadata.annotations.get_or_insert_default();
        annotations.insert(annotation::MAX_CONCURRENT_JOBS.to_owned(), limit.to_string());
    }
    job
}

/// A Job with the way to its Hub, which tells a failed one from what would be tried now.
fn for_hub(mut job: Job, hub: &HubView) -> Job {
    let annotations = job.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::HUB.to_owned(), hub.digest());
    job
}

/// The Job that asks what the model is and takes. It mounts no volume but the archive's. None where the model is on its volume
/// already, and there is nobody to ask.
pub fn resolve_job(observed: &Observed, wanted: &Wanted) -> Option<Job> {
    let owner = Owner::of(observed);
    let (mounts, resolve) = match &wanted.origin {
        Origin::Hub { model, files } => {
            let question = Question { model: model.clone(), hub: hub_access(&wanted.hub), files: files.clone() };
            let mounts = token_mount(&wanted.hub).into_iter().chain(ca_mount(&owner, &wanted.hub)).collect();
            (mounts, Resolve::Hub(question))
        }
        Origin::Archive { place, .. } => {
            let spot = ArchiveMount { place, claim_of_model: "", hub: &wanted.hub, read_only: true };
            (spot.mounts(&owner), Resolve::Archive(spot.place()))
        }
        Origin::Volume { .. } => return None,
    };
    let task = Task {
        nonce: observed.nonce.clone(),
        volume: PathBuf::new(),
        sub_path: None,
        policy: wanted.hub.policy.clone(),
        work: Work::Resolve(resolve),
    };
    let (config, settings) = (&observed.config, &wanted.job);
    let attempt = Attempt { owner: &owner, config, task: &task, writes_to: None, settings, mounts };
    Some(for_hub(counted(attempt.job(), observed, wanted), &wanted.hub))
}

fn hub_access(hub: &HubView) -> HubAccess {
    HubAccess {
        endpoint: hub.endpoint.clone(),
        token: hub.token.as_ref().map(|secret| MountedFile {
            path: format!("{TOKEN_DIR}/{TOKEN_FILE}").into(),
            origin: format!("Secret {:?}, key {:?}", secret.name, secret.key),
        }),
        ca_bundle: ca_file(hub),
        proxy: proxy(hub.proxy.as_ref()),
        limit_bytes_per_second: hub.limit.map(ByteRate::bytes_per_second),
    }
}

fn import(archive: ArchivePlace, sha256: Option<Sha256>, expected: Option<&ModelRef>) -> Import {
    let expected = expected.map(|model| Expected { repo: model.repo.clone(), revision: model.revision.clone() });
    Import { archive, sha256, expected, verify_against: None }
}

/// What a volume calls the source of an entry's archive.
pub fn archive_source(entry: &ModelCacheEntry) -> Option<Sha256> {
    let Ok(Origin::Archive { place, sha256, expected }) = origin(&entry.spec) else { return None };
    let archive = archive_place(&place, &wanted_claim(entry)?, None);
    Source::of_import(&import(archive, sha256, expected.as_ref())).map(|source| source.digest())
}

/// What a volume calls the source of an entry: its archive, or the Hub that its last attempt used.
fn source_of(observed: &Observed) -> Option<Sha256> {
    match origin(&observed.entry.spec).ok()? {
        Origin::Archive { .. } => archive_source(&observed.entry),
        Origin::Hub { model, files } => {
            let used = observed.entry.status.as_ref().and_then(|status| status.endpoint.as_ref()?.parse().ok());
            let connected = || hub_view(&observed.connection, &observed.config).ok().map(|hub| hub.endpoint);
            Some(Source::of_hub(&used.or_else(connected)?, &model, &files).digest())
        }
        Origin::Volume { .. } => None,
    }
}

/// The models of the volume's other entries, where it is not certain which one this entry's is.
fn kept_by_others(observed: &Observed) -> Vec<ModelKey> {
    if certain_model(&observed.entry).is_some() {
        return Vec::new();
    }
    let staying = observed.peers.iter().filter(|peer| !peer.deleting && peer.standing != PeerStanding::Stuck);
    staying.filter_map(|peer| peer.key.as_deref()?.parse().ok()).collect()
}

/// The Job that removes the entry's files from a shared claim, or why it has to wait. It needs no Hub, so it cannot fail for one.
pub fn delete_job(observed: &Observed) -> Result<Option<Job>, Why> {
    let Some(storage) = storage_of(&observed.entry) else { return Ok(None) };
    let Some(claim_name) = storage.claim_name.as_deref() else { return Ok(None) };
    let task = Task {
        nonce: observed.nonce.clone(),
        volume: VOLUME_PATH.into(),
        sub_path: storage.sub_path.as_deref().and_then(|path| path.parse().ok()),
        policy: None,
        work: Work::Delete(Delete {
            model: known_model(&observed.entry),
            // Whoever failed did not make what is there.
            unfinished_only: observed.entry.status.as_ref().is_none_or(|status| status.manifest.is_none()),
            source: source_of(observed),
            kept: kept_by_others(observed),
        }),
    };
    let settings = settings(&observed.entry, &observed.connection, &observed.config);
    let settings = placement::place(&observed.scene, settings)?;
    let attempt = Attempt {
        owner: &Owner::of(observed),
        config: &observed.config,
        task: &task,
        writes_to: Some(claim_name),
        settings: &settings,
        mounts: vec![Mount::claim("volume", claim_name, VOLUME_PATH, false)],
    };
    Ok(Some(attempt.job()))
}

/// The Job of the next attempt to write an archive. The model's volume is mounted for reading, unless the archive goes there.
pub fn export_job(owner: &Owner, config: &Config, wanted: &WantedExport, nonce: &str) -> Job {
    let claim_of_model = &wanted.claim_name;
    let spot = ArchiveMount { place: &wanted.destination, claim_of_model, hub: &wanted.hub, read_only: false };
    let same_claim = matches!(&wanted.destination, ArchiveSpot::Claim { name, .. } if name == claim_of_model);
    let mut mounts = vec![Mount::claim("volume", claim_of_model, VOLUME_PATH, !same_claim)];
    mounts.extend(spot.mounts(owner));
    let task = Task {
        nonce: nonce.to_owned(),
        volume: VOLUME_PATH.into(),
        sub_path: wanted.sub_path.clone(),
        policy: None,
        work: Work::Export(Export {
            model: wanted.model.clone(),
            format: wanted.format,
            archive: spot.place(),
            usage: wanted.usage.clone(),
            seed_strict: false,
        }),
    };
    let attempt = Attempt { owner, config, task: &task, writes_to: None, settings: &wanted.job, mounts };
    let mut job = for_hub(attempt.job(), &wanted.hub);
    // The entry is not deleted while it is read.
    job.metadata.labels.get_or_insert_default().insert(label::READS.to_owned(), wanted.entry.clone());
    job
}

/// The Job that tells which archives a folder holds.
pub fn list_job(observed: &ObservedImport, folder: &Folder) -> Job {
    let task = Task {
        nonce: observed.nonce.clone(),
        volume: ARCHIVE_PATH.into(),
        sub_path: None,
        policy: None,
        work: Work::List(List { folder: folder.path.clone(), origin: folder.shown() }),
    };
    let attempt = Attempt {
        owner: &Owner::of_import(observed),
        config: &observed.config,
        task: &task,
        writes_to: None,
        settings: &observed.job_settings(),
        mounts: vec![Mount::claim("archive", &folder.claim, ARCHIVE_PATH, true)],
    };
    attempt.job()
}

/// The Job that asks whether a connection's Hub can be reached, and whose token it is.
pub fn check_job(observed: &ObservedConnection, hub: &HubView) -> Job {
    let owner = Owner::of_connection(observed);
    let task = Task {
        nonce: observed.nonce.clone(),
        volume: PathBuf::new(),
        sub_path: None,
        policy: None,
        work: Work::Check(Check { hub: hub_access(hub) }),
    };
    let attempt = Attempt {
        owner: &owner,
        config: &observed.config,
        task: &task,
        writes_to: None,
        settings: &observed.job_settings(),
        mounts: token_mount(hub).into_iter().chain(ca_mount(&owner, hub)).collect(),
    };
    for_hub(attempt.job(), hub)
}

/// The Job that tells what is on a volume.
pub fn inventory_job(observed: &ObservedInventory, sub_path: Option<RelPath>) -> Job {
    let task = Task {
        nonce: observed.nonce.clone(),
        volume: VOLUME_PATH.into(),
        sub_path,
        policy: None,
        work: Work::Inventory,
    };
    let attempt = Attempt {
        owner: &Owner::of_inventory(observed),
        config: &observed.config,
        task: &task,
        writes_to: None,
        settings: &observed.job_settings(),
        mounts: vec![Mount::claim("volume", &observed.inventory.spec.claim_name, VOLUME_PATH, true)],
    };
    attempt.job()
}

/// How a worker reaches an archive.
pub(super) struct ArchiveMount<'a> {
    pub(super) place: &'a ArchiveSpot,
    /// The claim that is mounted for the model: a Pod cannot mount one claim twice.
    pub(super) claim_of_model: &'a str,
    pub(super) hub: &'a HubView,
    pub(super) read_only: bool,
}

impl ArchiveMount<'_> {
    pub(super) fn mounts(&self, owner: &Owner) -> Vec<Mount> {
        match self.place {
            ArchiveSpot::Claim { name, .. } if name == self.claim_of_model => Vec::new(),
            ArchiveSpot::Claim { name, .. } => vec![Mount::claim("archive", name, ARCHIVE_PATH, self.read_only)],
            ArchiveSpot::Url { auth, .. } => {
                let login = auth.as_ref().map(|name| Mount {
                    volume: Volume {
                        name: "archive-auth".into(),
                        secret: Some(SecretVolumeSource {
                            secret_name: Some(name.clone()),
                            optional: Some(true),
                            default_mode: Some(0o440),
                            items: None,
                        }),
                        ..Volume::default()
                    },
                    path: ARCHIVE_AUTH_DIR,
                    read_only: true,
                });
                login.into_iter().chain(ca_mount(owner, self.hub)).collect()
            }
        }
    }

    pub(super) fn place(&self) -> ArchivePlace {
        archive_place(self.place, self.claim_of_model, Some(self.hub))
    }
}

/// Where a worker finds an archive, and how; without a Hub's view, only where.
fn archive_place(place: &ArchiveSpot, claim_of_model: &str, hub: Option<&HubView>) -> ArchivePlace {
    match place {
        ArchiveSpot::Claim { name, path } => {
            let root = if name == claim_of_model { VOLUME_PATH } else { ARCHIVE_PATH };
            ArchivePlace::File(MountedFile { path: format!("{root}/{path}").into(), origin: place.shown() })
        }
        ArchiveSpot::Url { url, auth } => ArchivePlace::Url(ArchiveUrl {
            url: url.clone(),
            auth: auth
                .as_ref()
                .map(|name| MountedFile { path: ARCHIVE_AUTH_DIR.into(), origin: format!("Secret {name:?}") }),
            ca_bundle: hub.and_then(ca_file),
            proxy: proxy(hub.and_then(|hub| hub.proxy.as_ref())),
        }),
    }
}

fn proxy(spec: Option<&ProxySpec>) -> ProxyChoice {
    let ProxySpec { http, https, no_proxy } = spec.cloned().unwrap_or_default();
    ProxyChoice { http, https, no_proxy }
}

fn ca_file(hub: &HubView) -> Option<MountedFile> {
    hub.ca.as_ref().map(|source| MountedFile {
        path: format!("{CA_DIR}/{CA_FILE}").into(),
        origin: match source {
            CaSource::Object(object) => format!("{} {:?}, key {:?}", object.kind.as_str(), object.name, object.key),
            CaSource::Operator(_) => "the operator's CA bundle".to_owned(),
        },
    })
}

// Token and CA are optional mounts: where one is missing the Pod still starts, and the worker says which. Waiting for the
// kubelet's own word would take minutes, and the operator would need to read Secrets.

fn token_mount(hub: &HubView) -> Option<Mount> {
    let token = hub.token.as_ref()?;
    let volume = Volume {
        name: "hub-token".into(),
        secret: Some(secret(&token.name, &token.key, TOKEN_FILE)),
        ..Volume::default()
    };
    Some(Mount { volume, path: TOKEN_DIR, read_only: true })
}

fn ca_mount(owner: &Owner, hub: &HubView) -> Option<Mount> {
    let config_map = |name: String, key: &str| ConfigMapVolumeSource {
        name,
        items: Some(item(key, CA_FILE)),
        optional: Some(true),
        default_mode: None,
    };
    let mut volume = Volume { name: "hub-ca".into(), ..Volume::default() };
    match hub.ca.as_ref()? {
        CaSource::Object(object) if object.kind == CaBundleKind::Secret => {
            volume.secret = Some(secret(&object.name, &object.key, CA_FILE));
        }
        CaSource::Object(object) => volume.config_map = Some(config_map(object.name.clone(), &object.key)),
        CaSource::Operator(pem) => volume.config_map = Some(config_map(ca_config_map_name(owner, pem), CA_KEY)),
    }
    Some(Mount { volume, path: CA_DIR, read_only: true })
}

fn secret(name: &str, key: &str, path: &str) -> SecretVolumeSource {
    SecretVolumeSource {
        secret_name: Some(name.to_owned()),
        items: Some(item(key, path)),
        optional: Some(true),
        default_mode: Some(0o440),
    }
}

fn item(key: &str, path: &str) -> Vec<KeyToPath> {
    vec![KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }]
}
