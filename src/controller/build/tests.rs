//! The whole objects, as they are sent.

use crate::api::connection::{CaBundleKind, CaBundleRef, HubConnectionSpec, ProxySpec, SecretKeyRef};
use crate::api::status::ManifestStatus;
use crate::api::{HubConnection, ModelCacheEntry, label};
use crate::controller::build;
use crate::controller::fixture::{observed, own_claim, shared_claim};
use crate::controller::plan::{ConnectionSight, Freshness, Observed, Wanted};

fn wanted(observed: &Observed) -> Wanted {
    Wanted::of(observed).unwrap()
}

#[test]
fn the_job_that_asks_for_the_commit() {
    let world = shared_claim();
    insta::assert_yaml_snapshot!(build::resolve_job(&world, &wanted(&world)).unwrap());
}

#[test]
fn the_claim_of_an_entry() {
    let world = own_claim();
    insta::assert_yaml_snapshot!(build::claim(&world, &wanted(&world)));
}

#[test]
fn the_job_of_a_plain_entry() {
    let world = own_claim();
    insta::assert_yaml_snapshot!(build::transfer_job(&world, &wanted(&world), &Freshness::default()));
}

#[test]
fn the_job_of_an_entry_with_everything() {
    let mut world = observed(
        "{repo: org/model, revision: v1, files: {weights: Safetensors, include: ['*.json'], exclude: ['a/*']}, \
         storage: {claimName: shared, subPath: cache}, job: {nodeSelector: {disk: ssd}, priorityClassName: low, \
         serviceAccountName: worker, labels: {team: a}, annotations: {note: b}, activeDeadlineSeconds: 60, \
         imagePullSecrets: [{name: pull}], tolerations: [{key: gpu, operator: Exists}], \
         securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000, fsGroupChangePolicy: Always, supplementalGroups: [4]}, \
         resources: {limits: {memory: 1Gi}}}}",
    );
    let mut connection = HubConnection::new(
        "corp",
        HubConnectionSpec {
            endpoint: Some("https://corp.example/hub".into()),
            token_secret_ref: Some(SecretKeyRef { name: "hub".into(), key: "tok".into() }),
            ca_bundle_ref: Some(CaBundleRef { kind: CaBundleKind::ConfigMap, name: "ca".into(), key: "pem".into() }),
            proxy: Some(ProxySpec { https: Some("http://proxy:3128".into()), ..ProxySpec::default() }),
            limit_bytes_per_second: Some("50M".into()),
            max_concurrent_jobs: Some(2),
            ..HubConnectionSpec::default()
        },
    );
    connection.metadata.namespace = Some("team-a".into());
    connection.metadata.uid = Some("uid-corp".into());
    world.connection = ConnectionSight::Found(Box::new(connection));
    insta::assert_yaml_snapshot!(build::transfer_job(&world, &wanted(&world), &Freshness::default()));
}

#[test]
fn the_ownership_init_alone_is_root() {
    let mut world = observed(
        "{repo: org/model, storage: {claimName: shared, subPath: cache}, job: {securityContext: {runAsUser: 1000}}}",
    );
    world.config.ownership_init.enabled = true;
    let pod = |world: &Observed| {
        build::transfer_job(world, &wanted(world), &Freshness::default()).spec.unwrap().template.spec.unwrap()
    };
    insta::assert_yaml_snapshot!(pod(&world).init_containers);
    let security = pod(&world).security_context.unwrap();
    assert_eq!(
        (security.run_as_non_root, security.run_as_user, security.run_as_group),
        (Some(true), Some(1000), Some(65532))
    );
    // Who does not write to the cache changes nothing of it.
    let asks = build::resolve_job(&world, &wanted(&world)).unwrap().spec.unwrap().template.spec.unwrap();
    assert_eq!(asks.init_containers, None);
    assert!(build::delete_job(&world).unwrap().unwrap().spec.unwrap().template.spec.unwrap().init_containers.is_some());
}

#[test]
fn ids_that_the_cluster_assigns_are_left_to_it() {
    let mut world = observed(
        "{repo: org/model, storage: {claimName: shared}, job: {securityContext: {ids: Assigned, supplementalGroups: [7]}}}",
    );
    world.config.ownership_init.enabled = true;
    let pod = build::transfer_job(&world, &wanted(&world), &Freshness::default()).spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.init_containers, None, "nobody knows whom the volume shall belong to");
    let security = pod.security_context.unwrap();
    assert_eq!((security.run_as_user, security.run_as_group, security.fs_group), (None, None, None));
    assert_eq!((security.run_as_non_root, security.supplemental_groups), (Some(true), Some(vec![7])));
    let given = observed(
        "{repo: org/model, storage: {claimName: shared}, job: {securityContext: {ids: Assigned, fsGroup: 9}}}",
    );
    let security = build::transfer_job(&given, &wanted(&given), &Freshness::default())
        .spec
        .unwrap()
        .template
        .spec
        .unwrap()
        .security_context
        .unwrap();
    assert_eq!((security.run_as_user, security.fs_group), (None, Some(9)));
}

