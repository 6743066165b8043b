"""Texts as tokens and back, and token ids in the place of texts."""

import grpc
import pytest
from test_tenants import as_tenant, limited, make, settled

# By the vocabulary of BERT, uncased: worked out by hand.
HELLO = [("[CLS]", 101, None, None), ("hello", 7592, 0, 5), (",", 1010, 5, 6), ("world", 2088, 7, 12), ("[SEP]", 102, None, None)]
IDS = [token[1] for token in HELLO]


def post(rest, route, inputs, model=None, **parameters):
    return rest.post(f"/v1/ml/{route}", json={"inputs": inputs, "model": model, "parameters": parameters})


def shown(result):
    return [(token["text"], token["id"], token["start"], token["end"]) for token in result["tokenization"]]


def refused(answer):
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]["code"], answer.json()["error"]["message"]


def test_tokens_of_texts(rest):
    body = post(rest, "tokenize", ["Hello, World", "unhappiness"]).json()
    hello, unhappy = body["results"]
    assert shown(hello) == HELLO and hello["tokens"] == 5
    assert [token["special"] for token in hello["tokenization"]] == [True, False, False, False, True]
    assert "".join(text.removeprefix("##") for text, *_ in shown(unhappy)[1:-1]) == "unhappiness"
    assert body["usage"] == {"inputs": 2, "tokens": hello["tokens"] + unhappy["tokens"]}
    (bare,) = post(rest, "tokenize", "Hello, World", add_special_tokens=False).json()["results"]
    assert shown(bare) == HELLO[1:-1]
    # Every model of the encoder has these tokens.
    for model in "ner-v2", "sentiment-v3", "summarizer-v1", "text-classifier-v2":
        answer = post(rest, "tokenize", "Hello, World", model=model).json()
        assert (answer["model"], shown(answer["results"][0])) == (model, HELLO)


@pytest.mark.parametrize("unit, start", [("codepoint", 3), ("byte", 7), ("utf16", 4)])
def test_offsets(rest, unit, start):
    (result,) = post(rest, "tokenize", "é🎉 now", offset_unit=unit).json()["results"]
    assert shown(result)[-2] == ("now", 2085, start, start + 3)


def test_texts_of_tokens(rest):
    check = lambda inputs, expected, **parameters: (
        [result["text"] for result in post(rest, "detokenize", inputs, **parameters).json()["results"]] == expected)
    assert check([IDS], ["hello, world"])
    assert check(IDS, ["hello, world"]), "a flat array is one input"
    assert check([IDS, [7592]], ["hello, world", "hello"])
    assert check([IDS], ["[CLS] hello, world [SEP]"], skip_special_tokens=False)
    code, message = refused(post(rest, "detokenize", ["text"]))
    assert code == "invalid_request" and "needs token ids" in message
    assert refused(post(rest, "detokenize", [[1_000_000]]))[0] == "invalid_request"


def test_the_same_over_grpc(stub, proto, metadata):
    def both(name, request, method):
        streamed = proto.InferStreamRequest(correlation_id="1", **{name: request})
        answers = list(stub.InferStream(iter([streamed]), metadata=metadata))
        return [method(request, metadata=metadata), *(getattr(answer, name) for answer in answers)]

    answers = both("tokenize", proto.TokenizeRequest(inputs=["Hello, World"]), stub.Tokenize)
    assert len(answers) == 2
    for answer in answers:
        tokens = answer.results[0].tokens
        assert [(token.text, token.id, token.special) for token in tokens] == [
            (text, id, start is None) for text, id, start, _ in HELLO]
        assert not tokens[0].HasField("start") and (tokens[1].start, tokens[1].end) == (0, 5)
    answers = both("detokenize", proto.DetokenizeRequest(inputs=[proto.TokenIds(ids=IDS)]), stub.Detokenize)
    assert [answer.results[0].text for answer in answers] == ["hello, world"] * 2
    with pytest.raises(grpc.RpcError) as caught:
        stub.Detokenize(proto.DetokenizeRequest(inputs=[proto.TokenIds(ids=[1_000_000])]), metadata=metadata)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("route", ["embeddings", "classify", "sentiment"])
def test_token_ids_are_read_as_the_text_is(rest, route):
    text = post(rest, route, ["Hello, World"]).json()["results"][0]
    # With the special tokens around them or without.
    for ids in IDS, IDS[1:-1]:
        answer = post(rest, route, [ids, "Hello, World"])
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"] == [text, text]
        assert post(rest, route, ids).json()["results"] == [text]


def test_long_token_ids(rest):
    text = post(rest, "embeddings", "hello " * 600, truncation="stride").json()["results"]
    ids = [7592] * 600
    assert post(rest, "embeddings", ids, truncation="stride").json()["results"] == text
    assert refused(post(rest, "embeddings", ids))[0] == "input_too_long"
    for truncation in "end", "start":
        (result,) = post(rest, "embeddings", ids, truncation=truncation).json()["results"]
        assert result["truncated"] and result["windows"] == 1 and result["tokens"] == 602
    assert refused(post(rest, "embeddings", [7592] * 20_000, truncation="stride"))[0] == "input_too_long"


def test_ids_that_are_none_of_ours(rest):
    # "the" and "." in cl100k_base, which no text has here; and one beyond the vocabulary.
    for ids in [279], [7592, 13], [100_000], [4_294_967_295]:
        code, message = refused(post(rest, "embeddings", [ids]))
        assert code == "invalid_request" and "inputs[0]" in message and "check_embedding_ctx_length=False" in message
    for body in '[1.5]', '[-1]', '[4294967296]', '["a", 7]', '[[7, "a"]]', '[[[7]]]', '[true]':
        answer = rest.post("/v1/ml/embeddings", content=f'{{"inputs": {body}}}', headers={"content-type": "application/json"})
        assert refused(answer)[0] == "invalid_request", body
    assert refused(post(rest, "embeddings", [[]]))[0] == "empty_input"
    assert refused(post(rest, "embeddings", [[101, 102]]))[0] == "empty_input"
    partial = post(rest, "embeddings", ["fine", [279], [7592]], on_error="partial").json()["results"]
    assert ["error" in result for result in partial] == [False, True, False]
    for route in "entities", "summarize", "tokenize":
        code, message = refused(post(rest, route, [IDS]))
        assert code == "invalid_request" and "needs a text" in message


def test_what_is_too_long(rest):
    code, message = refused(post(rest, "tokenize", ["word " * 20_001]))
    assert code == "input_too_long" and "limit is 20000" in message
    assert refused(post(rest, "detokenize", [[7592] * 20_001]))[0] == "input_too_long"
    assert post(rest, "tokenize", ["word " * 19_990]).status_code == 200


def test_counted_and_free(request, server):
    key = make(request, server, "tokens", limited(5))["key"]
    with as_tenant(server, key) as client:
        for left in 3, 1:
            answer = post(client, "tokenize", ["one", "two"])
            assert f"r={left};" in answer.headers["ratelimit"]
        assert post(client, "tokenize", ["one", "two"]).status_code == 429
        read = lambda: tuple(client.get("/v1/ml/usage").json()["total"][name] for name in ("inputs", "cost_micro_usd"))
        assert settled(read, (4, 0)) == (4, 0)
