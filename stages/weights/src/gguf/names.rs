//! Hugging Face tensor names in GGUF's spelling (llama.cpp `gguf-py/gguf/tensor_mapping.py`).

const OUTSIDE: [(&str, &str); 3] =
    [("model.embed_tokens.", "token_embd."), ("model.norm.", "output_norm."), ("lm_head.", "output.")];

const INSIDE: [(&str, &str); 9] = [
    ("self_attn.q_proj.", "attn_q."),
    ("self_attn.k_proj.", "attn_k."),
    ("self_attn.v_proj.", "attn_v."),
    ("self_attn.o_proj.", "attn_output."),
    ("mlp.gate_proj.", "ffn_gate."),
    ("mlp.up_proj.", "ffn_up."),
    ("mlp.down_proj.", "ffn_down."),
    ("input_layernorm.", "attn_norm."),
    ("post_attention_layernorm.", "ffn_norm."),
];

/// Returns the GGUF name of a LLaMA tensor, none when the name is no such tensor's.
pub fn gguf_name(name: &str) -> Option<String> {
    let Some((layer, rest)) = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) else {
        return replaced(&OUTSIDE, name);
    };
    Some(format!("blk.{layer}.{}", replaced(&INSIDE, rest)?))
}

fn replaced(table: &[(&str, &str)], name: &str) -> Option<String> {
    table.iter().find_map(|(from, to)| name.strip_prefix(from).map(|rest| format!("{to}{rest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_llama_cpp() {
        assert_eq!(gguf_name("model.layers.12.mlp.down_proj.weight").as_deref(), Some("blk.12.ffn_down.weight"));
        assert_eq!(gguf_name("model.norm.weight").as_deref(), Some("output_norm.weight"));
        assert_eq!(gguf_name("model.layers.0.nothing.weight"), None);
    }
}
