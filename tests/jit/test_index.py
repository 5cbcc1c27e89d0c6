"""Index arithmetic in text: what vector code puts in the place of a variable must be what each lane would compute."""

from hypothesis import given
from hypothesis import strategies as st

from layerflow.jit import index as ix
from layerflow.jit.index import Ranges

LANES = 4


@st.composite
def columns(draw):
    """(an index of j and i, built of quotients and remainders, and its bounds)"""
    ranges = Ranges()
    j, i = ranges.declare("j", draw(st.sampled_from([16, 24, 64]))), ranges.declare("i", 7)
    inner = ix.add(
        ix.scale(j, draw(st.sampled_from([1, 1, 2]))),
        ix.number(draw(st.integers(0, 3)) * draw(st.sampled_from([1, 4]))),
    )
    inner = ix.add(inner, ix.scale(i, draw(st.sampled_from([0, 4, 64, 3]))))
    n = draw(st.sampled_from([4, 8, 16, 6]))
    whole, rest = ranges.divide(inner, n), ranges.modulo(inner, n)
    return ranges, ix.add(ix.add(ix.scale(whole, draw(st.sampled_from([1, 40]))), rest), ix.scale(i, 1000))


@given(columns(), st.integers(0, 3), st.integers(0, 6))
def test_a_run_goes_up_with_its_variable(built, chunk, i):
    """Where `along` names a factor, `put` gives the first lane and the others follow in steps of the factor."""
    ranges, index = built
    factor = ranges.along(index, "j", LANES)
    if factor is None:
        return
    start = chunk * LANES
    first = eval(str(ranges.put(index, "j", ix.number(start))), {}, {"i": i})
    for lane in range(LANES):
        assert eval(str(index), {}, {"i": i, "j": start + lane}) == first + lane * factor


def test_quotients_have_a_run():
    ranges = Ranges()
    j = ranges.declare("j", 128)
    index = ix.add(ix.scale(ranges.divide(j, 64), 1000), ranges.modulo(j, 64))
    assert ranges.along(index, "j", 16) == 1
    assert ranges.along(index, "j", 48) is None  # 48 columns would cross the end of the first 64
    assert ranges.along(ix.add(index, j), "j", 16) == 2


def test_multiples_divide_away():
    """The columns of a tile begin at a multiple of its width."""
    ranges = Ranges()
    j = ranges.declare("j", 128)
    index = ix.add(ix.scale(ranges.divide(j, 64), 1000), ranges.modulo(j, 64))
    ranges.steps["c"] = 64
    start = ix.add(ix.var("c"), ix.number(16))
    assert str(ranges.put(index, "j", start)) == "(c // 64) * 1000 + 16"
    ranges.steps["c"] = 32
    assert str(ranges.put(index, "j", start)) == "((c + 16) // 64) * 1000 + ((c + 16) % 64)"
