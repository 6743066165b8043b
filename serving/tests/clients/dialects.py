"""Every dialect as a function from texts to what it says of them, for many calls at once: what
`test_all_dialects.py` and `benches/dialects/soak.py` share. What clients make of the dialects is in tests
of their own; here each is as plain as can be."""

import asyncio
import base64
import itertools
import random
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Callable

import grpc
import httpx
import numpy as np
import tritonclient.http as triton_http
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

QUERY = "Who complained about a late train?"
# Batches differ in how many sequences they have, so that the last bits may. Texts differ by more.
TOLERANCE, APART = 2e-3, 5e-3

NAMES = ["Maria Lopez", "Ines Keller", "Tom Baker", "Aiko Tanaka", "Omar Haddad", "Lena Fischer", "Paul Martin", "Nina Rossi"]
COMPANIES = ["Siemens", "Toyota", "Nokia", "Renault", "Philips", "Danone"]
MOODS = ["praised the new", "complained about the late", "was delighted with the", "never saw the", "was disappointed by the",
         "painted the old", "forgot the broken", "sold the"]
THINGS = ["train", "plant", "bridge", "report", "museum", "harbour", "invoice"]
CITIES = ["Madrid", "Oslo", "Zürich", "Kyoto", "Aarhus", "Lisbon"]


@dataclass
class Dialect:
    """`ask(session, texts, id)` gives one answer a text; `charged(n)` is how many inputs a call of n texts
    has."""

    name: str
    task: str
    ask: Callable
    charged: Callable = lambda n: n


class Session:
    """Connections of one caller over HTTP and gRPC, with the messages of the server's own reflection."""

    def __init__(self, address, key, timeout=120):
        self.authorization, self.timeout = f"Bearer {key}", timeout
        self.http = httpx.AsyncClient(base_url=f"http://{address}", headers={"Authorization": self.authorization},
                                      timeout=timeout, limits=httpx.Limits(max_connections=None))
        self.channel = grpc.aio.insecure_channel(address)
        self.reflected = grpc.insecure_channel(address)
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.reflected))

    def message(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    async def post(self, path, body, id, **headers):
        answer = await self.http.post(path, json=body, headers={"X-Request-ID": id, **headers})
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer

    async def json(self, path, body, id, **headers):
        return (await self.post(path, body, id, **headers)).json()

    def metadata(self, id):
        return (("authorization", self.authorization), ("x-request-id", id))

    async def unary(self, path, message, answer, id):
        call = self.channel.unary_unary(f"/{path}", request_serializer=lambda sent: sent.SerializeToString(),
                                        response_deserializer=self.message(answer).FromString)
        return await call(message, metadata=self.metadata(id), timeout=self.timeout)

    async def stream(self, path, messages, answer, id):
        call = self.channel.stream_stream(f"/{path}", request_serializer=lambda sent: sent.SerializeToString(),
                                          response_deserializer=self.message(answer).FromString)
        return [one async for one in call(iter(messages), metadata=self.metadata(id), timeout=self.timeout)]

    async def close(self):
        await self.http.aclose()
        await self.channel.close()
        self.reflected.close()


# What answers look like, the same for all dialects.


def moods(rows):
    """Scores of negative, neutral and positive."""
    return [[dict(row)[label] for label in ("negative", "neutral", "positive")] for row in rows]


def by_index(rows, score):
    return [row[score] for row in sorted(rows, key=lambda row: row["index"])]


# Our own API


async def rest_embed(session, texts, id, **parameters):
    answer = await session.json("/v1/ml/embeddings", {"inputs": texts, "parameters": parameters}, id)
    found = [result["embedding"] for result in answer["results"]]
    return [np.frombuffer(base64.b64decode(one), "<f4") for one in found] if parameters else found


async def rest_octets(session, texts, id):
    answer = await session.post("/v1/ml/embeddings", {"inputs": texts}, id, Accept="application/octet-stream")
    rows, width = map(int, answer.headers["x-embedding-shape"].split(","))
    return np.frombuffer(answer.content, "<f4").reshape(rows, width // 4)


async def rest_sentiment(session, texts, id):
    answer = await session.json("/v1/ml/sentiment", {"inputs": texts}, id)
    return moods(result["scores"].items() for result in answer["results"])


async def rest_rerank(session, texts, id):
    answer = await session.json("/v1/ml/rerank", {"inputs": texts, "parameters": {"query": QUERY}}, id)
    return [result["score"] for result in answer["results"]]


async def rest_entities(session, texts, id):
    answer = await session.json("/v1/ml/entities", {"inputs": texts}, id)
    return [[(entity["text"], entity["label"]) for entity in result["entities"]] for result in answer["results"]]


async def rest_summarize(session, texts, id):
    return [result["summary"] for result in (await session.json("/v1/ml/summarize", {"inputs": texts}, id))["results"]]


async def v1_embed(session, texts, id):
    message = session.message("ml.inference.v1.EmbedRequest")(inputs=texts)
    answer = await session.unary("ml.inference.v1.InferenceService/Embed", message, "ml.inference.v1.EmbedResponse", id)
    return [result.embedding for result in answer.results]


async def v1_sentiment(session, texts, id):
    message = session.message("ml.inference.v1.AnalyzeSentimentRequest")(inputs=texts)
    answer = await session.unary("ml.inference.v1.InferenceService/AnalyzeSentiment", message,
                                 "ml.inference.v1.AnalyzeSentimentResponse", id)
    return moods(result.scores.items() for result in answer.results)


async def v1_stream(session, texts, id):
    """A message a text; answers come in any order."""
    request = session.message("ml.inference.v1.InferStreamRequest")
    messages = [request(correlation_id=str(i), embed={"inputs": [text]}) for i, text in enumerate(texts)]
    answers = await session.stream("ml.inference.v1.InferenceService/InferStream", messages,
                                   "ml.inference.v1.InferStreamResponse", id)
    assert sorted(answer.correlation_id for answer in answers) == [str(i) for i in range(len(texts))]
    return [answer.embed.results[0].embedding for answer in sorted(answers, key=lambda answer: int(answer.correlation_id))]


# Open Inference Protocol


async def oip_json(session, texts, id, model="embeddings-v2"):
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    answer = await session.json(f"/v2/models/{model}/infer", {"id": id, "inputs": [tensor]}, id)
    assert answer["id"] == id
    return {output["name"]: np.reshape(output["data"], output["shape"]) for output in answer["outputs"]}


async def oip_embed(session, texts, id):
    return (await oip_json(session, texts, id))["embedding"]


async def oip_summarize(session, texts, id):
    return list((await oip_json(session, texts, id, "summarizer-v1"))["summary"])


async def oip_binary(session, texts, id):
    tensor = triton_http.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_))
    wanted = triton_http.InferRequestedOutput("embedding", binary_data=True)
    body, length = triton_http.InferenceServerClient.generate_request_body([tensor], outputs=[wanted], request_id=id)
    answer = await session.http.post("/v2/models/embeddings-v2/infer", content=bytes(body), headers={
        "X-Request-ID": id, "Inference-Header-Content-Length": str(length)})
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    answer = triton_http.InferenceServerClient.parse_response_body(answer.content, header_length=length)
    assert answer.get_response()["id"] == id
    return answer.as_numpy("embedding")


