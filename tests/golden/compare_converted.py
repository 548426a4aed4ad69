"""Whether folders written by `isthmus convert` give the logits of what they were made from, in Transformers or, where it has no such class, in PyTorch.

Run: python3 tests/golden/compare_converted.py build/ci/launcher/isthmus [case ...]   (needs requirements.txt, but for llama-cpp-python)
A case is a golden file of hf/ or of gguf/. Its checkpoint is made anew, converted, loaded in float64, and asked for the logits that the file has of
Transformers, of the definition in PyTorch, or of llama.cpp, which computes in fp32. Prints the largest difference over the largest logit; ends
with 1 when one exceeds 1e-5.
"""
import glob, json, os, subprocess, sys, tempfile
import numpy as np, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
import make_hf_golden, make_m2_bert_golden, make_stripedhyena_golden
from golden_values import uniform_of

HERE = os.path.dirname(os.path.abspath(__file__))


def cases():
    for path in sorted(glob.glob(f"{HERE}/hf/*.json") + glob.glob(f"{HERE}/gguf/*.json")):
        with open(path) as file:
            found = json.load(file)
        name = os.path.basename(path)[:-5]
        for i, golden in enumerate(found if isinstance(found, list) else [found]):
            yield f"{'gguf ' if '/gguf/' in path else ''}{name}" + (f" {i + 1}" if isinstance(found, list) else ""), golden


def hf_numbers(golden, tensor):
    shape = tensor["shape"]
    if "numbers" in tensor:
        return torch.tensor(tensor["numbers"]).reshape(shape)
    if golden["config"]["model_type"] == "m2_bert":
        return make_m2_bert_golden.value_of(tensor["name"], shape)
    return torch.tensor(make_hf_golden.value_of(tensor["name"], shape, golden["seed"])).reshape(shape)


def gguf_numbers(golden, tensor):  # value_of of make_gguf_models.py
    name = tensor["name"]
    if "values" in tensor:
        return np.array(tensor["values"], dtype=np.float32)
    u = uniform_of(name, tensor["count"], golden["seed"])
    if name.endswith(("norm.weight", "ssm_d")):
        return 1 + 0.5 * u
    if name.endswith("ssm_a"):
        return -1.5 + 2 * u
    if name.endswith("ssm_dt.bias"):
        return -2 + 2 * u
    return u if name.startswith(("token_embd", "output")) or "conv1d" in name else 0.75 * u


def write_source(golden, folder):
    """A checkpoint of that golden file; gives its path."""
    if "config" not in golden:
        with open(f"{HERE}/gguf/{golden['name']}.front", "rb") as front, open(f"{folder}/from.gguf", "wb") as file:
            file.write(front.read())
            for tensor in golden["tensors"]:
                file.write(bytes(-file.tell() % 32) + gguf_numbers(golden, tensor).astype(np.float32).tobytes())
            file.write(bytes(-file.tell() % 32))
        return f"{folder}/from.gguf"
    os.mkdir(f"{folder}/from")
    with open(f"{folder}/from/config.json", "w") as file:
        json.dump(golden["config"], file)
    save_file({t["name"]: hf_numbers(golden, t).detach().float().contiguous() for t in golden["tensors"]}, f"{folder}/from/model.safetensors",
              {"format": "pt"})
    return f"{folder}/from"


def logits_of(folder, ids):
    """[rows, length, vocabulary], of the class that config.json names."""
    with open(f"{folder}/config.json") as file:
        config = json.load(file)
    if config["model_type"] not in ("stripedhyena", "m2_bert"):
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64).eval()
        if hasattr(model.config, "_experts_implementation"):
            model.set_experts_implementation("eager")
        return model(ids, use_cache=False).logits
    weights = {name: t.double() for name, t in load_file(f"{folder}/model.safetensors").items()}
    if config["model_type"] == "m2_bert":
        return make_m2_bert_golden.logits_of(make_m2_bert_golden.checkpoint(weights), config, ids)
    model = make_stripedhyena_golden.StripedHyena(config, 1)
    model.prefix, model.weights = "backbone.", weights
    return model(ids).logits


def difference(isthmus, golden):
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        subprocess.run([isthmus, "convert", write_source(golden, folder), f"{folder}/to"], check=True, capture_output=True)
        ids = torch.tensor(golden["ids"])
        if "places" in golden:
            logits = logits_of(f"{folder}/to", ids.reshape(golden["rows"], -1))[0, golden["places"]]
        elif "config" in golden:
            rows, places = zip(*golden["positions"])
            logits = logits_of(f"{folder}/to", ids.reshape(golden["rows"], -1)[:, :-1])[list(rows), list(places)]
        else:
            logits = logits_of(f"{folder}/to", ids[None])[0, golden["positions"]]
    expected = torch.tensor(golden["logits"], dtype=torch.float64)
    return ((logits - expected).abs().max() / expected.abs().max()).item()


if __name__ == "__main__":
    isthmus, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    worst = 0
    for name, golden in cases():
        if wanted and name not in wanted:
            continue
        found = difference(isthmus, golden)
        worst = max(worst, found)
        print(f"{name}: {found:.1e}", flush=True)
    sys.exit(worst > 1e-5)
