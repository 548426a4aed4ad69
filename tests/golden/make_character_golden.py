"""Writes tokenizer/characters.json: a small tokenizer.json as folders of Llama 2 and Mistral have it (BPE over characters with byte_fallback), variants of
how it handles blanks, and the ids of texts by Hugging Face `tokenizers` (made with 0.23.3).

Run: python3 tests/golden/make_character_golden.py
Each text has the ids with names of special tokens as text (`ids`), with those names as tokens (`with_names`), and what the first decode to (`decoded`).
"""
import json
import pathlib

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from make_tokenizer_golden import text_of

HERE = pathlib.Path(__file__).parent / "tokenizer"
BLANK = "\u2581"
TEXTS = ["", " ", "  ", "   a", "the tree", " the tree", "the  the   the", "Hello, world!", "a\nb\n\n  c\t\td", "naïve café größe", "日本語のテキスト", "🙂🙃 👩‍👩‍👧", "e\u0301 é",
         "0123456789 3.14", "it's we'LL they'Re", "<s>", "</s> <unk>", "<s>the", "the<s> tree", "<s> <s>the", "a<tool>b", " <tool> the", "<tool><tool>s>", "<tool", "<toolbox> the",
         "[INST] the [/INST]", "<0x41>", BLANK * 2 + "the" + BLANK, "\u00a0nb\u2003em\u200b", "a" * 65, "ababababab", "\x01\x02\x7f\x00", "the tree " * 40, "\ufeffbom", "int main() {\n    return 0;\n}"]


def trained() -> dict:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="always")
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    tokenizer.train_from_iterator([text_of(1, 3000)], trainers.BpeTrainer(
        vocab_size=520, special_tokens=["<unk>", "<s>", "</s>"] + bytes_, limit_alphabet=70, initial_alphabet=[BLANK, "a", "b", "t", "<", ">"], show_progress=False))
    out = json.loads(tokenizer.to_str())
    out["added_tokens"] = out["added_tokens"][:3]
    # Merges over blanks: words are no bound without a pre-tokenizer.
    vocabulary = out["model"]["vocab"]
    for left, right in ((BLANK, BLANK), (BLANK * 2, BLANK * 2)):
        vocabulary[left + right] = len(vocabulary)
        out["model"]["merges"].append([left, right])
    size = len(vocabulary)
    for i, (name, special) in enumerate((("<tool>", False), ("<toolbox>", False), ("[INST]", True))):
        out["added_tokens"].append(dict(id=size + i, content=name, single_word=False, lstrip=False, rstrip=False, normalized=False, special=special))
    return out


TEMPLATE = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
CLOSED = {**TEMPLATE, "single": TEMPLATE["single"] + [{"SpecialToken": {"id": "</s>", "type_id": 0}}]}


def state_of(part) -> dict:
    return json.loads(part.__getstate__()) if part is not None else None


def variant(name, normalizer, cutter, post, stripped) -> dict:
    steps = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()] + ([decoders.Strip(" ", 1, 0)] if stripped else [])
    return dict(name=name, parts=dict(normalizer=state_of(normalizer), pre_tokenizer=state_of(cutter), post_processor=post,
                                      decoder=state_of(decoders.Sequence(steps))))


def main() -> None:
    base = trained()
    prepend, replace = normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)
    metaspace = lambda scheme, split: pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme=scheme, split=split)
    variants = [variant("llama2", normalizers.Sequence([prepend, replace]), None, TEMPLATE, True),
                variant("mistral", None, metaspace("first", False), TEMPLATE, True),
                variant("words", None, metaspace("always", True), CLOSED, True),
                variant("bare", normalizers.Sequence([replace]), None, None, False),
                variant("never", None, metaspace("never", True), None, False)]
    for v in variants:
        tokenizer = Tokenizer.from_str(json.dumps({**base, **v["parts"]}))
        v["texts"] = []
        for text in TEXTS:
            tokenizer.encode_special_tokens = False
            with_names = tokenizer.encode(text).ids
            tokenizer.encode_special_tokens = True
            ids = tokenizer.encode(text).ids
            v["texts"].append(dict(text=text, ids=ids, with_names=with_names, decoded=tokenizer.decode(ids, skip_special_tokens=True)))
    (HERE / "characters.json").write_text(json.dumps(dict(file=base, variants=variants), ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
