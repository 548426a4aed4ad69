#!/usr/bin/env python3
"""Makes tests/golden/formats/hf_configs.json: tiny models of the architectures whose config.json we read, built and saved by
Transformers' own classes (made with transformers 5.24.0, torch 2.15.0): for each its config.json and the names and shapes of the
tensors in its model.safetensors. One model a line.

    pip install torch transformers && python3 tests/golden/make_hf_configs.py
"""
import json
import pathlib
import tempfile

import transformers as T
from safetensors import safe_open

HERE = pathlib.Path(__file__).parent
BASE = dict(vocab_size=32, hidden_size=16)
HEADS = dict(num_attention_heads=4, num_key_value_heads=2)
DENSE = dict(intermediate_size=24, **BASE, **HEADS)
SSM = dict(mamba_n_heads=4, mamba_d_state=4, mamba_chunk_size=8)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}

MODELS = {
    "llama": T.LlamaConfig(**DENSE, num_hidden_layers=2, max_position_embeddings=64, rope_parameters=LLAMA3),
    "llama with biases": T.LlamaConfig(**DENSE, num_hidden_layers=1, head_dim=6, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "mistral": T.MistralConfig(**DENSE, num_hidden_layers=1, head_dim=8, sliding_window=8),
    "mixtral": T.MixtralConfig(**DENSE, num_hidden_layers=1, num_local_experts=3, num_experts_per_tok=2),
    "mamba": T.MambaConfig(**BASE, state_size=4, num_hidden_layers=1),
    "mamba with biases": T.MambaConfig(**BASE, state_size=4, num_hidden_layers=1, expand=3, time_step_rank=5, conv_kernel=3, use_bias=True,
                                       use_conv_bias=False, tie_word_embeddings=False),
    "mamba2": T.Mamba2Config(**BASE, state_size=4, num_hidden_layers=1, num_heads=4, head_dim=8, n_groups=2, chunk_size=8),
    "mamba2 with biases": T.Mamba2Config(**BASE, state_size=4, num_hidden_layers=1, num_heads=4, head_dim=8, n_groups=1, chunk_size=8, use_bias=True,
                                         use_conv_bias=False, time_step_limit=(0.01, 0.5)),
    "bamba": T.BambaConfig(**DENSE, **SSM, num_hidden_layers=2, attn_layer_indices=[1]),
    "granite": T.GraniteMoeHybridConfig(**DENSE, **SSM, num_hidden_layers=2, layer_types=["mamba", "attention"], num_local_experts=3,
                                        num_experts_per_tok=2, shared_intermediate_size=20, embedding_multiplier=12.0,
                                        residual_multiplier=0.22, attention_multiplier=0.0625, logits_scaling=3.0),
    "granite dense": T.GraniteMoeHybridConfig(**DENSE, **SSM, num_hidden_layers=2, layer_types=["attention", "mamba"], num_local_experts=0,
                                              num_experts_per_tok=0, shared_intermediate_size=20, position_embedding_type="rope"),
    "jamba": T.JambaConfig(**DENSE, num_hidden_layers=2, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1,
                           num_experts=3, mamba_d_state=4),
    "nemotron_h": T.NemotronHConfig(**DENSE, layers_block_type=["mamba", "attention", "mlp", "moe"], head_dim=8, ssm_state_size=4, mamba_num_heads=4,
                                    mamba_head_dim=8, n_groups=2, chunk_size=8, n_routed_experts=3, moe_intermediate_size=12,
                                    moe_shared_expert_intermediate_size=20, num_experts_per_tok=2),
}


def describe(config: T.PretrainedConfig) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        T.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        written = json.loads((pathlib.Path(folder) / "config.json").read_text())
        with safe_open(folder + "/model.safetensors", "pt") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in sorted(tensors.keys())}
    return {"config": written, "tensors": shapes}


def main() -> None:
    (HERE / "formats").mkdir(exist_ok=True)
    lines = [json.dumps(name) + ": " + json.dumps(describe(config), separators=(",", ":")) for name, config in MODELS.items()]
    (HERE / "formats" / "hf_configs.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
