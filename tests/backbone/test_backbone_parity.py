"""The backbone gives the numbers of the authors' released modules, tensor by tensor."""

import functools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from backbone_support import DTYPES, PREFIX, TOLERANCE, Truth, error, in_the_interpreter, require, tiny_config
from torch import Tensor

from nirvana_mri.backbone.layers import GatedRMSNorm, RMSNorm, ShortConv
from nirvana_mri.backbone.memory import Interpolation
from nirvana_mri.backbone.model import NirvanaLM, NirvanaOutput
from nirvana_mri.backbone.ops import gated_delta_rule, implementations, trigger_update
from nirvana_mri.backbone.ops.trigger.naive import TriggerBank, TriggerLogits

CASES = [
    "case_i_short",
    "case_ii_long",
    "case_iii_embeds",
    "case_iv_window",
    "case_v_leftpad",
    "case_v2_leftpad_chunk",
]
KERNELS = {
    "default": "",
    "naive": "gated_delta_rule=naive,trigger_update=naive,mix_branches=naive",
    "cpp": "gated_delta_rule=cpp",
}
if "triton" in implementations("gated_delta_rule"):
    KERNELS["triton"] = "gated_delta_rule=triton,trigger_update=triton,mix_branches=triton"
RECORDED = {"hidden": "hidden", "gate_attention": "t", "gate_delta": "t2", "task_vector": "h_new"}
FAST = ("weight_linear_tmp", "weight_ln_tmp", "bias_linear_tmp", "bias_ln_tmp")


@functools.cache
def truth(folder: Path, name: str) -> Truth:
    return Truth.read(folder, name)


def run(model: NirvanaLM, case: Truth, dtype: torch.dtype) -> NirvanaOutput:
    inputs = {key: value for key, value in case.under("in.", dtype).items() if key != "labels"}
    return model(**inputs, record=True)


@pytest.fixture(params=KERNELS)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every operation through one kind of kernel, where that runs here."""
    for operation, _, name in (item.partition("=") for item in KERNELS[request.param].split(",") if item):
        if name not in implementations(operation):
            pytest.skip(f"{operation}: {name} cannot run here")
    monkeypatch.setenv("NIRVANA_KERNELS", KERNELS[request.param])
    return str(request.param)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_outputs_and_layers_match(shared_fixtures: Path, name: str, dtype: torch.dtype, kernels: str) -> None:
    if kernels == "triton":
        require("gated_delta_rule", "triton", dtype)
    case = truth(shared_fixtures, name)
    expected = case.under(PREFIX[dtype] + ".")
    output = run(case.model(dtype, case.info["window_size_active"]), case, dtype)
    errors = {
        "logits": error(output.logits, expected["logits"]),
        "final_hidden": error(output.final_hidden, expected["final_hidden"]),
    }
    if "labels" in (inputs := case.under("in.")):
        loss = F.cross_entropy(output.logits.flatten(0, 1), inputs["labels"].flatten(), ignore_index=-100)
        errors["loss"] = error(loss, expected["loss_unshifted"])
    for index, layer in enumerate(output.layers):
        assert (layer.task_vector is None) == (index < 2)
        for ours, theirs in RECORDED.items():
            if (key := f"layers.{index}.{theirs}") in expected:
                errors[key] = error(getattr(layer, ours), expected[key])
    assert len(errors) >= (12 if dtype == torch.float64 else 6)
    assert max(errors.values()) <= TOLERANCE[dtype], errors


def test_outputs_and_layers_match_in_the_interpreter(shared_fixtures: Path) -> None:
    """The same with every Triton kernel, on a CPU; of the six the one with left padding and the one with a window."""
    in_the_interpreter(__file__, "layers_match and triton and float32 and (iv_window or v_leftpad)", 2)


@pytest.mark.parametrize("name", CASES)
def test_parts_of_every_layer_match(shared_fixtures: Path, name: str) -> None:
    """What flows between the parts: both branches, the correction, the mixture, the MLP, the fast weights."""
    case = truth(shared_fixtures, name)
    model = case.model(torch.float64, case.info["window_size_active"])
    seen: dict[str, Tensor] = {}
    for index, layer in enumerate(model.layers):
        parts = {"mlp_out": layer.mlp}
        if index >= 2:
            parts |= {"delta_branch": layer.mixer.memory, "attn_branch": layer.mixer.attention}
            parts["interp"] = layer.mixer.interpolation.correction
        for key, part in parts.items():
            part.register_forward_hook(lambda _, __, out, key=f"layers.{index}.{key}": seen.__setitem__(key, out))
        layer.mixer.register_forward_hook(functools.partial(_keep_mixed, seen, f"layers.{index}."))
    run(model, case, torch.float64)
    expected = case.under("f64.")
    assert len(seen) == 2 * 6 + 2 * 9
    errors = {key: error(value, expected[key]) for key, value in seen.items()}
    assert max(errors.values()) <= 1e-10, errors


def _keep_mixed(seen: dict[str, Tensor], prefix: str, _module: object, _inputs: object, mixed) -> None:
    seen[f"{prefix}mixer_out"] = mixed.output
    for name, value in zip(FAST, mixed.fast, strict=True):
        seen[f"{prefix}fast.{name}"] = value


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_the_window_attention_is_full(shared_fixtures: Path, dtype: torch.dtype) -> None:
    """window_size=None is full attention although the published dictionary names a window of 32."""
    case = truth(shared_fixtures, "case_iv_window")
    assert case.info["config"]["window_size"] == 32
    output = run(case.model(dtype, None), case, dtype)
    expected = case.under(PREFIX[dtype] + "_nowindow.")
    assert error(output.logits, expected["logits"]) <= TOLERANCE[dtype]
    assert error(output.final_hidden, expected["final_hidden"]) <= TOLERANCE[dtype]
    assert error(output.logits, case.under(PREFIX[dtype] + ".")["logits"]) > 1e-3  # the window matters


def test_the_gate_is_float64_in_a_float64_model(shared_fixtures: Path) -> None:
    """The authors' cast of the decay gate to float32 would show at 1e-7."""
    case = truth(shared_fixtures, "case_ii_long")
    logits = run(case.model(torch.float64, None), case, torch.float64).logits
    assert error(logits, case.tensors["f64_gatef32.logits"]) > 1e-9


