"""Writes the ONNX graph of every model card, for the runtime `onnx`.

    python3 scripts/export_onnx.py [--cards-dir model-cards] [--data-dir data]

A graph lies beside the encoder's weights, as `<model>.onnx`. It holds no copy of them: its initialisers
point into `model.safetensors`. Adapter and head are small and inside; the adapter is merged by constant
nodes, which ONNX Runtime folds when it loads the graph. Inputs are `input_ids` and `attention_mask`, int64
`[batch, length]`; the output is `output`, float32: `[batch, hidden]` for mean pooling, `[batch, classes]`
or `[batch, length, classes]` for classifiers. A graph that is up to date is left alone.
"""

import argparse
import hashlib
import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

# To be raised when this program writes another graph for the same files; the server wants the same.
GRAPH_VERSION = "1"
OPSET = 20
# Of what opset 20 came with; newer ones are refused by older runtimes.
IR_VERSION = 9
WEIGHTS = "model.safetensors"
NUMPY = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu_approximate": "tanh"}
# Added to the scores of padding; finite, so that no row becomes NaN.
MASKED = -1e9


class Tensors:
    """A safetensors file (https://github.com/huggingface/safetensors): a header, and where each tensor lies."""

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            self.header = json.loads(file.read(length))
        self.header.pop("__metadata__", None)
        self.start = 8 + length

    def __contains__(self, name: str) -> bool:
        return name in self.header

    def array(self, name: str) -> np.ndarray:
        entry = self.header[name]
        begin, end = entry["data_offsets"]
        with self.path.open("rb") as file:
            file.seek(self.start + begin)
            return np.frombuffer(file.read(end - begin), NUMPY[entry["dtype"]]).reshape(entry["shape"])

    def reference(self, name: str, as_name: str) -> TensorProto:
        """An initialiser that points into the file."""
        entry = self.header[name]
        if entry["dtype"] != "F32":
            sys.exit(f"{self.path}: tensor {name} is {entry['dtype']}, expected F32")
        begin, end = entry["data_offsets"]
        tensor = TensorProto(name=as_name, data_type=TensorProto.FLOAT, dims=entry["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.path.name), ("offset", self.start + begin), ("length", end - begin)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class Graph:
    """Nodes and initialisers, added one by one."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}

    def node(self, operation: str, *inputs: str, output: str | None = None, **attributes) -> str:
        output = output or f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value, dtype=np.float32) -> str:
        self.initializers[name] = numpy_helper.from_array(np.asarray(value, dtype), name)
        return name

    def weight(self, tensors: Tensors, name: str) -> str:
        if name not in tensors:
            sys.exit(f"{tensors.path}: tensor {name} is missing")
        if name not in self.initializers:
            self.initializers[name] = tensors.reference(name, name)
        return name


class Adapter:
    """Low-rank factors in PEFT's layout: a weight becomes `W + s B A`."""

    def __init__(self, weights: Path, config: Path):
        self.tensors = Tensors(weights)
        settings = json.loads(config.read_text())
        rank = settings["r"]
        self.scale = settings["lora_alpha"] / (math.sqrt(rank) if settings.get("use_rslora") else rank)

    def merge(self, graph: Graph, weight: str, name: str) -> str:
        for prefix in ("base_model.model.", "base_model.model.bert."):
            if f"{prefix}{name}.lora_A.weight" not in self.tensors:
                continue
            factors = [
                graph.node("Cast", graph.constant(f"{name}.lora_{part}", self.tensors.array(
                    f"{prefix}{name}.lora_{part}.weight"), np.float16), to=TensorProto.FLOAT)
                for part in ("B", "A")
            ]
            scale = graph.constant("adapter_scale", self.scale)
            return graph.node("Add", weight, graph.node("Mul", graph.node("MatMul", *factors), scale))
        return weight


class Encoder:
    """Adds a BERT encoder (https://arxiv.org/abs/1810.04805) to a graph."""

    def __init__(self, graph: Graph, tensors: Tensors, config: dict, adapter: Adapter | None):
        self.graph, self.tensors, self.config, self.adapter = graph, tensors, config, adapter
        self.prefix = "bert." if "bert.embeddings.word_embeddings.weight" in tensors else ""

    def weight(self, name: str) -> str:
        return self.graph.weight(self.tensors, self.prefix + name)

    def linear(self, rows: str, name: str) -> str:
        weight = self.weight(f"{name}.weight")
        if self.adapter:
            weight = self.adapter.merge(self.graph, weight, name)
        product = self.graph.node("MatMul", rows, self.graph.node("Transpose", weight, perm=[1, 0]))
        return self.graph.node("Add", product, self.weight(f"{name}.bias"))

    def normalize(self, rows: str, name: str) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.graph.node("LayerNormalization", rows, scale, bias, axis=-1, epsilon=self.config["layer_norm_eps"])

    def hidden(self) -> str:
        graph = self.graph
        words = graph.node("Gather", self.weight("embeddings.word_embeddings.weight"), "input_ids")
        zero, one = graph.constant("zero", [0], np.int64), graph.constant("one", [1], np.int64)
        length = graph.node("Shape", "input_ids", start=1, end=2)
        positions = graph.node("Slice", self.weight("embeddings.position_embeddings.weight"), zero, length, zero)
        segment = graph.node("Slice", self.weight("embeddings.token_type_embeddings.weight"), zero, one, zero)
        hidden = graph.node("Add", graph.node("Add", words, segment), positions)
        hidden = self.normalize(hidden, "embeddings.LayerNorm")
        mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT, output="mask")
        inverse = graph.node("Sub", graph.constant("unmasked", 1.0), mask)
        bias = graph.node("Mul", inverse, graph.constant("masked", MASKED))
        bias = graph.node("Unsqueeze", bias, graph.constant("head_axes", [1, 2], np.int64))
        for layer in range(self.config["num_hidden_layers"]):
            hidden = self.layer(hidden, f"encoder.layer.{layer}", bias)
        return hidden

    def layer(self, hidden: str, name: str, bias: str) -> str:
        attended = self.linear(self.attention(hidden, f"{name}.attention.self", bias), f"{name}.attention.output.dense")
        hidden = self.normalize(self.graph.node("Add", attended, hidden), f"{name}.attention.output.LayerNorm")
        inner = self.activate(self.linear(hidden, f"{name}.intermediate.dense"))
        output = self.graph.node("Add", self.linear(inner, f"{name}.output.dense"), hidden)
        return self.normalize(output, f"{name}.output.LayerNorm")

    def attention(self, hidden: str, name: str, bias: str) -> str:
        graph, heads = self.graph, self.config["num_attention_heads"]
        head = self.config["hidden_size"] // heads
        split = graph.constant("split_heads", [0, 0, heads, head], np.int64)
        query, key, value = (
            graph.node("Transpose", graph.node("Reshape", self.linear(hidden, f"{name}.{part}"), split), perm=perm)
            for part, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
        )
        scores = graph.node("Div", graph.node("MatMul", query, key), graph.constant("head_root", math.sqrt(head)))
        weights = graph.node("Softmax", graph.node("Add", scores, bias), axis=-1)
        context = graph.node("Transpose", graph.node("MatMul", weights, value), perm=[0, 2, 1, 3])
        joined = graph.constant("join_heads", [0, 0, heads * head], np.int64)
        return graph.node("Reshape", context, joined)

    def activate(self, rows: str) -> str:
        name = self.config["hidden_act"]
        if name == "relu":
            return self.graph.node("Relu", rows)
        if name not in ACTIVATIONS:
            sys.exit(f"hidden_act {name!r} is not supported")
        return self.graph.node("Gelu", rows, approximate=ACTIVATIONS[name])


def mean(graph: Graph, hidden: str) -> str:
    """The mean over the tokens that are no padding."""
    last = graph.constant("last_axis", [2], np.int64)
    length = graph.constant("length_axis", [1], np.int64)
    kept = graph.node("Mul", hidden, graph.node("Unsqueeze", "mask", last))
    total = graph.node("ReduceSum", kept, length, keepdims=0)
    return graph.node("Div", total, graph.node("ReduceSum", "mask", length, keepdims=1))


def classify(graph: Graph, rows: str, head: Tensors) -> str:
    def linear(rows: str, name: str) -> str:
        weight = graph.constant(f"head.{name}.weight", head.array(f"{name}.weight").T)
        bias = graph.constant(f"head.{name}.bias", head.array(f"{name}.bias"))
        return graph.node("Add", graph.node("MatMul", rows, weight), bias)

    if "dense.weight" in head:
        rows = graph.node("Tanh", linear(rows, "dense"))
    return linear(rows, "classifier")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Card:
    """A model card's manifest and the files it names."""

    def __init__(self, path: Path, data_dir: Path):
        text = path.read_text(encoding="utf-8")
        self.manifest = yaml.safe_load(text.split("\n---", 1)[0].removeprefix("---"))["ml_inference"]
        self.name = self.manifest["name"]
        source = self.manifest["source"]
        if "folder" in source:
            self.folder = path.parent / source["folder"]
        else:
            self.folder = data_dir / "weights" / source["repository"].replace("/", "--") / source["revision"]
        self.files = {"encoder": self.folder / WEIGHTS, "config": self.folder / "config.json"}
        if adapter := self.manifest.get("adapter"):
            self.files["adapter"] = path.parent / adapter["file"]
            self.files["adapter_config"] = path.parent / adapter["config"]
        if "file" in self.manifest["head"]:
            self.files["head"] = path.parent / self.manifest["head"]["file"]

    def metadata(self) -> dict[str, str]:
        digests = {f"{name}_sha256": sha256(path) for name, path in self.files.items()}
        return {"graph_version": GRAPH_VERSION, **digests}

    def graph(self) -> onnx.GraphProto:
        graph, kind = Graph(), self.manifest["head"]["kind"]
        config = json.loads(self.files["config"].read_text())
        adapter = Adapter(self.files["adapter"], self.files["adapter_config"]) if "adapter" in self.files else None
        rows = Encoder(graph, Tensors(self.files["encoder"]), config, adapter).hidden()
        shape = ["batch", "length"] if kind == "token_classification" else ["batch"]
        if kind != "token_classification":
            rows = mean(graph, rows)
        if "head" in self.files:
            rows = classify(graph, rows, Tensors(self.files["head"]))
        graph.node("Identity", rows, output="output")
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
                  for name in ("input_ids", "attention_mask")]
        output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [*shape, None])
        return helper.make_graph(graph.nodes, self.name, inputs, [output], list(graph.initializers.values()))

    def export(self) -> None:
        path, metadata = self.folder / f"{self.name}.onnx", self.metadata()
        if path.exists():
            model = onnx.load(path, load_external_data=False)
            if {entry.key: entry.value for entry in model.metadata_props} == metadata:
                print(f"{path} is up to date")
                return
        model = helper.make_model(self.graph(), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        helper.set_model_props(model, metadata)
        partial = path.with_suffix(".partial")
        partial.write_bytes(model.SerializeToString())
        partial.replace(path)
        print(f"{path} written, {path.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards-dir", type=Path, default=Path("model-cards"))
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    for path in sorted(arguments.cards_dir.glob("*/README.md")):
        card = Card(path, arguments.data_dir)
        if missing := [str(file) for file in card.files.values() if not file.exists()]:
            sys.exit(f"{card.name}: {', '.join(missing)} missing; run `make fetch` first")
        card.export()


if __name__ == "__main__":
    main()