def oip_message(session, texts, id):
    message = session.message("inference.ModelInferRequest")(model_name="embeddings-v2", id=id)
    tensor = message.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return message


def oip_vectors(answer):
    [output] = answer.outputs
    return np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(list(output.shape))


async def oip_grpc(session, texts, id):
    answer = await session.unary("inference.GRPCInferenceService/ModelInfer", oip_message(session, texts, id),
                                 "inference.ModelInferResponse", id)
    assert answer.id == id
    return oip_vectors(answer)


async def oip_stream(session, texts, id):
    """A message a text; answers come in order."""
    messages = [oip_message(session, [text], f"{id}-{i}") for i, text in enumerate(texts)]
    answers = await session.stream("inference.GRPCInferenceService/ModelStreamInfer", messages,
                                   "inference.ModelStreamInferResponse", id)
    assert [answer.error_message for answer in answers] == [""] * len(texts)
    assert [answer.infer_response.id for answer in answers] == [f"{id}-{i}" for i in range(len(texts))]
    return [oip_vectors(answer.infer_response)[0] for answer in answers]


async def kserve(session, texts, id):
    return (await session.json("/v1/models/embeddings-v2:predict", {"instances": texts}, id))["predictions"]


# text-embeddings-inference, and the container contracts


async def tei_embed(session, texts, id, path="/embed"):
    return await session.json(path, {"inputs": texts}, id)


async def tei_predict(session, texts, id):
    rows = await session.json("/models/sentiment-v3/predict", {"inputs": [[text] for text in texts]}, id)
    return moods([(one["label"], one["score"]) for one in row] for row in rows)


async def tei_rerank(session, texts, id):
    return by_index(await session.json("/rerank", {"query": QUERY, "texts": texts}, id), "score")


async def tei_grpc_stream(session, texts, id):
    messages = [session.message("tei.v1.EmbedRequest")(inputs=text) for text in texts]
    return [answer.embeddings for answer in await session.stream("tei.v1.Embed/EmbedStream", messages, "tei.v1.EmbedResponse", id)]