@pytest.mark.parametrize("implementation", implementations("gated_delta_rule"))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tokens", [1, 17, 64, 65, 200])
def test_gated_delta_rule(shared_fixtures: Path, tokens: int, dtype: torch.dtype, implementation: str) -> None:
    require("gated_delta_rule", implementation, dtype)
    case = truth(shared_fixtures, "unit_gated_delta_rule")
    given = case.under(f"T{tokens}.in.", dtype)
    start = given.pop("s0")
    for suffix, state in (("", None), ("_s0", start)):
        expected = case.under(f"T{tokens}.{PREFIX[dtype]}{suffix}.")
        output, last = gated_delta_rule(**given, initial_state=state, implementation=implementation)
        assert error(output, expected["o"]) <= TOLERANCE[dtype]
        assert error(last, expected["state"]) <= TOLERANCE[dtype]


@pytest.mark.parametrize("implementation", implementations("trigger_update"))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_trigger(shared_fixtures: Path, dtype: torch.dtype, implementation: str) -> None:
    require("trigger_update", implementation, dtype)
    case = truth(shared_fixtures, "unit_trigger")
    bank = TriggerBank(**case.under("param.", dtype))
    qkv = [case.under("in.", dtype)[name] for name in "qkv"]
    given = TriggerLogits(*(case.under("in.fast.", dtype)[name] for name in FAST))
    ones = TriggerLogits(*(torch.ones_like(p) for p in given))
    expected = case.under(PREFIX[dtype] + ".")

    found = {}
    for key, start, rates in (
        ("learn.lr1e-2", given, (0.01, 0.01)),
        ("learn.lrlin0.5_lrln0.25", given, (0.5, 0.25)),
        ("learn_from_ones", ones, (0.01, 0.01)),
    ):
        after, learned = trigger_update(*qkv, start, bank, *rates, implementation=implementation)
        found |= {f"{key}.{name}": p for name, p in zip(FAST, learned, strict=True)}
        if key != "learn.lrlin0.5_lrln0.25":
            found["predict_after_learn" if start is given else "predict_from_ones"] = after
    found["predict_before"], _ = trigger_update(*qkv, given, bank, 0, 0, implementation=implementation)

    assert found.keys() == expected.keys()
    errors = {key: error(value, expected[key]) for key, value in found.items()}
    assert max(errors.values()) <= TOLERANCE[dtype], errors


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_interpolation(shared_fixtures: Path, dtype: torch.dtype) -> None:
    case = truth(shared_fixtures, "unit_conditional_interpolation")
    interpolation = Interpolation(tiny_config(hidden_size=64, num_heads=4, concept_dim=16)).to(dtype)
    theirs = {
        "gate_attention.weight": "t_proj.weight",
        "gate_delta.weight": "t2_proj.weight",
        "correction.down.weight": "lora.0.weight",
        "correction.up.weight": "lora.2.weight",
    }
    interpolation.load_state_dict({ours: case.tensors[f"param.{name}"] for ours, name in theirs.items()})
    given, expected = case.under("in.", dtype), case.under(PREFIX[dtype] + ".")
    mixed, t, t2 = interpolation(given["delta"], given["attn"], given["h_new"])
    for found, key in ((mixed, "mixed"), (t, "t"), (t2, "t2")):
        assert error(found, expected[key]) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_short_convolution(shared_fixtures: Path, dtype: torch.dtype) -> None:
    case = truth(shared_fixtures, "unit_short_conv")
    conv = ShortConv(case.info["channels"]).to(dtype)
    conv.load_state_dict(case.under("param."))
    given, expected = case.under("in.", dtype), case.under(PREFIX[dtype] + ".")
    assert error(conv(given["x"]), expected["y"]) <= TOLERANCE[dtype]
    assert error(conv(given["x"], given["mask"].bool()), expected["y_masked"]) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_norms(shared_fixtures: Path, dtype: torch.dtype) -> None:
    case = truth(shared_fixtures, "unit_norms")
    given, expected = case.under("in.", dtype), case.under(PREFIX[dtype] + ".")
    rms, gated = RMSNorm(64, case.info["eps"]).to(dtype), GatedRMSNorm(16, case.info["eps"]).to(dtype)
    rms.load_state_dict(case.under("param.rms."))
    gated.load_state_dict(case.under("param.o_norm."))
    total = given["x"] + given["residual"]
    assert error(rms(given["x"]), expected["rms"]) <= TOLERANCE[dtype]
    assert error(total, expected["rms_fused_residual"]) <= TOLERANCE[dtype]
    assert error(rms(total), expected["rms_fused_normed"]) <= TOLERANCE[dtype]
    assert error(gated(given["x_heads"], given["gate_heads"]), expected["o_norm"]) <= TOLERANCE[dtype]
