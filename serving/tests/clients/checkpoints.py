"""Small checkpoints with random weights, and what they answer: a BERT in numpy, after
https://arxiv.org/abs/1810.04805, and pairs as the library `tokenizers` joins and cuts them."""

import hashlib
import json
import math
import struct

import numpy
import tokenizers
import yaml

HIDDEN, LAYERS, HEADS, INNER, LONGEST = 24, 2, 3, 36, 64
WORDS = ("the a cat dog sat on mat fish swims in sea who where anna lives near paris and works for acme "
         "good bad very not is was big small red blue query document passage : ##s ##ing . , ?").split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]


def tokenizer():
    built = tokenizers.Tokenizer(tokenizers.models.WordPiece({word: id for id, word in enumerate(VOCABULARY)},
                                                             unk_token="[UNK]"))
    built.normalizer = tokenizers.normalizers.BertNormalizer()
    built.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    built.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return built


class Bert:
    """A checkpoint: tensors by the names that transformers gives them."""

    def __init__(self, seed, prefix="", **tensors):
        random = numpy.random.default_rng(seed)
        draw = lambda *shape: random.normal(0, 0.4, shape).astype(numpy.float32)
        names = {"embeddings.word_embeddings.weight": draw(len(VOCABULARY), HIDDEN),
                 "embeddings.position_embeddings.weight": draw(LONGEST, HIDDEN),
                 "embeddings.token_type_embeddings.weight": draw(2, HIDDEN)}
        norms = ["embeddings.LayerNorm"]
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            for part, shape in {"attention.self.query": (HIDDEN, HIDDEN), "attention.self.key": (HIDDEN, HIDDEN),
                                "attention.self.value": (HIDDEN, HIDDEN), "attention.output.dense": (HIDDEN, HIDDEN),
                                "intermediate.dense": (INNER, HIDDEN), "output.dense": (HIDDEN, INNER)}.items():
                names |= {f"{at}.{part}.weight": draw(*shape), f"{at}.{part}.bias": draw(shape[0])}
            norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
        for norm in norms:
            names |= {f"{norm}.weight": 1 + draw(HIDDEN) / 4, f"{norm}.bias": draw(HIDDEN)}
        self.encoder = names
        self.head = {name: draw(*shape) for name, shape in tensors.items()}
        self.tensors = {f"{prefix}{name}": values for name, values in names.items()} | self.head

    def states(self, ids, types=None):
        """Last hidden states, a row for each token."""
        t, length = self.encoder, len(ids)
        linear = lambda name, x: x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

        def norm(name, x):
            x = x - x.mean(-1, keepdims=True)
            return x / numpy.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * t[f"{name}.weight"] + t[f"{name}.bias"]

        split = lambda x: x.reshape(length, HEADS, -1).transpose(1, 0, 2)
        erf = numpy.vectorize(math.erf)
        x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.position_embeddings.weight"][:length]
        x = norm("embeddings.LayerNorm", x + t["embeddings.token_type_embeddings.weight"][types or [0] * length])
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            query, key, value = (split(linear(f"{at}.attention.self.{part}", x)) for part in ("query", "key", "value"))
            scores = numpy.exp(query @ key.transpose(0, 2, 1) / math.sqrt(HIDDEN // HEADS))
            context = (scores / scores.sum(-1, keepdims=True)) @ value
            context = context.transpose(1, 0, 2).reshape(length, HIDDEN)
            x = norm(f"{at}.attention.output.LayerNorm", x + linear(f"{at}.attention.output.dense", context))
            inner = linear(f"{at}.intermediate.dense", x)
            inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
            x = norm(f"{at}.output.LayerNorm", x + linear(f"{at}.output.dense", inner))
        return x

    def logits(self, encoding):
        """Of `BertForSequenceClassification`."""
        return self.classified(self.states(encoding.ids, encoding.type_ids)[0])

    def classified(self, first):
        """What its head makes of the first token."""
        pooled = numpy.tanh(first @ self.head["bert.pooler.dense.weight"].T + self.head["bert.pooler.dense.bias"])
        return pooled @ self.head["classifier.weight"].T + self.head["classifier.bias"]

    def token_logits(self, encoding):
        """Of `BertForTokenClassification`."""
        return self.states(encoding.ids) @ self.head["classifier.weight"].T + self.head["classifier.bias"]


def sequence_classifier(seed, labels):
    return Bert(seed, "bert.", **{"bert.pooler.dense.weight": (HIDDEN, HIDDEN), "bert.pooler.dense.bias": (HIDDEN,),
                                  "classifier.weight": (labels, HIDDEN), "classifier.bias": (labels,)})


def token_classifier(seed, labels):
    return Bert(seed, "bert.", **{"classifier.weight": (labels, HIDDEN), "classifier.bias": (labels,)})


def safetensors(tensors):
    """Of https://github.com/huggingface/safetensors."""
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + b"".join(values.astype("<f4").tobytes() for values in tensors.values())


def write(cards, name, model, task, head, config=None, files=None, **fields):
    """A card and its checkpoint in a folder of cards."""
    folder = cards / name
    sizes = {"vocab_size": len(VOCABULARY), "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "model_type": "bert",
             "num_attention_heads": HEADS, "intermediate_size": INNER, "hidden_act": "gelu",
             "max_position_embeddings": LONGEST, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0}
    contents = {"config.json": json.dumps(sizes | (config or {})).encode(), "tokenizer.json": tokenizer().to_str().encode(),
                "model.safetensors": safetensors(model.tensors)} | (files or {})
    for file, content in contents.items():
        (folder / "files" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / file).write_bytes(content)
    digests = {file: {"sha256": hashlib.sha256(content).hexdigest()} for file, content in contents.items()}
    limits = {"tokens_max": 16, "window_overlap": 4, "document_tokens_max": 256, "inputs_max": 32}
    card = {"name": name, "version": "1.0.0", "task": task, "architecture": "bert", "runtime": "candle",
            "dtype": "float32", "source": {"folder": "files", "files": digests}, "head": head, "limits": limits,
            "p99_target_ms": 1000, "price_per_1000_requests_usd": "0.01", **fields}
    text = yaml.safe_dump({"license": "mit", "ml_inference": card}, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{text}---\n")


def sigmoid(x):
    return 1 / (1 + numpy.exp(-x))


def softmax(x):
    exps = numpy.exp(x - numpy.max(x, axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def ok(response):
    assert response.status_code == 200, response.text
    return response.json()


def near(found, expected):
    numpy.testing.assert_allclose(found, expected, atol=2e-5)