async def tei_grpc_rerank(session, texts, id):
    message = session.message("tei.v1.RerankRequest")(query=QUERY, texts=texts)
    ranks = (await session.unary("tei.v1.Rerank/Rerank", message, "tei.v1.RerankResponse", id)).ranks
    return [rank.score for rank in sorted(ranks, key=lambda rank: rank.index)]


async def vertex(session, texts, id):
    """An instance may have many texts: a prediction is a list."""
    answer = await session.json("/vertex", {"instances": [{"inputs": text} for text in texts]}, id)
    return [prediction[0] for prediction in answer["predictions"]]


# OpenAI, and what others made of it


async def openai(session, texts, id, path="/v1/embeddings", model="embeddings-v2", **options):
    answer = await session.json(path, {"model": model, "input": texts, **options}, id)
    found = by_index(answer["data"], "embedding")
    return [np.frombuffer(base64.b64decode(one), "<f4") for one in found] if isinstance(found[0], str) else found


def openai_as(**options):
    return lambda session, texts, id: openai(session, texts, id, **options)


async def pooling(session, texts, id):
    return by_index((await session.json("/pooling", {"model": "embeddings-v2", "input": texts}, id))["data"], "data")


async def jina_rerank(session, texts, id):
    answer = await session.json("/v1/rerank", {"model": "embeddings-v2", "query": QUERY, "documents": texts}, id)
    return by_index(answer["results"], "relevance_score")


async def cohere_rerank(session, texts, id):
    answer = await session.json("/v2/rerank", {"model": "embeddings-v2", "query": QUERY, "documents": texts}, id)
    return by_index(answer["results"], "relevance_score")


async def nim(session, texts, id):
    body = {"model": "embeddings-v2", "query": {"text": QUERY}, "passages": [{"text": text} for text in texts]}
    return by_index((await session.json("/v1/ranking", body, id))["rankings"], "logit")


async def score(session, texts, id):
    answer = await session.json("/score", {"model": "embeddings-v2", "text_1": QUERY, "text_2": texts}, id)
    return by_index(answer["data"], "score")


# Cohere, Ollama, Hugging Face


async def cohere(session, texts, id):
    body = {"model": "embeddings-v2", "texts": texts, "input_type": "search_document", "embedding_types": ["float"]}
    return (await session.json("/v2/embed", body, id))["embeddings"]["float"]


async def ollama(session, texts, id):
    return (await session.json("/api/embed", {"model": "embeddings-v2", "input": texts}, id))["embeddings"]


async def hf_sentiment(session, texts, id):
    # Its tasks read one text or many; a row a text where there are many.
    rows = await session.json("/hf/sentiment-v3", {"inputs": texts, "parameters": {"top_k": 3}}, id)
    rows = rows if isinstance(rows[0], list) else [rows]
    return moods([(one["label"], one["score"]) for one in row] for row in rows)


async def hf_embed(session, texts, id):
    return await session.json("/hf/embeddings-v2", {"inputs": texts}, id)


DIALECTS = [
    Dialect("rest", "embed", rest_embed),
    Dialect("rest base64", "embed", lambda *asked: rest_embed(*asked, encoding_format="base64")),
    Dialect("rest octets", "embed", rest_octets),
    Dialect("rest sentiment", "sentiment", rest_sentiment),
    Dialect("rest rerank", "rerank", rest_rerank),
    Dialect("rest entities", "entities", rest_entities),
    Dialect("grpc", "embed", v1_embed),
    Dialect("grpc sentiment", "sentiment", v1_sentiment),
    Dialect("grpc stream", "embed", v1_stream),
    Dialect("oip", "embed", oip_embed),
    Dialect("oip binary", "embed", oip_binary),
    Dialect("oip summarize", "summarize", oip_summarize),
    Dialect("oip grpc", "embed", oip_grpc),
    Dialect("oip grpc stream", "embed", oip_stream),
    Dialect("kserve v1", "embed", kserve),
    Dialect("tei", "embed", tei_embed),
    Dialect("tei predict", "sentiment", tei_predict),
    Dialect("tei rerank", "rerank", tei_rerank),
    Dialect("tei grpc stream", "embed", tei_grpc_stream),
    Dialect("tei grpc rerank", "rerank", tei_grpc_rerank),
    Dialect("sagemaker", "embed", lambda *asked: tei_embed(*asked, path="/invocations")),
    Dialect("vertex", "embed", vertex),
    Dialect("openai", "embed", openai_as(encoding_format="float")),
    Dialect("openai base64", "embed", openai_as(encoding_format="base64")),
    Dialect("azure", "embed", openai_as(path="/openai/deployments/embeddings-v2/embeddings?api-version=2024-10-21")),
    Dialect("jina", "embed", openai_as(embedding_type="base64", normalized=True, task="retrieval.passage")),
    Dialect("voyage", "embed", openai_as(output_dtype="float", truncation=True, encoding_format="base64")),
    Dialect("infinity", "embed", openai_as(path="/infinity/embeddings")),
    Dialect("nim embeddings", "embed", openai_as(model="embeddings-v2-passage", input_type="passage", truncate="NONE")),
    Dialect("vllm pooling", "embed", pooling),
    Dialect("vllm score", "rerank", score, lambda n: n + 1),
    Dialect("nim ranking", "rerank", nim),
    Dialect("jina rerank", "rerank", jina_rerank),
    Dialect("cohere rerank", "rerank", cohere_rerank),
    Dialect("cohere", "embed", cohere),
    Dialect("ollama", "embed", ollama),
    Dialect("hugging face", "embed", hf_embed),
    Dialect("hugging face sentiment", "sentiment", hf_sentiment),
]
DIRECT = {"embed": rest_embed, "sentiment": rest_sentiment, "rerank": rest_rerank, "entities": rest_entities,
          "summarize": rest_summarize}


