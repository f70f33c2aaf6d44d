"""A plan: what was decided, to be read, edited and replayed."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from ..types import Shape

Index = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]


class PlannedTensor(Struct, frozen=True):
    """The indices that stay along some axes of a weight.

    Attributes:
        name: the tensor.
        view: its shape, or a finer one of the same size (groups, gates).
        axes: of the view; several make a grid whose cells are counted row by row.
        kept: ascending.
    """

    name: str
    view: Shape
    axes: tuple[int, ...]
    kept: tuple[Index, ...]


class PlannedGroup(Struct, frozen=True):
    """What stays of one group of channels.

    Attributes:
        name: of the first node that makes these channels.
        size: units before.
        kept: units after.
        tensors: where they are.
        approximate: a normalisation runs over them: removal is not exact.
    """

    name: str
    size: Count
    kept: Count
    tensors: tuple[PlannedTensor, ...]
    approximate: bool = False


class PlannedLayer(Struct, frozen=True):
    """Which single weights of a layer stay, or which of its kernels.

    Attributes:
        weight: name of the constant.
        shape: of the mask: (outputs, inputs of each, taps); of kernels without taps.
        kept: how many stay.
        mask: a bit for each, row by row, packed into bytes, compressed with zlib, in base64.
    """

    weight: str
    shape: Shape
    kept: Index
    mask: str


class PlannedReduction(Struct, frozen=True):
    """What one reduction takes out.

    Attributes:
        reduction: its name: channels, kernels or weights.
        groups: of channels that lose something.
        layers: that lose single weights or kernels.
    """

    reduction: str
    groups: tuple[PlannedGroup, ...] = ()
    layers: tuple[PlannedLayer, ...] = ()


class PlannedPhase(Struct, frozen=True):
    """What is decided together; a phase starts from what the one before it gave.

    Attributes:
        reductions: in the order in which they are cut.
    """

    reductions: tuple[PlannedReduction, ...]


class PlannedRewrite(Struct, frozen=True):
    """A lossless change of the graph that was chosen, not only found.

    Attributes:
        rewrite: its name.
        sites: where it was made.
        settings: what else decides about it.
    """

    rewrite: str
    sites: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


class Plan(Struct, frozen=True):
    """What was decided: it can be read, edited and replayed.

    Attributes:
        fingerprint: of the graph that it was made for: SHA-256 over its nodes, links, names and shapes.
        phases: what is removed.
        rewrites: lossless changes that were chosen.
        options: how it was made.
        needs_samples: steps that can be replayed only with the samples that they were fitted to.
    """

    fingerprint: str
    phases: tuple[PlannedPhase, ...] = ()
    rewrites: tuple[PlannedRewrite, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    needs_samples: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[PlannedGroup, ...]:
        """The groups of channels that lose something."""
        return tuple(g for phase in self.phases for r in phase.reductions for g in r.groups)

    @property
    def layers(self) -> tuple[PlannedLayer, ...]:
        """The layers that lose single weights or kernels."""
        return tuple(layer for phase in self.phases for r in phase.reductions for layer in r.layers)
