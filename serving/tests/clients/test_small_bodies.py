"""Bodies that change tenants or keys are small, whatever they are compressed to; so are the ids of a stream's
messages."""

import gzip

import grpc
import httpx
import pytest
from conftest import KEY
from peers import METADATA, bounded


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    return bounded(request, tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("path", ["/v1/ml/keys", "/v1/ml/keys/key_1/rotate"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_bodies_of_changes_are_small(server, path, coding):
    body = b'{"label":"' + b"x" * (16 << 10) + b'"}'
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "Content-Encoding": coding}
    sent = gzip.compress(body) if coding == "gzip" else body
    answer = httpx.post(f"http://{server.api}{path}", headers=headers, content=sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(("length", "is_taken"), [(256, True), (257, False), (1 << 20, False)])
def test_ids_of_messages_are_short(server, proto, length, is_taken):
    sent = "ü" + "x" * (length - 2)
    with grpc.insecure_channel(server.api) as channel:
        call = channel.stream_stream("/ml.inference.v1.InferenceService/InferStream",
                                     request_serializer=proto.InferStreamRequest.SerializeToString,
                                     response_deserializer=proto.InferStreamResponse.FromString)
        message = proto.InferStreamRequest(correlation_id=sent, sentiment=proto.AnalyzeSentimentRequest(inputs=["fine"]))
        [answer] = call(iter([message]), metadata=METADATA)
    assert answer.correlation_id == sent[:255] if not is_taken else answer.correlation_id == sent
    assert answer.WhichOneof("response") == ("sentiment" if is_taken else "error")
    assert is_taken or (answer.error.code == "invalid_request" and "correlation_id" in answer.error.message)