def texts(count, seed=17):
    """Distinct texts of 6 to 12 words."""
    every = list(itertools.product(NAMES, COMPANIES, MOODS, THINGS, CITIES))
    chosen = random.Random(seed).sample(every, count)
    return [f"{name} of {company} {mood} {thing} in {city}." for name, company, mood, thing, city in chosen]


def is_near(found, expected):
    if isinstance(expected, (str, list)) and (not expected or isinstance(expected[0], (str, tuple))):
        return found == expected
    return np.shape(found) == np.shape(expected) and np.allclose(found, expected, rtol=0, atol=TOLERANCE)


def is_far(one, other):
    """Whether one text's answer can be told from another's."""
    if isinstance(one, (str, list)) and (not one or isinstance(one[0], (str, tuple))):
        return one != other
    return np.max(np.abs(np.subtract(one, other))) > APART


async def answers(session, candidates, wanted):
    """By task, the direct answers of some of the texts, as many as wanted, no two of which could be taken for
    each other."""
    found = {}
    for task, direct in DIRECT.items():
        told = []
        for start in range(0, len(candidates), 64):
            told += await direct(session, candidates[start:start + 64], f"direct-{task}-{start}")
        chosen = {}
        for text, answer in zip(candidates, told):
            if len(chosen) < wanted and all(is_far(answer, other) for other in chosen.values()):
                chosen[text] = answer
        assert len(chosen) >= min(wanted, 12), f"{task}: only {len(chosen)} texts can be told apart"
        found[task] = chosen
    return found


@dataclass
class Done:
    """What was asked, and what it has to be charged."""

    # Calls by the ids that they were sent with: of a stream each message is one.
    calls: Counter
    inputs: int = 0


async def ask_all(session, direct, rounds=None, is_over=lambda: False, workers=3, seed=17):
    """Asks each dialect about each text of its task, `rounds` times or until it `is_over`; all dialects at
    once, each with several callers. Every answer is compared with the direct one."""
    done = Done(Counter())

    async def one(dialect, some):
        expected = [direct[dialect.task][text] for text in some]
        id = f"{dialect.name.replace(' ', '-')}-{uuid.uuid4().hex}"
        found = await dialect.ask(session, list(some), id)
        assert len(found) == len(some), f"{dialect.name}: {len(found)} answers to {len(some)} texts"
        wrong = [text for text, got, want in zip(some, found, expected) if not is_near(got, want)]
        assert not wrong, f"{dialect.name}: wrong answers to {wrong}"
        done.calls[id] += len(some) if dialect.name.endswith("stream") else 1
        done.inputs += dialect.charged(len(some))

    async def caller(dialect, queue):
        for some in queue:
            if is_over():
                break
            await one(dialect, some)

    def batches(dialect, draw):
        sizes = itertools.cycle([1, 2, 3])
        for _ in range(rounds) if rounds else itertools.count():
            order = draw.sample(list(direct[dialect.task]), len(direct[dialect.task]))
            while order:
                size = next(sizes)
                yield order[:size]
                order = order[size:]

    async with asyncio.TaskGroup() as group:
        for index, dialect in enumerate(DIALECTS):
            queue = batches(dialect, random.Random(seed + index))
            for _ in range(workers):
                group.create_task(caller(dialect, queue))
    return done
