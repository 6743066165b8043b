"""Reference outputs of small checkpoints with random weights, one or more for each architecture.

Weights are no file: each value follows from its tensor's name and its place, here and in
`models/tests/common/checkpoints.rs`. Written are configurations, names and shapes of tensors as
`save_pretrained` writes them, inputs, and what the authors' classes compute in float32.

transformers has no class for JinaBERT (its code lies in repositories) nor for the scaled rotation of GTE: the
forward pass of the former and the frequencies of the latter are written here after
https://huggingface.co/jinaai/jina-bert-implementation and https://huggingface.co/Alibaba-NLP/new-impl.

    pip install -r scripts/checkpoints-requirements.txt
    python scripts/make_checkpoints.py models/tests/references
"""

import json
import math
import pathlib
import sys
import tempfile

import numpy
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file
from sentence_transformers.sentence_transformer import modules

VOCABULARY, HIDDEN, LAYERS, HEADS, INNER = 61, 32, 3, 4, 40
LONGEST = 150
# Below, special tokens; 1 is padding in the families that count positions from it.
FIRST_ID = 3
LABELS = 3
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
MASK_64 = (1 << 64) - 1
TOLERANCE = 2e-5


def hashed(name):
    """FNV-1a of a tensor's name."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK_64
    return value


def units(name, count):
    """Numbers from -1 to 1 that follow from a name (splitmix64, the upper 24 bits)."""
    with numpy.errstate(over="ignore"):
        state = numpy.uint64(hashed(name)) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(
            0x9E3779B97F4A7C15
        )
        state = (state ^ (state >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        state ^= state >> numpy.uint64(31)
    return ((state >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(1 << 23)) - numpy.float32(1)


def values(name, shape):
    """A tensor's values. Weights of normalisations, which have one dimension, lie around 1."""
    unit = units(name, math.prod(shape))
    is_norm = len(shape) == 1 and name.endswith(".weight")
    scaled = numpy.float32(1) + unit * numpy.float32(0.25) if is_norm else unit * numpy.float32(0.25)
    return scaled.reshape(shape)


def ids(seed, length):
    unit = units(f"ids {seed}", length)
    return [FIRST_ID + int((u + 1) / 2 * (VOCABULARY - FIRST_ID)) for u in unit.tolist()]


