"""Metrics under the names of other servers: made of ours, read by Prometheus' own parsers."""

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from conftest import KEY, start, stop

OPEN = {"Accept": "application/openmetrics-text"}


@pytest.fixture(scope="module")
def known(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("synonyms")
    config = folder / "server.toml"
    config.write_text("[protocols]\ntei_metrics = true\ntriton_metrics = true\n")
    server = start(request, folder, "--config", str(config))
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}) as rest:
        for _ in range(3):
            assert rest.post("/embed", json={"inputs": ["a", "b"]}).status_code == 200
        assert rest.post("/v1/ml/embeddings", json={"inputs": "a"}).status_code == 200
        assert rest.post("/embed", json={"inputs": [""]}).status_code == 422
        assert rest.post("/predict", json={"inputs": "a"}).status_code == 200
        assert rest.get("/v1/models").status_code == 200
    yield server
    stop(server)


def scrape(server, headers, parse):
    text = httpx.get(f"http://{server.ops}/metrics", headers=headers, timeout=30).text
    return {family.name: family for family in parse(text)}


def value(families, family, name=None, **labels):
    return sum(sample.value for sample in families[family].samples
               if sample.name == (name or family) and labels.items() <= sample.labels.items())


@pytest.mark.parametrize("headers, parse", [(OPEN, openmetrics), ({}, plain)], ids=["openmetrics", "plain"])
def test_they_are_ours(known, headers, parse):
    families = scrape(known, headers, parse)
    of = lambda family, name=None, **labels: value(families, family, name, **labels)
    embeddings = {"model": "embeddings-v2"}
    assert of("te_request_count", **embeddings) == 5 and of("te_request_success", **embeddings) == 4
    assert of("te_request_failure", err="empty_input") == 1
    assert (of("te_embed_count"), of("te_embed_success"), of("te_predict_count"), of("te_predict_success")) == (5, 4, 1, 1)
    # Who looks at models is no call.
    assert of("te_request_count") == 6 and of("nv_inference_request_success") == 5
    assert of("nv_inference_request_failure", reason="empty_input", **embeddings) == 1
    assert of("te_queue_size") == of("nv_inference_pending_request_count") == 0
    assert families["nv_inference_pending_request_count"].type == families["te_queue_size"].type == "gauge"
    assert of("nv_inference_count", **embeddings) == 7 and 1 <= of("nv_inference_exec_count", **embeddings) <= 7
    for synonym, ours in [
        ("te_request_duration", "ml_inference_call_duration_seconds"),
        ("te_request_queue_duration", "ml_inference_queue_delay_seconds"),
        ("te_request_inference_duration", "ml_inference_batch_duration_seconds"),
        ("te_request_tokenization_duration", "ml_inference_tokenization_duration_seconds"),
        ("te_batch_next_tokens", "ml_inference_batch_tokens"),
    ]:
        assert families[synonym].type == "histogram"
        # Whatever has no task counts in ours alone.
        asked = {"task": "embeddings"} if ours.endswith("call_duration_seconds") else {}
        for suffix in "_sum", "_count":
            assert of(synonym, synonym + suffix, **embeddings) == pytest.approx(of(ours, ours + suffix, **embeddings, **asked))
        bounds = [(sample.labels["le"], sample.value) for sample in families[synonym].samples
                  if sample.name.endswith("_bucket") and sample.labels["model"] == "embeddings-v2"]
        assert [bound for bound, _ in bounds] == sorted((bound for bound, _ in bounds), key=float)
        assert bounds[-1] == ("+Inf", of(synonym, synonym + "_count", **embeddings))
    for synonym, ours in [
        ("nv_inference_queue_duration_us", "ml_inference_queue_delay_seconds"),
        ("nv_inference_compute_infer_duration_us", "ml_inference_batch_duration_seconds"),
    ]:
        assert of(synonym) == pytest.approx(1e6 * of(ours, ours + "_sum"))


def test_none_unless_asked_for(server):
    for headers, parse in (OPEN, openmetrics), ({}, plain):
        assert not [name for name in scrape(server, headers, parse) if name.startswith(("te_", "nv_"))]
