"""The services beside the API's own: health, reflection, and the external scaler for KEDA."""

import json
import uuid
from urllib.parse import unquote

import grpc
import h2.events
import httpx
import pytest
from conftest import KEY, ROOT, scraped
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from peers import METADATA, Http2, ending, framed, metric, reason, refused, wait_for

def test_watch_of_an_unknown_service(channel):
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="nobody"))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert watch.is_active()
    watch.cancel()


def test_reflection_lists_what_answers(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    [answer] = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert "externalscaler.ExternalScaler" not in {s.name for s in answer.list_services_response.service}


def test_names_of_metrics_as_keda_gives_them(server, scaler_proto):
    with grpc.insecure_channel(server.ops) as channel:
        stub = scaler_proto.Stub(channel)
        wait_for(lambda: httpx.get(f"http://{server.ops}/scaling").status_code == 200)
        for name in "desired_replicas", "s0-desired_replicas", "s1-external-desired_replicas":
            [value] = stub.GetMetrics(scaler_proto.GetMetricsRequest(metricName=name)).metricValues
            assert value.metricName in (name, "desired_replicas") and value.metricValueFloat >= 1


# What every service answers to what it cannot take.


INFERENCE, HEALTH, SCALER = "ml.inference.v1.InferenceService", "grpc.health.v1.Health", "externalscaler.ExternalScaler"
REFLECTIONS = [f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha")]


def asked(address, path, message, metadata=(), **options):
    """The status of a call with raw bytes, its row in the error table, and its message; OK if there was an
    answer."""
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        try:
            channel.stream_stream(path)(iter([message]), metadata=metadata, timeout=60, **options).__next__()
            return "OK", None, ""
        except grpc.RpcError as error:
            return error.code().name, reason(error), error.details()


@pytest.mark.parametrize(("port", "path"), [
    ("api", f"{HEALTH}/Check"), ("api", f"{HEALTH}/Watch"), ("api", f"{INFERENCE}/Embed"), ("api", f"{INFERENCE}/ListModels"),
    ("api", f"{INFERENCE}/InferStream"), *(("api", f"{name}/ServerReflectionInfo") for name in REFLECTIONS),
    ("ops", f"{SCALER}/IsActive"), ("ops", f"{SCALER}/GetMetrics"), ("ops", f"{SCALER}/StreamIsActive"),
    ("ops", f"{SCALER}/GetMetricSpec"),
])
@pytest.mark.parametrize(("message", "status", "row"), [
    (b"\xff\xff\xff\xff", "INVALID_ARGUMENT", "invalid_request"),
    # A field of text that is none.
    (b"\x0a\x02\xff\xfe", "INVALID_ARGUMENT", "invalid_request"),
    (b"\x0a\x7f", "INVALID_ARGUMENT", "invalid_request"),
    (b"\0" * 9_000_000, "RESOURCE_EXHAUSTED", "body_too_large"),
], ids=["garbage", "text", "torn", "large"])
def test_messages_that_cannot_be_read(server, port, path, message, status, row):
    found = asked(getattr(server, port), f"/{path}", message, METADATA)
    if (path, message) == (f"{INFERENCE}/ListModels", b"\x0a\x02\xff\xfe"):
        # A field that this message has not.
        assert found[0] == "OK"
        return
    assert found[:2] == (status, row) and found[2], found


METHODS_OF_ONE_MESSAGE = [
    *(("api", f"{INFERENCE}/{method}") for method in (
        "Classify", "AnalyzeSentiment", "ExtractEntities", "Summarize", "Embed", "ListModels", "GetModel")),
    ("api", f"{HEALTH}/Check"), ("api", f"{HEALTH}/Watch"),
    *(("ops", f"{SCALER}/{method}") for method in ("IsActive", "StreamIsActive", "GetMetricSpec", "GetMetrics")),
]


@pytest.mark.parametrize(("count", "problem"), [(0, "expected one, got none"), (2, "expected one, got several")])
@pytest.mark.parametrize("is_one_frame", [True, False])
@pytest.mark.parametrize(("port", "path"), METHODS_OF_ONE_MESSAGE)
def test_calls_of_one_message_have_one(server, port, path, is_one_frame, count, problem):
    """Whoever wrote the service, and however the messages are cut."""
    peer = Http2(getattr(server, port))
    stream = peer.headers(f"/{path}", KEY, "application/grpc")
    data = framed(b"") * count
    for piece in [data] if is_one_frame else [data[i:i + 1] for i in range(len(data))]:
        peer.data(stream, piece)
    peer.h2.end_stream(stream)
    peer.send()
    assert ending(peer, stream) == ("3", "invalid_request")
    answer = dict(peer.until(h2.events.ResponseReceived, stream).headers)
    assert problem in unquote(answer["grpc-message"]) and answer["x-request-id"]
    peer.close()


@pytest.mark.parametrize("more", [[("grpc-timeout", "soon")], [("grpc-timeout", "1.5S")], [("grpc-timeout", "123456789S")],
                                  [("grpc-encoding", "gzip"), ("grpc-encoding", "identity")]])
@pytest.mark.parametrize(("port", "path"), [
    *METHODS_OF_ONE_MESSAGE, ("api", f"{INFERENCE}/InferStream"), *(("api", f"{name}/ServerReflectionInfo") for name in REFLECTIONS)])
def test_metadata_that_cannot_be_meant(server, port, path, more):
    peer = Http2(getattr(server, port))
    assert ending(peer, peer.headers(f"/{path}", KEY, "application/grpc", more=more)) == ("3", "invalid_request")
    peer.close()


# How streams end that cannot go on: the caller, the log and the metrics are told the same.


TABLE = {line.split("`")[1] for line in (ROOT / "docs/errors.md").read_text().splitlines() if line.startswith("| `")}


@pytest.mark.parametrize("path", [f"{INFERENCE}/InferStream", *(f"{name}/ServerReflectionInfo" for name in REFLECTIONS)])
@pytest.mark.parametrize(("data", "status", "row"), [
    (framed(b"\xff\xff\xff"), "3", "invalid_request"),
    (b"\0\x00\xff\xff\xff", "8", "body_too_large"),
    (b"\2" + framed(b"")[1:], "3", "invalid_request"),
    (b"\1" + framed(b"")[1:], "3", "invalid_request"),
    (framed(b"torn")[:7], "3", "invalid_request"),
], ids=["garbage", "large", "flag", "not compressed", "torn"])
def test_streams_end_with_their_row_everywhere(server, path, data, status, row):
    counted = metric(server, "calls_total", code=row, task="other")
    request_id = f"ends-{uuid.uuid4()}"
    peer = Http2(server.api)
    stream = peer.headers(f"/{path}", KEY, "application/grpc", more=[("x-request-id", request_id)])
    peer.data(stream, data, end=True)
    assert ending(peer, stream) == (status, row)
    peer.close()
    (line,) = wait_for(lambda: [line for line in lines(server) if line.get("request_id") == request_id])
    assert (line["code"], line["route"].split("/")[1]) == (row, path.split("/")[0])
    wait_for(lambda: metric(server, "calls_total", code=row, task="other") == counted + 1)


def lines(server):
    """The access lines that are whole."""
    texts = server.log.read_text().splitlines(keepends=True)
    return [line for line in map(json.loads, (text for text in texts if text.endswith("}\n"))) if line["target"] == "access"]


@pytest.mark.parametrize(("port", "path"), [
    ("api", f"{INFERENCE}/Nope"), ("api", f"{INFERENCE}/"), ("api", f"{INFERENCE}/Embed/x"), ("api", f"{HEALTH}/Nope"),
    *(("api", f"{name}/Nope") for name in REFLECTIONS), ("api", "a.B/C"), ("api", f"{SCALER}/IsActive"),
    ("ops", f"{SCALER}/Nope"), ("ops", "a.B/C"), ("ops", f"{HEALTH}/Check"), ("ops", f"{INFERENCE}/Embed"),
])
def test_methods_that_there_are_not(server, port, path):
    status, row, message = asked(getattr(server, port), f"/{path}", b"", METADATA)
    assert (status, row) == ("UNIMPLEMENTED", "not_found") and message


@pytest.mark.parametrize(("port", "path"), [("api", f"{HEALTH}/Check"), ("ops", f"{SCALER}/IsActive"), ("api", f"{INFERENCE}/Embed")])
def test_compressions_of_every_service(server, port, path):
    message = b"\x0a\x01a" if path.endswith("Embed") else b""
    for compression in grpc.Compression.Gzip, grpc.Compression.Deflate:
        assert asked(getattr(server, port), f"/{path}", message, METADATA, compression=compression)[0] == "OK"
    peer = Http2(getattr(server, port))
    stream = peer.headers(f"/{path}", KEY, "application/grpc", more=[("grpc-encoding", "snappy")])
    peer.data(stream, framed(b""), end=True)
    answer = dict(peer.until(h2.events.ResponseReceived, stream).headers)
    assert (answer["grpc-status"], answer["grpc-accept-encoding"]) == ("12", "identity,gzip,deflate")
    peer.close()


@pytest.mark.parametrize(("kind", "status"), [
    ("application/grpc", 200), ("application/grpc+proto", 200), ("Application/gRPC", 200), ("application/grpc;charset=utf-8", 200),
    ("application/json", 415), ("application/grpc-web", 415), ("application/grpc-web+proto", 415), ("application/grpc+json", 415),
    ("application/grpcx", 415), ("text/plain", 415), ("", 415)])
@pytest.mark.parametrize(("port", "path"), [("api", f"{HEALTH}/Check"), ("api", f"{INFERENCE}/Embed"), ("ops", f"{SCALER}/IsActive")])
def test_types_of_messages(server, port, path, kind, status):
    answer = over_http2(getattr(server, port), "POST", f"/{path}", kind)
    assert answer[":status"] == str(status) and answer["x-request-id"]
    assert (answer["content-type"] == "application/grpc") == (status == 200)


def over_http2(address, method, path, kind):
    peer = Http2(address)
    stream = peer.h2.get_next_available_stream_id()
    peer.h2.send_headers(stream, [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path),
                                  ("content-type", kind)])
    peer.data(stream, framed(b""), end=True)
    answer = dict(peer.until(h2.events.ResponseReceived, stream).headers)
    peer.close()
    return answer


def test_calls_are_posts(server):
    answer = over_http2(server.api, "PUT", f"/{HEALTH}/Check", "application/grpc")
    assert (answer[":status"], answer["allow"]) == ("405", "POST")


def test_health_of_what_there_is_not(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for name in "nobody", "x" * 3000, "grpc.health.v1.Health":
        error = refused(stub.Check, health_pb2.HealthCheckRequest(service=name))
        assert (error.code().name, reason(error)) == ("NOT_FOUND", "service_not_found") and "xxx" not in error.details()
    for name in "", INFERENCE, "ner-v2":
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_one_by_one(channel, version):
    """What it does not know is an answer too, and the stream goes on."""
    asked = reflection_pb2.ServerReflectionRequest
    questions = [
        (asked(host="h", list_services=""), None),
        (asked(file_containing_symbol="nobody.Knows"), grpc.StatusCode.NOT_FOUND),
        (asked(file_by_filename="externalscaler/externalscaler.proto"), grpc.StatusCode.NOT_FOUND),
        (asked(all_extension_numbers_of_type="nobody.Knows"), grpc.StatusCode.NOT_FOUND),
        (asked(all_extension_numbers_of_type=f"{INFERENCE}"), None),
        (asked(file_containing_extension={"containing_type": "a.B", "extension_number": 7}), grpc.StatusCode.NOT_FOUND),
        (asked(), grpc.StatusCode.INVALID_ARGUMENT),
        (asked(file_containing_symbol=INFERENCE), None),
    ]
    call = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                                 request_serializer=asked.SerializeToString,
                                 response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
    answers = list(call(question for question, _ in questions))
    assert [answer.original_request for answer in answers] == [question for question, _ in questions]
    for answer, (question, status) in zip(answers, questions, strict=True):
        assert answer.HasField("error_response") == (status is not None), question
        if status:
            assert answer.error_response.error_code == status.value[0] and answer.error_response.error_message
    assert answers[0].valid_host == "h"
    assert {service.name for service in answers[0].list_services_response.service} == {
        INFERENCE, "ml.inference.v1.AdministrationService", HEALTH, f"grpc.reflection.{version}.ServerReflection", "inference.GRPCInferenceService",
        *(f"tei.v1.{name}" for name in ("Embed", "Info", "Predict", "Rerank", "Tokenize"))}
    (file,) = answers[-1].file_descriptor_response.file_descriptor_proto
    assert descriptor_pb2.FileDescriptorProto.FromString(file).name == "ml/inference/v1/inference.proto"


def test_a_scaler_asked_for_what_it_has_not(server, scaler_proto):
    with grpc.insecure_channel(server.ops) as channel:
        stub = scaler_proto.Stub(channel)
        error = refused(stub.GetMetrics, scaler_proto.GetMetricsRequest(metricName="nothing"))
        assert (error.code().name, reason(error)) == ("INVALID_ARGUMENT", "invalid_request")
        assert "desired_replicas" in error.details()
        error = refused(stub.GetMetricSpec, scaler_proto.ScaledObjectRef(scalerMetadata={"target": "none"}))
        assert (error.code().name, reason(error)) == ("INVALID_ARGUMENT", "invalid_request")


def test_codes_are_those_of_the_table(server):
    """The last test: whatever came before, in the log and in the metrics."""
    codes = {line["code"] for line in lines(server)}
    codes |= {sample.labels["code"] for sample in scraped(server) if "code" in sample.labels}
    assert {"ok", "invalid_request", "body_too_large", "not_found"} <= codes
    assert codes - {"ok", "cancelled"} <= TABLE, codes - TABLE
