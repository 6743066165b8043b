"""The gRPC API through grpcio: the five calls, the stream, statuses with details, health and reflection."""

import queue

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from test_tenants import limited, make


def test_the_five_calls_agree_with_rest(stub, proto, rest, metadata):
    text = "Maria Lopez of Siemens praised the new plant in Madrid. It works well. Everyone was happy."

    def over_rest(route, **parameters):
        return rest.post(f"/v1/ml/{route}", json={"inputs": text, "parameters": parameters}).json()["results"][0]

    classes = stub.Classify(proto.ClassifyRequest(inputs=[text], top_k=3), metadata=metadata)
    assert [l.label for l in classes.results[0].labels] == [l["label"] for l in over_rest("classify", top_k=3)["labels"]]

    sentiment = stub.AnalyzeSentiment(proto.AnalyzeSentimentRequest(inputs=[text]), metadata=metadata).results[0]
    expected = over_rest("sentiment")
    assert sentiment.label == expected["label"] and dict(sentiment.scores) == pytest.approx(expected["scores"], abs=1e-5)

    entities = stub.ExtractEntities(proto.ExtractEntitiesRequest(inputs=[text]), metadata=metadata).results[0].entities
    assert [(e.text, e.label, e.start, e.end) for e in entities] == [
        (e["text"], e["label"], e["start"], e["end"]) for e in over_rest("entities")["entities"]]

    summary = stub.Summarize(proto.SummarizeRequest(inputs=[text], max_sentences=1), metadata=metadata).results[0]
    assert summary.summary == over_rest("summarize", max_sentences=1)["summary"]
    assert summary.method == proto.SUMMARY_METHOD_EXTRACTIVE

    answer = stub.Embed(proto.EmbedRequest(inputs=[text]), metadata=metadata)
    expected = over_rest("embeddings")
    assert list(answer.results[0].embedding) == pytest.approx(expected["embedding"], abs=1e-5)
    assert (answer.model, answer.usage.inputs, answer.usage.tokens) == ("embeddings-v2", 1, expected["tokens"])
    assert answer.results[0].report.windows == 1


def test_models(stub, proto, metadata):
    models = stub.ListModels(proto.ListModelsRequest(), metadata=metadata).models
    assert [m.name for m in models] == sorted(m.name for m in models) and len(models) == 5
    assert all(m.loaded and len(m.source.sha256) == 64 for m in models)
    assert stub.GetModel(proto.GetModelRequest(name="ner-v2"), metadata=metadata) == models[1]


def test_bulk_stream(stub, proto, metadata):
    count = 200

    def requests():
        for i in range(count):
            if i % 50 == 7:
                yield proto.InferStreamRequest(correlation_id=str(i), embed=proto.EmbedRequest(inputs=[""]))
            elif i % 2:
                sentiment = proto.AnalyzeSentimentRequest(inputs=[f"Order {i} was great."])
                yield proto.InferStreamRequest(correlation_id=str(i), sentiment=sentiment)
            else:
                yield proto.InferStreamRequest(correlation_id=str(i), embed=proto.EmbedRequest(inputs=[f"text {i}"]))

    kinds = {}
    for answer in stub.InferStream(requests(), metadata=metadata):
        assert answer.correlation_id not in kinds
        kinds[answer.correlation_id] = answer.WhichOneof("response")
        if kinds[answer.correlation_id] == "error":
            assert (answer.error.code, answer.error.status) == ("empty_input", grpc.StatusCode.INVALID_ARGUMENT.value[0])
    assert kinds == {
        str(i): "error" if i % 50 == 7 else "sentiment" if i % 2 else "embed" for i in range(count)}


LIMITS = ["ratelimit", "ratelimit-policy"]


def test_a_stream_ends_with_what_is_left_of_limits(request, server, rest, channel, stub, proto, metadata):
    """As its last answer found it; each message is a call, and has no metadata of its own."""
    key = [("authorization", f"Bearer {make(request, server, 'streams', limited(5))['key']}")]
    left = lambda told: int(dict(told)["ratelimit"].split(";r=")[1].split(";")[0])
    ask = lambda text: proto.InferStreamRequest(correlation_id=text, embed=proto.EmbedRequest(inputs=[text]))
    stream = stub.InferStream(iter([ask("a"), ask("b")]), metadata=key)
    assert [answer.WhichOneof("response") for answer in stream] == ["embed"] * 2
    assert left(stream.trailing_metadata()) == 3
    unary = stub.Embed.with_call(proto.EmbedRequest(inputs=["a"]), metadata=key)[1]
    told, policy = dict(stream.trailing_metadata()), dict(unary.initial_metadata())["ratelimit-policy"]
    assert left(unary.initial_metadata()) == 2 and told["ratelimit-policy"] == policy
    # One by one, so that the third is known to come last.
    turn, results = queue.Queue(), []
    stream = stub.InferStream(iter(turn.get, None), metadata=key)
    for text in "abc":
        turn.put(ask(text))
        results.append(next(stream).WhichOneof("response"))
    turn.put(None)
    assert list(stream) == [] and results == ["embed", "embed", "error"]
    assert left(stream.trailing_metadata()) == 0 and stream.code() == grpc.StatusCode.OK
    # Of what is not known there is nothing to tell.
    stream = stub.InferStream(iter([]), metadata=metadata)
    assert list(stream) == [] and not set(LIMITS) & set(dict(stream.trailing_metadata()))