def kept_rows(length):
    """Rows of a sequence's hidden states that are written."""
    if length <= 6:
        return list(range(length))
    return sorted({0, 1, length // 3, length // 2, length - 2, length - 1})


def fill(model, folder):
    """Gives a model the weights that follow from the names under which it is saved, and returns their shapes."""
    model.save_pretrained(folder)
    path = pathlib.Path(folder) / "model.safetensors"
    with safe_open(path, "np") as file:
        shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}
    save_file({name: values(name, shape) for name, shape in shapes.items()}, path, metadata={"format": "pt"})
    filled = type(model).from_pretrained(folder, attn_implementation="eager")
    return filled.float().eval(), shapes, json.loads((pathlib.Path(folder) / "config.json").read_text())


def forward(model, kind, rows, types=None, left=False):
    """Outputs of sequences in one padded batch, without the padding."""
    longest = max(map(len, rows))
    pad = model.config.pad_token_id
    pad = 0 if pad is None else pad
    batch, mask, segments = [], [], []
    for index, row in enumerate(rows):
        gap = longest - len(row)
        sides = (gap, 0) if left else (0, gap)
        batch.append([pad] * sides[0] + row + [pad] * sides[1])
        mask.append([0] * sides[0] + [1] * len(row) + [0] * sides[1])
        segments.append([0] * sides[0] + (types[index] if types else [0] * len(row)) + [0] * sides[1])
    arguments = {"input_ids": torch.tensor(batch), "attention_mask": torch.tensor(mask)}
    if types:
        arguments["token_type_ids"] = torch.tensor(segments)
    with torch.no_grad():
        output = model(**arguments)
    result = output.logits if kind != "encoder" else output.last_hidden_state
    if kind == "sequence":
        return [result[index].numpy() for index in range(len(rows))]
    keep = [torch.tensor(row, dtype=torch.bool) for row in mask]
    return [result[index][keep[index]].numpy() for index in range(len(rows))]


class References:
    def __init__(self):
        self.cases, self.tensors = [], {}

    def add(self, name, architecture, kind, configs, shapes, lengths, compute, has_types=False, left=None):
        """One checkpoint: inputs of these lengths, one after the other and, checked here, in one batch."""
        inputs = [{"ids": ids(f"{length}", length)} for length in lengths]
        if has_types:
            pair = ids("pair", 11)
            inputs.append({"ids": pair, "types": [0] * 6 + [1] * 5})
        outputs = []
        for given in inputs:
            types = [given["types"]] if "types" in given else None
            outputs.append(compute([given["ids"]], types=types)[0])
        together = compute([given["ids"] for given in inputs if "types" not in given])
        padded = [("right", together)]
        if left:
            padded.append(("left", compute([given["ids"] for given in inputs if "types" not in given], left=True)))
        for side, found in padded:
            for one, other in zip(outputs, found):
                difference = numpy.abs(one - other).max()
                assert difference < TOLERANCE, f"{name}, padded {side}: {difference}"
        for index, output in enumerate(outputs):
            rows = output if output.ndim == 2 else output[None]
            if kind == "encoder":
                self.tensors[f"{name}/{index}/mean"] = rows.mean(axis=0, dtype=numpy.float64).astype(numpy.float32)
                rows = rows[kept_rows(len(rows))]
            self.tensors[f"{name}/{index}"] = numpy.ascontiguousarray(rows, dtype=numpy.float32)
        self.cases.append(
            {
                "name": name,
                "architecture": architecture,
                "kind": kind,
                "configs": configs,
                "tensors": shapes,
                "inputs": inputs,
            }
        )
        print(f"{name}: {len(shapes)} tensors, {len(inputs)} inputs")

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(json.dumps(case) for case in self.cases)
        (folder / "checkpoints.json").write_text(f"[\n{lines}\n]\n")
        save_file(self.tensors, folder / "checkpoints.safetensors")


def sizes(**more):
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": LONGEST,
        "pad_token_id": 0,
        **more,
    }


