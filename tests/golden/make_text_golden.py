"""Writes hf_texts.json: how folders of a tiny random Llama with a byte-level tokenizer continue a text in Transformers: what the tokenizer puts before the
text, where the text ends, and a vocabulary wider than the tokenizer's.

Run: python3 tests/golden/make_text_golden.py   (needs requirements.txt; made with torch 2.15, transformers 5.24)
Weights are value_of of make_hf_golden.py, from names and an index. A case has what its folder has beside tokenizer/tokenizer.json and
hf/llama.json, the prompt's ids, the ids that follow and their text; its seed is one where at each step the likeliest token is ahead of
the second by more than 1e-3, and the text is whole UTF-8.
"""
import json, os, sys, tempfile
os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is fetched
import torch
from make_hf_golden import value_of
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT, TOKENS = "The tree it's <|endoftext|>", 12
A, B = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
END = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
TEMPLATE = {"type": "TemplateProcessing", "single": [END, A], "pair": [A, B],
            "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}}
OFFSETS = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}


def load(name):
    with open(f"{HERE}/{name}") as file:
        return json.load(file)


def write_folder(folder, case):
    config = {**load("hf/llama.json")["config"], **case["config"]}
    tokens = {**load("tokenizer/tokenizer.json"), **case["tokenizer"]}
    for name, value in (("config", config), ("tokenizer", tokens), ("generation_config", case["generation_config"])):
        if value is not None:
            with open(f"{folder}/{name}.json", "w") as file:
                json.dump(value, file)
    with open(f"{folder}/tokenizer_config.json", "w") as file:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast"}, file)
    shapes = {name: t.shape for name, t in LlamaForCausalLM(LlamaConfig(**config)).state_dict().items()}
    save_file({name: torch.tensor(value_of(name, tuple(shape), case["seed"])).float().reshape(shape) for name, shape in shapes.items()},
              f"{folder}/model.safetensors", {"format": "pt"})


def continued(case):
    """The case with what Transformers makes of it; the least lead of a likeliest token."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        write_folder(folder, case)
        tokens = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64).eval()
        prompt = tokens(PROMPT, return_tensors="pt").input_ids
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=TOKENS, return_dict_in_generate=True,
                             output_logits=True)
        ids = out.sequences[0, prompt.shape[1]:].tolist()
        best = torch.stack([logits[0].topk(2).values for logits in out.logits])
    text = tokens.decode(ids, skip_special_tokens=True)
    return {**case, "prompt": PROMPT, "tokens": TOKENS, "prompt_ids": prompt[0].tolist(), "ids": ids, "text": text}, (best[:, 0] - best[:, 1]).min().item()


def made(name, wanted=lambda case: True, config={}, tokenizer={}, generation=None):
    for seed in range(1, 500):
        case = dict(name=name, seed=seed, config={"vocab_size": 512, "eos_token_id": None, "bos_token_id": None, **config}, tokenizer=tokenizer, generation_config=generation)
        case, lead = continued(case)
        if lead > 1e-3 and "\ufffd" not in case["text"] and wanted(case):
            return case
    sys.exit(f"{name}: no seed")


def again(name, case, config={}, generation=None):
    """The same model with other end tokens."""
    return continued({**case, "name": name, "config": {**case["config"], **config}, "generation_config": generation})[0]


def main():
    plain = made("plain", lambda case: len(set(case["ids"][:6])) == 6)
    third, fifth = plain["ids"][2], plain["ids"][4]
    cases = [plain, made("template", tokenizer={"post_processor": TEMPLATE}),
             made("sequence", tokenizer={"post_processor": {"type": "Sequence", "processors": [OFFSETS, TEMPLATE]}}),
             again("ends", plain, {"eos_token_id": [511, fifth, plain["ids"][5]]}),
             again("generation_config", plain, {"eos_token_id": third}, {"eos_token_id": [fifth], "do_sample": False}),
             again("generation_config_without_end", plain, {"eos_token_id": third}, {"do_sample": False}),
             made("wide", lambda case: max(case["ids"]) >= 512 and case["text"] != "", {"vocab_size": 700})]
    with open(f"{HERE}/hf_texts.json", "w") as file:
        json.dump(cases, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