def test_a_stream_request_without_content(stub, proto, metadata):
    [answer] = stub.InferStream(iter([proto.InferStreamRequest(correlation_id="x")]), metadata=metadata)
    assert (answer.correlation_id, answer.error.code) == ("x", "invalid_request")


def refused(call, *arguments, **keywords):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **keywords)
    return caught.value


def reason(error):
    details = {}
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            details["reason"] = info.reason
        request = error_details_pb2.RequestInfo()
        if detail.Unpack(request):
            details["request_id"] = request.request_id
    return details


def test_errors(stub, proto, metadata):
    cases = [
        ([], {}, grpc.StatusCode.INVALID_ARGUMENT, "no_inputs"),
        ([""], {}, grpc.StatusCode.INVALID_ARGUMENT, "empty_input"),
        (["a\0b"], {}, grpc.StatusCode.INVALID_ARGUMENT, "nul_character"),
        (["a"] * 1000, {}, grpc.StatusCode.INVALID_ARGUMENT, "too_many_inputs"),
        (["word " * 600], {}, grpc.StatusCode.INVALID_ARGUMENT, "input_too_long"),
        (["a"], {"model": "nobody"}, grpc.StatusCode.NOT_FOUND, "model_not_found"),
        (["a"], {"model": "ner-v2"}, grpc.StatusCode.INVALID_ARGUMENT, "wrong_task"),
        (["a"], {"dimensions": 0}, grpc.StatusCode.INVALID_ARGUMENT, "invalid_parameter"),
        (["a"], {"truncation": 99}, grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
    ]
    for inputs, fields, status, code in cases:
        error = refused(stub.Embed, proto.EmbedRequest(inputs=inputs, **fields), metadata=metadata)
        assert error.code() == status, (code, error.details())
        details = reason(error)
        assert details["reason"] == code
        assert details["request_id"] == dict(error.initial_metadata() or error.trailing_metadata()).get(
            "x-request-id", details["request_id"])


def test_credentials(stub, proto):
    for metadata in [(), (("authorization", "Bearer nonsense"),), (("authorization", "Bearer tc_live_unknown"),)]:
        for call, message in [(stub.Embed, proto.EmbedRequest(inputs=["a"])), (stub.ListModels, proto.ListModelsRequest())]:
            assert refused(call, message, metadata=metadata).code() == grpc.StatusCode.UNAUTHENTICATED
    stream = stub.InferStream(iter([]), metadata=())
    assert refused(next, stream).code() == grpc.StatusCode.UNAUTHENTICATED


def test_text_that_is_not_utf8(channel, metadata):
    raw = channel.unary_unary("/ml.inference.v1.InferenceService/Embed")
    error = refused(raw, b"\x0a\x02\xff\xfe", metadata=metadata)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_methods(channel, metadata):
    for path in ("/ml.inference.v1.InferenceService/Translate", "/nobody.v1.Service/Call"):
        assert refused(channel.unary_unary(path), b"", metadata=metadata).code() == grpc.StatusCode.UNIMPLEMENTED


def test_deadline(stub, proto, metadata):
    bulk = proto.AnalyzeSentimentRequest(inputs=["word " * 500] * 64)
    error = refused(stub.AnalyzeSentiment, bulk, metadata=metadata, timeout=0.05)
    # Refused at once where the scheduler sees that it cannot be met, else ended by the client's own clock.
    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_health(channel, stub):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "ml.inference.v1.InferenceService", "sentiment-v3", "embeddings-v2"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
    assert refused(health.Check, health_pb2.HealthCheckRequest(service="nobody")).code() == grpc.StatusCode.NOT_FOUND
    watch = health.Watch(health_pb2.HealthCheckRequest(service=""))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_reflection(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {"ml.inference.v1.InferenceService", "grpc.health.v1.Health"} <= services
    file = database.FindFileContainingSymbol("ml.inference.v1.InferenceService")
    assert "Summarize" in {method.name for method in file.service[0].method}
