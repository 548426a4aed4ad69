#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/: a tokenizer.json trained and written by Hugging Face `tokenizers` (made with 0.23.3), a text
that holds every rule of the pre-tokenizer, its ids, and the tokenizer that training on that text gives. Likewise with Llama 3's
pattern: a tokenizer with words that its merges do not reach, and the ids of the text's beginning.

    pip install tokenizers && python3 tests/golden/make_tokenizer_golden.py
"""
import json
import pathlib
import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent / "tokenizer"
PARTS = [
    "the", "The", "tree", "tries", "a", "I'll", "we've", "it's", "don't", "they're", "I'd", "I'm", "'S", "'", "''s", "x'", "'re'", "1", "23", "456", "1st",
    "٣٤", "Ⅷ", "½", "naïve", "e\u0301", "größe", "ПРИВЕТ", "привет", "日本語", "한국어", "ไทย", "नमस्ते", "🙂", "👩‍👩‍👧", "—", "...", "!?", "#include", "int main()", "{", "}",
    "->", "==", "_snake_case", "C<code>", "a\u00a0b", "\u3000", "\u2028", "\u200b", "\ufeff", "\x85", "\x1c", "\x00", "\x7f", "\U0010ffff", "=" * 40, "ab" * 100,
]
SPACES = [" ", " ", " ", " ", "  ", "\n", "\n\n", "\t", " \t ", "\r\n", "   \n  ", "", ""]


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3_PARTS = PARTS + ["I'LL", "IT'S", "they'Re", "'ſ", "x'ſ", "12345", "1234567", "(word)", "\u00a0word", "!\r\n\r\nx", "?\n\n", " \n \n  y", "\t\r\n", "\r\r", "\u2028\nz"]


def text_of(seed: int, words: int, parts: list[str] = PARTS) -> str:
    draw = random.Random(seed)
    return "".join(draw.choice(parts) + draw.choice(SPACES) for _ in range(words))


def fresh() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train(text: str, vocabulary: int) -> Tokenizer:
    tokenizer = fresh()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def llama3() -> None:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([text_of(3, 4000, LLAMA3_PARTS)], trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(tokenizer.to_str())
    model["model"]["merges"] = [merge for rank, merge in enumerate(model["model"]["merges"]) if rank % 3 > 0]
    tokenizer = Tokenizer.from_str(json.dumps(model))
    tokenizer.save(str(HERE / "llama3.json"), pretty=False)
    text = text_of(4, 800, LLAMA3_PARTS)
    (HERE / "llama3.txt").write_bytes(text.encode())
    (HERE / "llama3_ids.txt").write_text(" ".join(map(str, tokenizer.encode(text, add_special_tokens=False).ids)) + "\n")


def main() -> None:
    HERE.mkdir(parents=True, exist_ok=True)
    text = text_of(1, 4000)
    tokenizer = train(text_of(2, 4000), 512)
    tokenizer.save(str(HERE / "tokenizer.json"), pretty=False)
    (HERE / "text.txt").write_bytes(text.encode())
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    (HERE / "ids.txt").write_text(" ".join(map(str, ids)) + "\n")
    special = "a<|endoftext|>b <|endoftext|><|endoftext|> <|endoftext|"
    (HERE / "special.json").write_text(json.dumps({"text": special, "ids": tokenizer.encode(special).ids}) + "\n")
    trained = train(text, 480)
    (HERE / "trained_on_text.json").write_text(trained.to_str() + "\n")
    llama3()


if __name__ == "__main__":
    main()
