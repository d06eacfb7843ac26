//! Between here and the Hub: certificates, proxies, nobody.

use crate::fakehub::{self, Authority, Fault, Hub, answer};
use crate::rig::{Rig, chosen};
use modelcache::format::task::ProxyChoice;
use modelcache::ident::Reason;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

async fn with_tls(authority: &Authority) -> Rig {
    Rig::on(fakehub::start_tls(Hub::new(fakehub::tiny_model()), authority).await)
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn an_unknown_authority_is_untrusted_until_its_bundle_is_given() {
    let authority = Authority::new();
    let mut rig = with_tls(&authority).await;
    let message = rig.fails(Reason::TLSUntrusted).await;
    assert!(message.contains("localhost") && message.contains("CA bundle"), "{message}");
    let other = rig.mounted("other-ca", &Authority::new().pem);
    rig.download().hub.ca_bundle = Some(other);
    rig.fails(Reason::TLSUntrusted).await;
    let own = rig.mounted("ca", &authority.pem);
    rig.download().hub.ca_bundle = Some(own);
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn missing_files_are_named_by_their_origin() {
    let mut rig = Rig::new().await;
    let mut file = rig.mounted("token", "");
    rig.download().hub.token = Some(file.clone());
    assert!(rig.fails(Reason::SecretNotFound).await.contains("Secret \"token\", key \"k\""));
    file.path = "/nonexistent".into();
    rig.download().hub.token = None;
    rig.download().hub.ca_bundle = Some(file);
    assert!(rig.fails(Reason::TLSUntrusted).await.contains("Secret \"token\", key \"k\""));
}

#[tokio::test]
async fn nobody_at_the_endpoint_is_unavailable() {
    let mut rig = Rig::new().await;
    rig.download().hub.endpoint = nobody().await.parse().unwrap();
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("127.0.0.1") && message.contains("check the endpoint"), "{message}");
    rig.download().hub.endpoint = "http://no-such-host.invalid".parse().unwrap();
    rig.fails(Reason::HubUnavailable).await;
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_given_up() {
    let mut rig = Rig::new().await;
    rig.settings.limits.first_byte = Duration::from_millis(20);
    let [reached, open] = [0, 0].map(|permits| Arc::new(Semaphore::new(permits)));
    rig.hub().fault("/revision/", usize::MAX, Fault::Pause { after: 0, reached: Arc::clone(&reached), open });
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("no answer within 0.02 s"), "{message}");
    assert_eq!(reached.available_permits(), 4, "each try waits anew");
}

#[tokio::test]
async fn a_connection_that_does_not_stand_is_given_up() {
    // The system takes connections, but nobody shakes hands.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut rig = Rig::new().await;
    rig.settings.limits.connect = Duration::from_millis(20);
    rig.download().hub.endpoint = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("cannot be reached") && message.contains("timed out"), "{message}");
}

#[tokio::test]
async fn a_dead_proxy_is_not_a_dead_hub() {
    let mut rig = Rig::new().await;
    let proxy = nobody().await;
    let with_login = proxy.replace("http://", "http://me:hunter2@");
    rig.download().hub.proxy = ProxyChoice { http: Some(with_login), ..ProxyChoice::default() };
    let message = rig.fails(Reason::ProxyError).await;
    assert!(message.contains(proxy.trim_start_matches("http://")), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    rig.download().hub.proxy.no_proxy = Some("127.0.0.1".into());
    rig.run().await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named() {
    // For https the client asks the proxy for a tunnel; for http it asks it for the page.
    for (tls, status) in [
        (true, "403 Forbidden"),
        (true, "407 Proxy Authentication Required"),
        (false, "407 Proxy Authentication Required"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://me:hunter2@{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
            }
        });
        let authority = Authority::new();
        let mut rig = if tls { with_tls(&authority).await } else { Rig::new().await };
        rig.download().hub.proxy = ProxyChoice { http: Some(proxy.clone()), https: Some(proxy), no_proxy: None };
        let message = rig.fails(Reason::ProxyError).await;
        assert!(!message.contains("hunter2"), "{message}");
        server.abort();
    }
}

#[tokio::test]
async fn an_expired_signature_is_asked_for_again_but_not_for_ever() {
    let cdn = fakehub::start(Hub::new(fakehub::tiny_model())).await;
    let mut rig = Rig::new().await;
    *rig.hub().cdn.lock().unwrap() = Some(cdn.endpoint());
    cdn.hub.fault("/cdn/", 1, answer(403, &[], "expired"));
    rig.run().await.unwrap();
    rig.assert_published(&chosen());

    let mut rig = Rig::new().await;
    *rig.hub().cdn.lock().unwrap() = Some(cdn.endpoint());
    cdn.hub.fault("/cdn/", usize::MAX, answer(403, &[], "expired"));
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("403") && !message.contains("signature"), "{message}");
}
