"""What the loops of a training step hand to each other: nothing twice, and of no value more than is read."""

import re

import pytest

import layerflow as lf
from layerflow.inspect import dump

UNITS = 6
SMOOTH = {"recurrent_activation": "sigmoid"}  # a hard one is cheap: its argument is kept


def stacks(*layers, steps: int = 5) -> list[list[int]]:
    """Columns of the values of all steps that each loop of the gradient stores, in the order of the loops."""
    model = lf.sequential([*layers, lf.layers.dense(units=2)])
    model.compile(optimizer="sgd", loss="meanSquaredError")
    text = dump(model, "grad", mode="train")
    found: dict[str, list[int]] = {}
    for columns, loop in re.findall(rf"= loop_part \[B,{steps},(\d+)\] .*\(%(\d+)\)", text):
        found.setdefault(loop, []).append(int(columns))
    return [found[loop] for loop in sorted(found, key=int)]


@pytest.mark.parametrize(
    ("layer", "forward", "backward"),
    [
        (lf.layers.simple_rnn(units=UNITS, input_shape=[5, 3]), [1, 1], [1]),
        (lf.layers.lstm(units=UNITS, input_shape=[5, 3], **SMOOTH), [1, 1, 1, 1, 1, 1, 1], [4]),
        # Both gates, the candidate, the state, and a third of the recurrent product or the state after the reset gate.
        # Reset before, the gradient of the input's product has those of both recurrent ones among its columns.
        (lf.layers.gru(units=UNITS, input_shape=[5, 3], reset_after=True, **SMOOTH), [1, 1, 1, 1, 1], [3, 1]),
        (lf.layers.gru(units=UNITS, input_shape=[5, 3], reset_after=False, **SMOOTH), [1, 1, 1, 1, 1], [3]),
    ],
    ids=["simple", "lstm", "reset after", "reset before"],
)
def test_stored_for_all_steps(layer, forward, backward):
    assert stacks(layer) == [[n * UNITS for n in widths] for widths in (forward, backward)]
