"""Model: a Container that trains."""

from __future__ import annotations

from typing import Any

from layerflow.layers import LAYERS
from layerflow.models import cloning, saving, topology_json, weight_files
from layerflow.models.array_training import ArrayTraining
from layerflow.models.container import Container
from layerflow.registry import accepts_camel_case


class Model(Container, ArrayTraining):
    """A model of any acyclic graph of layers.

    >>> x = lf.input(shape=[784])
    >>> model = lf.Model(inputs=x, outputs=lf.layers.dense(units=10).apply(x))
    """

    def get_config(self) -> dict[str, Any]:
        """Layers, how they are connected, and which are inputs and outputs; what `from_config` takes."""
        return topology_json.graph_config(self)

    @classmethod
    def from_config(cls, config: Any) -> Any:
        parts = topology_json.graph_from_config(config)
        return super().from_config(parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return cloning.deep_copied(self, memo)

    def save(self, path: Any, **options: Any) -> dict[str, Any]:
        """Writes the model to a folder; see `layerflow.models.saving.save_model`."""
        return saving.save_model(self, path, **options)

    def to_json(self) -> dict[str, Any]:
        """The architecture in the TF.js layers format."""
        return topology_json.model_topology(self)

    def save_weights(self, path: Any) -> None:
        """Writes the weights alone to an `.npz` file; see `load_weights`."""
        weight_files.save_weights(self, path)

    def load_weights(self, source: Any) -> None:
        """Takes over the weights of a file of `save_weights`, or of a dict by name.

        Raises:
            LoadError: the weights do not fit, or the file is none of weights; the model is as before then.
        """
        weight_files.load_weights(self, source)


@accepts_camel_case
def model(inputs: Any, outputs: Any, name: str | None = None) -> Model:
    """A model from inputs to outputs; see `Model`."""
    return Model(inputs=inputs, outputs=outputs, name=name)


LAYERS.add(Model, "Model", "Functional")
