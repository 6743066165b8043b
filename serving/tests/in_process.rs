//! The whole server in this process, on free ports, through the generated client: what an embedder of the
//! crate does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::{Ready, join_all, ready};
use futures_util::stream::{self, Once};
use models::NoProgress;
use proto::v1::inference_service_client::InferenceServiceClient;
use proto::v1::{AnalyzeSentimentRequest, EmbedRequest, GetModelRequest};
use serving::app::{App, Listeners};
use serving::build::Build;
use serving::config::Config;
use serving::readiness::HasParts;
use serving::server;
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

struct TestServer {
    app: Arc<App>,
    client: InferenceServiceClient<Channel>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), serving::app::ServerError>>,
    _state: tempfile::TempDir,
}

/// A server with real weights, and `change` made to its configuration.
async fn start(change: impl FnOnce(&mut Config)) -> TestServer {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let state = tempfile::tempdir().unwrap();
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        ops_listen: ([127, 0, 0, 1], 0).into(),
        data_dir: std::env::var_os("ML_INFERENCE_DATA_DIR").map_or_else(|| root.join("data"), PathBuf::from),
        cards_dir: root.join("model-cards"),
        state_dir: Some(state.path().to_owned()),
        ..Config::default()
    };
    change(&mut config);
    let listeners = Listeners::bind(&config).unwrap();
    let address = listeners.api.local_addr().unwrap();
    let app = {
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || App::build(config, &Build::PLAIN, &NoProgress, &runtime))
    }
    .await
    .unwrap()
    .unwrap();
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = oneshot::channel();
    let server = server::run(Arc::clone(&app), listeners, || ready.send(()).unwrap(), async move {
        let _ = stopped.await;
        server::Shutdown::Interactive
    });
    let ended = tokio::spawn(server);
    is_ready.await.unwrap();
    let client = InferenceServiceClient::connect(format!("http://{address}")).await.unwrap();
    TestServer { app, client, stop, ended, _state: state }
}

/// The client is generated as the server is, where every call is a stream of messages.
fn with_key<T>(message: T) -> Request<Once<Ready<T>>> {
    let mut request = Request::new(stream::once(ready(message)));
    request.metadata_mut().insert("authorization", "Bearer tc_test_dev".parse().unwrap());
    request
}

async fn embed(
    client: &mut InferenceServiceClient<Channel>,
    inputs: Vec<String>,
) -> Result<Vec<Vec<f32>>, Status> {
    let answer = client.embed(with_key(EmbedRequest { inputs, ..Default::default() })).await?.into_inner();
    Ok(answer.results.into_iter().map(|result| result.embedding).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_depend_on_company() {
    let running = start(|_| {}).await;
    let texts: Vec<String> = (1..40).map(|i| format!("shipment {i} arrived ").repeat(i)).collect();
    let together = embed(&mut running.client.clone(), texts.clone()).await.unwrap();
    let alone = join_all(texts.iter().map(|text| {
        let mut client = running.client.clone();
        async move { embed(&mut client, vec![text.clone()]).await.unwrap().remove(0) }
    }))
    .await;
    for (i, (left, right)) in together.iter().zip(&alone).enumerate() {
        let difference = left.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-5, "text {i} differs by {difference}");
    }
    running.stop.send(()).unwrap();
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_refused_with_a_hint() {
    let mut running = start(|config| {
        config.batching.batch_tokens_max = Some(512);
        config.batching.queue_sequences_max = 4;
        config.batching.queue_tokens_max = 2048;
    })
    .await;
    // One call is answered whatever its length; many at once are more than the queue has places for.
    let request = |texts: usize| {
        let inputs = vec!["word ".repeat(400); texts];
        with_key(AnalyzeSentimentRequest { inputs, ..Default::default() })
    };
    running.client.analyze_sentiment(request(60)).await.unwrap();
    let answers = join_all((0..40).map(|_| {
        let mut client = running.client.clone();
        async move { client.analyze_sentiment(request(1)).await }
    }))
    .await;
    let refused: Vec<Status> = answers.into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty(), "forty calls found places in a queue of four");
    for refused in refused {
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        let retry =
            tonic_types::StatusExt::get_details_retry_info(&refused).and_then(|info| info.retry_delay);
        assert!(retry.is_some(), "a refusal says when to come back");
    }
    // What was refused has left: there is room for another.
    embed(&mut running.client, vec!["a short text".to_owned()]).await.unwrap();
    running.client.analyze_sentiment(request(1)).await.unwrap();
    running.stop.send(()).unwrap();
    running.ended.await.unwrap().unwrap();
    assert!(!running.app.readiness.is_ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_load_does_not_take_the_others_down() {
    let broken = tempfile::tempdir().unwrap();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../model-cards");
    for name in ["embeddings-v2", "sentiment-v3"] {
        copy_folder(&root.join(name), &broken.path().join(name));
    }
    std::fs::write(broken.path().join("sentiment-v3/head.safetensors"), b"not weights").unwrap();
    let cards_dir = broken.path().to_owned();
    let mut running = start(move |config| config.cards_dir = cards_dir).await;

    let request = AnalyzeSentimentRequest { inputs: vec!["fine".to_owned()], ..Default::default() };
    let refused = running.client.analyze_sentiment(with_key(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let shown = running
        .client
        .get_model(with_key(GetModelRequest { name: "sentiment-v3".to_owned() }))
        .await
        .unwrap();
    let shown = shown.into_inner();
    assert!(!shown.loaded && shown.unavailable_reason.contains("head.safetensors"), "{shown:?}");
    embed(&mut running.client, vec!["still here".to_owned()]).await.unwrap();
    // It serves, and is not ready: the broken one is required.
    assert!(running.app.readiness.is_serving() && !running.app.readiness.is_ready());
    let parts = running.app.readiness.parts();
    let (_, models) = parts.iter().find(|(name, _)| *name == "models").unwrap();
    assert!(models.as_ref().unwrap_err().starts_with("sentiment-v3: "), "{parts:?}");
    running.stop.send(()).unwrap();
    running.ended.await.unwrap().unwrap();
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
