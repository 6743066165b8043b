"""KServe's own client, over its protocols v1, v2 and v2 over gRPC. It is heavy: `make test-dialects` runs
this."""

import asyncio

import httpx
import numpy as np
import pytest
from conftest import KEY

pytest.importorskip("kserve")
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest  # noqa: E402
from kserve.inference_client import RESTConfig  # noqa: E402

TEXTS = ["Maria Lopez of Siemens praised the new plant in Madrid.", "It is late again – how sad."]
HEADERS = {"authorization": f"Bearer {KEY}"}


def results(rest, route):
    return rest.post(f"/v1/ml/{route}", json={"inputs": TEXTS}).json()["results"]


def over_rest(server, protocol, data, model, headers=HEADERS):
    async def ask():
        async with InferenceRESTClient(RESTConfig(protocol=protocol)) as client:
            base = f"http://{server.api}"
            assert await client.is_model_ready(base, model, headers=headers)
            if protocol == "v2":
                assert await client.is_server_live(base) and await client.is_server_ready(base)
            return await client.infer(base, data, model_name=model, headers=headers)

    return asyncio.run(ask())


def request(model, texts=TEXTS):
    tensor = InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_), binary_data=False)
    return InferRequest(model_name=model, infer_inputs=[tensor], request_id="mine-17")


def test_v1(server, rest):
    answer = over_rest(server, "v1", {"instances": TEXTS}, "embeddings-v2")
    assert np.allclose(answer["predictions"], [result["embedding"] for result in results(rest, "embeddings")], atol=2e-3)
    answer = over_rest(server, "v1", {"instances": TEXTS}, "sentiment-v3")
    assert [row["label"] for row in answer["predictions"]] == [result["label"] for result in results(rest, "sentiment")]


def check_v2(rest, ask):
    answer = ask("embeddings-v2")
    [output] = answer.outputs
    assert (answer.id, output.name, output.datatype, list(output.shape)) == ("mine-17", "embedding", "FP32", [2, 384])
    wanted = [result["embedding"] for result in results(rest, "embeddings")]
    assert np.allclose(output.as_numpy(), wanted, atol=2e-3)
    scores = {output.name: output.as_numpy() for output in ask("sentiment-v3").outputs}["score"]
    assert np.allclose(scores, [result["score"] for result in results(rest, "sentiment")], atol=2e-3)


def test_v2(server, rest):
    check_v2(rest, lambda model: over_rest(server, "v2", request(model), model))


def test_v2_over_grpc(server, rest):
    def ask(model):
        async def asked():
            async with InferenceGRPCClient(server.api) as client:
                headers = list(HEADERS.items())
                assert await client.is_server_live(headers=headers) and await client.is_server_ready(headers=headers)
                assert await client.is_model_ready(model, headers=headers)
                return await client.infer(request(model), headers=headers)

        return asyncio.run(asked())

    check_v2(rest, ask)


def test_errors(server):
    for headers, model, status in (HEADERS, "nobody", 404), ({}, "embeddings-v2", 401):
        async def ask():
            async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
                await client.infer(f"http://{server.api}", request(model), model_name=model, headers=headers)

        with pytest.raises(httpx.HTTPStatusError) as error:
            asyncio.run(ask())
        assert error.value.response.status_code == status