#[test]
fn the_job_that_removes_files() {
    let mut world = shared_claim();
    world.entry.status.get_or_insert_default().manifest = Some(ManifestStatus::default());
    insta::assert_yaml_snapshot!(build::delete_job(&world).unwrap());
}

#[test]
fn a_removal_has_the_operators_settings_behind_the_entrys() {
    let mut world = observed("{repo: org/model, storage: {claimName: shared}, job: {priorityClassName: low}}");
    world.config.job = serde_yaml::from_str("{nodeSelector: {disk: ssd}, priorityClassName: high}").unwrap();
    let pod = build::delete_job(&world).unwrap().unwrap().spec.unwrap().template.spec.unwrap();
    assert_eq!((pod.priority_class_name.as_deref(), pod.node_selector.unwrap()["disk"].as_str()), (Some("low"), "ssd"));
}

#[test]
fn the_operators_token_stays_with_the_operators_hub() {
    let mut world = shared_claim();
    world.config.token_secret = Some(SecretKeyRef { name: "default-token".into(), key: "token".into() });
    assert!(wanted(&world).hub.token.is_some());
    let other =
        HubConnectionSpec { endpoint: Some("https://elsewhere.example".into()), ..HubConnectionSpec::default() };
    world.connection = ConnectionSight::Found(Box::new(HubConnection::new("default", other)));
    assert_eq!(wanted(&world).hub.token, None);
}

#[test]
fn names_fit_where_they_are_used() {
    let mut world = own_claim();
    world.entry = ModelCacheEntry { metadata: world.entry.metadata.clone(), ..world.entry };
    world.entry.metadata.name = Some(format!("{}-x", "a".repeat(200)));
    let job = build::transfer_job(&world, &wanted(&world), &Freshness::default());
    assert!(job.metadata.name.unwrap().len() <= 63 - 6, "the Pod's name adds six characters");
    assert!(job.metadata.labels.unwrap().values().all(|value| value.len() <= 63));
}

#[test]
fn two_entries_for_one_repo_in_one_volume_are_one_writer() {
    let writer = |spec: &str| {
        let world = observed(spec);
        let labels = build::transfer_job(&world, &wanted(&world), &Freshness::default()).metadata.labels.unwrap();
        [label::VOLUME, label::WRITER].map(|key| labels[key].clone())
    };
    let first = writer("{repo: org/model, storage: {claimName: shared}}");
    assert_eq!(first, writer("{repo: org/model, revision: v1, storage: {claimName: shared}}"));
    assert_ne!(first, writer("{repo: org/other, storage: {claimName: shared}}"));
    assert_ne!(first, writer("{repo: org/model, storage: {claimName: shared, subPath: x}}"));
    let [volume, repo] = writer("{source: {archive: {claimName: usb, path: a.tar}}, storage: {claimName: shared}}");
    assert_eq!((&volume, repo.as_str()), (&first[0], label::ANY_REPO), "nobody knows its repo yet");
}

#[test]
fn the_operators_certificates_come_as_a_config_map_of_the_entry() {
    let mut world = shared_claim();
    world.config.ca_bundle = Some("-----BEGIN CERTIFICATE-----".into());
    let job = build::transfer_job(&world, &wanted(&world), &Freshness::default());
    let map = build::ca_config_map(&build::Owner::of(&world), "-----BEGIN CERTIFICATE-----");
    let volumes = job.spec.unwrap().template.spec.unwrap().volumes.unwrap();
    let mounted = volumes.iter().find_map(|volume| volume.config_map.as_ref()).unwrap();
    assert_eq!(Some(&mounted.name), map.metadata.name.as_ref(), "the Job mounts what is made");
    assert_ne!(
        map.metadata.name,
        build::ca_config_map(&build::Owner::of(&world), "other").metadata.name,
        "other certificates, other name"
    );
    insta::assert_yaml_snapshot!(map);
}

#[test]
fn the_job_that_asks_what_a_model_takes() {
    let world = observed("{repo: org/model, storage: {volumeClaimTemplate: {spec: {}}}}");
    insta::assert_yaml_snapshot!(build::resolve_job(&world, &wanted(&world)));
}
