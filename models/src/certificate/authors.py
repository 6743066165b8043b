"""What transformers and sentence-transformers compute of a checkpoint: reads a request from standard input, as JSON, and
writes the answers to standard output. Everything is computed on the CPU, in float32 and text by text."""

import json
import os
import platform
import sys

# The files are all there; nothing is to be fetched, and no code of repositories is run.
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
output, sys.stdout = sys.stdout, sys.stderr

import torch  # noqa: E402
import transformers  # noqa: E402

transformers.logging.set_verbosity_error()


def sentences(folder, pooling):
    """Vectors of texts by the checkpoint's modules, or by an encoder alone and these ways to pool."""
    import sentence_transformers
    from sentence_transformers import SentenceTransformer

    if pooling:
        from sentence_transformers.sentence_transformer import modules

        encoder = modules.Transformer(folder)
        model = SentenceTransformer(modules=[encoder, modules.Pooling(encoder.get_embedding_dimension(), tuple(pooling))],
                                    device="cpu")
    else:
        model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    model = model.float().eval()
    prompt = model.prompts.get(model.default_prompt_name, "") if model.default_prompt_name else ""

    def answer(text, _):
        ids = model.tokenizer(prompt + text, truncation=False)["input_ids"]
        if model.max_seq_length and len(ids) > model.max_seq_length:
            return {"ids": ids, "rows": []}
        vector = model.encode([text], convert_to_numpy=True, show_progress_bar=False)[0]
        return {"ids": ids, "rows": [vector.tolist()]}

    return answer, {"sentence_transformers": sentence_transformers.__version__}


def classes(folder, auto):
    """Logits of a classifier of sequences or tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    longest = getattr(model.config, "max_position_embeddings", None) or 1 << 30

    def answer(text, pair):
        given = tokenizer(text, pair, return_tensors="pt") if pair is not None else tokenizer(text, return_tensors="pt")
        ids = given["input_ids"][0].tolist()
        if len(ids) + 2 > longest:
            return {"ids": ids, "rows": []}
        with torch.no_grad():
            logits = model(**given).logits[0]
        return {"ids": ids, "rows": (logits if logits.ndim == 2 else logits[None]).tolist()}

    return answer, {}


def main():
    request = json.load(sys.stdin)
    if request["kind"] == "pooling":
        answer, more = sentences(request["folder"], request["pooling"])
    elif request["kind"] == "token":
        answer, more = classes(request["folder"], transformers.AutoModelForTokenClassification)
    else:
        answer, more = classes(request["folder"], transformers.AutoModelForSequenceClassification)
    libraries = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    answers = [answer(*texts) for texts in request["texts"]]
    json.dump({"libraries": libraries | more, "answers": answers}, output)


main()