DEBERTA = {
    "relative_attention": True,
    "position_buckets": 16,
    "max_position_embeddings": LONGEST,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
}
FAMILIES = [
    # name, architecture, configuration, its fields, options
    ("bert", "bert", "BertConfig", sizes(), {"types": True}),
    ("bert-relu", "bert", "BertConfig", sizes(hidden_act="relu", type_vocab_size=1), {}),
    ("bert-tanh", "bert", "BertConfig", sizes(hidden_act="gelu_new"), {}),
    (
        "roberta",
        "roberta",
        "RobertaConfig",
        sizes(pad_token_id=1, max_position_embeddings=LONGEST + 2, type_vocab_size=1, layer_norm_eps=1e-5),
        {"left": True},
    ),
    (
        "xlm-roberta",
        "roberta",
        "XLMRobertaConfig",
        sizes(pad_token_id=1, max_position_embeddings=LONGEST + 2, type_vocab_size=1, layer_norm_eps=1e-5),
        {"left": True},
    ),
    (
        "camembert",
        "roberta",
        "CamembertConfig",
        sizes(pad_token_id=1, max_position_embeddings=LONGEST + 2, type_vocab_size=1, layer_norm_eps=1e-5),
        {},
    ),
    (
        "distilbert",
        "distilbert",
        "DistilBertConfig",
        {
            "vocab_size": VOCABULARY,
            "dim": HIDDEN,
            "n_layers": LAYERS,
            "n_heads": HEADS,
            "hidden_dim": INNER,
            "max_position_embeddings": LONGEST,
            "pad_token_id": 0,
        },
        {},
    ),
    (
        "mpnet",
        "mpnet",
        "MPNetConfig",
        sizes(pad_token_id=1, max_position_embeddings=LONGEST + 2, layer_norm_eps=1e-5),
        {},
    ),
    ("electra", "electra", "ElectraConfig", sizes(embedding_size=24), {"types": True}),
    ("electra-wide", "electra", "ElectraConfig", sizes(embedding_size=HIDDEN), {"types": True}),
    ("albert", "albert", "AlbertConfig", sizes(embedding_size=24), {"types": True}),
    ("albert-groups", "albert", "AlbertConfig", sizes(embedding_size=40, num_hidden_layers=4, num_hidden_groups=2), {}),
    ("deberta-v3", "deberta-v2", "DebertaV2Config", sizes(**DEBERTA), {}),
    (
        "deberta-v2-own",
        "deberta-v2",
        "DebertaV2Config",
        sizes(**{**DEBERTA, "share_att_key": False, "norm_rel_ebd": "none", "position_biased_input": True}),
        {},
    ),
    (
        "deberta-v2-c2p",
        "deberta-v2",
        "DebertaV2Config",
        sizes(**{**DEBERTA, "pos_att_type": "c2p", "position_buckets": -1, "max_relative_positions": 20}),
        {},
    ),
    (
        "modernbert",
        "modernbert",
        "ModernBertConfig",
        sizes(num_hidden_layers=4, local_attention=16, hidden_activation="gelu"),
        {"left": True, "old": "modernbert", "window": 8},
    ),
    (
        "modernbert-biased",
        "modernbert",
        "ModernBertConfig",
        sizes(
            num_hidden_layers=4, local_attention=10, attention_bias=True, mlp_bias=True, norm_bias=True, head_pred=1
        ),
        {"window": 5},
    ),
    ("nomic_bert", "nomic_bert", "NomicBertConfig", sizes(), {"types": True, "left": True, "old": "nomic"}),
    ("gte", "new", "GteConfig", sizes(type_vocab_size=1), {"left": True}),
    ("gte-ntk", "new", "GteConfig", sizes(type_vocab_size=1), {"left": True, "old": "gte"}),
    (
        "qwen2",
        "qwen2",
        "Qwen2Config",
        sizes(num_key_value_heads=2),
        {"left": True, "old": "qwen", "architectures": True},
    ),
    (
        "qwen2-sliding",
        "qwen2",
        "Qwen2Config",
        sizes(num_key_value_heads=2, use_sliding_window=True, sliding_window=9, max_window_layers=1),
        {"left": True, "window": 9},
    ),
    (
        "qwen3",
        "qwen3",
        "Qwen3Config",
        sizes(num_key_value_heads=2, head_dim=16, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
        {"left": True, "old": "qwen"},
    ),
]


def old_forms(kind, config):
    """The same configuration as repositories have it, in the words of older versions or of their own code."""
    old = dict(config)
    if kind == "qwen":
        rope = old.pop("rope_parameters")
        old.pop("layer_types", None)
        old["torch_dtype"] = old.pop("dtype", "float32")
        return [{**old, "rope_theta": rope["rope_theta"], "rope_scaling": None}]
    if kind == "modernbert":
        rope = old.pop("rope_parameters")
        old.pop("layer_types", None)
        full, sliding = rope["full_attention"]["rope_theta"], rope["sliding_attention"]["rope_theta"]
        return [{**old, "global_rope_theta": full, "local_rope_theta": sliding, "global_attn_every_n_layers": 3}]
    if kind == "nomic":
        return [
            {
                "model_type": "nomic_bert",
                "activation_function": "swiglu",
                "causal": False,
                "layer_norm_epsilon": config["layer_norm_eps"],
                "max_trained_positions": 2048,
                "mlp_fc1_bias": False,
                "mlp_fc2_bias": False,
                "n_embd": HIDDEN,
                "n_head": HEADS,
                "n_inner": INNER,
                "n_layer": LAYERS,
                "n_positions": LONGEST,
                "parallel_block": False,
                "prenorm": False,
                "qkv_proj_bias": False,
                "rotary_emb_base": config["rope_parameters"]["rope_theta"],
                "rotary_emb_fraction": 1.0,
                "rotary_emb_interleaved": False,
                "rotary_emb_scale_base": None,
                "rotary_scaling_factor": None,
                "type_vocab_size": 2,
                "use_rms_norm": False,
                "vocab_size": VOCABULARY,
            }
        ]
    if kind == "gte":
        for name in ["rope_parameters", "dtype"]:
            old.pop(name, None)
        scaling = {"factor": 4.0, "type": "ntk"}
        more = {"model_type": "new", "position_embedding_type": "rope", "rope_theta": 20000.0, "rope_scaling": scaling}
        return [{**old, **more, "pack_qkv": True, "layer_norm_type": "layer_norm", "logn_attention_scale": False}]
    raise ValueError(kind)


def scale_frequencies(model):
    """`NTKScalingRotaryEmbedding` of GTE with the base 20,000 and the factor 4."""
    size = HIDDEN // HEADS
    base, factor = 20000.0 * 4.0, 4.0
    frequencies = 1.0 / (base ** (torch.arange(0, size, 2).float() / size))
    model.rotary_emb.inv_freq = frequencies / factor ** (2 / size)


def add_family(references, name, architecture, config, fields, options):
    edge = options.get("window", 16)
    lengths = [1, 2, 7, edge, edge + 1, 2 * edge + 1, LONGEST]
    lengths = sorted(set(lengths))
    config = getattr(transformers, config)(**fields)
    classes = [("encoder", transformers.AutoModel)]
    if name == architecture or name in ["xlm-roberta", "camembert", "deberta-v3", "gte"]:
        classes.append(("sequence", transformers.AutoModelForSequenceClassification))
        classes.append(("token", transformers.AutoModelForTokenClassification))
    for kind, auto in classes:
        config.num_labels = LABELS
        try:
            model = auto.from_config(config)
        except ValueError:
            print(f"{name}: no class for {kind}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            model, shapes, saved = fill(model, folder)
        configs = [saved]
        if options.get("old") == "gte":
            scale_frequencies(model)
            configs = old_forms("gte", saved)
        elif "old" in options:
            configs += old_forms(options["old"], saved)
        references.add(
            name if kind == "encoder" else f"{name}-{kind}",
            architecture,
            kind,
            configs,
            shapes,
            lengths if kind == "encoder" else [2, 9, 40],
            lambda rows, model=model, kind=kind, **more: forward(model, kind, rows, **more),
            has_types=options.get("types", False),
            left=options.get("left", False) and kind == "encoder",
        )


def old_pooling(config):
    """A pooling's configuration as sentence-transformers before version 5.5 writes it."""
    switches = {
        "cls": "cls_token",
        "mean": "mean_tokens",
        "max": "max_tokens",
        "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "weightedmean": "weightedmean_tokens",
        "lasttoken": "lasttoken",
    }
    modes = config["pooling_mode"]
    modes = [modes] if isinstance(modes, str) else modes
    chosen = {f"pooling_mode_{switch}": name in modes for name, switch in switches.items()}
    return {"word_embedding_dimension": config["embedding_dimension"], **chosen, "include_prompt": True}


def sentence_modules(modes, more):
    """Modules behind the transformer, with weights that follow from names, and what is written of each."""
    width = HIDDEN * (len(modes) if isinstance(modes, tuple) else 1)
    pooling = modules.Pooling(HIDDEN, pooling_mode=modes)
    made, written = [pooling], []
    with tempfile.TemporaryDirectory() as folder:
        for kind in more:
            if kind == "normalize":
                made.append(modules.Normalize())
            elif kind == "norm":
                made.append(modules.LayerNorm(width))
            else:
                bias, activation = kind
                made.append(modules.Dense(width, 20, bias=bias, activation_function=activation))
                width = 20
        for index, module in enumerate(made, start=1):
            name = type(module).__name__
            path = f"{index}_{name}"
            inside = pathlib.Path(folder) / path
            inside.mkdir()
            module.save(str(inside))
            shapes, config = {}, None
            weights = inside / "model.safetensors"
            if weights.exists():
                with safe_open(weights, "np") as file:
                    shapes = {tensor: list(file.get_slice(tensor).get_shape()) for tensor in file.keys()}
                state = {tensor: torch.from_numpy(values(f"{path}.{tensor}", shape)) for tensor, shape in shapes.items()}
                module.load_state_dict(state)
            if (inside / "config.json").exists():
                config = json.loads((inside / "config.json").read_text())
            kind = f"{type(module).__module__}.{name}"
            written.append({"type": kind, "path": path, "config": config, "tensors": shapes})
    return [module.eval() for module in made], written


def add_sentences(references):
    """Vectors of sentence-transformers: ways to pool, alone and put together, and modules behind them."""
    tanh, identity = torch.nn.Tanh(), torch.nn.Identity()
    combinations = [(mode, []) for mode in MODES]
    combinations += [
        (("mean", "lasttoken", "cls"), []),
        (("cls", "max", "mean"), []),
        ("mean", ["normalize"]),
        ("mean", [(True, tanh)]),
        ("mean", [(False, identity), (False, identity), "normalize"]),
        (("cls", "mean"), [(True, torch.nn.GELU()), "norm"]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        model, shapes, config = fill(transformers.AutoModel.from_config(transformers.BertConfig(**sizes())), folder)
    for index, (modes, more) in enumerate(combinations):
        made, written = sentence_modules(modes, more)

        def compute(rows, types=None, left=False):
            results = []
            for states in forward(model, "encoder", rows, types, left):
                states = torch.from_numpy(states)[None]
                features = {"token_embeddings": states, "attention_mask": torch.ones(states.shape[:2], dtype=torch.long)}
                with torch.no_grad():
                    for module in made:
                        features = module(features)
                results.append(features["sentence_embedding"][0].numpy())
            return results

        references.add(f"sentence-{index}", "bert", "sentence", [config], shapes, [2, 7, 16], compute)
        old = {**written[0], "type": "sentence_transformers.models.Pooling", "config": old_pooling(written[0]["config"])}
        # The older form has no order of its own.
        is_ordered = not isinstance(modes, tuple) or list(modes) == [mode for mode in MODES if mode in modes]
        references.cases[-1]["modules"] = [written, [old, *written[1:]]] if is_ordered else [written]


def jina_shapes(gated):
    shapes = {
        "embeddings.word_embeddings.weight": [VOCABULARY, HIDDEN],
        "embeddings.token_type_embeddings.weight": [2, HIDDEN],
        "embeddings.LayerNorm.weight": [HIDDEN],
        "embeddings.LayerNorm.bias": [HIDDEN],
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        for part in ["self.query", "self.key", "self.value", "output.dense"]:
            shapes[f"{at}.attention.{part}.weight"] = [HIDDEN, HIDDEN]
            shapes[f"{at}.attention.{part}.bias"] = [HIDDEN]
        norms = ["attention.output.LayerNorm", "mlp.layernorm" if gated else "output.LayerNorm"]
        for norm in norms:
            shapes[f"{at}.{norm}.weight"] = [HIDDEN]
            shapes[f"{at}.{norm}.bias"] = [HIDDEN]
        if gated:
            shapes[f"{at}.mlp.gated_layers.weight"] = [2 * INNER, HIDDEN]
            shapes[f"{at}.mlp.wo.weight"] = [HIDDEN, INNER]
            shapes[f"{at}.mlp.wo.bias"] = [HIDDEN]
        else:
            shapes[f"{at}.intermediate.dense.weight"] = [INNER, HIDDEN]
            shapes[f"{at}.intermediate.dense.bias"] = [INNER]
            shapes[f"{at}.output.dense.weight"] = [HIDDEN, INNER]
            shapes[f"{at}.output.dense.bias"] = [HIDDEN]
    return shapes


def slopes(heads):
    def powers(count):
        start = 2 ** (-(2 ** -(math.log2(count) - 3)))
        return [start * start**index for index in range(count)]

    if math.log2(heads).is_integer():
        return powers(heads)
    near = 2 ** math.floor(math.log2(heads))
    return powers(near) + slopes(2 * near)[0::2][: heads - near]


def jina_forward(shapes, heads, kind, rows, types=None, left=False):
    """The encoder of jina-bert-implementation, one sequence after the other."""
    assert not left
    weights = {name: torch.from_numpy(values(name, shape)) for name, shape in shapes.items()}
    functional = torch.nn.functional

    def linear(name, given):
        return functional.linear(given, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(name, given):
        return functional.layer_norm(given, [HIDDEN], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    results = []
    for index, row in enumerate(rows):
        length = len(row)
        segments = torch.tensor(types[index] if types else [0] * length)
        hidden = weights["embeddings.word_embeddings.weight"][torch.tensor(row)]
        hidden = hidden + weights["embeddings.token_type_embeddings.weight"][segments]
        hidden = norm("embeddings.LayerNorm", hidden)
        places = torch.arange(length)
        distances = (places[None, :] - places[:, None]).abs()
        bias = torch.tensor(slopes(heads))[:, None, None] * distances[None] * -1
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            split = lambda given: given.view(length, heads, HIDDEN // heads).transpose(0, 1)
            query, key, value = (
                split(linear(f"{at}.attention.self.{part}", hidden)) for part in ["query", "key", "value"]
            )
            scores = query @ key.transpose(1, 2) / math.sqrt(HIDDEN // heads) + bias
            context = (scores.softmax(-1) @ value).transpose(0, 1).reshape(length, HIDDEN)
            attended = linear(f"{at}.attention.output.dense", context)
            hidden = norm(f"{at}.attention.output.LayerNorm", attended + hidden)
            if kind == "original":
                inner = functional.gelu(linear(f"{at}.intermediate.dense", hidden))
                hidden = norm(f"{at}.output.LayerNorm", linear(f"{at}.output.dense", inner) + hidden)
            else:
                inner = linear(f"{at}.mlp.gated_layers", hidden)
                act = {"geglu": functional.gelu, "reglu": functional.relu}[kind]
                inner = act(inner[:, :INNER]) * inner[:, INNER:]
                hidden = norm(f"{at}.mlp.layernorm", linear(f"{at}.mlp.wo", inner) + hidden)
        results.append(hidden.numpy())
    return results


def add_jina(references):
    for name, heads, kind in [("jina_bert", HEADS, "geglu"), ("jina_bert-reglu", 4, "reglu"), ("jina_bert-plain", 4, "original")]:
        shapes = jina_shapes(kind != "original")
        config = sizes(
            model_type="bert",
            hidden_act="gelu",
            type_vocab_size=2,
            layer_norm_eps=1e-12,
            position_embedding_type="alibi",
            feed_forward_type=kind,
            num_attention_heads=heads,
        )
        references.add(
            name,
            "jina_bert",
            "encoder",
            [config],
            shapes,
            [1, 2, 17, LONGEST],
            lambda rows, types=None, left=False, shapes=shapes, heads=heads, kind=kind: jina_forward(
                shapes, heads, kind, rows, types, left
            ),
            has_types=True,
        )


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    references = References()
    for family in FAMILIES:
        add_family(references, *family)
    add_jina(references)
    add_sentences(references)
    references.write(pathlib.Path(sys.argv[1]))


if __name__ == "__main__":
    main()
