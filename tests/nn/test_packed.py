"""Packed weights: how far off they are, that they stay the same bits, and what is refused."""

from __future__ import annotations

import pytest
import torch

from operators.nn.packed import LEAST_NUMBERS, MOST_ERROR, SCALE, pack, unpack

State = dict[str, torch.Tensor]


def state() -> State:
    """A matrix, a kernel, and all kinds of what is not packed."""
    draw = torch.Generator().manual_seed(1)
    return {
        "layers.0.weight": torch.randn(24, 96, generator=draw),
        "layers.0.bias": torch.randn(24, generator=draw),
        "conv.weight": torch.randn(16, 24, 3, 3, generator=draw) * 0.01,
        "norm.weight": torch.ones(2048),
        "places": torch.randn(1, 65, 32, generator=draw),
        "small.weight": torch.randn(8, 16, generator=draw),
        "narrow.weight": torch.randn(512, 4, generator=draw),
        "words.weight": torch.randn(100, 32, generator=draw),
        "scalar": torch.tensor(0.1),
    }


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def errors(weight: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """[rows]: by the length of the row."""
    rows = weight.flatten(1)
    return (other.flatten(1) - rows).norm(dim=1) / rows.norm(dim=1)


def rows_of(kind: str) -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    normal = torch.randn(16, 128, generator=draw)
    made = {
        "normal": normal,
        "heavy tails": normal**3,
        "heavier tails": normal**9 / 1000,
        "few values": normal.sign() * 0.7,
        "nothing": normal * 0,
        "dead rows": normal * torch.tensor([1.0, 0, 1e-6, 1e-9] * 4)[:, None],
        "large": normal.clamp(-3, 3) * 2e4,
    }
    faint = {f"times 2^-{power}": normal * 2.0**-power for power in (6, 8, 10, 12, 15, 20)}
    return (made | faint)[kind]


KINDS = ["normal", "heavy tails", "heavier tails", "few values", "nothing", "dead rows", "large",
         *(f"times 2^-{power}" for power in (6, 8, 10, 12, 15, 20))]  # fmt: skip


def test_large_matrices_are_int8_and_all_else_is_float16() -> None:
    whole = state()
    tensors = pack(whole, exact=["words.weight"])
    scaled = {"layers.0.weight": 24, "conv.weight": 16}
    assert tensors.keys() == whole.keys() | {name + SCALE for name in scaled}
    for name, value in whole.items():
        assert tensors[name].shape == value.shape
        assert tensors[name].is_contiguous()
        if name in scaled:
            assert tensors[name].dtype == torch.int8
            assert tensors[name + SCALE].dtype == torch.float16
            assert tensors[name + SCALE].shape == (scaled[name],)
        else:
            assert torch.equal(tensors[name], value.half())
    assert pack(whole)["words.weight"].dtype == torch.int8  # unless told
    assert pack({"a.weight": torch.randn(8, LEAST_NUMBERS // 8)})["a.weight"].dtype == torch.int8


def test_a_round_trip_is_float32_of_the_same_shapes_and_close() -> None:
    whole = state()
    back = unpack(pack(whole))
    assert back.keys() == whole.keys()
    for name, value in whole.items():
        assert back[name].dtype == torch.float32
        assert back[name].shape == value.shape
    for name in ("layers.0.weight", "conv.weight"):
        peak = whole[name].flatten(1).abs().amax(dim=1)
        step = (peak / 127)[:, None]
        off = (back[name] - whole[name]).flatten(1).abs()
        assert bool((off <= 0.041 * peak[:, None]).all())  # the deepest clip there is, at worst
        assert float((off <= 0.51 * step).float().mean()) > 0.97  # rounding, nearly everywhere
        assert float(errors(whole[name], back[name]).max()) < 0.012


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_further_off_than_the_bound(kind: str) -> None:
    weight = rows_of(kind)
    tensors = pack({"a.weight": weight})
    back = unpack(tensors)["a.weight"]
    if tensors["a.weight"].dtype == torch.float16:
        assert torch.equal(back, weight.half().float())
        return
    longest = weight.norm(dim=1).amax()
    length = weight.norm(dim=1).clamp(min=float(longest) * 1e-3)
    assert bool(((back - weight).norm(dim=1) <= (MOST_ERROR + 1e-4) * length).all())


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_unpacked_packs_to_the_same_bits(kind: str) -> None:
    tensors = pack({"a.weight": rows_of(kind)})
    assert same(pack(unpack(tensors)), tensors)


def test_what_int8_would_hurt_stays_float16() -> None:
    weight = torch.randn(16, 512, generator=torch.Generator().manual_seed(3))
    assert pack({"a.weight": weight})["a.weight"].dtype == torch.int8
    weight[5, 7] = 60.0  # the others of this row share what is left of 8 bits
    assert pack({"a.weight": weight})["a.weight"].dtype == torch.float16
    assert pack({"a.weight": rows_of("dead rows")})["a.weight"].dtype == torch.int8
    assert pack({"a.weight": rows_of("times 2^-20")})["a.weight"].dtype == torch.float16


def test_a_clip_is_never_worse_than_the_largest_number_and_sometimes_better() -> None:
    weight = torch.randn(64, 600, generator=torch.Generator().manual_seed(4))
    found = errors(weight, unpack(pack({"a.weight": weight}))["a.weight"])
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    plain = errors(weight, (weight / step).round() * step)
    assert bool((found <= plain * 1.005).all())  # 1.005: `step` is no float16 here
    assert float(found.square().mean()) < 0.98 * float(plain.square().mean())


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "times 2^-10"])
def test_every_row_reaches_127_and_its_order_does_not_matter(kind: str) -> None:
    weight = rows_of(kind)
    order = torch.randperm(128, generator=torch.Generator().manual_seed(6))
    one, other = pack({"a.weight": weight}), pack({"a.weight": weight[:, order]})
    assert bool((one["a.weight"].int().abs().amax(dim=1) == 127).all())
    assert torch.equal(one["a.weight"][:, order], other["a.weight"])
    assert torch.equal(one["a.weight" + SCALE], other["a.weight" + SCALE])


def test_the_number_of_threads_does_not_matter() -> None:
    usual, weight = torch.get_num_threads(), torch.randn(4, 9_000)
    try:
        torch.set_num_threads(1)
        one = pack({"a.weight": weight})
        torch.set_num_threads(3)
        three = pack({"a.weight": weight})
    finally:
        torch.set_num_threads(usual)
    assert same(one, three)


def test_other_floating_types_are_taken_and_nothing_is_shared() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        given = {name: value.to(dtype) for name, value in state().items()}
        kept = {name: value.clone() for name, value in given.items()}
        tensors = pack(given)
        assert same(tensors, pack({name: value.float() for name, value in given.items()}))
        for value in tensors.values():
            value.zero_()
        assert same(given, kept)


def test_a_parameter_and_an_empty_state_are_taken() -> None:
    layer = torch.nn.Linear(96, 24)
    tensors = pack(dict(layer.named_parameters()))
    assert not any(value.requires_grad for value in tensors.values())
    assert unpack(pack({})) == {}
    assert unpack(pack({"a.weight": torch.zeros(0, 4)}))["a.weight"].shape == (0, 4)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "a.weight",
            torch.full((16, 128), torch.nan),
            "a.weight cannot be saved: it is not finite",
        ),
        ("a.weight", torch.full((16, 128), 1e6), "a.weight cannot be saved: .* beyond float16"),
        ("a.bias", torch.tensor([1.0, -torch.inf]), "a.bias cannot be saved: it is not finite"),
        ("steps", torch.tensor(3), "steps cannot be saved: it is torch.int64"),
        ("a.weight", torch.ones(16, 128, dtype=torch.int8), "cannot be saved: it is torch.int8"),
        ("a.weight" + SCALE, torch.ones(3), "is for scales"),
    ],
)
def test_what_cannot_be_kept_is_refused(name: str, value: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        pack(state() | {name: value})
    assert "\n" not in str(caught.value)


def test_a_name_that_is_not_there_cannot_stay_exact() -> None:
    with pytest.raises(ValueError, match=r"wrods\.weight is to stay exact, but there is none"):
        pack(state(), exact=["words.weight", "wrods.weight"])


Q, S = "layers.0.weight", "layers.0.weight" + SCALE


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({Q: None}, f"{S} scales nothing"),
        ({S: None}, f"{S} is missing"),
        ({Q: torch.ones(24, 96).half()}, f"{S} scales nothing"),
        ({Q: torch.ones(24, 96), S: None}, f"{Q} is torch.float32, only int8 and float16"),
        ({"layers.0.bias": torch.ones(24, dtype=torch.int64)}, "bias is torch.int64"),
        ({"layers.0.bias": torch.ones(24, dtype=torch.bfloat16)}, "bias is torch.bfloat16"),
        ({"layers.0.bias": torch.full((24,), torch.inf).half()}, "bias holds values"),
        ({S: torch.ones(24)}, "not rows with a float16 scale"),
        ({S: torch.ones(23).half()}, "not rows with a float16 scale"),
        ({S: torch.ones(24, 1).half()}, "not rows with a float16 scale"),
        ({Q: torch.ones(24, dtype=torch.int8)}, "not rows with a float16 scale"),
        ({S: torch.full((24,), torch.nan).half()}, "never written"),
        ({S: torch.full((24,), -0.1).half()}, "never written"),
        ({Q: torch.full((24, 96), -128, dtype=torch.int8)}, "never written"),
        ({"more" + SCALE: torch.ones(2).half()}, f"more{SCALE} scales nothing"),
    ],
)
def test_damage_is_refused(damage: dict[str, torch.Tensor | None], message: str) -> None:
    merged = pack(state()) | damage
    tensors = {name: value for name, value in merged.items() if value is not None}
    with pytest.raises(ValueError, match=message) as caught:
        unpack(tensors)
    assert "\n" not in str(caught.value)
