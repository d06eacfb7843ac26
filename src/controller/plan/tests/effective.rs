use super::*;
use crate::api::HubConnection;
use crate::controller::fixture::{observed, shared_claim};
use crate::controller::plan::{ConnectionSight, hub_view};
use serde_json::{Value, json};

fn connected(mut world: Observed, spec: &Value) -> Observed {
    let connection = HubConnection::new("team", serde_json::from_value(spec.clone()).unwrap());
    world.connection = ConnectionSight::Found(Box::new(connection));
    world
}

fn effective(world: &Observed) -> Value {
    json!(decide(world).status.effective)
}

#[test]
fn the_operators_defaults_are_echoed() {
    let mut world = shared_claim();
    world.config = serde_yaml::from_str(
        "{image: a, endpoint: 'https://hub.example', tokenSecret: {name: token, key: t}, caBundle: PEM, maxConcurrentJobs: 8, limitBytesPerSecond: 80M}",
    )
    .unwrap();
    let expected = json!({
        "endpoint": "https://hub.example",
        "tokenSecret": "token",
        "caBundle": "the operator's",
        "maxConcurrentJobsOfHub": 8,
        "limitBytesPerSecond": "10000000",
        "limitBytesPerSecondOfHub": "80000000",
        "storage": {"claimName": "shared", "subPath": "cache"},
    });
    assert_eq!(effective(&world), expected);
}

#[test]
fn the_connection_and_the_entry_go_before_them_and_no_login_is_shown() {
    let mut world = shared_claim();
    world.entry.spec.retention = serde_json::from_value(json!({"pinned": false})).unwrap();
    let spec = json!({
        "endpoint": "https://mirror.example/hub",
        "tokenSecretRef": {"name": "mine", "key": "t"},
        "caBundleRef": {"kind": "Secret", "name": "ca", "key": "pem"},
        "proxy": {"https": "http://me:p@ss/w@rd@proxy.example:3128", "noProxy": ".svc"},
        "limitBytesPerSecond": "50M",
        "maxConcurrentJobs": 2,
        "cache": {"retention": {"unusedFor": "720h"}},
    });
    let said = effective(&connected(world, &spec));
    let expected = json!({
        "connection": "team",
        "endpoint": "https://mirror.example/hub",
        "tokenSecret": "mine",
        "caBundle": "Secret ca, key pem",
        "proxy": {"https": "http://***@proxy.example:3128", "noProxy": ".svc"},
        "limitBytesPerSecond": "50M",
        "maxConcurrentJobs": 2,
        "storage": {"claimName": "shared", "subPath": "cache"},
        "retention": {"pinned": false, "unusedFor": "720h"},
    });
    assert_eq!(said, expected);
}

#[test]
fn the_smaller_of_two_rates_holds() {
    for (of_connection, of_all, holds) in
        [("50M", "80M", "40000000"), ("20M", "80M", "20M"), ("0.04G", "80M", "0.04G"), ("50M", "1G", "50M")]
    {
        let mut world = shared_claim();
        let config = format!("{{image: a, maxConcurrentJobs: 2, limitBytesPerSecond: {of_all}}}");
        world.config = serde_yaml::from_str(&config).unwrap();
        let world = connected(world, &json!({"limitBytesPerSecond": of_connection}));
        assert_eq!(effective(&world)["limitBytesPerSecond"], holds, "{of_connection} and {of_all}");
        let rate = hub_view(&world.connection, &world.config).unwrap().limit.unwrap();
        assert_eq!(Ok(rate), holds.parse());
    }
}

#[test]
fn of_an_archive_only_what_its_worker_uses_is_said() {
    let mut world = observed("{source: {archive: {claimName: usb, path: a.tar}}, storage: {claimName: shared}}");
    world.config.token_secret = serde_json::from_value(json!({"name": "token", "key": "t"})).unwrap();
    assert_eq!(effective(&world), json!({"storage": {"claimName": "shared"}}));
    world.entry.spec.source = serde_json::from_value(json!({"archive": {"url": "https://files.example/a"}})).unwrap();
    world.config.proxy = serde_json::from_value(json!({"https": "http://proxy:1"})).unwrap();
    let expected = json!({"proxy": {"https": "http://proxy:1"}, "storage": {"claimName": "shared"}});
    assert_eq!(effective(&world), expected);
}

#[test]
fn what_a_missing_connection_said_is_kept() {
    let world = connected(shared_claim(), &json!({"endpoint": "https://mirror.example"}));
    let (plan, mut world) = round(world);
    world.connection = ConnectionSight::Missing("team".to_owned());
    assert_eq!(decide(&world).status.effective, plan.status.effective);
}
